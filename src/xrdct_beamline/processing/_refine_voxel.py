"""Compiled: the fit of one pattern after another, Gauss-Newton with bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from ._refine_rows import FASTMATH, cell_mass, evaluate
from ._refine_solve import bounded_step, covariance, factorise

__all__ = ["BY_BIN", "BY_MODEL", "BY_VOXEL", "fit_patterns"]

#: Where the weights come from: one list for all patterns, one for each, the model's own Poisson variance.
BY_BIN, BY_VOXEL, BY_MODEL = 0, 1, 2

#: `RefinementStatus` as the kernels know it.
_CONVERGED, _NO_SIGNAL, _AT_LIMIT, _FAILED, _NOT_MEASURED = 0, 1, 2, 3, 4

_MOST_STEPS = 40
#: A step whose squared length, in standard deviations, is below this is the last one.
_LAST_STEP = 1e-3
#: Share of the pattern's weighted squares that single precision cannot tell from nothing.
_ROUNDING = 1e-11
#: A phase's cell moves where its scale exceeds so many deviations, is reported beyond that many.
_MOVES, _STANDS_OUT = 2.0, 4.0
#: After so many steps the choice of what moves stays, and shrinking steps are asked for.
_PATIENCE = 8
#: A Poisson variance is not taken below this share of the pattern's mean.
_FLOOR = 0.02
#: A fit that does not settle, for a background of next to nothing, is tried with so many times that floor.
_CALMER = 10.0


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _load(pattern: Any, y: Any, good: Any) -> Any:
    """Copy a pattern with its holes filled by 0; return number, sum and largest size of what is there."""
    n, total, largest = 0, np.float32(0.0), np.float32(0.0)
    for b in range(y.size):
        value = np.float32(pattern[b])
        there = abs(value) < np.float32(3e38)  # false for NaN and infinities
        good[b] = np.float32(1.0) if there else np.float32(0.0)
        y[b] = value if there else np.float32(0.0)
        n += 1 if there else 0
        total += y[b]
        largest = max(largest, abs(y[b]))
    return n, total, largest


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _poisson_weights(model: Any, good: Any, floor: Any, weight: Any) -> None:
    for b in range(model.size):
        weight[b] = good[b] / max(model[b], floor)


@njit(cache=True, nogil=True)
def _given_weights(sigma: Any, good: Any, weight: Any) -> Any:
    """Fill weights from standard deviations, 0 where there is none; return how many there are."""
    n = 0
    for b in range(sigma.size):
        value = np.float32(sigma[b])
        usable = value > 0 and value < np.float32(1e18)
        weight[b] = good[b] / (value * value) if usable else np.float32(0.0)
        n += weight[b] > 0
    return n


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _residual(y: Any, model: Any, weight: Any, r: Any) -> Any:
    """Fill the weighted residual; return the weighted squares of the residual and of the pattern."""
    misfit, size = np.float32(0.0), np.float32(0.0)
    for b in range(y.size):
        one = y[b] - model[b]
        r[b] = weight[b] * one
        misfit += r[b] * one
        size += weight[b] * y[b] * y[b]
    return misfit, size


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _weigh(rows: Any, i: int, weight: Any, out: Any) -> None:
    for b in range(out.size):
        out[b] = rows[i, b] * weight[b]


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _products(part: Any, rows: Any, n: int, out: Any) -> None:
    """Fill the dot products of a row with the first ``n`` of others, four in a pass."""
    for j in range(0, n - 3, 4):
        s0, s1, s2, s3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for b in range(part.size):
            value = part[b]
            s0 += value * rows[j, b]
            s1 += value * rows[j + 1, b]
            s2 += value * rows[j + 2, b]
            s3 += value * rows[j + 3, b]
        out[j], out[j + 1], out[j + 2], out[j + 3] = s0, s1, s2, s3
    for j in range(n - n % 4, n):
        s0 = np.float32(0)
        for b in range(part.size):
            s0 += part[b] * rows[j, b]
        out[j] = s0


@njit(cache=True, nogil=True)
def _normal(rows: Any, n: int, weight: Any, r: Any, part: Any, matrix: Any, gradient: Any) -> None:
    """Fill the normal matrix and the gradient."""
    _products(r, rows, n, gradient)
    for i in range(n):
        _weigh(rows, i, weight, part)
        _products(part, rows, i + 1, matrix[i])
        for j in range(i):
            matrix[j, i] = matrix[i, j]


@njit(cache=True, nogil=True)
def _choose(kit: Any, theta: Any, matrix: Any, unit: float, frozen: bool, active: Any) -> None:
    """Say which parameters move: a cell does where its phase stands out, the width where any does."""
    n_back = kit.chebyshev.shape[0]
    any_moves = False
    for i in range(n_back):
        active[i] = True
    for k in range(kit.n_nodes.size):
        s = theta[n_back + k]
        moves = s > 0 and s * s * matrix[n_back + k, n_back + k] > _MOVES * _MOVES * unit
        active[n_back + k] = True
        any_moves = any_moves or moves
        for q in range(kit.first_cell[k], kit.first_cell[k] + kit.n_cell[k]):
            active[q] = moves and matrix[q, q] > 0 and (active[q] or not frozen)
    if kit.n_width > 1:
        last = theta.size - 1
        active[last] = any_moves and matrix[last, last] > 0 and (active[last] or not frozen)


@njit(cache=True, nogil=True)
def _bounds(kit: Any, theta: Any, low: Any, high: Any) -> None:
    for i in range(theta.size):
        low[i] = max(kit.lower[i] - theta[i], -kit.max_step[i])
        high[i] = min(kit.upper[i] - theta[i], kit.max_step[i])


@njit(cache=True, nogil=True)
def _is_cut(kit: Any, step: Any) -> bool:
    """Whether a parameter would have gone further than a step may."""
    for i in range(step.size):
        if abs(step[i]) >= kit.max_step[i]:
            return True
    return False


@njit(cache=True, nogil=True)
def _length2(matrix: Any, step: Any) -> float:
    total = 0.0
    for i in range(step.size):
        for j in range(step.size):
            total += step[i] * matrix[i, j] * step[j]
    return total


@njit(cache=True, nogil=True)
def fit_patterns(
    kit: Any, patterns: Any, sigma: Any, mode: int, relative: bool,
    theta: Any, esd: Any, mass: Any, mass_esd: Any, rwp: Any, status: Any,
) -> None:  # fmt: skip
    """Fit patterns ``(n, bin)`` from the parameters in ``theta``, which become the fitted ones.

    ``sigma`` is ``(1, bin)`` for one list, ``(n, bin)`` for one for each, and unread if the weights are
    the model's. With ``relative`` only the ratios of the weights count: the esds are scaled by the misfit.
    """
    n_bins, n_par = kit.x_deg.size, theta.shape[1]
    rows = np.empty((n_par + (0 if kit.n_width > 1 else 1), n_bins), np.float32)
    rows[: kit.chebyshev.shape[0]] = kit.chebyshev
    floats = np.empty((6, n_bins), np.float32)
    matrices = np.zeros((3, n_par, n_par))
    vectors = np.empty((6, n_par))
    flags = np.empty((2, n_par), np.bool_)
    for v in range(patterns.shape[0]):
        n, total, largest = _load(patterns[v], floats[0], floats[1])
        theta_v, esd_v = theta[v], esd[v]
        esd_v[:] = np.nan
        mass_esd[v] = np.nan
        mass[v] = np.nan
        rwp[v] = np.nan
        if mode != BY_MODEL and n > 0:
            n = _given_weights(sigma[v if mode == BY_VOXEL else 0], floats[1], floats[2])
        if n == 0:
            theta_v[:] = np.nan
            status[v] = _NOT_MEASURED
        elif n <= n_par:
            theta_v[:] = np.nan
            status[v] = _FAILED
        elif largest == 0:
            theta_v[: kit.chebyshev.shape[0] + kit.n_nodes.size] = 0.0
            status[v] = _verdict(kit, theta_v, esd_v, _NO_SIGNAL)
        else:
            floor = np.float32(max(_FLOOR * total / n, 1e-6 * largest))
            vectors[5] = theta_v
            status[v] = _fit(kit, mode, relative, floor, n, theta_v, rows, floats, matrices, vectors, flags)
            if mode == BY_MODEL and status[v] == _FAILED:
                theta_v[:] = vectors[5]
                floor *= np.float32(_CALMER)
                status[v] = _fit(
                    kit, mode, relative, floor, n, theta_v, rows, floats, matrices, vectors, flags
                )
            rwp[v] = vectors[4, 0]
            _report(kit, theta_v, flags[1], matrices[2], esd_v, mass[v], mass_esd[v])
            status[v] = _verdict(kit, theta_v, esd_v, status[v])


@njit(cache=True, nogil=True)
def _fit(
    kit: Any, mode: int, relative: bool, floor: Any, n_used: int,
    theta: Any, rows: Any, floats: Any, matrices: Any, vectors: Any, flags: Any,
) -> int:  # fmt: skip
    """Fit one pattern; leave what moved in ``flags[1]`` and the covariance in ``matrices[2]``."""
    y, good, weight, model, r, part = floats[0], floats[1], floats[2], floats[3], floats[4], floats[5]
    matrix, factor, inverse = matrices[0], matrices[1], matrices[2]
    gradient, step, low, high, extra = vectors[0], vectors[1], vectors[2], vectors[3], vectors[4]
    active, free = flags[0], flags[1]
    active[:] = True
    previous, before, damping = np.inf, np.inf, 1.0
    outcome = _FAILED
    unit = 1.0
    for count in range(_MOST_STEPS):
        evaluate(kit, theta, rows, model)
        if mode == BY_MODEL:
            _poisson_weights(model, good, floor, weight)
        misfit, size = _residual(y, model, weight, r)
        if relative:
            unit = misfit / (n_used - theta.size) + 1e-12 * size / n_used
        _normal(rows, theta.size, weight, r, part, matrix, gradient)
        _choose(kit, theta, matrix, unit, count >= _PATIENCE, active)
        _bounds(kit, theta, low, high)
        if not bounded_step(matrix, gradient, low, high, active, free, factor, step):
            break
        length2 = _length2(matrix, step) / unit
        if not length2 < np.inf:
            break
        if count >= _PATIENCE and length2 > 0.5 * before:
            damping *= 0.5
        previous, before = before, length2
        for i in range(theta.size):
            theta[i] += damping * step[i]
        extra[0] = math.sqrt(max(misfit - length2 * unit, 0.0) / size)
        # A step far below the misfit's own scale, or below what single precision can tell, is none.
        expected = max(1.0, misfit / (n_used - theta.size) / unit)
        # Steps shrink by about the same factor each time, at the least: this is what the next would be.
        following = length2 * min(1.0, length2 / previous) if count > 0 else length2
        if not _is_cut(kit, step) and following < max(_LAST_STEP * expected, _ROUNDING * size / unit):
            outcome = _CONVERGED
            break
    # The scales count whether or not they are held at 0; a cell on its limit has no deviation.
    n_linear = kit.chebyshev.shape[0] + kit.n_nodes.size
    for i in range(theta.size):
        inside = kit.lower[i] < theta[i] < kit.upper[i]
        free[i] = active[i] and (inside or i < n_linear)
    if not factorise(matrix, free, factor):
        inverse[:] = np.nan
        return _FAILED
    covariance(factor, free, matrix, inverse)
    inverse *= unit
    return outcome


@njit(cache=True, nogil=True)
def _report(kit: Any, theta: Any, free: Any, inverse: Any, esd: Any, mass: Any, mass_esd: Any) -> None:
    """Fill the deviations, and the mass fractions with theirs."""
    for i in range(theta.size):
        if free[i]:
            esd[i] = math.sqrt(inverse[i, i])
    n_back, n = kit.chebyshev.shape[0], kit.n_nodes.size
    total = 0.0
    for k in range(n):
        mass[k] = cell_mass(kit, k, theta)
        total += mass[k] * theta[n_back + k]
    if total <= 0:
        mass[:] = np.nan
        return
    for k in range(n):
        share = mass[k] * theta[n_back + k] / total
        variance = 0.0
        for i in range(n):
            left = ((1.0 if i == k else 0.0) - share) * mass[i]
            for j in range(n):
                right = ((1.0 if j == k else 0.0) - share) * mass[j]
                variance += left * right * inverse[n_back + i, n_back + j]
        mass_esd[k] = math.sqrt(max(variance, 0.0)) / total
    for k in range(n):
        mass[k] *= theta[n_back + k] / total


@njit(cache=True, nogil=True)
def _verdict(kit: Any, theta: Any, esd: Any, status: int) -> int:
    """Blank the cells of phases that do not stand out; without any that does there is no signal."""
    n_back, n = kit.chebyshev.shape[0], kit.n_nodes.size
    signal, limited = False, False
    for k in range(n):
        stands_out = status == _CONVERGED and theta[n_back + k] > _STANDS_OUT * esd[n_back + k]
        signal = signal or stands_out
        for q in range(kit.first_cell[k], kit.first_cell[k] + kit.n_cell[k]):
            if not stands_out:
                theta[q] = np.nan
                esd[q] = np.nan
            elif theta[q] <= kit.lower[q] or theta[q] >= kit.upper[q]:
                limited = True
    if kit.n_width > 1:
        limited = limited or theta[theta.size - 1] >= kit.upper[theta.size - 1]
        if not signal:
            theta[theta.size - 1] = np.nan
            esd[theta.size - 1] = np.nan
    if status == _FAILED:
        return _FAILED
    if not signal:
        return _NO_SIGNAL
    return _AT_LIMIT if limited else _CONVERGED
