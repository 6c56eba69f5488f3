"""Who computes a final reconstruction: this package, TomoPy or ASTRA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ConfigurationError, ProcessingError

from ._angles import check_angles
from ._batch import filtered_back_projection

__all__ = ["BACKENDS", "Backend", "NativeBackend", "get_backend"]


class Backend(Protocol):
    """Reconstructs a slice from a sinogram, in this package's axes, orientation and scale."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods it offers."""

    def reconstruct(
        self,
        sinogram: npt.NDArray[np.floating[Any]],
        rotation_deg: npt.ArrayLike,
        axis_px: float,
        *,
        method: str,
    ) -> npt.NDArray[np.float32]:
        """Return the slice ``(y, x, bin)`` of a sinogram ``(rotation, translation, bin)``."""


class NativeBackend:
    """Filtered back-projection by this package."""

    methods: tuple[str, ...] = ("fbp",)

    def reconstruct(
        self,
        sinogram: npt.NDArray[np.floating[Any]],
        rotation_deg: npt.ArrayLike,
        axis_px: float,
        *,
        method: str = "fbp",
    ) -> npt.NDArray[np.float32]:
        """Return the slice by filtered back-projection with the ramp."""
        check_method(self, "native", method)
        channels = as_channels(sinogram, rotation_deg)
        image = filtered_back_projection(channels, rotation_deg, axis_px)
        return image if sinogram.ndim == 3 else image[:, :, 0]


def as_channels(
    sinogram: npt.NDArray[np.floating[Any]], rotation_deg: npt.ArrayLike
) -> npt.NDArray[np.floating[Any]]:
    """Return a sinogram of one or of many channels as ``(rotation, translation, bin)``, checked."""
    angles = check_angles(rotation_deg)
    if sinogram.ndim not in (2, 3) or sinogram.shape[0] != angles.size:
        raise ProcessingError(
            f"a sinogram of shape {sinogram.shape} does not fit {angles.size} angles; its axes are "
            "(rotation, translation, bin)"
        )
    return sinogram if sinogram.ndim == 3 else sinogram[:, :, np.newaxis]


def check_method(backend: Backend, name: str, method: str) -> None:
    """Refuse a method that a backend does not have."""
    if method not in backend.methods:
        raise ConfigurationError(
            f"the {name} backend has no method {method!r}; it has {', '.join(backend.methods)}"
        )


BACKENDS: Mapping[str, Callable[[], Backend]] = {"native": NativeBackend}


def get_backend(name: str) -> Backend:
    """Return a backend by its name; an optional one says here how to install it."""
    if name not in BACKENDS:
        raise ConfigurationError(f"backend {name!r} is unknown; use one of {', '.join(BACKENDS)}")
    return BACKENDS[name]()
