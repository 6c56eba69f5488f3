"""A sinogram as other packages want it: without holes, its axis in the middle, wide enough."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from ._checks import check_axis
from .sinogram import fill_holes

__all__ = ["centred", "cropped"]


def centred(
    sinogram: npt.NDArray[np.floating[Any]], rotation_deg: npt.NDArray[np.float64], axis_px: float
) -> tuple[npt.NDArray[np.float32], int]:
    """Return the sinogram with its axis in the middle column, and the first column of the original.

    The lines are freed of holes, and continued by their edge values so far that a slice of the
    original width fits within the inscribed circle. Where the axis lies between columns, the object
    is moved by that fraction f, right and down, with each line by f·(cos θ − sin θ) (cubic spline):
    the pixels of the slice are then the native ones.
    """
    n_rotations, n, n_bins = sinogram.shape
    check_axis(axis_px, n)
    half = math.ceil(math.sqrt(2) * max(axis_px, n - 1 - axis_px)) + 1
    fraction = axis_px - round(axis_px)
    columns = np.arange(2 * half + 1) - half + axis_px
    theta = np.radians(rotation_deg)
    moved_px = fraction * (np.cos(theta) - np.sin(theta))
    wide = np.empty((n_rotations, columns.size, n_bins), np.float32)
    for line, out, shift_px in zip(sinogram, wide, moved_px, strict=True):
        filled = fill_holes(line)
        source = np.clip(columns - shift_px, 0, n - 1)
        out[...] = filled[source.astype(int)] if fraction == 0 else CubicSpline(np.arange(n), filled)(source)
    return wide, half - round(axis_px)


def cropped(image: npt.NDArray[np.float32], first: int, n: int) -> npt.NDArray[np.float32]:
    """Return the n × n part ``(y, x[, bin])`` whose columns are the translations before `centred`."""
    return np.ascontiguousarray(image[first : first + n, first : first + n])
