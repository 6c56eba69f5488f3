"""Compiled: the model of one pattern and its derivatives, from the tables."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["FASTMATH", "Kit", "cell_mass", "evaluate"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Sums may be reordered and multiply-adds fused, so that they run eight at a time; NaN keep their meaning.
FASTMATH = {"reassoc", "contract", "nsz", "arcp"}


class Kit(NamedTuple):
    """All that the kernels need of a model, as arrays.

    The parameters of a pattern are, in this order: background, scale of each phase, free cell
    parameters phase by phase, width if it is free.
    """

    chebyshev: npt.NDArray[np.float32]
    rows: npt.NDArray[np.float32]
    first_row: IntArray  # of each phase
    n_nodes: IntArray  # over a; 1: cell held; 0: from reflections
    low: FloatArray
    step: FloatArray
    mass: FloatArray  # Z·M·V at each node, or Z·M where the cell moves by reflections
    first_mass: IntArray
    first_cell: IntArray  # parameter of each phase
    n_cell: IntArray
    n_width: int
    width_step: float
    lower: FloatArray  # of each parameter
    upper: FloatArray
    max_step: FloatArray
    first_reflection: IntArray
    hkl: FloatArray
    quarter_wavelength2: FloatArray
    area: FloatArray
    shape_low: FloatArray
    shape_step: FloatArray
    shapes: npt.NDArray[np.float32]  # (reflection · width · 2, point)
    x_deg: FloatArray
    zero_deg: float
    cell_map: IntArray  # (phase, 6)
    cell: FloatArray  # (phase, 6)


@njit(cache=True, nogil=True)
def _width_weights(width: float, n: int, step: float, weight: Any, slope: Any) -> int:
    """Fill Lagrange's weights of four nodes and their derivatives; return the first node."""
    if n == 1:
        weight[0], slope[0] = 1.0, 0.0
        return 0
    first = min(max(int(width / step) - 1, 0), n - 4)
    t = width / step - first
    for i in range(4):
        weight[i] = 1.0
        slope[i] = 0.0
        for j in range(4):
            if j != i:
                term = 1.0 / (i - j)
                slope[i] = slope[i] * (t - j) * term + weight[i] * term / step
                weight[i] *= (t - j) * term
    return first


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _hermite(rows: Any, r: int, s: int, c: Any, scale: Any, p: Any, d: Any) -> None:
    """Set ``p`` to the pattern between two nodes and ``d`` to its derivative times the scale."""
    c0, c1, c2, c3 = np.float32(c[0]), np.float32(c[1]), np.float32(c[2]), np.float32(c[3])
    e0, e1 = np.float32(c[4] * scale), np.float32(c[5] * scale)
    e2, e3 = np.float32(c[6] * scale), np.float32(c[7] * scale)
    for b in range(p.size):
        v0, v1, v2, v3 = rows[r, b], rows[r + 1, b], rows[s, b], rows[s + 1, b]
        p[b] = c0 * v0 + c1 * v1 + c2 * v2 + c3 * v3
        d[b] = e0 * v0 + e1 * v1 + e2 * v2 + e3 * v3


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _add_hermite(
    rows: Any, r: int, s: int, c: Any, scale: Any, weight: Any, slope: Any, p: Any, d: Any, w: Any
) -> None:
    """Add one node of the width to the pattern and to its derivatives by a and by the width."""
    c0, c1, c2, c3 = np.float32(c[0]), np.float32(c[1]), np.float32(c[2]), np.float32(c[3])
    e0, e1 = np.float32(c[4] * scale), np.float32(c[5] * scale)
    e2, e3 = np.float32(c[6] * scale), np.float32(c[7] * scale)
    weight, slope = np.float32(weight), np.float32(slope * scale)
    for b in range(p.size):
        v0, v1, v2, v3 = rows[r, b], rows[r + 1, b], rows[s, b], rows[s + 1, b]
        value = c0 * v0 + c1 * v1 + c2 * v2 + c3 * v3
        p[b] += weight * value
        w[b] += slope * value
        d[b] += weight * (e0 * v0 + e1 * v1 + e2 * v2 + e3 * v3)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _add_row(rows: Any, r: int, scale: Any, weight: Any, slope: Any, p: Any, w: Any) -> None:
    """Add one node of the width of a phase whose cell is held."""
    weight, slope = np.float32(weight), np.float32(slope * scale)
    for b in range(p.size):
        p[b] += weight * rows[r, b]
        w[b] += slope * rows[r, b]


@njit(cache=True, nogil=True)
def hermite_weights(position: float, step: float, n: int, c: Any) -> int:
    """Fill weights of value and slope at two nodes, then of the derivative; return the node below."""
    node = min(max(int(position), 0), n - 2)
    t = position - node
    c[0] = (1 + 2 * t) * (1 - t) * (1 - t)
    c[1] = t * (1 - t) * (1 - t) * step
    c[2] = t * t * (3 - 2 * t)
    c[3] = t * t * (t - 1) * step
    c[4] = 6 * t * (t - 1) / step
    c[5] = (1 - t) * (1 - 3 * t)
    c[6] = -c[4]
    c[7] = t * (3 * t - 2)
    return node


@njit(cache=True, nogil=True)
def _tabulated(kit: Any, k: int, theta: Any, rows: Any, c: Any, weight: Any, slope: Any, node: int) -> None:
    """Fill the rows of a phase that is tabulated over a, or held."""
    n_back, n_width = kit.chebyshev.shape[0], kit.n_width
    scale = theta[n_back + k]
    p = rows[n_back + k]
    w = rows[rows.shape[0] - 1]
    first = kit.first_row[k]
    if kit.n_nodes[k] == 1:
        p[:] = 0.0
        for i in range(min(n_width, 4)):
            r = first + 2 * (node + i)
            _add_row(kit.rows, r, scale, weight[i], slope[i], p, w)
        return
    column = kit.first_cell[k]
    d = rows[column]
    below = hermite_weights((theta[column] - kit.low[k]) / kit.step[k], kit.step[k], kit.n_nodes[k], c)
    if n_width == 1:
        _hermite(kit.rows, first + 2 * below, first + 2 * below + 2, c, scale, p, d)
        return
    p[:] = 0.0
    d[:] = 0.0
    for i in range(4):
        r = first + 2 * (below * n_width + node + i)
        _add_hermite(kit.rows, r, r + 2 * n_width, c, scale, weight[i], slope[i], p, d, w)


@njit(cache=True, nogil=True)
def _full_cell(kit: Any, k: int, theta: Any) -> Any:
    cell = kit.cell[k].copy()
    for i in range(6):
        if kit.cell_map[k, i] >= 0:
            cell[i] = theta[kit.first_cell[k] + kit.cell_map[k, i]]
    return cell


@njit(cache=True, nogil=True)
def _metric(cell: Any) -> Any:
    g = np.empty((3, 3))
    for i in range(3):
        g[i, i] = cell[i] * cell[i]
    for i in range(3):
        j, l = (i + 1) % 3, (i + 2) % 3  # noqa: E741
        g[j, l] = cell[j] * cell[l] * math.cos(math.radians(cell[3 + i]))
        g[l, j] = g[j, l]
    return g


@njit(cache=True, nogil=True)
def _inverse_metrics(kit: Any, k: int, theta: Any) -> tuple[Any, Any]:
    """Return the reciprocal metric of a cell and its derivatives by the free parameters."""
    cell = _full_cell(kit, k, theta)
    inverse = np.linalg.inv(_metric(cell))
    n = kit.n_cell[k]
    slopes = np.zeros((n, 3, 3))
    for q in range(n):
        moved = cell.copy()
        step = 0.0
        for i in range(6):
            if kit.cell_map[k, i] == q:
                step = 1e-5 * cell[i]
                moved[i] = cell[i] + step
        up = np.linalg.inv(_metric(moved))
        for i in range(6):
            if kit.cell_map[k, i] == q:
                moved[i] = cell[i] - step
        slopes[q] = (up - np.linalg.inv(_metric(moved))) / (2 * step)
    return inverse, slopes


@njit(cache=True, nogil=True)
def _quadratic(g: Any, h: Any) -> float:
    total = 0.0
    for i in range(3):
        for j in range(3):
            total += h[i] * g[i, j] * h[j]
    return total


@njit(cache=True, nogil=True)
def _reflections(kit: Any, k: int, theta: Any, rows: Any, weight: Any, slope: Any, node: int) -> None:
    """Fill the rows of a phase whose cell has several free parameters, peak by peak."""
    n_back = kit.chebyshev.shape[0]
    scale = theta[n_back + k]
    p, w = rows[n_back + k], rows[rows.shape[0] - 1]
    first, n_cell = kit.first_cell[k], kit.n_cell[k]
    p[:] = 0.0
    for q in range(n_cell):
        rows[first + q, :] = 0.0
    inverse, slopes = _inverse_metrics(kit, k, theta)
    by_cell = np.empty(n_cell)
    for r in range(kit.first_reflection[k], kit.first_reflection[k + 1]):
        sine2 = kit.quarter_wavelength2[r] * _quadratic(inverse, kit.hkl[r])
        if sine2 >= 1.0:
            continue
        sine, cosine = math.sqrt(sine2), math.sqrt(1.0 - sine2)
        centre = math.degrees(2.0 * math.asin(sine)) + kit.zero_deg
        area = kit.area[r] / (sine2 * cosine)
        for q in range(n_cell):
            change = kit.quarter_wavelength2[r] * _quadratic(slopes[q], kit.hkl[r])
            by_cell[q] = math.degrees(change / (sine * cosine))
        # d ln(Lorentz factor) / d 2θ
        fall = math.radians(0.5 * (sine / cosine - 2.0 * cosine / sine))
        _add_peak(kit, r, centre, area, scale, fall, by_cell, weight, slope, node, p, rows, first, w)


@njit(cache=True, nogil=True)
def _add_peak(
    kit: Any, r: int, centre: float, area: float, scale: float, fall: float, by_cell: Any,
    weight: Any, slope: Any, node: int, p: Any, rows: Any, first: int, w: Any,
) -> None:  # fmt: skip
    low, step, n = kit.shape_low[r], kit.shape_step[r], kit.shapes.shape[1]
    start = np.searchsorted(kit.x_deg, centre + low)
    for b in range(start, p.size):
        position = (kit.x_deg[b] - centre - low) / step
        i = int(position)
        if i >= n - 1:
            break
        t = position - i
        value, change, by_width = 0.0, 0.0, 0.0
        for j in range(min(kit.n_width, 4)):
            s = 2 * (r * kit.n_width + node + j)
            y0, y1 = kit.shapes[s, i], kit.shapes[s, i + 1]
            m0, m1 = kit.shapes[s + 1, i] * step, kit.shapes[s + 1, i + 1] * step
            one = (1 + 2 * t) * (1 - t) ** 2 * y0 + t * (1 - t) ** 2 * m0 + t * t * (3 - 2 * t) * y1
            one += t * t * (t - 1) * m1
            value += weight[j] * one
            by_width += slope[j] * one
            d = 6 * t * (t - 1) * (y0 - y1) + (1 - t) * (1 - 3 * t) * m0 + t * (3 * t - 2) * m1
            change += weight[j] * d / step
        p[b] += area * value
        w[b] += scale * area * by_width
        for q in range(by_cell.size):
            rows[first + q, b] += scale * area * by_cell[q] * (fall * value - change)


@njit(cache=True, nogil=True)
def evaluate(kit: Any, theta: Any, rows: Any, model: Any) -> None:
    """Fill the derivatives ``(parameter, bin)`` and the model of a pattern.

    The background's rows are filled already. ``rows`` has one more row than there are parameters
    unless the width is free: something for the kernels to write into.
    """
    n_back, n_phases = kit.chebyshev.shape[0], kit.n_nodes.size
    c, weight, slope = np.empty(8), np.empty(4), np.empty(4)
    width = theta[theta.size - 1] if kit.n_width > 1 else 0.0
    node = _width_weights(width, kit.n_width, kit.width_step, weight, slope)
    rows[rows.shape[0] - 1, :] = 0.0
    for k in range(n_phases):
        if kit.n_nodes[k] == 0:
            _reflections(kit, k, theta, rows, weight, slope, node)
        else:
            _tabulated(kit, k, theta, rows, c, weight, slope, node)
    _combine(rows, theta, n_back + n_phases, model)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _combine(rows: Any, theta: Any, n: int, model: Any) -> None:
    """Set the model to the sum of the first rows, two of them in a pass."""
    model[:] = 0.0
    for i in range(0, n - 1, 2):
        one, two = np.float32(theta[i]), np.float32(theta[i + 1])
        for b in range(model.size):
            model[b] += one * rows[i, b] + two * rows[i + 1, b]
    if n % 2:
        one = np.float32(theta[n - 1])
        for b in range(model.size):
            model[b] += one * rows[n - 1, b]


@njit(cache=True, nogil=True)
def cell_mass(kit: Any, k: int, theta: Any) -> float:
    """Return Z·M·V of a phase at its cell."""
    first = kit.first_mass[k]
    if kit.n_nodes[k] == 0:
        return kit.mass[first] * math.sqrt(np.linalg.det(_metric(_full_cell(kit, k, theta))))
    if kit.n_nodes[k] == 1:
        return kit.mass[first]
    position = (theta[kit.first_cell[k]] - kit.low[k]) / kit.step[k]
    node = min(max(int(position), 0), kit.n_nodes[k] - 2)
    t = position - node
    return (1 - t) * kit.mass[first + node] + t * kit.mass[first + node + 1]
