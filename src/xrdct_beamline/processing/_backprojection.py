"""Compiled back-projection of filtered lines into all channels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit, prange

__all__ = ["TILE", "back_project", "splat"]

#: Edge of the pixel tile whose stretch of the filtered line stays in the cache.
TILE = 8


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
    linearly interpolated; the caller sees to it that all points exist.
    """
    n_y, n_x, n_bins = image.shape
    for tile_y in prange((n_y + TILE - 1) // TILE):
        for tile_x in range((n_x + TILE - 1) // TILE):
            for k in range(lines.shape[0]):
                for row in range(tile_y * TILE, min(n_y, (tile_y + 1) * TILE)):
                    for column in range(tile_x * TILE, min(n_x, (tile_x + 1) * TILE)):
                        point = start[k] + row * per_row[k] + column * per_column[k]
                        below = int(point)
                        upper = np.float32((point - below) * weight[k])
                        lower = np.float32(weight[k]) - upper
                        pixel = image[row, column]
                        first = lines[k, below]
                        second = lines[k, below + 1]
                        for b in range(n_bins):
                            pixel[b] += lower * first[b] + upper * second[b]


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
