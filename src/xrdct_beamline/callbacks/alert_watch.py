"""What somebody asleep should be woken for, from the documents and the clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from event_model import DocumentRouter

from xrdct_beamline.domain.documents import LINES, Verdict

__all__ = ["Alert", "AlertKind", "AlertWatch"]


class AlertKind(StrEnum):
    """What an alert is about; alerts of one kind are limited in rate together."""

    STALLED = "stalled"
    LINE_BAD = "line bad"
    DEADLINE = "deadline"
    DISK = "disk"
    ENDED = "ended early"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One sentence for the people responsible."""

    kind: AlertKind
    text: str
    time_s: float


class AlertWatch(DocumentRouter):
    """Watches the documents of all runs, and time going by.

    Parameters
    ----------
    send:
        Called with each alert, once per cause: a run that stalls says so again only after it moved.
    stalled_s:
        Seconds without a line, in a run that plans lines, after which it is stalled.
    min_free_GB:
        Free space of the raw data's disk below which there is an alert.
    since_s:
        Epoch seconds: what happened before is history that is read again, and wakes nobody.
    """

    def __init__(
        self,
        send: Callable[[Alert], None],
        *,
        stalled_s: float = 300.0,
        min_free_GB: float = 50.0,
        since_s: float = 0.0,
    ) -> None:
        super().__init__()
        self._send = send
        self._stalled_s = stalled_s
        self._min_free_GB = min_free_GB
        self._since_s = since_s
        self._runs: dict[str, _OpenRun] = {}
        self._line_streams: dict[str, str] = {}
        self._disk_is_low = False

    def start(self, doc: Mapping[str, Any]) -> None:
        """Watch a run; only one that plans lines can stall, and only the newest: there is one beam."""
        xrdct = doc.get("xrdct", {})
        if xrdct.get("geometry"):
            self._runs = {uid: run for uid, run in self._runs.items() if not run.plans_lines}
        self._runs[doc["uid"]] = _OpenRun(
            name=_name_of(doc),
            last_line_s=float(doc["time"]),
            plans_lines=bool(xrdct.get("geometry")),
            deadline_s=xrdct.get("deadline_s"),
        )

    def descriptor(self, doc: Mapping[str, Any]) -> None:
        """Remember which events are lines."""
        if doc["name"] == LINES:
            self._line_streams[doc["uid"]] = doc["run_start"]

    def event(self, doc: Mapping[str, Any]) -> None:
        """Take a line as a sign of life, and tell of one that was given up."""
        run = self._runs.get(self._line_streams.get(doc["descriptor"], ""))
        if run is None:
            return
        run.last_line_s, run.told_stalled = float(doc["time"]), False
        if doc["data"].get("line_verdict") == Verdict.BAD:
            index, reason = doc["data"].get("line_rotation_index"), doc["data"].get("line_reason")
            self._alert(
                AlertKind.LINE_BAD, f"{run.name}: line {index} was given up: {reason}", float(doc["time"])
            )

    def stop(self, doc: Mapping[str, Any]) -> None:
        """Tell of a run that did not end as planned."""
        run = self._runs.pop(doc["run_start"], None)
        self._line_streams = {d: r for d, r in self._line_streams.items() if r != doc["run_start"]}
        if run is not None and doc.get("exit_status") != "success":
            reason = doc.get("reason") or "no reason given"
            self._alert(
                AlertKind.ENDED,
                f"{run.name} ended with {doc.get('exit_status')}: {reason}",
                float(doc["time"]),
            )

    def check(self, now_s: float, free_GB: float | None = None) -> None:
        """Look at the clock and, if it is known, at the free space of the disk."""
        for run in self._runs.values():
            silent_s = now_s - max(run.last_line_s, self._since_s)
            if run.plans_lines and silent_s > self._stalled_s and not run.told_stalled:
                run.told_stalled = True
                self._alert(
                    AlertKind.STALLED,
                    f"{run.name}: no line for {silent_s:.0f} s (the limit is {self._stalled_s:g} s)",
                    now_s,
                )
            if run.deadline_s is not None and now_s > run.deadline_s and not run.told_deadline:
                run.told_deadline = True
                late_s = now_s - run.deadline_s
                self._alert(AlertKind.DEADLINE, f"{run.name} is {late_s:.0f} s past its deadline", now_s)
        if free_GB is not None:
            self._check_disk(free_GB, now_s)

    def _check_disk(self, free_GB: float, now_s: float) -> None:
        is_low = free_GB < self._min_free_GB
        if is_low and not self._disk_is_low:
            self._alert(
                AlertKind.DISK,
                f"{free_GB:.1f} GB are free for raw data, fewer than {self._min_free_GB:g} GB; free some",
                now_s,
            )
        self._disk_is_low = is_low

    def _alert(self, kind: AlertKind, text: str, time_s: float) -> None:
        if time_s >= self._since_s:
            self._send(Alert(kind=kind, text=text, time_s=time_s))


@dataclass(slots=True, kw_only=True)
class _OpenRun:
    name: str
    last_line_s: float
    plans_lines: bool
    deadline_s: float | None
    told_stalled: bool = False
    told_deadline: bool = False


def _name_of(doc: Mapping[str, Any]) -> str:
    xrdct = doc.get("xrdct", {})
    sample = doc.get("sample_name") or doc.get("title") or ""
    state = xrdct.get("state_index")
    parts = [f"run {doc['uid'][:8]}", sample, xrdct.get("role", "")]
    if state is not None:
        parts.append(f"pause {state + 1}")
    return ", ".join(str(part) for part in parts if part)
