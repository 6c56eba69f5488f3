"""The scan in words, for the person at the console."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xrdct_beamline.domain.documents import LINES, Role, Verdict
from xrdct_beamline.domain.scan import ScanGeometry

__all__ = ["LineTable"]


@dataclass
class _Scan:
    name: str
    lines_planned: int
    lines_done: int = 0
    said: int = 0


class LineTable:
    """Says when a slice starts and ends, each tenth of it, and every line that was not accepted.

    Parameters
    ----------
    say:
        Takes one line of text.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._scans: dict[str, _Scan] = {}
        self._run_of: dict[str, str] = {}

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take one document of a run."""
        handle = getattr(self, f"_{name}", None)
        if handle is not None:
            handle(doc)

    def _start(self, doc: Mapping[str, Any]) -> None:
        xrdct = doc.get("xrdct", {})
        if xrdct.get("role", Role.SERIES) == Role.SERIES:
            return
        geometry = ScanGeometry.from_metadata(xrdct["geometry"])
        state = xrdct.get("state_index")
        name = f"slice {doc['uid'][:8]}" + ("" if state is None else f", pause {state + 1}")
        n_lines = int(doc.get("num_lines", len(geometry.rotation_deg)))
        self._scans[doc["uid"]] = _Scan(name, n_lines)
        rest = f", the rest of slice {xrdct['resumes'][:8]}" if xrdct.get("resumes") else ""
        self._say(f"{name}: {geometry.shape[1]} x {n_lines} points{rest}")

    def _descriptor(self, doc: Mapping[str, Any]) -> None:
        if doc["name"] == LINES and doc["run_start"] in self._scans:
            self._run_of[doc["uid"]] = doc["run_start"]

    def _event(self, doc: Mapping[str, Any]) -> None:
        uid = self._run_of.get(doc["descriptor"])
        if uid is None:
            return
        scan, line = self._scans[uid], doc["data"]
        verdict = line["line_verdict"]
        if verdict != Verdict.RETAKE:
            scan.lines_done += 1
        if verdict != Verdict.ACCEPTED:
            where = f"line {line['line_rotation_index']} at {line['line_rotation_deg']:.2f} deg"
            attempt = line["line_attempt"] + 1
            self._say(f"{scan.name}: {where}, attempt {attempt}: {line['line_reason']} -> {verdict}")
        elif line.get("line_note"):
            self._say(f"{scan.name}: line {line['line_rotation_index']}: {line['line_note']}")
        tenths = 10 * scan.lines_done // scan.lines_planned
        if tenths > scan.said:
            scan.said = tenths
            self._say(f"{scan.name}: {scan.lines_done} of {scan.lines_planned} lines")

    def _stop(self, doc: Mapping[str, Any]) -> None:
        scan = self._scans.pop(doc["run_start"], None)
        if scan is None:
            return
        self._run_of = {d: uid for d, uid in self._run_of.items() if uid != doc["run_start"]}
        if scan.lines_done < scan.lines_planned:
            reason = doc.get("reason") or doc["exit_status"]
            self._say(f"{scan.name}: ended after {scan.lines_done} of {scan.lines_planned} lines ({reason})")
