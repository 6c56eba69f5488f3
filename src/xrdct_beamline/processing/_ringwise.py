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

from ._estimators import Plan, estimate_ring
from ._trim import COUNTS, NORM, PIXELS, VALUE

__all__ = ["estimate_rings", "scatter", "scatter_dark"]

Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.integer[Any]]

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


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
def _gather(buffer: Floats, norm: Floats, first: int, last: int, corrected: bool, entries: Floats) -> int:
    """Write the valid pixels of a ring as entries; return how many."""
    n, total = 0, 0.0
    for j in range(first, last):
        v = buffer[j]
        if not math.isnan(v):
            entries[VALUE, n] = v
            entries[COUNTS, n] = v
            entries[NORM, n] = norm[j]
            total += norm[j]
            n += 1
    if corrected and n > 0:
        mean_norm = entries.dtype.type(total / n)
        for j in range(n):
            entries[VALUE, j] = entries[COUNTS, j] * (mean_norm / entries[NORM, j])
    return n


@_jit
def estimate_rings(
    buffer: Floats, norm: Floats, start: Indices, first: int, last: int, corrected: bool, plan: Plan,
    rows: npt.NDArray[np.float64],
) -> None:  # fmt: skip
    """Estimate the rings ``first…last`` from pixels in ring order."""
    room = 1
    for r in range(first, last):
        room = max(room, start[r + 1] - start[r])
    entries = np.empty((4, room), buffer.dtype)
    entries[PIXELS] = 1.0
    no_deficit = np.zeros(2)
    for r in range(first, last):
        n = _gather(buffer, norm, start[r], start[r + 1], corrected, entries)
        estimate_ring(entries, n, False, no_deficit, plan, rows[r])
