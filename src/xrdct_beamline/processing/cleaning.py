"""Outliers, bad lines, stripes and air in a sinogram: found, masked or taken off in copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter

from xrdct_beamline.domain.errors import ProcessingError

from ._checks import optional_module
from .alignment import channel_mean, is_within_field
from .sinogram import measured_mask

__all__ = ["find_bad_lines", "find_outliers", "masked", "remove_stripes", "resample_line", "subtract_air"]

FloatArray = npt.NDArray[np.floating[Any]]


def resample_line(
    position_mm: npt.NDArray[np.float64],
    patterns: FloatArray,
    grid_mm: npt.NDArray[np.float64],
    sigma: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray | None]:
    """Return the patterns ``(translation, bin)`` at grid positions, from those at the encoder's.

    Both are mid-exposure positions. Between two frames the patterns are interpolated linearly;
    a grid position farther than half a step from any frame, beyond their ends or in a gap of more than
    two steps, is NaN: a hole is not filled here.

    Raises
    ------
    ProcessingError
        If positions are not finite, repeat, or do not fit the patterns.
    """
    if position_mm.shape != patterns.shape[:1]:
        raise ProcessingError(
            f"{position_mm.size} positions were recorded for {patterns.shape[0]} frames; one each is needed"
        )
    order = np.argsort(position_mm)
    position = np.asarray(position_mm, dtype=np.float64)[order]
    if position.size < 2 or not np.isfinite(position).all() or not (np.diff(position) > 0).all():
        raise ProcessingError("a line needs at least two finite positions, no two of them equal")
    step_mm = float(np.median(np.diff(grid_mm))) if grid_mm.size > 1 else np.inf
    after = np.clip(np.searchsorted(position, grid_mm), 1, position.size - 1)
    before = after - 1
    gap = position[after] - position[before]
    inside = (grid_mm > position[0] - 0.5 * step_mm) & (grid_mm < position[-1] + 0.5 * step_mm)
    u = np.clip((grid_mm - position[before]) / gap, 0.0, 1.0)
    near = np.minimum(u, 1 - u) * gap <= 0.5 * step_mm
    u = np.where(gap <= 2 * step_mm, u, np.where(near, np.round(u), np.nan))
    u = np.where(inside, u, np.nan)[:, np.newaxis]
    line = ((1 - u) * patterns[order[before]] + u * patterns[order[after]]).astype(patterns.dtype)
    if sigma is None:
        return line, None
    spread = np.hypot((1 - u) * sigma[order[before]], u * sigma[order[after]])
    return line, spread.astype(sigma.dtype)


def find_outliers(sinogram: FloatArray, *, limit: float = 6.0) -> npt.NDArray[np.bool_]:
    """Return which cells ``(rotation, translation)`` stand out from the cells around them.

    The mean over channels is compared with its median over 3 × 3 cells; what differs by more than
    ``limit`` robust standard deviations of all such differences is an outlier.
    """
    mean = np.where(measured_mask(sinogram), np.nansum(sinogram, axis=2, dtype=np.float64), np.nan)
    filled = np.where(np.isfinite(mean), mean, np.nanmedian(mean) if np.isfinite(mean).any() else 0.0)
    difference = filled - median_filter(filled, size=3, mode="nearest")
    # most differences of smooth data are exactly 0, so the spread is taken over the others
    changed = difference[difference != 0]
    spread = 1.4826 * float(np.median(np.abs(changed))) if changed.size else np.inf
    return (np.abs(difference) > limit * spread) & np.isfinite(mean)


def find_bad_lines(sinogram: FloatArray, *, limit: float = 0.15) -> npt.NDArray[np.intp]:
    """Return the rotations whose mass differs from that of the lines around by more than ``limit``."""
    mass = np.nansum(sinogram, axis=(1, 2), dtype=np.float64)
    measured = measured_mask(sinogram)
    mass = mass / np.maximum(measured.mean(axis=1), 1e-9)
    expected = median_filter(mass, size=min(7, mass.size), mode="nearest")
    bad = np.abs(mass - expected) > limit * np.abs(expected)
    return np.flatnonzero(bad & measured.any(axis=1))


def masked(sinogram: FloatArray, cells: npt.NDArray[np.bool_]) -> FloatArray:
    """Return a copy in which some cells ``(rotation, translation)`` count as not measured."""
    if cells.shape != sinogram.shape[:2]:
        raise ProcessingError(f"a mask of shape {cells.shape} does not fit the sinogram {sinogram.shape}")
    copy = sinogram.copy()
    copy[cells] = np.nan
    return copy


def remove_stripes(sinogram: FloatArray, *, size: int = 21) -> FloatArray:
    """Return a copy without stripes along the rotation, channel by channel, by algotom's sorting.

    A stripe is a translation that counts wrongly at every angle. Algotom is optional; sinograms of
    one detector seldom have stripes, since all translations share its pixels.
    """
    removal = optional_module(
        "algotom.prep.removal",
        needed_by="removing stripes needs algotom",
        remedy="pip install 'xrdct-beamline[cleaning]', or leave the stripes in",
    )
    if not np.isfinite(sinogram).all():
        raise ProcessingError("stripes cannot be removed from a sinogram with holes; fill or crop them first")
    channels = [
        removal.remove_stripe_based_sorting(np.ascontiguousarray(sinogram[:, :, b]), size=size)
        for b in range(sinogram.shape[2])
    ]
    return np.stack(channels, axis=-1).astype(sinogram.dtype)


def subtract_air(sinogram: FloatArray, rotation_deg: npt.ArrayLike, *, edge: int = 3) -> FloatArray:
    """Return a copy less the mean pattern of its outermost translations, line by line.

    Refused where the sample reaches the edges of the field: what a region's scan sees there is
    sample, not air.
    """
    profiles, _ = channel_mean(sinogram, rotation_deg)
    level = np.median(np.hstack([profiles[:, :edge], profiles[:, -edge:]]))
    if not is_within_field(profiles - level):
        raise ProcessingError(
            "the sample reaches the edges of this scan, so that they do not show air; subtract the outside "
            "with subtract_outside, or widen the scan"
        )
    ends = np.concatenate([sinogram[:, :edge], sinogram[:, -edge:]], axis=1)
    return sinogram - np.nanmean(ends, axis=1, keepdims=True)
