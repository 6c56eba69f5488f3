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
    normal_deviate,
    trimmed_expectation,
    truncated_rate,
)
from ._trim import COUNTS, NORM, PIXELS, VALUE, insertion_sort, trim_ordered, trim_unordered

__all__ = ["N_COLUMNS", "Plan", "estimate_ordered", "estimate_unordered"]

FloatArray = npt.NDArray[np.float64]

#: Columns of a result row.
INTENSITY, SIGMA, N_PIXELS, REMOVED, DISPERSION, FLAG = range(6)
N_COLUMNS = 6

#: Numbers of the estimators, for the kernels.
MEAN, TRIMMED_MEAN, MEDIAN, SIGMA_CLIP, POISSON_CLIP = range(5)

#: Rate below which the trimmed mean and the median cannot be put right (an upper 5 % trim is
#: identically 0 below 0.051; the median is 0 below 0.69 and within 1 % from 3 up).
TRIM_FLOOR, MEDIAN_FLOOR = 0.1, 3.0
#: Rings with fewer pixels are too coarse for corrections that hold for many.
SMALL_RING = 200

_CHANCE = 1e-3  # of a good pixel outside of either cut of the Poisson clip
_CHANCE_PIXELS = 1000.0  # smaller rings take fewer chances
_NEAR_BELOW, _NEAR_CHANCE = 1.0, 0.05  # where there are spots: rate, and chance above the upper cut
_SAMPLE = 65
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
    return k - 0.5 + (0.5 * total - below) / inside if inside > 0.0 else middle


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
    insertion_sort(sample[VALUE], size)
    return _start(sample, size, float(size))


@_jit
def _poisson_clip(
    entries: FloatArray,
    n: int,
    total: float,
    mean_norm: float,
    unbiased: bool,
    rate: float,
    dispersion: float,
) -> Estimate:
    """Clip what is improbable under the ring's own rate and dispersion.

    Where that finds more than chance explains and counts are few, the upper cut comes nearer: spots of
    ten times the ring's rate are then only a few counts, and some of their pixels below a far cut.
    """
    chance = _CHANCE * min(1.0, total / _CHANCE_PIXELS)
    clip = _clip_until_it_stands(entries, n, total, mean_norm, unbiased, rate, dispersion, chance, chance)
    expected = 2.0 * chance * total
    if clip.rate < _NEAR_BELOW and total - clip.kept > expected + 3.0 * math.sqrt(expected) + 3.0:
        return _clip_until_it_stands(
            entries, n, total, mean_norm, unbiased, clip.rate, dispersion, chance, _NEAR_CHANCE
        )
    return clip


@_jit
def _clip_until_it_stands(
    entries: FloatArray, n: int, total: float, mean_norm: float, unbiased: bool,
    rate: float, dispersion: float, chance: float, upper_chance: float,
) -> Estimate:  # fmt: skip
    z = normal_deviate(chance)
    kept, variance = total, rate
    low, high = -math.inf, math.inf
    for _ in range(_CLIPS):
        new_low, new_high = clip_cuts(rate, dispersion, chance, z, upper_chance)
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
    low, high = -1e300, 1e300
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
    if not unbiased or mean <= 0.0 or high > 1e299:
        return Estimate(mean, mean, kept, 0.0)
    dispersion = max(1.0, (square / kept - mean * mean) / mean)
    rate, variance = truncated_rate(mean, low, high, dispersion)
    return Estimate(rate, variance, kept, 0.0)


@_jit
def _ranks(plan: Plan, total: float) -> tuple[int, int]:
    """Return the first rank that a trimmed mean or median keeps, and the one after the last."""
    if plan.method == MEDIAN:
        first = int(total - 1) // 2
        return first, int(total) - first
    return int(math.floor(plan.lower * total)), int(total - math.floor(plan.upper * total))  # noqa: RUF046


@_jit
def _rank_estimate(
    entries: FloatArray, n: int, total: float, first: int, last: int, value: float, middle: float, plan: Plan
) -> Estimate:
    """Estimate from what lies between two ranks; ``value`` is its mean, ``middle`` a value within it."""
    kept = float(last - first)
    if kept == total:
        return Estimate(value, value, total, 0.0)
    if plan.method == MEDIAN:
        if not plan.unbiased:
            return Estimate(value, median_expectation(max(value, 0.7))[1], kept, 0.0)
        rate = invert_median(_grouped_median(entries, n, total, middle))
        step = 1e-3 * rate
        slope = (median_expectation(rate + step)[0] - median_expectation(rate - step)[0]) / (2.0 * step)
        return Estimate(rate, median_expectation(rate)[1] / (slope * slope), kept, 0.0)
    lower, upper = first / total, 1.0 - last / total
    rate = invert_trimmed(value, lower, upper)
    _, slope, variance = trimmed_expectation(rate, lower, upper)
    if not plan.unbiased:
        return Estimate(value, variance, kept, 0.0)
    return Estimate(rate, variance / max(slope * slope, 1e-6), kept, 0.0)


@_jit
def _floor(plan: Plan, total: float, estimate: Estimate) -> float:
    """Return the rate below which a rank estimate gives way to the Poisson clip."""
    if not plan.unbiased or estimate.kept == total:
        return 0.0
    if total < SMALL_RING:
        return math.inf
    return MEDIAN_FLOOR if plan.method == MEDIAN else max(TRIM_FLOOR, 2.0 * plan.upper)


@_jit
def _settle(
    entries: FloatArray, n: int, total: float, mean_norm: float, plan: Plan, estimate: Estimate, floor: float,
    rate: float, dispersion: float,
) -> Estimate:  # fmt: skip
    """Clip from a start (rate and dispersion), where asked for or where a rank estimate cannot work."""
    clip = _poisson_clip(entries, n, total, mean_norm, plan.unbiased, rate, dispersion)
    if plan.method == POISSON_CLIP:
        return clip
    return Estimate(clip.rate, clip.variance, clip.kept, 1.0) if clip.rate < floor else estimate


@_jit
def _write_row(
    out: FloatArray, estimate: Estimate, total: float, mean: float, mean_norm: float, square: float
) -> None:
    out[INTENSITY] = estimate.rate / mean_norm
    # A ring without a count still has a sigma: that of one count.
    out[SIGMA] = math.sqrt(max(estimate.variance, 1.0 / total) / total) / mean_norm
    out[N_PIXELS] = total
    out[REMOVED] = 1.0 - estimate.kept / total
    out[FLAG] = estimate.flag
    # 1 for Poisson counts, more where there are spots.
    out[DISPERSION] = np.nan
    if total > 1.0 and mean > 0.0:
        out[DISPERSION] = (square - total * mean * mean) / ((total - 1.0) * mean)


@_jit
def _write_empty(out: FloatArray) -> None:
    for i in range(N_COLUMNS):
        out[i] = np.nan
    out[N_PIXELS] = out[FLAG] = 0.0


@_jit
def estimate_ordered(entries: FloatArray, n: int, deficit: FloatArray, plan: Plan, out: FloatArray) -> None:
    """Fill one result row from entries in ascending order that pixels may share.

    ``deficit`` is the ring's table for `trim_ordered`.
    """
    total, s, w, square = sums_between(entries, n, -math.inf, math.inf)
    if total == 0.0:
        _write_empty(out)
        return
    mean_norm, mean = w / total, s / total
    estimate, floor = Estimate(mean, mean, total, 0.0), 0.0
    if plan.method == TRIMMED_MEAN or plan.method == MEDIAN:
        first, last = _ranks(plan, total)
        a, b = _rank_value(entries, n, first), _rank_value(entries, n, last - 1)
        ts, tw = trim_ordered(entries, n, first, last, a, b, deficit)
        estimate = _rank_estimate(entries, n, total, first, last, ts / tw * mean_norm, a, plan)
        floor = _floor(plan, total, estimate)
    elif plan.method == SIGMA_CLIP:
        estimate = _sigma_clip(entries, n, total, mean_norm, plan.unbiased, plan.threshold)
        floor = math.inf if plan.unbiased and total < SMALL_RING else 0.0
    if plan.method == POISSON_CLIP or estimate.rate < 1.5 * floor:
        rate, dispersion = _start(entries, n, total)
        estimate = _settle(entries, n, total, mean_norm, plan, estimate, floor, rate, dispersion)
    _write_row(out, estimate, total, mean, mean_norm, square)


@_jit
def estimate_unordered(entries: FloatArray, n: int, plan: Plan, out: FloatArray) -> None:
    """Fill one result row from entries of one pixel each, in any order."""
    total, s, w, square = sums_between(entries, n, -math.inf, math.inf)
    if total == 0.0:
        _write_empty(out)
        return
    mean_norm, mean = w / total, s / total
    estimate, floor = Estimate(mean, mean, total, 0.0), 0.0
    if plan.method == TRIMMED_MEAN or plan.method == MEDIAN:
        first, last = _ranks(plan, total)
        ts, tw = trim_unordered(entries, n, first, last)
        middle = ts / tw * mean_norm
        estimate = _rank_estimate(entries, n, total, first, last, middle, middle, plan)
        floor = _floor(plan, total, estimate)
    elif plan.method == SIGMA_CLIP:
        estimate = _sigma_clip(entries, n, total, mean_norm, plan.unbiased, plan.threshold)
        floor = math.inf if plan.unbiased and total < SMALL_RING else 0.0
    if plan.method == POISSON_CLIP or estimate.rate < 1.5 * floor:
        rate, dispersion = _sampled_start(entries, n)
        estimate = _settle(entries, n, total, mean_norm, plan, estimate, floor, rate, dispersion)
    _write_row(out, estimate, total, mean, mean_norm, square)
