"""How the noise of bins compares, from the residuals of some fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ._refine_rows import evaluate
from ._refine_solve import covariance, factorise

__all__ = ["bin_variance"]

#: The pooled variance counts as so many voxels, so that a few voxels do not make weights of their noise.
_PRIOR_VOXELS = 20.0
#: A bin that its fit passes through tells nothing: so much of its variance must be left.
_LEAST_FREE = 0.2


def bin_variance(
    kit: Any, patterns: Any, theta: Any, fitted: Any, variance: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return the variance of each bin relative to the others; NaN where no voxel has numbers.

    Each voxel's squared residuals are taken relative to what ``variance``, which the fit was weighted by,
    says of all of them, and divided by what the fit leaves of them (one minus the leverage).
    """
    sums = np.zeros((2, patterns.shape[1]))
    _add_squares(kit, patterns, theta, fitted, 1.0 / variance, sums)
    found = (sums[0] + _PRIOR_VOXELS * variance) / (sums[1] + _PRIOR_VOXELS)
    found[(sums[1] == 0) & (sums[1].max(initial=0) > 0)] = np.nan
    return np.asarray(found)


@njit(cache=True, nogil=True)
def _add_squares(kit: Any, patterns: Any, theta: Any, fitted: Any, weight: Any, sums: Any) -> None:
    n_bins, n_par = kit.x_deg.size, theta.shape[1]
    rows = np.empty((n_par + (0 if kit.n_width > 1 else 1), n_bins), np.float32)
    rows[: kit.chebyshev.shape[0]] = kit.chebyshev
    model = np.empty(n_bins, np.float32)
    square, leverage = np.empty(n_bins), np.empty(n_bins)
    matrix, factor, inverse = np.empty((n_par, n_par)), np.zeros((n_par, n_par)), np.empty((n_par, n_par))
    free = np.empty(n_par, np.bool_)
    for v in range(patterns.shape[0]):
        if not fitted[v]:
            continue
        evaluate(kit, theta[v], rows, model)
        good = np.isfinite(patterns[v])
        for i in range(n_par):
            for j in range(i + 1):
                total = 0.0
                for b in range(n_bins):
                    if good[b]:
                        total += weight[b] * rows[i, b] * rows[j, b]
                matrix[i, j] = total
                matrix[j, i] = total
            free[i] = matrix[i, i] > 0
        if not factorise(matrix, free, factor):
            continue
        covariance(factor, free, matrix, inverse)
        mean, n = 0.0, 0
        for b in range(n_bins):
            square[b] = (patterns[v, b] - model[b]) ** 2 if good[b] else 0.0
            leverage[b] = 0.0
            for i in range(n_par):
                for j in range(n_par):
                    leverage[b] += rows[i, b] * inverse[i, j] * rows[j, b]
            leverage[b] *= weight[b]
            mean += weight[b] * square[b]
            n += good[b]
        mean /= max(n - n_par, 1)
        if not mean > 0:
            continue
        for b in range(n_bins):
            if good[b]:
                sums[0, b] += square[b] / mean / max(1.0 - leverage[b], _LEAST_FREE)
                sums[1, b] += 1.0
