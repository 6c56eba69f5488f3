"""TomoPy as a backend: optional, from conda-forge."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._batch import filtered_back_projection
from ._centring import centred, cropped
from ._checks import optional_module

__all__ = ["TomopyBackend"]

#: Fourier and filtered methods of TomoPy, which do not iterate and whose scale is relative.
DIRECT = ("gridrec", "fbp")


class TomopyBackend:
    """TomoPy's reconstructions, brought to this package's axes and absolute scale."""

    methods: tuple[str, ...] = (
        *DIRECT,
        *("art", "bart", "sirt", "mlem", "osem", "ospml_hybrid", "ospml_quad", "pml_hybrid", "pml_quad"),
        *("tv", "grad"),
    )

    def __init__(self) -> None:
        self._tomopy = optional_module(
            "tomopy",
            needed_by="the tomopy backend needs TomoPy",
            remedy="take the environment of environment.yml (conda-forge), or the native backend",
        )

    def reconstruct(
        self,
        sinogram: npt.NDArray[np.floating[Any]],
        rotation_deg: npt.NDArray[np.float64],
        axis_px: float,
        *,
        method: str = "gridrec",
        iterations: int = 50,
    ) -> npt.NDArray[np.float32]:
        """Return the slice by one of TomoPy's methods.

        Its direct methods are not absolutely normalised (gridrec: 1.12 and an offset against the
        truth), so their channels share the slope and get each the offset that bring their mean to
        the native reconstruction's.
        """
        wide, first = centred(sinogram, rotation_deg, axis_px)
        options: dict[str, Any] = {"filter_name": "ramlak"} if method in DIRECT else {"num_iter": iterations}
        slices = self._tomopy.recon(
            np.ascontiguousarray(wide.transpose(0, 2, 1)),  # (rotation, channel, translation)
            np.radians(rotation_deg),
            center=(wide.shape[1] - 1) / 2,
            sinogram_order=False,
            algorithm=method,
            **options,
        )
        image = cropped(np.moveaxis(np.asarray(slices, dtype=np.float32), 0, -1), first, sinogram.shape[1])
        return _to_absolute(image, sinogram, rotation_deg, axis_px) if method in DIRECT else image


def _to_absolute(
    image: npt.NDArray[np.float32],
    sinogram: npt.NDArray[np.floating[Any]],
    rotation_deg: npt.NDArray[np.float64],
    axis_px: float,
) -> npt.NDArray[np.float32]:
    """Scale by the slope of the channels' mean against the native one; match each channel's mean."""
    n = image.shape[0]
    y, x = np.mgrid[:n, :n] - axis_px
    disc = np.hypot(x, y) < min(axis_px, n - 1 - axis_px)
    native = filtered_back_projection(sinogram, rotation_deg, axis_px)[disc]
    relative = image[disc]
    if disc.sum() < 2 or not np.ptp(relative.mean(axis=1)):
        return image
    slope = np.polyfit(relative.mean(axis=1), native.mean(axis=1), 1)[0]
    offset = native.mean(axis=0) - slope * relative.mean(axis=0)
    return (slope * image + offset).astype(np.float32)
