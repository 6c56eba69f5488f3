"""What an integrator was asked for, checked at the door."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..domain.errors import ProcessingError
from ._estimators import MEAN, MEDIAN, POISSON_CLIP, SIGMA_CLIP, TRIMMED_MEAN

__all__ = ["ENGINES", "ESTIMATORS", "Settings", "correction_image", "prepare_frame"]

#: Estimators by name. The azimuthal bin trim is a trimmed mean whose members are azimuthal bins.
ESTIMATORS = {
    "mean": MEAN,
    "trimmed_mean": TRIMMED_MEAN,
    "median": MEDIAN,
    "sigma_clip": SIGMA_CLIP,
    "poisson_clip": POISSON_CLIP,
    "azimuthal_bin_trim": TRIMMED_MEAN,
}
ENGINES = ("native", "pyfai", "pyfai-opencl")

_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How rings are reduced; see `Integrator` for the meaning of each.

    Raises
    ------
    ProcessingError
        If a value cannot be used.
    """

    bins: int
    unit: str
    radial_range: tuple[float, float] | None
    estimator: str
    lower: float
    upper: float
    unbiased: bool
    solid_angle: bool
    polarisation: float | None
    engine: str
    threads: int
    threshold: float
    azimuthal_bins: int

    def __post_init__(self) -> None:
        _choice("estimator", self.estimator, tuple(ESTIMATORS))
        _choice("engine", self.engine, ENGINES)
        for name in ("bins", "threads", "azimuthal_bins"):
            value = getattr(self, name)
            if isinstance(value, bool) or int(value) != value or value < 1:
                raise ProcessingError(f"{name} is {value}; it must be a whole number of at least 1")
        for name in ("lower", "upper"):
            value = getattr(self, name)
            if not 0.0 <= value < 1.0:
                raise ProcessingError(
                    f"{name} is {value:g}; it is a fraction of a ring's pixels, at least 0 and below 1"
                )
        if self.lower + self.upper >= 1.0:
            raise ProcessingError(
                f"lower + upper is {self.lower + self.upper:g} and leaves no pixel; "
                "their sum must stay below 1 (10 % in all is 0.05 and 0.05)"
            )
        if not (math.isfinite(self.threshold) and self.threshold > 0):
            raise ProcessingError(f"threshold is {self.threshold:g} standard deviations; it must be positive")
        if self.radial_range is not None:
            _check_range(self.radial_range)


def default_threads() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def correction_image(
    name: str, image: npt.ArrayLike | None, shape: tuple[int, int]
) -> npt.NDArray[np.float64] | None:
    """Return a dark or flat as float64, or refuse it."""
    if image is None:
        return None
    array = np.asarray(image)
    if array.dtype.kind not in "iuf":
        raise ProcessingError(f"the {name} has dtype {array.dtype}; give real numbers")
    if array.shape != shape:
        raise ProcessingError(f"the {name} has shape {array.shape}, the detector {shape}; they must agree")
    return array.astype(np.float64)


def prepare_frame(frame: Any, shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return a frame flat and contiguous, as int32 or float32 (which is good to 6e-8).

    Unsigned flags become negative: the largest value of 16 bits, and of 32 bits everything above 2³¹.
    """
    array = np.asarray(frame)
    if array.shape != shape:
        raise ProcessingError(
            f"the frame has shape {array.shape}, the detector {shape}; "
            "use the PONI and detector name that belong to these frames (rows first)"
        )
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "f":
        return _single(array)
    if kind not in "iu":
        raise ProcessingError(f"the frame has dtype {array.dtype}; give integer counts or real numbers")
    if kind == "u" and size == 4:
        array = array.view(np.int32) if array.dtype.isnative else array.astype(np.uint32).view(np.int32)
    elif kind == "u" and size == 2:
        array = np.where(array == np.iinfo(np.uint16).max, -1, array.astype(np.int32))
    elif size == 8 and array.size and (array.max() > _INT32.max or array.min() < _INT32.min):
        return _single(array)
    return np.ascontiguousarray(array, np.int32).reshape(-1)


def _single(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(array, np.float32).reshape(-1)
    if array.dtype.itemsize > 4 and np.count_nonzero(np.isinf(single)) > np.count_nonzero(np.isinf(array)):
        raise ProcessingError("the frame holds values beyond 3.4e38; scale it, no detector counts that far")
    return single


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ProcessingError(f"{name} {value!r} is unknown; use one of {', '.join(choices)}")


def _check_range(radial_range: tuple[float, float]) -> None:
    low, high = radial_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ProcessingError(
            f"radial_range is ({low:g}, {high:g}); give a lower and a larger upper end in the radial unit"
        )
