"""Compiled: the normal equations of a fit with bounds, a few parameters at a time."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

__all__ = ["bounded_step", "covariance", "factorise"]

#: A pivot that falls below this share of its diagonal is a parameter that the others make up.
_SINGULAR = 1e-10


@njit(cache=True, nogil=True)
def factorise(matrix: Any, free: Any, factor: Any) -> bool:
    """Fill the Cholesky factor of the free part of a matrix; False where that is singular."""
    n = free.size
    for i in range(n):
        if not free[i]:
            continue
        for j in range(i + 1):
            if not free[j]:
                continue
            total = matrix[i, j]
            for k in range(j):
                if free[k]:
                    total -= factor[i, k] * factor[j, k]
            if i == j:
                if not total > _SINGULAR * matrix[i, i]:
                    return False
                factor[i, i] = math.sqrt(total)
            else:
                factor[i, j] = total / factor[j, j]
    return True


@njit(cache=True, nogil=True)
def _back_substitute(factor: Any, free: Any, x: Any) -> None:
    """Solve in place, the held parameters left as they are."""
    n = free.size
    for i in range(n):
        if free[i]:
            for k in range(i):
                if free[k]:
                    x[i] -= factor[i, k] * x[k]
            x[i] /= factor[i, i]
    for i in range(n - 1, -1, -1):
        if free[i]:
            for k in range(i + 1, n):
                if free[k]:
                    x[i] -= factor[k, i] * x[k]
            x[i] /= factor[i, i]


@njit(cache=True, nogil=True)
def bounded_step(
    matrix: Any, gradient: Any, low: Any, high: Any, active: Any, free: Any, factor: Any, step: Any
) -> bool:
    """Fill the step that the normal equations ask for, between bounds; False where they are singular.

    A parameter that would leave its bounds is held at the bound and the others are solved again, the
    worst first; inactive ones do not move.
    """
    n = gradient.size
    for i in range(n):
        free[i] = active[i]
        step[i] = 0.0
    for _ in range(n + 1):
        if not factorise(matrix, free, factor):
            return False
        for i in range(n):
            if free[i]:
                total = gradient[i]
                for k in range(n):
                    if not free[k]:
                        total -= matrix[i, k] * step[k]
                step[i] = total
        _back_substitute(factor, free, step)
        worst, excess = -1, 0.0
        for i in range(n):
            if free[i]:
                over = max(low[i] - step[i], step[i] - high[i]) * math.sqrt(matrix[i, i])
                if over > excess:
                    worst, excess = i, over
        if worst < 0:
            return True
        free[worst] = False
        step[worst] = low[worst] if step[worst] < low[worst] else high[worst]
    return True


@njit(cache=True, nogil=True)
def covariance(factor: Any, free: Any, inverse: Any, out: Any) -> None:
    """Fill the inverse of the factorised matrix over its free part, 0 elsewhere; ``inverse`` is scratch."""
    n = free.size
    for j in range(n):
        for i in range(n):
            inverse[i, j] = 0.0
            out[i, j] = 0.0
    for j in range(n):
        if not free[j]:
            continue
        inverse[j, j] = 1.0 / factor[j, j]
        for i in range(j + 1, n):
            if free[i]:
                total = 0.0
                for k in range(j, i):
                    if free[k]:
                        total -= factor[i, k] * inverse[k, j]
                inverse[i, j] = total / factor[i, i]
    for i in range(n):
        for j in range(i + 1):
            total = 0.0
            for k in range(i, n):
                total += inverse[k, i] * inverse[k, j]
            out[i, j] = total
            out[j, i] = total
