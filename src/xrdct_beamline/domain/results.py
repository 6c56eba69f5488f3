"""What processing hands on: arrays with their axes, their sigma and what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["AxisEstimate", "Pattern"]

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A powder pattern.

    Parameters
    ----------
    radial:
        Bin centres in ``unit``, shape ``(bin,)``.
    intensity, sigma:
        Counts per pixel, normalised; NaN where a bin has no valid pixel.
    n_pixels:
        Valid pixels of each bin, before any rejection.
    unit:
        pyFAI's name of the radial unit.
    """

    radial: npt.NDArray[np.float64]
    intensity: FloatArray
    sigma: FloatArray
    n_pixels: npt.NDArray[np.int64]
    unit: str = "2th_deg"


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisEstimate:
    """Column of the rotation axis in a sinogram, in pixels, and whether two estimators agree on it."""

    axis_px: float
    uncertainty_px: float
    agrees: bool
