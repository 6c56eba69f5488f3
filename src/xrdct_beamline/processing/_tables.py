"""Frames of small counts: one table of counts per ring, filled in the order of memory.

A frame of few counts per pixel needs no sort: per ring there is one cell for each of the counts
0…63, holding how many pixels had it and the sum of their normalisations, both in one 64-bit word.
The table of a thousand rings fits into a core's second-level cache. Larger counts go to a list.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from ._estimators import Plan, estimate_ordered
from ._spots import note_low_counts
from ._trim import COUNTS, NORM, PIXELS, VALUE

__all__ = ["CLASSES", "estimate_tables", "fill_table", "sort_entries", "sort_tail"]

Floats = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint32]
Tables = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.integer[Any]]
Frame = npt.NDArray[np.int32]

CLASSES = 64
_SHIFT = 6  # log2(CLASSES)
PIXEL = np.uint64(1 << 40)  # one pixel: above 40 bits for the sum of 16-bit normalisations
NORMS = np.uint64((1 << 40) - 1)
PIXEL_BITS = np.uint64(40)
LEVEL = np.uint32(0xFFFF)
BLOCK = 1024  # pixels whose cells are found before they are counted; fits into a core's first-level cache
_U6, _U16, _U64 = np.uint32(_SHIFT), np.uint32(16), np.uint32(CLASSES)

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


@_jit
def fill_table(
    frame: Frame, words: Words, first: int, last: int, n_rings: int, table: Tables, tail: Indices
) -> int:
    """Count the pixels ``first…last`` of a flat frame into a table of ``n_rings + 1`` rows.

    The last row takes the pixels that never count. Indices of pixels with larger counts are put
    into ``tail``; returns how many, or -1 if they do not fit: then this is not a frame of small counts.
    """
    n_tail = 0
    sentinel = np.uint32(n_rings)
    nowhere = sentinel << _U6
    cell = np.empty(BLOCK, np.uint32)
    for start in range(first, last, BLOCK):
        n = min(BLOCK, last - start)
        counts, of_pixel = frame[start : start + n], words[start : start + n]
        some_large = False
        for j in range(n):  # the compiler makes vectors of this, where the sum of both would be scalar
            count = np.uint32(counts[j])  # a negative count becomes a large one
            some_large |= counts[j] >= CLASSES
            cell[j] = ((of_pixel[j] >> _U16) << _U6) + count if count < _U64 else nowhere
        for j in range(n):
            table[cell[j]] += PIXEL + np.uint64(of_pixel[j] & LEVEL)
        if some_large:
            for j in range(n):
                if counts[j] >= CLASSES and of_pixel[j] >> _U16 != sentinel:
                    if n_tail == tail.size:
                        return -1
                    tail[n_tail] = start + j
                    n_tail += 1
    return n_tail


@_jit
def sort_tail(
    tail: Indices, n_tail: int, words: Words, n_rings: int, start: Indices, ordered: Indices
) -> None:
    """Bring the list of one frame's large counts into ring order (a counting sort)."""
    for r in range(n_rings + 1):
        start[r] = 0
    for j in range(n_tail):
        start[(words[tail[j]] >> _U16) + 1] += 1
    for r in range(n_rings):
        start[r + 1] += start[r]
    for j in range(n_tail):
        r = words[tail[j]] >> _U16
        ordered[start[r]] = tail[j]
        start[r] += 1
    for r in range(n_rings, 0, -1):
        start[r] = start[r - 1]
    start[0] = 0


@_jit
def _take_classes(tables: Tables, ring: int, offset: float, step: float, entries: Floats) -> int:
    """Write a ring's classes that hold pixels as entries, ascending, and clear them; return how many."""
    n = 0
    for cell in range(ring * CLASSES, (ring + 1) * CLASSES):
        word = np.uint64(0)
        for t in range(tables.shape[0]):
            word += tables[t, cell]
        if word:
            for t in range(tables.shape[0]):
                tables[t, cell] = 0
            k, m = cell - ring * CLASSES, float(word >> PIXEL_BITS)
            entries[VALUE, n] = k
            entries[PIXELS, n] = m
            entries[COUNTS, n] = k * m
            entries[NORM, n] = m * offset + step * float(word & NORMS)
            n += 1
    return n


@_jit
def _append_tail(
    tail: Indices, frame: Frame, words: Words, offset: float, step: float, n: int, entries: Floats
) -> int:
    """Append the pixels of large counts as entries of their own, in the order of corrected value."""
    mean_norm, total = 0.0, float(tail.size)
    for j in range(n):
        mean_norm += entries[NORM, j]
        total += entries[PIXELS, j]
    first = n
    for i in tail:
        w = offset + step * float(words[i] & LEVEL)
        mean_norm += w
        entries[VALUE, n] = frame[i] / w
        entries[PIXELS, n] = 1.0
        entries[COUNTS, n] = frame[i]
        entries[NORM, n] = w
        n += 1
    mean_norm /= total
    for j in range(first, n):
        # Above the table's entries, whatever the normalisation, so that all stay in order.
        entries[VALUE, j] = max(entries[VALUE, j] * mean_norm, CLASSES - 0.5)
    sort_entries(entries, first, n)
    return n


@_jit
def sort_entries(entries: Floats, first: int, last: int) -> None:
    """Sort entries by value (Shell's sort)."""
    gap = (last - first) // 2
    while gap > 0:
        for i in range(first + gap, last):
            value, counts, norm = entries[VALUE, i], entries[COUNTS, i], entries[NORM, i]
            j = i
            while j >= first + gap and entries[VALUE, j - gap] > value:
                entries[VALUE, j] = entries[VALUE, j - gap]
                entries[COUNTS, j] = entries[COUNTS, j - gap]
                entries[NORM, j] = entries[NORM, j - gap]
                j -= gap
            entries[VALUE, j], entries[COUNTS, j], entries[NORM, j] = value, counts, norm
        gap = 1 if gap == 2 else int(gap / 2.2)


@_jit
def estimate_tables(
    tables: Tables, first: int, last: int, offset: Floats, step: Floats, deficit: Floats,
    frame: Frame, words: Words, tail: Indices, tail_start: Indices, plan: Plan, rows: Floats,
    low: Floats,
) -> None:  # fmt: skip
    """Estimate the rings ``first…last`` from the tables of one frame and clear their cells.

    ``tail`` holds the pixels of larger counts in ring order, ring r's from ``tail_start[r]``.
    """
    longest = 0
    for r in range(first, last):
        longest = max(longest, tail_start[r + 1] - tail_start[r])
    entries = np.empty((4, CLASSES + longest))
    for r in range(first, last):
        n = _take_classes(tables, r, offset[r], step[r], entries)
        if tail_start[r + 1] > tail_start[r]:
            of_ring = tail[tail_start[r] : tail_start[r + 1]]
            n = _append_tail(of_ring, frame, words, offset[r], step[r], n, entries)
        estimate_ordered(entries, n, deficit[r], plan, rows[r])
        note_low_counts(entries, n, plan, rows[r], low[r])
