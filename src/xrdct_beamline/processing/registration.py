"""How far a profile has moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ProcessingError

__all__ = ["ProfileShift", "profile_shift"]

FloatArray = npt.NDArray[np.floating[Any]]

#: Of the profile's length, that has to be compared.
LEAST_OVERLAP = 0.5
#: Shifts are refined to this part of a step.
TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileShift:
    """A shift in steps of the profile, with its standard uncertainty."""

    steps: float
    sigma: float


def profile_shift(reference: FloatArray, moved: FloatArray) -> ProfileShift:
    """Return by how many steps a profile lies further along than an earlier one.

    The shift with the least mean square difference over the common part, searched step by step and
    refined between steps with linear interpolation; its uncertainty from the residual and the slope.

    Parameters
    ----------
    reference, moved:
        Values along a line, shape ``(n,)``, of one spacing.

    Raises
    ------
    ProcessingError
        If the profiles have no structure, differ in length, or are shorter than 5.
    """
    a, b = np.asarray(reference, dtype=float), np.asarray(moved, dtype=float)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 5:
        raise ProcessingError(
            f"profiles of {a.shape} and {b.shape} values cannot be compared; take the same line of 5 or more"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ProcessingError("a profile has values that are not finite; take the line again")
    slope = np.gradient(a)
    if not np.abs(slope).max() > 0:
        raise ProcessingError("the profile is flat; its shift cannot be found, choose a line with an edge")
    reach = int((1 - LEAST_OVERLAP) * len(a))
    coarse = min(range(-reach, reach + 1), key=lambda s: _difference(a, b, float(s)))
    steps = _refined(a, b, float(coarse))
    sigma = float(np.sqrt(_difference(a, b, steps) / np.square(slope).sum()))
    return ProfileShift(steps=steps, sigma=max(sigma, TOLERANCE))


def _refined(a: FloatArray, b: FloatArray, coarse: float) -> float:
    """Return the minimum within a step of ``coarse``, by ever finer grids."""
    width = 1.0
    while width > TOLERANCE:
        candidates = coarse + width * np.linspace(-1.0, 1.0, 9)
        coarse = float(min(candidates, key=lambda s: _difference(a, b, float(s))))
        width /= 4.0
    return coarse


def _difference(a: FloatArray, b: FloatArray, shift: float) -> float:
    """Return the mean square difference of ``b`` at x + shift and ``a`` at x, where both are known."""
    x = np.arange(len(a), dtype=float)
    common = (x + shift >= 0) & (x + shift <= len(a) - 1)
    return float(np.square(np.interp(x[common] + shift, x, b) - a[common]).mean())
