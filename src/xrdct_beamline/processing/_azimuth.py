"""The azimuthal bin trim: regroup to azimuthal bins, then trim those (the historical ID15A filter).

A bin is a member of its ring if it holds at least one valid pixel; empty bins do not exist.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from ._estimators import DISPERSION, N_PIXELS, Plan, estimate_unordered
from ._trim import COUNTS, NORM, PIXELS, VALUE

__all__ = ["azimuthal_cells", "estimate_cells", "fill_cells"]

Floats = npt.NDArray[np.floating[Any]]
Indices = npt.NDArray[np.int32]

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


def azimuthal_cells(
    ring: npt.NDArray[np.int32], azimuth_rad: npt.NDArray[np.float64], n_rings: int, n_azimuth: int
) -> npt.NDArray[np.int32]:
    """Return the cell ``ring · n_azimuth + bin`` of each pixel, -1 for a pixel that never counts."""
    place = np.floor((azimuth_rad.ravel() / (2 * np.pi)) % 1.0 * n_azimuth).astype(np.int64)
    cells = ring * n_azimuth + np.minimum(place, n_azimuth - 1)
    return np.where(ring < n_rings, cells, -1).astype(np.int32)


@_jit
def fill_cells(
    frame: npt.NDArray[Any], dark: Floats, cells: Indices, norm: Floats, first: int, last: int, sums: Floats
) -> None:
    """Add valid pixels of a flat frame to their cells: pixels, Σ counts, Σ normalisation.

    An empty ``dark`` is none; an empty ``norm`` is 1.
    """
    for i in range(first, last):
        c, v = cells[i], float(frame[i])
        if c >= 0 and 0.0 <= v < np.inf:
            sums[c, 0] += 1.0
            sums[c, 1] += v - dark[i] if dark.size else v
            sums[c, 2] += norm[i] if norm.size else 1.0


@_jit
def estimate_cells(
    sums: Floats, n_azimuth: int, first: int, last: int, plan: Plan, rows: npt.NDArray[np.float64]
) -> None:
    """Estimate the rings ``first…last`` from the sums of their azimuthal bins."""
    entries = np.ones((4, n_azimuth), np.float32)
    for r in range(first, last):
        n, total, pixels = 0, 0.0, 0.0
        for c in range(r * n_azimuth, (r + 1) * n_azimuth):
            if sums[c, 0] > 0.0:
                entries[COUNTS, n] = sums[c, 1]
                entries[NORM, n] = sums[c, 2]
                entries[PIXELS, n] = 1.0
                total += sums[c, 2]
                pixels += sums[c, 0]
                n += 1
        for j in range(n):
            entries[VALUE, j] = entries[COUNTS, j] / entries[NORM, j] * (total / n)
        estimate_unordered(entries, n, plan, rows[r])
        rows[r, N_PIXELS] = pixels
        if n < 2:
            rows[r, DISPERSION] = np.nan
