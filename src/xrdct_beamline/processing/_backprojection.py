"""Compiled back-projection of filtered lines into all channels.

The inner loops index the arrays directly and with unsigned integers: a view per pixel costs two
atomic reference counts, a signed index a test for wrapping, and either is dearer than 64 channels.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit, prange, uintp

__all__ = [
    "POINTS_AT_ONCE",
    "add_line",
    "aligned_zeros",
    "back_project",
    "filter_points",
    "splat",
    "splat_regions",
]

#: Edge of the pixel tile whose stretch of the filtered line stays in the cache.
TILE = 16
#: Points that are filtered in one pass over a line; the number of points is a multiple of it.
POINTS_AT_ONCE = 4
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


@njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
def filter_points(
    kernel: npt.NDArray[np.float32],
    step: int,
    line: npt.NDArray[np.float32],
    first: int,
    filtered: npt.NDArray[np.float32],
) -> None:
    """Filter a line ``(translation, bin)`` at the points from ``first`` on, ``(point, bin)``.

    Translation i counts for point p with ``kernel[p + step·(n − 1 − i)]``. As fast as BLAS on two
    cores (4 ms for a line), and without its threads, which go on spinning for some 80 ms after each
    product and take the cores from the back-projection.
    """
    n_translations, n_bins = line.shape
    one, two, three = uintp(1), uintp(2), uintp(3)
    for p in range(uintp(0), uintp(filtered.shape[0]), uintp(POINTS_AT_ONCE)):
        q, r, s = p + one, p + two, p + three
        for b in range(uintp(n_bins)):
            filtered[p, b] = filtered[q, b] = filtered[r, b] = filtered[s, b] = np.float32(0)
        # four translations at once, written out: each of 16 products costs half a load
        for i in range(uintp(0), uintp(n_translations - n_translations % 4), uintp(4)):
            j, k, n = i + one, i + two, i + three
            a0 = uintp(first) + p + uintp(step) * (uintp(n_translations - 1) - i)
            a1, a2, a3 = a0 - uintp(step), a0 - uintp(2 * step), a0 - uintp(3 * step)
            p0, p1, p2, p3 = kernel[a0], kernel[a1], kernel[a2], kernel[a3]
            q0, q1, q2, q3 = kernel[a0 + one], kernel[a1 + one], kernel[a2 + one], kernel[a3 + one]
            r0, r1, r2, r3 = kernel[a0 + two], kernel[a1 + two], kernel[a2 + two], kernel[a3 + two]
            s0, s1, s2, s3 = kernel[a0 + three], kernel[a1 + three], kernel[a2 + three], kernel[a3 + three]
            for b in range(uintp(n_bins)):
                x0, x1, x2, x3 = line[i, b], line[j, b], line[k, b], line[n, b]
                filtered[p, b] += p0 * x0 + p1 * x1 + p2 * x2 + p3 * x3
                filtered[q, b] += q0 * x0 + q1 * x1 + q2 * x2 + q3 * x3
                filtered[r, b] += r0 * x0 + r1 * x1 + r2 * x2 + r3 * x3
                filtered[s, b] += s0 * x0 + s1 * x1 + s2 * x2 + s3 * x3
        for i in range(uintp(n_translations - n_translations % 4), uintp(n_translations)):
            a0 = uintp(first) + p + uintp(step) * (uintp(n_translations - 1) - i)
            for b in range(uintp(n_bins)):
                filtered[p, b] += kernel[a0] * line[i, b]
                filtered[q, b] += kernel[a0 + one] * line[i, b]
                filtered[r, b] += kernel[a0 + two] * line[i, b]
                filtered[s, b] += kernel[a0 + three] * line[i, b]


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"}, error_model="numpy")
def add_line(
    image: npt.NDArray[np.float32],
    line: npt.NDArray[np.float32],
    kernel: npt.NDArray[np.float32],
    step: int,
    room: npt.NDArray[np.float32],
    n_points: int,
    place: tuple[float, float, float, float],
) -> None:
    """Filter one line ``(translation, bin)`` and add it to the image ``(y, x, bin)``.

    The same as `filter_points` and `back_project`, without room for a whole filtered line: each thread
    takes bands of points, filters them into its own ``room[thread]``, which stays in its cache, and
    adds them to the pixels that they belong to. ``place`` holds weight, start, per_row, per_column.
    """
    weight, start, per_row, per_column = place
    n_y, n_x, n_bins = image.shape
    n_tasks, n_room, _ = room.shape
    n_band = n_room - POINTS_AT_ONCE  # the last pixel of a band reads the point after it
    one = uintp(1)
    for task in prange(n_tasks):
        for first in range(task * n_band, n_points, n_tasks * n_band):
            filter_points(kernel, step, line, first, room[task])
            for row in range(uintp(n_y)):
                at = start + row * per_row
                left, right = _columns_between(first - at, first + n_band - at, per_column, n_x)
                for column in range(uintp(left), uintp(right)):
                    below, lower, upper = _lookup(start + row * per_row + column * per_column, weight)
                    if below < uintp(first) or below >= uintp(first + n_band):
                        continue
                    i = below - uintp(first)
                    for b in range(uintp(n_bins)):
                        image[row, column, b] += lower * room[task, i, b] + upper * room[task, i + one, b]


@njit(inline="always")
def _columns_between(low: float, high: float, per_column: float, n_x: int) -> tuple[int, int]:
    """Return the columns, one more either way, at which column·per_column lies between low and high."""
    if abs(per_column) * n_x < 1e-6:
        return 0, n_x
    first, last = min(low / per_column, high / per_column), max(low / per_column, high / per_column)
    return int(min(max(first - 1.0, 0.0), n_x)), int(min(max(last + 2.0, 0.0), n_x))


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


@njit(cache=True, nogil=True, error_model="numpy")
def splat_regions(
    regions: npt.NDArray[np.int64],
    n_regions: int,
    n_points: int,
    start: float,
    per_row: float,
    per_column: float,
) -> npt.NDArray[np.float64]:
    """Return `splat` of each region ``(region, point)``; a pixel belongs to one region, or none (< 0)."""
    points = np.zeros((n_regions, n_points))
    for row in range(regions.shape[0]):
        for column in range(regions.shape[1]):
            region = regions[row, column]
            if region >= 0:
                point = start + row * per_row + column * per_column
                below = int(point)
                points[region, below] += 1.0 - (point - below)
                points[region, below + 1] += point - below
    return points
