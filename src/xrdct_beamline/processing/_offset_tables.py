"""Frames of hundreds of counts: tables as for small counts, but each ring's begins near its own median.

Classes are counts, halves or quarters, at the ring's mean normalisation, so with corrections off
nothing is rounded. A ring of few counts, where rounding would be felt, has its pixels listed one by
one, as have all pixels beyond a ring's 256 classes. What lies where is told by a sample of each ring.
"""

from __future__ import annotations

import numba
import numpy as np

from ._estimators import Plan, estimate_ordered
from ._spots import note_low_counts
from ._tables import (
    BLOCK,
    LEVEL,
    NORMS,
    PIXEL,
    PIXEL_BITS,
    Floats,
    Frame,
    Indices,
    Tables,
    Words,
    sort_entries,
)
from ._trim import COUNTS, NORM, PIXELS, VALUE, insertion_sort

__all__ = ["OFFSET_CLASSES", "choose_bases", "estimate_offset_tables", "fill_offset_table"]

OFFSET_CLASSES = 256
_BELOW_MEDIAN = 112  # classes; more are needed above, where spots and the skew are
_SAMPLE = 24
#: Below this median pixels are rounded alike, and the errors do not average out.
_FEW = 32.0
_FINEST = 4  # classes per count
#: Shares of the pixels that may lie beyond their ring's classes: of fine ones, and of whole counts.
_FINE_BEYOND, _WHOLE_BEYOND = 0.005, 0.04
_NO_CLASS = np.int32(2**30)

_U8, _U16 = np.uint32(8), np.uint32(16)
_HALF = np.float32(0.5)

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


@_jit
def choose_bases(frame: Frame, order: Indices, start: Indices, inverse: Floats, base: Indices) -> int:
    """Set the first class of each ring; return the classes per count, 0 if many pixels have no class.

    ``inverse`` is the ring's mean normalisation over the pixel's. The last base is that of the
    pixels that never count.
    """
    n_rings = len(start) - 1
    sample, n_sampled = np.empty((n_rings, _SAMPLE)), np.zeros(n_rings, np.int64)
    for r in range(n_rings):
        pixels, n = start[r + 1] - start[r], 0
        for j in range(min(_SAMPLE, pixels)):
            i = order[start[r] + (j * pixels) // min(_SAMPLE, pixels)]
            if frame[i] >= 0:
                sample[r, n] = frame[i] * inverse[i]
                n += 1
        n_sampled[r] = n
        insertion_sort(sample[r], n)
    per_count = _FINEST
    while per_count > 0:
        beyond = _place_bases(sample, n_sampled, start, per_count, base)
        if beyond <= (_FINE_BEYOND if per_count > 1 else _WHOLE_BEYOND) * start[n_rings]:
            return per_count
        per_count //= 2
    return 0


@_jit
def _place_bases(sample: Floats, n_sampled: Indices, start: Indices, per_count: int, base: Indices) -> float:
    """Set the bases for classes of one width; return how many pixels lie beyond the classes."""
    beyond = 0.0
    for r in range(len(start) - 1):
        n = n_sampled[r]
        base[r] = _NO_CLASS
        if n == 0:
            continue
        middle = sample[r, n // 2]
        if _FEW <= middle < _NO_CLASS / _FINEST:
            base[r] = max(int(middle * per_count) - _BELOW_MEDIAN, 0)
        outside = 0
        for j in range(n):
            outside += not base[r] <= sample[r, j] * per_count < base[r] + OFFSET_CLASSES
        beyond += outside * (start[r + 1] - start[r]) / n
    base[len(start) - 1] = 0
    return beyond


@_jit
def fill_offset_table(
    frame: Frame, words: Words, inverse: Floats, base: Indices, per_count: int, first: int, last: int,
    table: Tables, tail: Indices,
) -> int:  # fmt: skip
    """Count the pixels ``first…last`` of a flat frame; what has no class goes to ``tail``.

    Returns the length of the tail, or -1 if it does not fit.
    """
    n_tail, sentinel, scale = 0, np.uint32(len(base) - 1), np.float32(per_count)
    value = np.empty(BLOCK, np.int32)
    for begin in range(first, last, BLOCK):
        n = min(BLOCK, last - begin)
        counts, of_pixel = frame[begin : begin + n], words[begin : begin + n]
        factor = inverse[begin : begin + n]
        for j in range(n):  # in vectors
            rounded = np.int32(np.float32(counts[j]) * (scale * factor[j]) + _HALF)
            value[j] = rounded if counts[j] >= 0 else np.int32(-1)
        for j in range(n):
            word = of_pixel[j]
            ring = word >> _U16
            place = np.uint32(value[j] - base[ring])
            if place < np.uint32(OFFSET_CLASSES):
                table[(ring << _U8) + place] += PIXEL + np.uint64(word & LEVEL)
            elif ring != sentinel and counts[j] >= 0:
                if n_tail == tail.size:
                    return -1
                tail[n_tail] = begin + j
                n_tail += 1
    return n_tail


@_jit
def _append_pixels(
    tail: Indices, frame: Frame, words: Words, inverse: Floats, offset: float, step: float, below: bool,
    limit: float, n: int, entries: Floats,
) -> int:  # fmt: skip
    """Append the listed pixels on one side of a limit as entries of their own, ascending."""
    first = n
    for i in tail:
        value = frame[i] * inverse[i]
        if (value < limit) == below:
            entries[VALUE, n] = value
            entries[PIXELS, n] = 1.0
            entries[COUNTS, n] = frame[i]
            entries[NORM, n] = offset + step * float(words[i] & LEVEL)
            n += 1
    sort_entries(entries, first, n)
    return n


@_jit
def _append_classes(
    tables: Tables,
    ring: int,
    base: int,
    per_count: int,
    mean_norm: float,
    offset: float,
    step: float,
    n: int,
    entries: Floats,
) -> int:
    """Append a ring's classes that hold pixels, and clear them."""
    for cell in range(ring * OFFSET_CLASSES, (ring + 1) * OFFSET_CLASSES):
        word = np.uint64(0)
        for t in range(tables.shape[0]):
            word += tables[t, cell]
        if word:
            for t in range(tables.shape[0]):
                tables[t, cell] = 0
            m = float(word >> PIXEL_BITS)
            norm = m * offset + step * float(word & NORMS)
            value = (base + cell - ring * OFFSET_CLASSES) / per_count
            entries[VALUE, n] = value
            entries[PIXELS, n] = m
            entries[COUNTS, n] = value * norm / mean_norm
            entries[NORM, n] = norm
            n += 1
    return n


@_jit
def estimate_offset_tables(
    tables: Tables, first: int, last: int, base: Indices, per_count: int, mean_norm: Floats, offset: Floats,
    step: Floats, frame: Frame, words: Words, inverse: Floats, tail: Indices, tail_start: Indices, plan: Plan,
    rows: Floats, low: Floats,
) -> None:  # fmt: skip
    """Estimate the rings ``first…last`` from the tables of one frame and clear their cells.

    ``tail`` holds the listed pixels in ring order, ring r's from ``tail_start[r]``.
    """
    longest = 0
    for r in range(first, last):
        longest = max(longest, tail_start[r + 1] - tail_start[r])
    entries = np.empty((4, OFFSET_CLASSES + longest))
    equal = np.zeros(2)  # pixels of one class do not differ in value, whatever their normalisation
    for r in range(first, last):
        of_ring = tail[tail_start[r] : tail_start[r + 1]]
        a, s, n, limit = offset[r], step[r], 0, base[r] / per_count
        if of_ring.size:
            n = _append_pixels(of_ring, frame, words, inverse, a, s, True, limit, n, entries)
        n = _append_classes(tables, r, base[r], per_count, mean_norm[r], a, s, n, entries)
        if of_ring.size:
            n = _append_pixels(of_ring, frame, words, inverse, a, s, False, limit, n, entries)
        estimate_ordered(entries, n, equal, plan, rows[r])
        note_low_counts(entries, n, plan, rows[r], low[r])
