"""Where to start: the best cells of a coarse grid, from templates freed of the background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from ._refine_rows import FASTMATH

__all__ = ["Templates", "make_templates", "search_patterns"]

FloatArray = npt.NDArray[np.float64]

#: Rounds over the phases in which each takes the best cell beside those of the others.
_ROUNDS = 3
#: A known cell is given up where another explains so many times as much.
_CLEARLY = 1.2


@dataclass(frozen=True)
class Templates:
    """Patterns of each phase on a coarse grid of cells, weighted, with the background projected out.

    ``rows`` is ``(template, bin)``: a dot product with a pattern is the template's share in it; behind the
    templates come rows whose dot products are the background of a pattern without phases, and ``lines``,
    ``(template, coefficient)``, is what each template takes from that. ``gram`` has the dot products among
    templates; ``first`` the phases' templates; ``cells`` the values of the free cell parameters.
    """

    rows: npt.NDArray[np.float32]
    gram: FloatArray
    lines: FloatArray
    first: npt.NDArray[np.int64]
    cells: FloatArray


def make_templates(
    patterns: list[FloatArray], cells: list[FloatArray], background: FloatArray, weight: FloatArray
) -> Templates:
    """Project the background out of each phase's patterns ``(template, bin)`` under weights ``(bin,)``."""
    rows = np.concatenate(patterns)
    root = np.sqrt(weight)
    q, _ = np.linalg.qr((background * root).T)
    weighted = rows * root
    weighted -= (weighted @ q) @ q.T
    to_lines = np.linalg.pinv((background * root).T) * root
    width = max(c.shape[1] for c in cells)
    padded = [np.pad(c, ((0, 0), (0, width - c.shape[1]))) for c in cells]
    first = np.cumsum([0, *(p.shape[0] for p in patterns)])
    return Templates(
        rows=np.concatenate([weighted * root, to_lines]).astype(np.float32),
        gram=weighted @ weighted.T,
        lines=rows @ to_lines.T,
        first=first.astype(np.int64),
        cells=np.concatenate(padded),
    )


@njit(cache=True, nogil=True)
def _fill_holes(pattern: Any, y: Any) -> None:
    """Copy a pattern; across holes it runs straight, so that they look like no peak."""
    n = y.size
    last = -1
    for b in range(n):
        value = np.float32(pattern[b])
        if not abs(value) < np.float32(3e38):
            continue
        if last < 0:
            y[:b] = value
        else:
            for i in range(last + 1, b):
                y[i] = y[last] + (value - y[last]) * np.float32((i - last) / (b - last))
        y[b] = value
        last = b
    y[last + 1 :] = y[last] if last >= 0 else np.float32(0.0)


@njit(cache=True, nogil=True, fastmath=FASTMATH)
def _dots(rows: Any, y: Any, out: Any) -> None:
    """Fill the dot products of templates with a pattern, four at a time."""
    n = rows.shape[0]
    for i in range(0, n - 3, 4):
        s0, s1, s2, s3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for b in range(y.size):
            value = y[b]
            s0 += rows[i, b] * value
            s1 += rows[i + 1, b] * value
            s2 += rows[i + 2, b] * value
            s3 += rows[i + 3, b] * value
        out[i], out[i + 1], out[i + 2], out[i + 3] = s0, s1, s2, s3
    for i in range(n - n % 4, n):
        s0 = np.float32(0)
        for b in range(y.size):
            s0 += rows[i, b] * y[b]
        out[i] = s0


@njit(cache=True, nogil=True)
def _explained(gram: Any, dots: Any, chosen: Any, k: int, candidate: int, matrix: Any, x: Any) -> float:
    """Return how much of the pattern the candidate explains beside the other phases' chosen ones."""
    own = gram[candidate, candidate]
    if not own > 0 or dots[candidate] <= 0:
        return 0.0
    # The others' share is taken out of the candidate, one after another (Gram-Schmidt).
    value, left = dots[candidate], own
    n = 0
    for j in range(chosen.size):
        if j == k or chosen[j] < 0:
            continue
        matrix[n, 0] = chosen[j]
        n += 1
    if n == 0:
        return value * value / left
    for i in range(n):
        for j in range(n):
            matrix[i, 1 + j] = gram[int(matrix[i, 0]), int(matrix[j, 0])]
        x[i] = gram[int(matrix[i, 0]), candidate]
    for i in range(n):  # elimination; the Gram matrix is positive
        pivot = matrix[i, 1 + i]
        if not pivot > 1e-9 * gram[int(matrix[i, 0]), int(matrix[i, 0])]:
            continue
        for j in range(i + 1, n):
            share = matrix[j, 1 + i] / pivot
            for m in range(i, n):
                matrix[j, 1 + m] -= share * matrix[i, 1 + m]
            x[j] -= share * x[i]
    # back substitution gives the projection coefficients
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            x[i] -= matrix[i, 1 + j] * x[j]
        x[i] = x[i] / matrix[i, 1 + i] if matrix[i, 1 + i] > 0 else 0.0
    for i in range(n):
        other = int(matrix[i, 0])
        value -= x[i] * dots[other]
        left -= x[i] * gram[other, candidate]
    if value <= 0 or left <= 1e-4 * own:
        return 0.0
    return value * value / left


@njit(cache=True, nogil=True)
def _best(gram: Any, dots: Any, chosen: Any, k: int, first: Any, matrix: Any, x: Any) -> tuple[int, float]:
    """Return the best candidate of a phase beside the others' chosen ones, and what it explains."""
    best, most = -1, 0.0
    for i in range(first[k], first[k + 1]):
        one = _explained(gram, dots, chosen, k, i, matrix, x)
        if one > most:
            best, most = i, one
    return best, most


@njit(cache=True, nogil=True)
def _nearest(cells: Any, k: int, first: Any, n_cell: Any, own: Any) -> int:
    """Return the candidate of a phase whose cell is nearest."""
    best, least = first[k], np.inf
    for i in range(first[k], first[k + 1]):
        distance = 0.0
        for q in range(n_cell[k]):
            distance += (cells[i, q] - own[q]) ** 2
        if distance < least:
            best, least = i, distance
    return best


@njit(cache=True, nogil=True)
def _between(left: float, middle: float, right: float) -> float:
    """Return where the parabola through three equidistant heights has its crest, in steps."""
    curvature = left - 2.0 * middle + right
    return min(max(0.5 * (left - right) / curvature, -0.5), 0.5) if curvature < 0 else 0.0


@njit(cache=True, nogil=True)
def _linear_start(
    gram: Any, dots: Any, chosen: Any, n_back: int, lines: Any, line_dots: Any, theta: Any
) -> None:
    """Fill scales and background of the chosen templates."""
    n_phases = chosen.size
    for _ in range(1 if n_phases == 1 else 8):
        for k in range(n_phases):
            i = chosen[k]
            theta[n_back + k] = 0.0
            if i >= 0 and gram[i, i] > 0:
                left = float(dots[i])
                for j in range(n_phases):
                    if chosen[j] >= 0:
                        left -= gram[i, chosen[j]] * theta[n_back + j]
                theta[n_back + k] = max(left / gram[i, i], 0.0)
    for q in range(n_back):
        theta[q] = line_dots[q]
        for k in range(n_phases):
            if chosen[k] >= 0:
                theta[q] -= theta[n_back + k] * lines[chosen[k], q]


@njit(cache=True, nogil=True)
def search_patterns(
    patterns: Any, known: Any, rows: Any, gram: Any, lines: Any, first: Any, cells: Any,
    first_cell: Any, n_cell: Any, theta: Any,
) -> None:  # fmt: skip
    """Put starting values into ``theta``: the best cells of the grid, and what goes with them.

    Patterns whose cells are ``known`` keep them, unless others explain them clearly better.
    """
    n_phases = first.size - 1
    n_templates, n_back = gram.shape[0], lines.shape[1]
    y = np.empty(rows.shape[1], np.float32)
    dots = np.empty(rows.shape[0], np.float32)
    chosen = np.empty(n_phases, np.int64)
    matrix, x = np.empty((n_phases, n_phases + 1)), np.empty(n_phases)
    for v in range(patterns.shape[0]):
        _fill_holes(patterns[v], y)
        _dots(rows, y, dots)
        chosen[:] = -1
        if known[v]:
            for k in range(n_phases):
                own = theta[v, first_cell[k] : first_cell[k] + n_cell[k]]
                chosen[k] = _nearest(cells, k, first, n_cell, own)
        for _ in range(_ROUNDS if n_phases > 1 and not known[v] else 1):
            for k in range(n_phases):
                best, most = _best(gram, dots, chosen, k, first, matrix, x)
                keep = False
                if known[v]:
                    keep = most <= _CLEARLY * _explained(gram, dots, chosen, k, chosen[k], matrix, x)
                if not keep:
                    chosen[k] = best
                    if best >= 0 and known[v]:
                        theta[v, first_cell[k] : first_cell[k] + n_cell[k]] = cells[best, : n_cell[k]]
        if not known[v]:
            for k in range(n_phases):
                i = chosen[k]
                if i < 0 or n_cell[k] == 0:
                    continue
                shift = 0.0
                if first[k] < i < first[k + 1] - 1:
                    left = _explained(gram, dots, chosen, k, i - 1, matrix, x)
                    middle = _explained(gram, dots, chosen, k, i, matrix, x)
                    right = _explained(gram, dots, chosen, k, i + 1, matrix, x)
                    shift = _between(left, middle, right)
                other = i + (1 if shift > 0 else -1)
                for q in range(n_cell[k]):
                    value = cells[i, q]
                    if shift != 0:
                        value += abs(shift) * (cells[other, q] - value)
                    theta[v, first_cell[k] + q] = value
        _linear_start(gram, dots, chosen, n_back, lines, dots[n_templates:], theta[v])
