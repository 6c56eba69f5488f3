"""Where the sample is, against where the scan's geometry has it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from .errors import GeometryError

__all__ = ["SampleOffset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOffset:
    """How far the stages must follow, so that the geometry stays the sample's own.

    Parameters
    ----------
    x_mm, y_mm:
        Shift of the sample in its own frame at angle 0 (it has crept, or its cell was put back).
    z_mm:
        Shift along the rotation axis.
    axis_mm:
        Shift of the rotation axis across the beam (the translation was homed anew).

    Raises
    ------
    GeometryError
        If one is not finite.
    """

    x_mm: float = 0.0
    y_mm: float = 0.0
    z_mm: float = 0.0
    axis_mm: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self):
            if not math.isfinite(getattr(self, item.name)):
                raise GeometryError(
                    f"the sample's offset {item.name} is {getattr(self, item.name)}, no number"
                )

    def translation_mm(self, rotation_deg: float) -> float:
        """Return what a line at an angle is moved by; ``t = x cos θ + y sin θ`` (DESIGN §4)."""
        theta = math.radians(rotation_deg)
        return self.axis_mm + self.x_mm * math.cos(theta) + self.y_mm * math.sin(theta)

    @property
    def largest_mm(self) -> float:
        """The longest way that a stage has to follow."""
        return max(abs(self.axis_mm) + math.hypot(self.x_mm, self.y_mm), abs(self.z_mm))

    def to_metadata(self) -> dict[str, float]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any] | None) -> SampleOffset:
        """Return the offset of a run, none where its start document has none."""
        return cls(**{name: float(value) for name, value in (metadata or {}).items()})
