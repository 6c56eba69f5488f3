"""What is written down about one attempt of a line: the event of the stream ``lines``."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from ophyd import Component, Device, Signal
from ophyd.status import Status

from ._status import finished

__all__ = ["LineRecord", "LineValues"]

FloatArray = npt.NDArray[np.float64]

UNITS = {
    "rotation_deg": "deg",
    "position_mm": "mm",
    "i0": "counts",
    "i1": "counts",
    "started_s": "s",
    "ended_s": "s",
    "move_s": "s",
    "waited_s": "s",
    "open_s": "s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LineValues:
    """The values of one event; names and meaning as in `documents.LINE_KEYS`."""

    rotation_index: int
    rotation_deg: float
    attempt: int
    planned: int
    acquired: int
    captured: int
    dropped: int
    verdict: str
    reason: str
    raw_file: str
    first_frame: int
    position_mm: FloatArray
    i0: FloatArray
    i1: FloatArray
    started_s: float
    ended_s: float
    move_s: float
    waited_s: float = 0.0
    open_s: float = 0.0
    photons: float = 0.0
    note: str = ""

    @classmethod
    def empty(cls, n_frames: int) -> LineValues:
        """Return values of the right types and shapes, from which a stream can be described."""
        nothing = np.full(n_frames, np.nan)
        return cls(
            rotation_index=-1,
            rotation_deg=0.0,
            attempt=0,
            planned=n_frames,
            acquired=0,
            captured=0,
            dropped=0,
            verdict="",
            reason="",
            raw_file="",
            first_frame=0,
            position_mm=nothing,
            i0=nothing,
            i1=nothing,
            started_s=0.0,
            ended_s=0.0,
            move_s=0.0,
        )


class LineRecord(Device):
    """Holds the values of the latest attempt; ``set`` takes `LineValues`."""

    rotation_index = Component(Signal, value=-1, kind="normal")
    rotation_deg = Component(Signal, value=0.0, kind="hinted")
    attempt = Component(Signal, value=0, kind="normal")
    planned = Component(Signal, value=0, kind="normal")
    acquired = Component(Signal, value=0, kind="normal")
    captured = Component(Signal, value=0, kind="hinted")
    dropped = Component(Signal, value=0, kind="normal")
    verdict = Component(Signal, value="", kind="hinted")
    reason = Component(Signal, value="", kind="normal")
    raw_file = Component(Signal, value="", kind="normal")
    first_frame = Component(Signal, value=0, kind="normal")
    position_mm = Component(Signal, value=np.zeros(1), kind="normal")
    i0 = Component(Signal, value=np.zeros(1), kind="normal")
    i1 = Component(Signal, value=np.zeros(1), kind="normal")
    started_s = Component(Signal, value=0.0, kind="normal")
    ended_s = Component(Signal, value=0.0, kind="normal")
    move_s = Component(Signal, value=0.0, kind="normal")
    waited_s = Component(Signal, value=0.0, kind="normal")
    open_s = Component(Signal, value=0.0, kind="normal")
    photons = Component(Signal, value=0.0, kind="normal")
    note = Component(Signal, value="", kind="normal")

    def set(self, values: LineValues) -> Status:
        """Take the values of an attempt."""
        for item in fields(values):
            getattr(self, item.name).put(getattr(values, item.name))
        return finished()

    def describe(self) -> dict[str, dict[str, Any]]:
        """Describe the values, with what ophyd cannot know of soft signals: unit and array type."""
        keys: dict[str, dict[str, Any]] = super().describe()
        for name, unit in UNITS.items():
            keys[getattr(self, name).name]["units"] = unit
        for key in keys.values():
            if key["dtype"] == "array":
                key["dtype_numpy"] = "<f8"
        return keys
