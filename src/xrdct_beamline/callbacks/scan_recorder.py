"""Gathers what a master file needs of each slice scan, from the documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from event_model import DocumentRouter

from xrdct_beamline.domain.documents import BASELINE, LINES, Verdict
from xrdct_beamline.domain.records import ScanLine, ScanRecord
from xrdct_beamline.domain.scan import ScanGeometry

from .cell_recorder import CellHistory

__all__ = ["ScanRecorder"]

#: Scans whose lines are remembered, for the runs that resume them.
_KEPT = 4


class ScanRecorder(DocumentRouter):
    """Hands on a `ScanRecord` when a slice scan has ended, lines of the runs that it resumes included.

    Parameters
    ----------
    on_scan:
        Called with each record.
    cell:
        Returns the history of the cell, of which the samples during the scan are recorded.
    """

    def __init__(
        self, on_scan: Callable[[ScanRecord], None], cell: Callable[[], CellHistory | None] = lambda: None
    ) -> None:
        super().__init__()
        self._on_scan = on_scan
        self._cell = cell
        self._starts: dict[str, Mapping[str, Any]] = {}
        self._streams: dict[str, tuple[str, str]] = {}
        self._lines: dict[str, dict[int, ScanLine]] = {}
        self._baseline: dict[str, dict[str, list[Any]]] = {}

    def start(self, doc: Mapping[str, Any]) -> None:
        """Begin with a run that plans lines."""
        xrdct = doc.get("xrdct", {})
        if not xrdct.get("geometry"):
            return
        self._starts[doc["uid"]] = doc
        lines = self._lines.setdefault(str(xrdct.get("resumes") or doc["uid"]), {})
        self._lines[doc["uid"]] = lines  # one dictionary for all runs of a slice
        self._baseline[doc["uid"]] = {}
        while len(self._lines) > _KEPT:
            del self._lines[next(iter(self._lines))]

    def descriptor(self, doc: Mapping[str, Any]) -> None:
        """Remember which events belong to which scan."""
        if doc["run_start"] in self._starts and doc["name"] in (LINES, BASELINE):
            self._streams[doc["uid"]] = doc["run_start"], doc["name"]

    def event(self, doc: Mapping[str, Any]) -> None:
        """Take an accepted line, or a reading of the baseline."""
        run_uid, stream = self._streams.get(doc["descriptor"], ("", ""))
        if stream == LINES and doc["data"].get("line_verdict") == Verdict.ACCEPTED:
            line = _line(doc["data"])
            self._lines[run_uid][line.rotation_index] = line
        elif stream == BASELINE:
            for name, value in doc["data"].items():
                if isinstance(value, int | float):
                    self._baseline[run_uid].setdefault(name, []).append(float(value))

    def stop(self, doc: Mapping[str, Any]) -> None:
        """Hand on what is known of the scan."""
        start = self._starts.pop(doc["run_start"], None)
        if start is None:
            return
        self._streams = {d: of for d, of in self._streams.items() if of[0] != start["uid"]}
        lines = self._lines.get(start["uid"], {})
        baseline = self._baseline.pop(start["uid"])
        if not lines:
            return
        record = ScanRecord(
            start=start,
            geometry=ScanGeometry.from_metadata(start["xrdct"]["geometry"]),
            calibration=start["xrdct"].get("calibration"),
            lines=list(lines.values()),
            exit_status=str(doc["exit_status"]),
            ended_s=float(doc["time"]),
            cell=self._cell_during(min(line.started_s for line in lines.values()), float(doc["time"])),
            baseline={name: np.asarray(values) for name, values in baseline.items()},
        )
        self._on_scan(record)

    def _cell_during(self, first_s: float, last_s: float) -> dict[str, npt.NDArray[Any]]:
        history = self._cell()
        if history is None:
            return {}
        during = (history.time_s >= first_s) & (history.time_s <= last_s)
        return {
            "time_s": history.time_s[during],
            "voltage": history.voltage[during],
            "current": history.current[during],
        }


def _line(data: Mapping[str, Any]) -> ScanLine:
    return ScanLine(
        rotation_index=int(data["line_rotation_index"]),
        raw_file=Path(str(data["line_raw_file"])),
        attempt=int(data["line_attempt"]),
        position_mm=np.asarray(data["line_position_mm"], dtype=np.float64),
        i0=np.asarray(data["line_i0"], dtype=np.float64),
        i1=np.asarray(data["line_i1"], dtype=np.float64),
        started_s=float(data["line_started_s"]),
        ended_s=float(data["line_ended_s"]),
    )
