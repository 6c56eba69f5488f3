"""One ring to one number: the estimators, compiled.

A ring arrives as *entries*, an array of four rows: the value (counts per pixel at the ring's mean
normalisation), how many pixels share it, and the sums of their counts and normalisations. Small
counts arrive as one entry per count, in ascending order; other rings as one entry per pixel, in any
order. The estimators do not know which.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from ._poisson import (
    clip_cuts,
    invert_median,
    invert_trimmed,
    median_expectation,
    trimmed_expectation,
    truncated_rate,
)
from ._trim import COUNTS, NORM, PIXELS, VALUE, select, trim_ordered, trim_unordered

__all__ = ["N_COLUMNS", "Plan", "estimate_ring"]

FloatArray = npt.NDArray[np.float64]

#: Columns of a result row.
INTENSITY, SIGMA, N_PIXELS, REMOVED, DISPERSION, FLAG = range(6)
N_COLUMNS = 6

#: Numbers of the estimators, for the kernels.
MEAN, TRIMMED_MEAN, MEDIAN, SIGMA_CLIP, POISSON_CLIP = range(5)

#: Rate below which the trimmed mean and the median cannot be put right (an upper 5 % trim is
#: identically 0 below 0.051; the median is 0 below 0.69 and within 1 % from 3 up).
TRIM_FLOOR, MEDIAN_FLOOR = 0.1, 3.0
#: Rings with fewer pixels are too coarse for the asymptotic correction of a trim.
SMALL_RING = 100

_CHANCE = 1e-3  # of a good pixel outside of either cut of the Poisson clip
_CHANCE_Z = 3.0902
_CHANCE_PIXELS = 1000.0  # smaller rings take fewer chances
_SAMPLE = 129
_CLIPS = 12
_SIGMA_CLIPS = 5

_jit = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})


class Plan(NamedTuple):
    """What a kernel does with a ring."""

    method: int
    lower: float
    upper: float
    unbiased: bool
    threshold: float


class Estimate(NamedTuple):
    """Rate in counts per pixel, its variance times the number of pixels, pixels kept, and the flag."""

    rate: float
    variance: float
    kept: float
    flag: float


@_jit
def sums_between(entries: FloatArray, n: int, low: float, high: float) -> tuple[float, float, float, float]:
    """Return pixels, Σ counts, Σ normalisation and Σ value² of the entries between two cuts."""
    m, s, w, square = 0.0, 0.0, 0.0, 0.0
    for j in range(n):
        x = entries[VALUE, j]
        if low < x < high:
            m += entries[PIXELS, j]
            s += entries[COUNTS, j]
            w += entries[NORM, j]
            square += entries[PIXELS, j] * x * x
    return m, s, w, square


@_jit
def _rank_value(entries: FloatArray, n: int, rank: float) -> float:
    """Value of the pixel at a rank, entries in ascending order."""
    seen = 0.0
    for j in range(n):
        seen += entries[PIXELS, j]
        if seen > rank:
            return entries[VALUE, j]
    return entries[VALUE, n - 1]


@_jit
def _grouped_median(entries: FloatArray, n: int, total: float, middle: float) -> float:
    """Median with the counts spread evenly over k ± ½, given a value at the middle rank."""
    k = math.floor(middle + 0.5)
    below, inside = 0.0, 0.0
    for j in range(n):
        if entries[VALUE, j] < k - 0.5:
            below += entries[PIXELS, j]
        elif entries[VALUE, j] < k + 0.5:
            inside += entries[PIXELS, j]
    return k - 0.5 + (0.5 * total - below) / inside


@_jit
def _start(entries: FloatArray, n: int, total: float) -> tuple[float, float]:
    """Return a robust first rate and dispersion from ascending entries."""
    middle = _rank_value(entries, n, 0.5 * (total - 1))
    if middle < 0.5:
        zeros, _, _, _ = sums_between(entries, n, -math.inf, 0.5)
        return max(-math.log(zeros / total), 1.0 / total), 1.0
    rate = invert_median(_grouped_median(entries, n, total, middle))
    if rate < 5.0 or total < 32:
        return rate, 1.0
    low = _rank_value(entries, n, 0.25 * (total - 1))
    high = _rank_value(entries, n, 0.75 * (total - 1))
    spread = (high - low) / 1.349
    return rate, max(1.0, spread * spread / rate)


@_jit
def _sampled_start(entries: FloatArray, n: int) -> tuple[float, float]:
    """Return the same from an evenly spread sample of one-pixel entries in any order."""
    size = min(n, _SAMPLE)
    sample = np.ones((4, size))
    for j in range(size):
        sample[VALUE, j] = entries[VALUE, (j * n) // size]
    sample[VALUE].sort()
    return _start(sample, size, float(size))


@_jit
def _normal_deviate(chance: float) -> float:
    """Deviate of a small one-sided probability (Abramowitz and Stegun 26.2.23)."""
    t = math.sqrt(-2.0 * math.log(chance))
    above = 2.515517 + t * (0.802853 + t * 0.010328)
    return t - above / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)))


@_jit
def _poisson_clip(
    entries: FloatArray, n: int, total: float, in_order: bool, mean_norm: float, unbiased: bool
) -> Estimate:
    """Clip what is improbable under the ring's own rate and dispersion, until the cuts stand."""
    rate, dispersion = _start(entries, n, total) if in_order else _sampled_start(entries, n)
    chance = _CHANCE * min(1.0, total / _CHANCE_PIXELS)
    z = _CHANCE_Z if total >= _CHANCE_PIXELS else _normal_deviate(chance)
    kept, variance = total, rate
    low, high = -math.inf, math.inf
    for _ in range(_CLIPS):
        new_low, new_high = clip_cuts(rate, dispersion, chance, z)
        if new_low == low and new_high == high:
            break
        low, high = new_low, new_high
        kept, s, w, _ = sums_between(entries, n, low, high)
        if kept == 0.0:
            return Estimate(rate, rate, 0.0, 1.0)
        mean = s / w * mean_norm
        corrected, variance = truncated_rate(mean, low, high, dispersion)
        rate = corrected if unbiased else mean
    return Estimate(rate, variance, kept, 0.0)


@_jit
def _sigma_clip(
    entries: FloatArray, n: int, total: float, mean_norm: float, unbiased: bool, threshold: float
) -> Estimate:
    """Clip beyond ``threshold`` standard deviations of what is left, a few times at most."""
    low, high = -math.inf, math.inf
    kept, s, w, square = sums_between(entries, n, low, high)
    mean = s / w * mean_norm
    for _ in range(_SIGMA_CLIPS):
        spread = math.sqrt(max(square / kept - mean * mean, 0.0))
        if spread == 0.0:
            break
        low, high = mean - threshold * spread, mean + threshold * spread
        before = kept
        kept, s, w, square = sums_between(entries, n, low, high)
        mean = s / w * mean_norm
        if kept == before:
            break
    if not unbiased or mean <= 0.0:
        return Estimate(mean, mean, kept, 0.0)
    dispersion = max(1.0, (square / kept - mean * mean) / mean)
    rate, variance = truncated_rate(mean, low, high, dispersion)
    return Estimate(rate, variance, kept, 0.0)


@_jit
def _trim(
    entries: FloatArray,
    n: int,
    total: float,
    in_order: bool,
    mean_norm: float,
    deficit: FloatArray,
    plan: Plan,
) -> Estimate:
    """Trimmed mean; its variance is that of its expectation's rate."""
    first, last = math.floor(plan.lower * total), total - math.floor(plan.upper * total)
    if in_order:
        a, b = _rank_value(entries, n, first), _rank_value(entries, n, last - 1)
        s, w = trim_ordered(entries, n, first, last, a, b, deficit)
    else:
        s, w = trim_unordered(entries, n, int(first), int(last))
    trimmed = s / w * mean_norm
    lower, upper = first / total, 1.0 - last / total
    if lower + upper == 0.0:
        return Estimate(trimmed, trimmed, total, 0.0)
    if plan.unbiased:
        floor = max(TRIM_FLOOR, 2.0 * upper)
        if total < SMALL_RING or trimmed < floor:
            clip = _poisson_clip(entries, n, total, in_order, mean_norm, True)
            if total < SMALL_RING or clip.rate < floor:
                return Estimate(clip.rate, clip.variance, clip.kept, 1.0)
    rate = invert_trimmed(trimmed, lower, upper)
    _, slope, variance = trimmed_expectation(rate, lower, upper)
    if not plan.unbiased:
        return Estimate(trimmed, variance, last - first, 0.0)
    return Estimate(rate, variance / (slope * slope), last - first, 0.0)


@_jit
def _median(
    entries: FloatArray,
    n: int,
    total: float,
    in_order: bool,
    mean_norm: float,
    deficit: FloatArray,
    plan: Plan,
) -> Estimate:
    """Median: the middle pixel, or the two of an even number."""
    first = math.floor((total - 1) / 2)
    last = total - first
    if in_order:
        a, b = _rank_value(entries, n, first), _rank_value(entries, n, last - 1)
    else:
        a = select(entries[VALUE], n, int(first))
        b = a if last - 1 == first else select(entries[VALUE], n, int(last) - 1)
    if not plan.unbiased:
        s, w = trim_ordered(entries, n, first, last, a, b, deficit)
        median = s / w * mean_norm
        return Estimate(median, median_expectation(max(median, 0.7))[1], last - first, 0.0)
    if total < SMALL_RING or a < 2.0 * MEDIAN_FLOOR:
        clip = _poisson_clip(entries, n, total, in_order, mean_norm, True)
        if total < SMALL_RING or clip.rate < MEDIAN_FLOOR:
            return Estimate(clip.rate, clip.variance, clip.kept, 1.0)
    rate = invert_median(_grouped_median(entries, n, total, a))
    step = 1e-3 * rate
    slope = (median_expectation(rate + step)[0] - median_expectation(rate - step)[0]) / (2.0 * step)
    return Estimate(rate, median_expectation(rate)[1] / (slope * slope), last - first, 0.0)


@_jit
def estimate_ring(
    entries: FloatArray, n: int, in_order: bool, deficit: FloatArray, plan: Plan, out: FloatArray
) -> None:
    """Fill one result row from the entries of a ring.

    ``deficit`` is the ring's table for `trim_ordered`, zeros where every entry is one pixel.
    """
    total, s, w, square = sums_between(entries, n, -math.inf, math.inf)
    out[N_PIXELS] = total
    out[FLAG] = 0.0
    if total == 0.0:
        out[INTENSITY] = out[SIGMA] = out[REMOVED] = out[DISPERSION] = np.nan
        return
    mean_norm, mean = w / total, s / total
    if plan.method == TRIMMED_MEAN:
        estimate = _trim(entries, n, total, in_order, mean_norm, deficit, plan)
    elif plan.method == MEDIAN:
        estimate = _median(entries, n, total, in_order, mean_norm, deficit, plan)
    elif plan.method == SIGMA_CLIP:
        estimate = _sigma_clip(entries, n, total, mean_norm, plan.unbiased, plan.threshold)
    elif plan.method == POISSON_CLIP:
        estimate = _poisson_clip(entries, n, total, in_order, mean_norm, plan.unbiased)
    else:
        estimate = Estimate(mean, mean, total, 0.0)
    out[INTENSITY] = estimate.rate / mean_norm
    # A ring without a count still has a sigma: that of one count.
    out[SIGMA] = math.sqrt(max(estimate.variance, 1.0 / total) / total) / mean_norm
    out[REMOVED] = 1.0 - estimate.kept / total
    out[FLAG] = estimate.flag
    # 1 for Poisson counts, more where there are spots.
    out[DISPERSION] = np.nan
    if total > 1.0 and mean > 0.0:
        out[DISPERSION] = (square - total * mean * mean) / ((total - 1.0) * mean)
