"""Which frame is which (rotation, translation) of an XRD-CT slice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import GeometryError

__all__ = ["LINE_ORDERS", "ScanGeometry", "missing_lines"]

#: Number of interleaved subsets of the "interlaced" order: each is a full-field scan by itself.
N_INTERLACED_SUBSETS = 4

#: `documents.Verdict.ACCEPTED`, which processing must not import along with a geometry.
_ACCEPTED = "accepted"


def _sequential(n_rotations: int) -> list[int]:
    return list(range(n_rotations))


def _interlaced(n_rotations: int) -> list[int]:
    subsets = [0, 2, 1, 3]  # each further subset halves the largest gap
    return [r for s in subsets for r in range(s, n_rotations, N_INTERLACED_SUBSETS)]


def _golden(n_rotations: int) -> list[int]:
    """Visit the same angles in golden-ratio order, each taken once.

    The k-th line is the unvisited angle next above k·φ⁻¹ of the half turn (Köhler 2004).
    """
    step = (math.sqrt(5) - 1) / 2
    free = set(range(n_rotations))
    order = []
    for k in range(n_rotations):
        r = math.floor((k * step % 1.0) * n_rotations)
        while r not in free:
            r = (r + 1) % n_rotations
        free.remove(r)
        order.append(r)
    return order


LINE_ORDERS: Mapping[str, Callable[[int], list[int]]] = {
    "sequential": _sequential,
    "interlaced": _interlaced,
    "golden": _golden,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanGeometry:
    """A raster of rotations × translations and the order in which its frames are taken.

    Frames are counted in the order of acquisition, from 0. One *line* is one rotation;
    lines are counted in the order of acquisition too. With ``zigzag`` every odd line runs
    from the last translation to the first.

    Parameters
    ----------
    translation_mm:
        Mid-exposure positions of the grid, ascending.
    rotation_deg:
        Angles of the sinogram rows, ascending; the end of the span is not among them.
    line_order:
        Rotation index of each line: a permutation of ``range(len(rotation_deg))``.
    zigzag:
        Whether odd lines run backwards.
    order:
        Name of the line order, for the record.

    Raises
    ------
    GeometryError
        If an axis is empty, not finite or not ascending, or ``line_order`` is no permutation.
    """

    translation_mm: tuple[float, ...]
    rotation_deg: tuple[float, ...]
    line_order: tuple[int, ...]
    zigzag: bool = True
    order: str = "sequential"

    def __post_init__(self) -> None:
        for name, values in (("translation_mm", self.translation_mm), ("rotation_deg", self.rotation_deg)):
            _check_ascending(name, values)
        if sorted(self.line_order) != list(range(len(self.rotation_deg))):
            raise GeometryError(
                f"line_order must hold each of the {len(self.rotation_deg)} rotation indices once, "
                f"got {len(self.line_order)} entries; leave it to ScanGeometry.raster"
            )

    @classmethod
    def raster(
        cls,
        n_translations: int = 351,
        step_mm: float = 0.001,
        n_rotations: int = 350,
        span_deg: float = 180.0,
        zigzag: bool = True,
        order: str = "sequential",
        centre_mm: float = 0.0,
        start_deg: float = 0.0,
    ) -> ScanGeometry:
        """Return a regular raster, centred on ``centre_mm``, its span's end excluded."""
        _check_count("n_translations", n_translations)
        _check_count("n_rotations", n_rotations)
        _check_positive("step_mm", step_mm)
        _check_positive("span_deg", span_deg)
        if span_deg > 360.0:
            raise GeometryError(f"span_deg is {span_deg:g}, more than a turn; use at most 360")
        if order not in LINE_ORDERS:
            raise GeometryError(f"line order {order!r} is unknown; use one of {', '.join(LINE_ORDERS)}")
        middle = (n_translations - 1) / 2
        return cls(
            translation_mm=tuple(centre_mm + (i - middle) * step_mm for i in range(n_translations)),
            rotation_deg=tuple(start_deg + i * span_deg / n_rotations for i in range(n_rotations)),
            line_order=tuple(LINE_ORDERS[order](n_rotations)),
            zigzag=zigzag,
            order=order,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """``(n_rotations, n_translations)``, the shape of one sinogram channel."""
        return len(self.rotation_deg), len(self.translation_mm)

    @property
    def n_frames(self) -> int:
        """Frames in the whole slice."""
        return len(self.rotation_deg) * len(self.translation_mm)

    @property
    def step_mm(self) -> float:
        """Mean distance of neighbouring translations; NaN for a single one."""
        n = len(self.translation_mm)
        return (self.translation_mm[-1] - self.translation_mm[0]) / (n - 1) if n > 1 else math.nan

    def line(self, rotation_index: int) -> int:
        """Return the place of a rotation in the order of acquisition."""
        return self.line_order.index(rotation_index)

    def runs_backwards(self, rotation_index: int) -> bool:
        """Whether the line of a rotation runs from the last translation to the first."""
        return self.zigzag and self.line(rotation_index) % 2 == 1

    def line_translations(self, rotation_index: int) -> npt.NDArray[np.intp]:
        """Return the translation index of each frame of a line, in the order of acquisition."""
        indices = np.arange(len(self.translation_mm))
        return indices[::-1] if self.runs_backwards(rotation_index) else indices

    def cell(self, frame_index: int) -> tuple[int, int]:
        """Sinogram cell ``(rotation_index, translation_index)`` filled by one frame."""
        if not 0 <= frame_index < self.n_frames:
            raise GeometryError(f"frame {frame_index} is outside of the scan's {self.n_frames} frames")
        line, place = divmod(frame_index, len(self.translation_mm))
        rotation_index = self.line_order[line]
        backwards = self.zigzag and line % 2 == 1
        return rotation_index, len(self.translation_mm) - 1 - place if backwards else place

    def frame(self, rotation_index: int, translation_index: int) -> int:
        """Index of the frame that fills one sinogram cell; the inverse of `cell`."""
        n_rotations, n_translations = self.shape
        if not (0 <= rotation_index < n_rotations and 0 <= translation_index < n_translations):
            raise GeometryError(
                f"cell ({rotation_index}, {translation_index}) is outside of the raster {self.shape}"
            )
        line = self.line(rotation_index)
        backwards = self.zigzag and line % 2 == 1
        place = n_translations - 1 - translation_index if backwards else translation_index
        return line * n_translations + place

    def to_metadata(self) -> dict[str, Any]:
        """Return plain JSON values from which `from_metadata` makes an equal geometry."""
        return {
            "translation_mm": list(self.translation_mm),
            "rotation_deg": list(self.rotation_deg),
            "line_order": list(self.line_order),
            "zigzag": self.zigzag,
            "order": self.order,
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> ScanGeometry:
        """Return the geometry of a run, from what `to_metadata` wrote into its start document."""
        try:
            return cls(
                translation_mm=tuple(float(v) for v in metadata["translation_mm"]),
                rotation_deg=tuple(float(v) for v in metadata["rotation_deg"]),
                line_order=tuple(int(v) for v in metadata["line_order"]),
                zigzag=bool(metadata["zigzag"]),
                order=str(metadata["order"]),
            )
        except KeyError as error:
            raise GeometryError(
                f"the run's geometry lacks {error}; it was not written by this software"
            ) from error


def missing_lines(geometry: ScanGeometry, verdicts: Mapping[int, str]) -> list[int]:
    """Return the rotation indices whose newest attempt was not accepted, in the geometry's line order.

    Parameters
    ----------
    verdicts:
        The newest verdict on each line that was attempted, by rotation index.
    """
    return [r for r in geometry.line_order if verdicts.get(r) != _ACCEPTED]


def _check_ascending(name: str, values: tuple[float, ...]) -> None:
    if not values:
        raise GeometryError(f"{name} is empty; a scan needs at least one position")
    if not all(math.isfinite(v) for v in values):
        raise GeometryError(f"{name} holds a value that is not finite")
    if any(b <= a for a, b in itertools.pairwise(values)):
        raise GeometryError(f"{name} must ascend strictly; sort it, or use ScanGeometry.raster")


def _check_count(name: str, value: int) -> None:
    if value != int(value) or value < 1:
        raise GeometryError(f"{name} is {value}; it must be a whole number of at least 1")


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise GeometryError(f"{name} is {value:g}; it must be a positive number")
