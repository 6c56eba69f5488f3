"""One line of a sinogram, filtered and spread over a field of pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import get_num_threads

from xrdct_beamline.domain.errors import ProcessingError

from ._backprojection import (
    POINTS_AT_ONCE,
    add_line,
    aligned_zeros,
    back_project,
    splat,
    splat_regions,
)
from ._checks import check_axis
from ._filters import FILTERS, check_filter, filter_kernel, variance_kernel
from ._folding import FoldedFilter

__all__ = ["LineProjector", "OutputField"]

#: Work space of one line, of all threads together: 0.5 MB, so that each part stays in its core's cache.
ROOM_VALUES = 128 * 1024
#: Filtered points that a thread works on at once, at most.
LARGEST_BAND = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputField:
    """The pixels of a slice, in translation steps from the rotation axis.

    Parameters
    ----------
    shape:
        ``(y, x)``.
    x_px, y_px:
        Centre of the first pixel (row 0, column 0); y falls with the row.
    pixel_px:
        Edge of a pixel.
    """

    shape: tuple[int, int]
    x_px: float
    y_px: float
    pixel_px: float = 1.0

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or not self.pixel_px > 0:
            raise ProcessingError(
                f"an output field of {self.shape} pixels of {self.pixel_px:g} steps is empty; "
                "both must be positive"
            )

    @classmethod
    def native(cls, n_translations: int, axis_px: float) -> OutputField:
        """Return the n × n field of one pixel per step in which column − axis_px is x."""
        return cls(shape=(n_translations, n_translations), x_px=-axis_px, y_px=axis_px)

    @classmethod
    def centred(cls, *, width_px: float, pixel_px: float) -> OutputField:
        """Return a square field around the axis, of the given width and pixel in steps."""
        n = max(1, round(width_px / pixel_px))
        edge = (n - 1) / 2 * pixel_px
        return cls(shape=(n, n), x_px=-edge, y_px=edge, pixel_px=pixel_px)

    @property
    def radius_px(self) -> float:
        """Distance from the axis to the farthest pixel centre."""
        far_x = self.x_px + (self.shape[1] - 1) * self.pixel_px
        far_y = self.y_px - (self.shape[0] - 1) * self.pixel_px
        return math.hypot(max(abs(self.x_px), abs(far_x)), max(abs(self.y_px), abs(far_y)))


class LineProjector:
    """Filters lines of a scan and adds them to images over a field.

    Points of a filtered line lie at every 1/oversampling of a step, as far as the field's farthest
    pixel in either direction, so that every pixel finds its point.
    """

    def __init__(
        self,
        n_translations: int,
        axis_px: float,
        *,
        filter_name: str = "ramp",
        field: OutputField | None = None,
        oversampling: int = 2,
    ) -> None:
        if n_translations < 1:
            raise ProcessingError(f"{n_translations} translations cannot be reconstructed; take at least 1")
        check_axis(axis_px, n_translations)
        check_filter(filter_name)
        self.axis_px = float(axis_px)
        self.n_translations = n_translations
        self.filter_name = filter_name
        self.oversampling = oversampling
        self.field = field or OutputField.native(n_translations, axis_px)
        self._padding = max(0, math.ceil(self.field.radius_px - axis_px) + 1)
        last_px = math.ceil(axis_px + self.field.radius_px) + 1
        n_points = (self._padding + last_px) * oversampling + 1
        self.n_points = POINTS_AT_ONCE * math.ceil(n_points / POINTS_AT_ONCE)
        self._room: npt.NDArray[np.float32] | None = None

    @cached_property
    def _kernel64(self) -> npt.NDArray[np.float64]:
        """Filter: point p gets ``kernel[p + oversampling·(n − 1 − i)]`` of translation i."""
        before = self.oversampling * (self.n_translations - 1)
        return filter_kernel(
            self.filter_name,
            first=-self._padding * self.oversampling - before,
            n_points=before + self.n_points + LARGEST_BAND,
            oversampling=self.oversampling,
        )

    @cached_property
    def _kernel(self) -> npt.NDArray[np.float32]:
        return self._kernel64.astype(np.float32)

    @cached_property
    def _variance_kernel(self) -> npt.NDArray[np.float32]:
        return variance_kernel(self._kernel64).astype(np.float32)

    @cached_property
    def _folded(self) -> FoldedFilter:
        return FoldedFilter(
            self._kernel64, self.n_translations, self.n_points, self.oversampling, self._padding
        )

    def add(
        self,
        image: npt.NDArray[np.float32],
        line: npt.NDArray[np.float32],
        rotation_deg: float,
        weight: float,
        *,
        squared: bool = False,
    ) -> None:
        """Filter one line ``(translation, bin)`` and add it to the image ``(y, x, bin)``.

        Parameters
        ----------
        squared:
            Whether line and image are variances.
        """
        start, per_row, per_column = self._points(np.array([rotation_deg], dtype=np.float64))
        kernel = self._variance_kernel if squared else self._kernel
        room = self._workspace(self._bands(image.shape[2]))
        place = (float(weight), float(start[0]), float(per_row[0]), float(per_column[0]))
        add_line(image, line, kernel, self.oversampling, room, self.n_points, place)

    def add_many(
        self,
        image: npt.NDArray[np.float32],
        lines: npt.NDArray[np.float32],
        rotation_deg: npt.NDArray[np.float64],
        weight: npt.NDArray[np.float64],
    ) -> None:
        """Add lines ``(line, translation, bin)`` in one pass; needs room for all of them filtered."""
        filtered = self._workspace((len(lines), self.n_points, image.shape[2]))
        self._folded(lines, filtered)
        back_project(image, filtered, weight, *self._points(rotation_deg))

    def _bands(self, n_bins: int) -> tuple[int, int, int]:
        """Return the shape of the work space of one line: (thread, point, bin)."""
        n_threads = get_num_threads()
        n_band = min(ROOM_VALUES // (n_threads * n_bins), self.n_points // (2 * n_threads), LARGEST_BAND)
        return n_threads, POINTS_AT_ONCE * max(2, n_band // POINTS_AT_ONCE), n_bins

    def _workspace(self, shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
        """Return room of a shape, the same as last time where it fits: new pages are dear."""
        if self._room is None or self._room.shape != shape:
            self._room = aligned_zeros(shape)
        return self._room

    def adjoint(self, region: npt.NDArray[np.float64], rotation_deg: float) -> npt.NDArray[np.float64]:
        """Return the gain of each translation of a line in the sum over a region ``(y, x)``."""
        start, per_row, per_column = self._points(np.array([rotation_deg]))
        return self._gains(splat(region, self.n_points, start[0], per_row[0], per_column[0]))

    def region_gains(
        self, regions: npt.NDArray[np.int64], n_regions: int, rotation_deg: float
    ) -> npt.NDArray[np.float64]:
        """Return `adjoint` for many regions at once, ``(region, translation)``.

        ``regions`` holds the region of each pixel ``(y, x)``, from 0; negative is none.
        """
        start, per_row, per_column = self._points(np.array([rotation_deg]))
        points = splat_regions(regions, n_regions, self.n_points, start[0], per_row[0], per_column[0])
        return self._gains(points.T).T

    def _gains(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return what each translation gives to a sum over points, ``(point,)`` or ``(point, sum)``."""
        return self._gain_matrix @ points

    @cached_property
    def _gain_matrix(self) -> npt.NDArray[np.float64]:
        """The filter as a matrix ``(translation, point)``; a copy, since BLAS takes no overlapping rows."""
        reversed_rows = np.lib.stride_tricks.sliding_window_view(self._kernel64, self.n_points)
        n_used = self.oversampling * (self.n_translations - 1) + 1
        return np.ascontiguousarray(reversed_rows[: n_used : self.oversampling][::-1])

    def _points(
        self, rotation_deg: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the point of the first pixel at each angle, and its change per row and column."""
        cosine, sine = np.cos(np.radians(rotation_deg)), np.sin(np.radians(rotation_deg))
        t_px = self.field.x_px * cosine + self.field.y_px * sine
        start = (t_px + self.axis_px + self._padding) * self.oversampling
        step = self.field.pixel_px * self.oversampling
        return start, -step * sine, step * cosine

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the settings as arrays."""
        field = self.field
        return {
            "axis_px": np.array(self.axis_px),
            "filter_index": np.array(list(FILTERS).index(self.filter_name)),
            "oversampling": np.array(self.oversampling),
            "field": np.array([*field.shape, field.x_px, field.y_px, field.pixel_px], dtype=np.float64),
        }

    @staticmethod
    def settings_from_state(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
        """Return the keyword arguments that `state` has recorded."""
        n_y, n_x, x_px, y_px, pixel_px = np.asarray(arrays["field"], dtype=np.float64)
        return {
            "axis_px": float(arrays["axis_px"]),
            "filter_name": list(FILTERS)[int(arrays["filter_index"])],
            "oversampling": int(arrays["oversampling"]),
            "field": OutputField(shape=(int(n_y), int(n_x)), x_px=x_px, y_px=y_px, pixel_px=pixel_px),
        }
