"""The history of the cell around the slices: voltage, current, pauses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from event_model import DocumentRouter

from xrdct_beamline.domain.documents import CELL

__all__ = ["CellHistory", "CellRecorder"]

FloatArray = npt.NDArray[np.float64]

#: Name of the cycler's step while it waits for a slice.
PAUSE_STEP = "pause"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellHistory:
    """Samples of the cell: epoch seconds, V, mA, each ``(sample,)``, and its pauses.

    The end of a running pause is None. The arrays are never changed again.
    """

    time_s: FloatArray
    voltage: FloatArray
    current: FloatArray
    pauses: tuple[tuple[float, float | None], ...]


class CellRecorder(DocumentRouter):
    """Collects the stream ``cell`` of any run and hands on its history after each sample.

    A sample that is not newer than the last one is left out, so that documents seen twice change
    nothing. Beyond ``max_samples`` every other sample goes: the picture stays, the memory too.

    Parameters
    ----------
    sink:
        Called with a `CellHistory`.
    max_samples:
        Samples kept.
    """

    def __init__(self, sink: Callable[[CellHistory], None], max_samples: int = 100_000) -> None:
        super().__init__()
        self._sink = sink
        self._max_samples = max_samples
        self._streams: set[str] = set()
        self._samples = np.empty((1024, 3))
        self._n = 0
        self._newest: dict[str, Any] = {}
        self._pauses: list[tuple[float, float | None]] = []

    def descriptor(self, doc: Mapping[str, Any]) -> None:
        """Remember which events are samples of the cell."""
        if doc["name"] == CELL:
            self._streams.add(doc["uid"])

    def event(self, doc: Mapping[str, Any]) -> None:
        """Take a sample."""
        if doc["descriptor"] not in self._streams:
            return
        time_s = float(doc.get("timestamps", {}).get("cell_voltage", doc["time"]))
        if self._n and not time_s > self._samples[self._n - 1, 0]:
            return
        self._newest.update(doc["data"])
        self._append(time_s)
        self._follow_pauses(time_s, str(self._newest.get("cell_step", "")))
        samples = self._samples[: self._n]
        self._sink(
            CellHistory(
                time_s=samples[:, 0],
                voltage=samples[:, 1],
                current=samples[:, 2],
                pauses=tuple(self._pauses),
            )
        )

    def _append(self, time_s: float) -> None:
        if self._n >= self._max_samples:
            kept = self._samples[: self._n : 2]
            self._samples, self._n = np.concatenate([kept, np.empty_like(kept)]), len(kept)
        elif self._n == len(self._samples):
            self._samples = np.concatenate([self._samples, np.empty_like(self._samples)])
        voltage = self._newest.get("cell_voltage", math.nan)
        self._samples[self._n] = time_s, voltage, self._newest.get("cell_current", math.nan)
        self._n += 1

    def _follow_pauses(self, time_s: float, step: str) -> None:
        is_paused = bool(self._pauses) and self._pauses[-1][1] is None
        if step == PAUSE_STEP and not is_paused:
            self._pauses.append((time_s, None))
        elif step != PAUSE_STEP and is_paused:
            self._pauses[-1] = (self._pauses[-1][0], time_s)
