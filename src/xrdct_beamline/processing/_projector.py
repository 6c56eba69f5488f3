"""One line of a sinogram, filtered and spread over a field of pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ProcessingError

from ._backprojection import POINTS_AT_ONCE, aligned_zeros, back_project, filter_line, splat
from ._filters import FILTERS, check_filter, filter_matrix, variance_matrix

__all__ = ["LineProjector", "OutputField"]


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
        if not 0 <= axis_px <= n_translations - 1:
            raise ProcessingError(
                f"the rotation axis at {axis_px:g} px is outside of the field of {n_translations} "
                f"translations (0 to {n_translations - 1}); find it with find_axis, or widen the scan"
            )
        check_filter(filter_name)
        self.axis_px = float(axis_px)
        self.n_translations = n_translations
        self.filter_name = filter_name
        self.oversampling = oversampling
        self.field = field or OutputField.native(n_translations, axis_px)
        self._padding = max(0, math.ceil(self.field.radius_px - axis_px) + 1)
        last_px = math.ceil(axis_px + self.field.radius_px) + 1
        n_points = (self._padding + last_px) * oversampling + 1
        self._room: npt.NDArray[np.float32] | None = None
        self.n_points = POINTS_AT_ONCE * math.ceil(n_points / POINTS_AT_ONCE)

    @cached_property
    def matrix(self) -> npt.NDArray[np.float32]:
        """Filters one projection, ``(point, translation)``."""
        return self._matrix64.astype(np.float32)

    @cached_property
    def variance_matrix(self) -> npt.NDArray[np.float32]:
        """Takes the variance of one projection, ``(point, translation)``."""
        return variance_matrix(self._matrix64).astype(np.float32)

    @cached_property
    def _matrix64(self) -> npt.NDArray[np.float64]:
        return filter_matrix(
            self.filter_name,
            n_translations=self.n_translations,
            n_points=self.n_points,
            padding=self._padding,
            oversampling=self.oversampling,
        )

    def add(
        self,
        image: npt.NDArray[np.float32],
        lines: Sequence[npt.NDArray[np.float32]],
        rotation_deg: Sequence[float] | npt.NDArray[np.float64],
        weight: Sequence[float] | npt.NDArray[np.float64],
        *,
        squared: bool = False,
    ) -> None:
        """Filter lines ``(translation, bin)`` and add them to the image ``(y, x, bin)``."""
        matrix = self.variance_matrix if squared else self.matrix
        filtered = self._workspace(len(lines), image.shape[2])
        filtered.fill(0)
        for line, out in zip(lines, filtered, strict=True):
            filter_line(matrix, line, out)
        start, per_row, per_column = self._points(np.asarray(rotation_deg, dtype=np.float64))
        back_project(image, filtered, np.asarray(weight, dtype=np.float64), start, per_row, per_column)

    def _workspace(self, n_lines: int, n_bins: int) -> npt.NDArray[np.float32]:
        """Return room for filtered lines, the same as last time where it fits: new pages are dear."""
        shape = (n_lines, self.n_points, n_bins)
        if self._room is None or self._room.shape != shape:
            self._room = aligned_zeros(shape)
        return self._room

    def adjoint(self, region: npt.NDArray[np.float64], rotation_deg: float) -> npt.NDArray[np.float64]:
        """Return the gain of each translation of a line in the sum over a region ``(y, x)``."""
        start, per_row, per_column = self._points(np.array([rotation_deg]))
        return splat(region, self.n_points, start[0], per_row[0], per_column[0]) @ self._matrix64

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
