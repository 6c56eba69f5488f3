"""Taking the lowest and the highest pixels of a ring away without sorting it."""

from __future__ import annotations

import math

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["insertion_sort", "select", "trim_ordered", "trim_unordered"]

FloatArray = npt.NDArray[np.float64]

#: Rows of the entries of a ring, see ``_estimators``.
VALUE, PIXELS, COUNTS, NORM = range(4)

_BINS = 256
_FEW = 24  # values left from which a sort is cheaper than another histogram
_SAMPLE = 64
_HALF_WIDTH = 4.0  # of the histogram, in interquartile ranges: 5.4 standard deviations of a normal

_jit = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})


@_jit
def insertion_sort(few: FloatArray, n: int) -> None:
    """Sort a handful of values in place (numpy's sort takes seconds to compile, and longer to run)."""
    for i in range(1, n):
        v = few[i]
        j = i
        while j > 0 and few[j - 1] > v:
            few[j] = few[j - 1]
            j -= 1
        few[j] = v


@_jit
def _sorted_rank(value: FloatArray, n: int, rank: int) -> float:
    few = np.empty(n)
    for j in range(n):
        few[j] = value[j]
    insertion_sort(few, n)
    return few[rank]


@_jit
def select(value: FloatArray, n: int, rank: int) -> float:
    """Return the value at a rank (from 0) of ``n`` unordered values, none of them NaN.

    A histogram between the lowest and the highest is narrowed to the bin that holds the rank until
    few values or one are left in it.
    """
    if n <= _FEW:
        return _sorted_rank(value, n, rank)
    few = np.empty(_FEW)
    low, high = math.inf, -math.inf
    for j in range(n):
        low, high = min(low, value[j]), max(high, value[j])
    below = 0  # values under ``low``
    while low < high:
        scale = (_BINS - 1) / (high - low)
        if not scale < math.inf:
            return _sorted_rank(value, n, rank)
        histogram = np.zeros(_BINS, np.int64)
        for j in range(n):
            v = value[j]
            if low <= v <= high:
                histogram[int((v - low) * scale)] += 1
        b = 0
        while below + histogram[b] <= rank:
            below += histogram[b]
            b += 1
        new_low, new_high, m = high, low, 0
        for j in range(n):
            v = value[j]
            if low <= v <= high and int((v - low) * scale) == b:
                new_low, new_high = min(new_low, v), max(new_high, v)
                if histogram[b] <= _FEW:
                    few[m] = v
                    m += 1
        if m:
            return _sorted_rank(few, m, rank - below)
        low, high = new_low, new_high
    return low


@_jit
def _sampled_range(value: FloatArray, n: int) -> tuple[float, float]:
    """Return the middle and the width of the values' bulk, from an evenly spread sample."""
    size = min(n, _SAMPLE)
    sample = np.empty(size)
    for j in range(size):
        sample[j] = value[(j * n) // size]
    insertion_sort(sample, size)
    return sample[size // 2], sample[(3 * size) // 4] - sample[size // 4]


@_jit
def trim_unordered(entries: FloatArray, n: int, first: int, last: int) -> tuple[float, float]:
    """Return Σ counts and Σ normalisation of the pixels of rank ``first…last``; ties leave pro rata.

    Every entry is one pixel. One pass puts them into a histogram with the sums of each bin; only in
    the two bins that the cuts fall into are pixels looked at one by one.
    """
    value = entries[VALUE]
    middle, width = _sampled_range(value, n)
    if n <= 2 * _FEW or width <= 0.0:
        return _trim_between(entries, n, first, last, select(value, n, first), select(value, n, last - 1))
    place = np.empty(n, np.uint8)
    pixels = _fill_histogram(
        value, n, middle - _HALF_WIDTH * width, _BINS / (2.0 * _HALF_WIDTH * width), place
    )
    lower_bin, below_lower = _bin_of(pixels, first)
    upper_bin, below_upper = _bin_of(pixels, last - 1)
    if lower_bin == upper_bin:
        size = pixels[lower_bin]
        return _part_of_bin(entries, place, n, lower_bin, size, first - below_lower, last - below_lower)
    s, w = _sums_inside(entries, place, n, lower_bin, upper_bin)
    size = pixels[lower_bin]
    s_low, w_low = _part_of_bin(entries, place, n, lower_bin, size, first - below_lower, size)
    s_high, w_high = _part_of_bin(entries, place, n, upper_bin, pixels[upper_bin], 0, last - below_upper)
    return s + s_low + s_high, w + w_low + w_high


@_jit
def _fill_histogram(
    value: FloatArray, n: int, low: float, scale: float, place: npt.NDArray[np.uint8]
) -> npt.NDArray[np.int64]:
    """Note the bin of each value, the first and last bin taking what lies beyond; return the counts."""
    top = value.dtype.type(_BINS - 1)
    zero = value.dtype.type(0)
    origin, factor = value.dtype.type(low), value.dtype.type(scale)
    for j in range(n):
        place[j] = np.uint8(min(max((value[j] - origin) * factor, zero), top))
    pixels, others = np.zeros(_BINS, np.int64), np.zeros(_BINS, np.int64)
    for j in range(0, n - 1, 2):  # two of them, so that equal neighbours do not wait for each other
        pixels[place[j]] += 1
        others[place[j + 1]] += 1
    if n % 2:
        pixels[place[n - 1]] += 1
    for b in range(_BINS):
        pixels[b] += others[b]
    return pixels


@_jit
def _sums_inside(
    entries: FloatArray, place: npt.NDArray[np.uint8], n: int, lower_bin: int, upper_bin: int
) -> tuple[float, float]:
    """Sum counts and normalisation of the pixels in the bins between two; without a branch."""
    first, width = np.uint8(lower_bin + 1), np.uint8(upper_bin - lower_bin - 1)
    s, w = 0.0, 0.0
    for j in range(n):
        inside = np.uint8(place[j] - first) < width
        s += entries[COUNTS, j] if inside else 0.0
        w += entries[NORM, j] if inside else 0.0
    return s, w


@_jit
def _bin_of(pixels: npt.NDArray[np.int64], rank: int) -> tuple[int, int]:
    """Return the bin that holds a rank, and how many pixels lie in the bins before it."""
    b, below = 0, 0
    while below + pixels[b] <= rank:
        below += pixels[b]
        b += 1
    return b, below


@_jit
def _part_of_bin(
    entries: FloatArray, place: npt.NDArray[np.uint8], n: int, b: int, size: int, first: int, last: int
) -> tuple[float, float]:
    """Sum over the pixels of one bin between two ranks within it."""
    part = np.empty((4, size), entries.dtype)
    m = 0
    for j in range(n):
        if place[j] == b:
            part[VALUE, m] = entries[VALUE, j]
            part[COUNTS, m] = entries[COUNTS, j]
            part[NORM, m] = entries[NORM, j]
            part[PIXELS, m] = 1.0
            m += 1
    if first >= last:
        return 0.0, 0.0
    value = part[VALUE]
    return _trim_between(part, m, first, last, select(value, m, first), select(value, m, last - 1))


@_jit
def _trim_between(
    entries: FloatArray, n: int, first: float, last: float, a: float, b: float
) -> tuple[float, float]:
    """Sum over ranks ``first…last`` whose end values are ``a`` and ``b``; entries in any order."""
    return trim_ordered(entries, n, first, last, a, b, np.zeros(2))


@_jit
def _deficit(table: FloatArray, share: float) -> float:
    """Read a ring's table: how far the lowest ``share`` of its normalisations falls short of their mean.

    Per pixel of the ring, so 0 at both ends.
    """
    place = share * (table.size - 1)
    j = min(max(int(place), 0), table.size - 2)
    return table[j] + (place - j) * (table[j + 1] - table[j])


@_jit
def trim_ordered(
    entries: FloatArray, n: int, first: float, last: float, a: float, b: float, deficit: FloatArray
) -> tuple[float, float]:
    """Return Σ counts and Σ normalisation of the ranks ``first…last``, given the values at either end.

    Of the pixels that share one entry, those with the smallest normalisation have the largest
    corrected value; ``deficit`` says what the normalisation of the ones that leave is.
    """
    below, m, s, w = 0.0, 0.0, 0.0, 0.0
    ma, sa, wa, mb, sb, wb = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(n):
        x = entries[VALUE, j]
        if x < a:
            below += entries[PIXELS, j]
        elif x == a:
            ma += entries[PIXELS, j]
            sa += entries[COUNTS, j]
            wa += entries[NORM, j]
        elif x < b:
            m += entries[PIXELS, j]
            s += entries[COUNTS, j]
            w += entries[NORM, j]
        elif x == b:
            mb += entries[PIXELS, j]
            sb += entries[COUNTS, j]
            wb += entries[NORM, j]
    gone_a = (first - below) / ma
    if a == b:
        gone_b = 1.0 - (last - below) / ma
        kept = 1.0 - gone_a - gone_b
        turn = ma * (_deficit(deficit, 1.0 - gone_a) - _deficit(deficit, gone_b)) if a > 0 else 0.0
        return kept * sa, kept * wa + turn
    kept_b = (last - below - ma - m) / mb
    w += kept_b * wb - mb * _deficit(deficit, 1.0 - kept_b)
    w += (1.0 - gone_a) * wa
    if a > 0:  # corrected zeros are equal, whatever their normalisation
        w += ma * _deficit(deficit, 1.0 - gone_a)
    return s + (1.0 - gone_a) * sa + kept_b * sb, w
