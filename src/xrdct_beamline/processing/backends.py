"""Who computes a reconstruction: this package, TomoPy or ASTRA.

Whatever the backend, the answer has this package's axes, orientation and scale. TomoPy and ASTRA
are optional: they are imported on use, and their absence is explained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ConfigurationError

from ._angles import check_angles
from ._astra import AstraBackend
from ._batch import filtered_back_projection
from ._tomopy import TomopyBackend
from .sinogram import as_channels

__all__ = ["BACKENDS", "Backend", "NativeBackend", "get_backend", "reconstruct_with"]


class Backend(Protocol):
    """Reconstructs a slice from a complete sinogram, in this package's conventions."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods it offers."""

    def reconstruct(
        self,
        sinogram: npt.NDArray[np.floating[Any]],
        rotation_deg: npt.NDArray[np.float64],
        axis_px: float,
        *,
        method: str,
        iterations: int,
    ) -> npt.NDArray[np.float32]:
        """Return the slice ``(y, x, bin)`` of a checked sinogram ``(rotation, translation, bin)``."""


class NativeBackend:
    """Filtered back-projection by this package."""

    methods: tuple[str, ...] = ("fbp",)

    def reconstruct(
        self,
        sinogram: npt.NDArray[np.floating[Any]],
        rotation_deg: npt.NDArray[np.float64],
        axis_px: float,
        *,
        method: str = "fbp",
        iterations: int = 0,
    ) -> npt.NDArray[np.float32]:
        """Return the slice by filtered back-projection with the ramp; there is nothing to iterate."""
        return filtered_back_projection(sinogram, rotation_deg, axis_px)


BACKENDS: Mapping[str, Callable[[], Backend]] = {
    "native": NativeBackend,
    "tomopy": TomopyBackend,
    "astra": AstraBackend,
}


def get_backend(name: str) -> Backend:
    """Return a backend by its name; an optional one that is not installed says how to install it."""
    if name not in BACKENDS:
        raise ConfigurationError(f"backend {name!r} is unknown; use one of {', '.join(BACKENDS)}")
    return BACKENDS[name]()


def reconstruct_with(
    name: str,
    sinogram: npt.NDArray[np.floating[Any]],
    rotation_deg: npt.ArrayLike,
    axis_px: float,
    *,
    method: str,
    iterations: int,
) -> npt.NDArray[np.float32]:
    """Return the slice of a sinogram of one or of many channels by a method of a backend."""
    backend = get_backend(name)
    if method not in backend.methods:
        raise ConfigurationError(
            f"the {name} backend has no method {method!r}; it has {', '.join(backend.methods)}"
        )
    angles = check_angles(rotation_deg)
    channels = as_channels(sinogram, angles)
    image = backend.reconstruct(channels, angles, axis_px, method=method, iterations=iterations)
    return image if sinogram.ndim == 3 else image[:, :, 0]
