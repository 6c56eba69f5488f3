"""Compiled back-projection of filtered lines into all channels.

The inner loops index the arrays directly and with unsigned integers: a view per pixel costs two
atomic reference counts, a signed index a test for wrapping, and either is dearer than 64 channels.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit, prange, uintp

__all__ = ["POINTS_AT_ONCE", "aligned_zeros", "back_project", "filter_line", "splat"]

#: Edge of the pixel tile whose stretch of the filtered line stays in the cache.
TILE = 16
#: `filter_line` makes that many points of so many bins in one pass; their number is a multiple of it.
POINTS_AT_ONCE = 4
BINS_AT_ONCE = 1024
#: Points in one thread's task.
POINTS_IN_TASK = 48
#: Loads of 32 bytes that straddle cache lines cost a fifth of the speed; numpy aligns to 16.
ALIGNMENT_BYTES = 64


def aligned_zeros(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return a float32 array of zeros that begins on a cache line."""
    n_bytes = 4 * math.prod(shape)
    buffer = np.zeros(n_bytes + ALIGNMENT_BYTES, dtype=np.uint8)
    first = -buffer.ctypes.data % ALIGNMENT_BYTES
    return buffer[first : first + n_bytes].view(np.float32).reshape(shape)


@njit(inline="always")
def _lookup(point: float, weight: float) -> tuple[int, np.float32, np.float32]:
    """Return the point below, and what it and the next one count for."""
    below = uintp(point)
    upper = np.float32((point - below) * weight)
    return below, np.float32(weight) - upper, upper


# contract: the multiply-adds may fuse; infinities and NaN keep their meaning
@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"}, error_model="numpy")
def back_project(
    image: npt.NDArray[np.float32],
    lines: npt.NDArray[np.float32],
    weight: npt.NDArray[np.float64],
    start: npt.NDArray[np.float64],
    per_row: npt.NDArray[np.float64],
    per_column: npt.NDArray[np.float64],
) -> None:
    """Add filtered lines ``(line, point, bin)`` to the image ``(y, x, bin)``.

    The pixel (row, column) reads the line at the point start + row·per_row + column·per_column,
    linearly interpolated; the caller sees to it that all points exist. Lines are added in pairs,
    so that a pixel is read and written half as often.
    """
    n_y, n_x, n_bins = image.shape
    n_lines = lines.shape[0]
    one = uintp(1)
    for tile in prange((n_y + TILE - 1) // TILE):
        rows = range(uintp(tile * TILE), uintp(min(n_y, (tile + 1) * TILE)))
        for left in range(0, n_x, TILE):
            columns = range(uintp(left), uintp(min(n_x, left + TILE)))
            for k in range(uintp(0), uintp(n_lines - n_lines % 2), uintp(2)):
                m = k + one
                for row in rows:
                    for column in columns:
                        i, lower, upper = _lookup(
                            start[k] + row * per_row[k] + column * per_column[k], weight[k]
                        )
                        j, low, high = _lookup(
                            start[m] + row * per_row[m] + column * per_column[m], weight[m]
                        )
                        for b in range(uintp(n_bins)):
                            image[row, column, b] += (
                                lower * lines[k, i, b]
                                + upper * lines[k, i + one, b]
                                + (low * lines[m, j, b] + high * lines[m, j + one, b])
                            )
            if n_lines % 2:
                k = uintp(n_lines - 1)
                for row in rows:
                    for column in columns:
                        i, lower, upper = _lookup(
                            start[k] + row * per_row[k] + column * per_column[k], weight[k]
                        )
                        for b in range(uintp(n_bins)):
                            image[row, column, b] += lower * lines[k, i, b] + upper * lines[k, i + one, b]


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"}, error_model="numpy")
def filter_line(
    matrix: npt.NDArray[np.float32], line: npt.NDArray[np.float32], filtered: npt.NDArray[np.float32]
) -> None:
    """Add the product of matrix ``(point, translation)`` and line ``(translation, bin)`` to filtered.

    As fast as BLAS on two cores (4 ms), and without its threads, which go on spinning for some 80 ms
    after each product and take the cores from the back-projection.
    """
    n_points, n_translations = matrix.shape
    n_bins = line.shape[1]
    n_ranges = (n_points + POINTS_IN_TASK - 1) // POINTS_IN_TASK
    one = uintp(1)
    for task in prange(n_ranges * ((n_bins + BINS_AT_ONCE - 1) // BINS_AT_ONCE)):
        bins = range(
            uintp(task // n_ranges * BINS_AT_ONCE), uintp(min(n_bins, (task // n_ranges + 1) * BINS_AT_ONCE))
        )
        first, last = task % n_ranges * POINTS_IN_TASK, min(n_points, (task % n_ranges + 1) * POINTS_IN_TASK)
        for p in range(uintp(first), uintp(last), uintp(POINTS_AT_ONCE)):
            q, r, s = p + one, p + one + one, p + one + one + one
            # four translations at once, written out: each of 16 products costs half a load
            for i in range(uintp(0), uintp(n_translations - n_translations % 4), uintp(4)):
                j, k, n = i + one, i + one + one, i + one + one + one
                p0, p1, p2, p3 = matrix[p, i], matrix[p, j], matrix[p, k], matrix[p, n]
                q0, q1, q2, q3 = matrix[q, i], matrix[q, j], matrix[q, k], matrix[q, n]
                r0, r1, r2, r3 = matrix[r, i], matrix[r, j], matrix[r, k], matrix[r, n]
                s0, s1, s2, s3 = matrix[s, i], matrix[s, j], matrix[s, k], matrix[s, n]
                for b in bins:
                    x0, x1, x2, x3 = line[i, b], line[j, b], line[k, b], line[n, b]
                    filtered[p, b] += p0 * x0 + p1 * x1 + p2 * x2 + p3 * x3
                    filtered[q, b] += q0 * x0 + q1 * x1 + q2 * x2 + q3 * x3
                    filtered[r, b] += r0 * x0 + r1 * x1 + r2 * x2 + r3 * x3
                    filtered[s, b] += s0 * x0 + s1 * x1 + s2 * x2 + s3 * x3
            for i in range(uintp(n_translations - n_translations % 4), uintp(n_translations)):
                for b in bins:
                    filtered[p, b] += matrix[p, i] * line[i, b]
                    filtered[q, b] += matrix[q, i] * line[i, b]
                    filtered[r, b] += matrix[r, i] * line[i, b]
                    filtered[s, b] += matrix[s, i] * line[i, b]


@njit(cache=True, nogil=True, error_model="numpy")
def splat(
    region: npt.NDArray[np.float64],
    n_points: int,
    start: float,
    per_row: float,
    per_column: float,
) -> npt.NDArray[np.float64]:
    """Return the weight with which each point of a line enters the sum over a region ``(y, x)``.

    The adjoint of `back_project` for one line and one channel.
    """
    points = np.zeros(n_points)
    for row in range(region.shape[0]):
        for column in range(region.shape[1]):
            if region[row, column] != 0.0:
                point = start + row * per_row + column * per_column
                below = int(point)
                points[below] += region[row, column] * (1.0 - (point - below))
                points[below + 1] += region[row, column] * (point - below)
    return points
