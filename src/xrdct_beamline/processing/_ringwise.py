"""Frames of large counts or of floats: each ring's pixels side by side, then an estimate per ring.

The frame is walked in the order of memory and each pixel put at its place in ring order, so that a
ring lies in a core's first-level cache when it is estimated.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from ._estimators import Plan, estimate_unordered
from ._spots import note_low_counts
from ._trim import COUNTS, NORM, PIXELS, VALUE

__all__ = ["estimate_rings", "scatter", "scatter_dark"]

Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.integer[Any]]

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")
_fast = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"reassoc", "contract"})


@_jit
def scatter(frame: npt.NDArray[Any], place: Indices, first: int, last: int, buffer: Floats) -> None:
    """Put pixels of a flat frame in ring order; what is negative or not finite becomes NaN."""
    for i in range(first, last):
        p = place[i]
        if p >= 0:
            v = frame[i]
            buffer[p] = v if 0 <= v < math.inf else np.nan


@_jit
def scatter_dark(
    frame: npt.NDArray[Any], dark: Floats, place: Indices, first: int, last: int, buffer: Floats
) -> None:
    """Do the same and subtract the dark."""
    for i in range(first, last):
        p = place[i]
        if p >= 0:
            v = frame[i]
            buffer[p] = v - dark[i] if 0 <= v < math.inf else np.nan


@_jit
def _copy_valid(buffer: Floats, norm: Floats, first: int, last: int, entries: Floats) -> int:
    """Copy the valid pixels of a ring; return how many."""
    n_invalid = 0
    for j in range(first, last):
        n_invalid += buffer[j] != buffer[j]  # NaN
    if n_invalid == 0:  # nearly always, and then the compiler may use vectors
        for j in range(last - first):
            entries[COUNTS, j] = buffer[first + j]
            entries[NORM, j] = norm[first + j]
        return last - first
    n = 0
    for j in range(first, last):
        if not math.isnan(buffer[j]):
            entries[COUNTS, n] = buffer[j]
            entries[NORM, n] = norm[j]
            n += 1
    return n


@_fast
def _correct(entries: Floats, n: int, corrected: bool) -> None:
    """Set the values: counts at the ring's mean normalisation."""
    total = 0.0
    for j in range(n):
        total += entries[NORM, j]
    mean_norm = entries.dtype.type(total / max(n, 1))
    if corrected:
        for j in range(n):
            entries[VALUE, j] = entries[COUNTS, j] * (mean_norm / entries[NORM, j])
    else:
        for j in range(n):
            entries[VALUE, j] = entries[COUNTS, j]


@_jit
def estimate_rings(
    buffer: Floats, norm: Floats, start: Indices, first: int, last: int, corrected: bool, plan: Plan,
    rows: npt.NDArray[np.float64], low: npt.NDArray[np.float64],
) -> None:  # fmt: skip
    """Estimate the rings ``first…last`` from pixels in ring order."""
    room = 1
    for r in range(first, last):
        room = max(room, start[r + 1] - start[r])
    entries = np.empty((4, room), buffer.dtype)
    for j in range(room):
        entries[PIXELS, j] = 1.0
    for r in range(first, last):
        n = _copy_valid(buffer, norm, start[r], start[r + 1], entries)
        _correct(entries, n, corrected)
        estimate_unordered(entries, n, plan, rows[r])
        note_low_counts(entries, n, plan, rows[r], low[r])
