"""Filtering many lines at half the cost: the filter is the same in the mirror.

The filter is an even function of the distance, so two points that mirror each other about the middle
of a line see it alike. What mirrored translations have in common, their sum, gives half of both
points' sum; their difference gives half of both points' difference: a quarter of the products each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, prange, uintp

from ._backprojection import POINTS_AT_ONCE, aligned_zeros, filter_points

__all__ = ["FoldedFilter"]

Float32Array = npt.NDArray[np.float32]


class FoldedFilter:
    """Filters lines at all points of a kernel.

    Parameters
    ----------
    kernel:
        Translation i counts for point p with ``kernel[p + step·(n_translations − 1 − i)]``.
    n_translations, n_points, step:
        Of the lines, of their filtered form, and points per translation.
    padding:
        Translations by which the points begin before the first one.
    """

    def __init__(
        self, kernel: npt.NDArray[np.float64], n_translations: int, n_points: int, step: int, padding: int
    ) -> None:
        self._kernel = kernel.astype(np.float32)
        self._step = step
        self._mirror = step * (n_translations - 1 + 2 * padding)  # p and mirror − p are a pair
        self._first = max(0, self._mirror - n_points + 1)
        n_groups = max(0, ((self._mirror + 1) // 2 - self._first) // POINTS_AT_ONCE)
        end = self._first + POINTS_AT_ONCE * n_groups
        self._make_weights(kernel, n_translations, np.arange(self._first, end))
        unpaired = (
            (0, self._first),
            (end, self._mirror - end + 1),
            (self._mirror - self._first + 1, n_points),
        )
        self._unpaired = [_in_fours(low, high, n_points) for low, high in unpaired if high > low]
        self._sums = self._differences = np.zeros((0, 0, 0), np.float32)

    def __call__(self, lines: Float32Array, filtered: Float32Array) -> None:
        """Filter lines ``(line, translation, bin)`` at all points, ``(line, point, bin)``."""
        shape = (len(lines), self._even.shape[1], lines.shape[2])
        if self._sums.shape != shape:
            self._sums, self._differences = aligned_zeros(shape), aligned_zeros(shape)
        _fold(lines, self._sums, self._differences)
        _filter_pairs(
            self._even, self._odd, self._sums, self._differences, filtered, self._first, self._mirror
        )
        for low, high in self._unpaired:
            _filter_range(self._kernel, self._step, lines, filtered, low, high)

    def _make_weights(
        self, kernel: npt.NDArray[np.float64], n_translations: int, points: npt.NDArray[np.intp]
    ) -> None:
        """Make the weights ``(point, folded translation)`` of sums and of differences.

        Within each group of points those of the differences run backwards, as the mirrored points do.
        """
        half = (n_translations + 1) // 2
        i, p = np.arange(half), points[:, np.newaxis]
        near = kernel[p + self._step * (n_translations - 1 - i)]
        far = kernel[p + self._step * i]
        n_rows = POINTS_AT_ONCE * -(-half // POINTS_AT_ONCE)
        self._even = np.zeros((points.size, n_rows), np.float32)
        self._odd = np.zeros_like(self._even)
        self._even[:, :half] = 0.5 * (near + far)
        self._odd[:, :half] = 0.5 * (near - far)
        if n_translations % 2:  # the one in the middle is its own mirror image
            self._even[:, half - 1] = near[:, -1]
        groups = self._odd.reshape(-1, POINTS_AT_ONCE, n_rows)[:, ::-1]
        self._odd = np.ascontiguousarray(groups).reshape(-1, n_rows)


def _in_fours(low: int, high: int, n_points: int) -> tuple[int, int]:
    """Return a range that holds another and a multiple of the points filtered at once."""
    size = POINTS_AT_ONCE * -(-(high - low) // POINTS_AT_ONCE)
    low = max(0, min(low, n_points - size))
    return low, low + size


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _fold(lines: Float32Array, sums: Float32Array, differences: Float32Array) -> None:
    """Add and subtract mirrored translations; that in the middle stands alone."""
    n_lines, n, n_bins = lines.shape
    half = n // 2
    for task in prange(n_lines * half):
        k, i = uintp(task // half), uintp(task % half)
        j = uintp(n - 1) - i
        for b in range(uintp(n_bins)):
            sums[k, i, b] = lines[k, i, b] + lines[k, j, b]
            differences[k, i, b] = lines[k, i, b] - lines[k, j, b]
    if n % 2:
        for k in range(n_lines):
            sums[k, half] = lines[k, half]


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"}, error_model="numpy")
def _filter_pairs(
    even: Float32Array,
    odd: Float32Array,
    sums: Float32Array,
    differences: Float32Array,
    filtered: Float32Array,
    first: int,
    mirror: int,
) -> None:
    """Fill the points from ``first`` on, and those that mirror them."""
    n_lines, _, n_bins = sums.shape
    n_groups = even.shape[0] // 4
    for task in prange(n_lines * n_groups):
        k, group = task // n_groups, 4 * (task % n_groups)
        p, q = first + group, mirror - first - group - 3
        _multiply(even[group : group + 4], sums[k], filtered[k, p : p + 4])
        _multiply(odd[group : group + 4], differences[k], filtered[k, q : q + 4])
        for m in range(4):
            here, there = uintp(p + m), uintp(q + 3 - m)
            for b in range(uintp(n_bins)):
                common, opposite = filtered[k, here, b], filtered[k, there, b]
                filtered[k, here, b] = common + opposite
                filtered[k, there, b] = common - opposite


@njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def _multiply(weights: Float32Array, rows: Float32Array, out: Float32Array) -> None:
    """Set out ``(4, bin)`` to weights ``(4, row)`` times rows ``(row, bin)``; fours of rows."""
    n_rows, n_bins = rows.shape
    one, two, three = uintp(1), uintp(2), uintp(3)
    zero = uintp(0)
    for b in range(uintp(n_bins)):
        out[zero, b] = out[one, b] = out[two, b] = out[three, b] = np.float32(0)
    for i in range(uintp(0), uintp(n_rows), uintp(4)):
        j, k, n = i + one, i + two, i + three
        p0, p1, p2, p3 = weights[zero, i], weights[zero, j], weights[zero, k], weights[zero, n]
        q0, q1, q2, q3 = weights[one, i], weights[one, j], weights[one, k], weights[one, n]
        r0, r1, r2, r3 = weights[two, i], weights[two, j], weights[two, k], weights[two, n]
        s0, s1, s2, s3 = weights[three, i], weights[three, j], weights[three, k], weights[three, n]
        for b in range(uintp(n_bins)):
            x0, x1, x2, x3 = rows[i, b], rows[j, b], rows[k, b], rows[n, b]
            out[zero, b] += p0 * x0 + p1 * x1 + p2 * x2 + p3 * x3
            out[one, b] += q0 * x0 + q1 * x1 + q2 * x2 + q3 * x3
            out[two, b] += r0 * x0 + r1 * x1 + r2 * x2 + r3 * x3
            out[three, b] += s0 * x0 + s1 * x1 + s2 * x2 + s3 * x3


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"}, error_model="numpy")
def _filter_range(
    kernel: Float32Array, step: int, lines: Float32Array, filtered: Float32Array, low: int, high: int
) -> None:
    """Fill a range of points that have no mirror image."""
    for k in prange(lines.shape[0]):
        filter_points(kernel, step, lines[k], low, filtered[k, low:high])
