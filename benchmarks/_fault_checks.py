"""What is looked at after each slice of a campaign, against one that nothing was done to."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from _fault_rig import Rig

from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.sim.faults import Entry
from xrdct_beamline.startup.resume import find_unfinished
from xrdct_beamline.storage.journal import JournalFollower
from xrdct_beamline.storage.nexus_reader import ProcessedSummary, read_processed, read_summary

__all__ = ["Reference", "Watch", "check", "frames_of", "make_reference"]

LIVE_PATIENCE_S = 240.0  # a live service that starts again looks through the whole journal


@dataclass(slots=True)
class Watch:
    """What the journal says of the slice under way, read as it grows."""

    follower: JournalFollower
    runs: list[str] = field(default_factory=list)  # of the slice, oldest first
    planned: dict[str, int] = field(default_factory=dict)  # lines of each run
    stops: dict[str, str] = field(default_factory=dict)
    newest: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # by rotation index
    finals: dict[str, set[int]] = field(default_factory=dict)  # lines with a verdict, by run
    attempts: int = 0
    changed_s: float = 0.0
    _descriptors: dict[str, str] = field(default_factory=dict)

    def begin(self) -> None:
        """Forget the slice before this one."""
        self.look()
        for store in (self.runs, self.planned, self.stops, self.newest, self.finals, self._descriptors):
            store.clear()
        self.attempts = 0

    def look(self) -> None:
        """Take what has been written since the last look."""
        while documents := self.follower.poll():
            for name, doc in documents:
                self._take(name, doc)

    @property
    def n_over(self) -> int:
        """Lines that are over, one way or the other."""
        return sum(line["line_verdict"] != "retake" for line in self.newest.values())

    def _take(self, name: str, doc: Mapping[str, Any]) -> None:
        if name == "start" and doc.get("xrdct", {}).get("geometry"):
            self.runs.append(doc["uid"])
            self.planned[doc["uid"]] = doc["num_lines"]
            self.finals[doc["uid"]] = set()
            self.changed_s = time.monotonic()
        elif name == "descriptor":
            self._descriptors[doc["uid"]] = doc["run_start"]
        elif name == "stop" and doc["run_start"] in self.planned:
            self.stops[doc["run_start"]] = doc["exit_status"]
        elif name == "event" and "line_verdict" in doc["data"]:
            line = doc["data"]
            self.newest[line["line_rotation_index"]] = line
            self.attempts += 1
            self.changed_s = time.monotonic()
            if line["line_verdict"] != "retake":
                self.finals[self._descriptors[doc["descriptor"]]].add(line["line_rotation_index"])


@dataclass(frozen=True, slots=True)
class Reference:
    """A slice that nothing was done to."""

    frames: dict[int, bytes]
    sinogram: npt.NDArray[Any]
    line_s: float


def make_reference(rig: Rig, watch: Watch) -> Reference:
    """Return the undisturbed slice that has just been taken."""
    found = find_unfinished(rig.configuration, watch.runs[0])
    if found.missing:
        raise SystemExit(f"the undisturbed slice is not whole: {found}; see {rig.folder}")
    path, _ = _processed(rig, watch.runs[0], len(found.lines), 0)
    lines = sorted(watch.newest.values(), key=lambda line: line["line_started_s"])
    starts = [line["line_started_s"] for line in lines]
    return Reference(
        frames={index: frames_of(line["line_raw_file"]) for index, line in watch.newest.items()},
        sinogram=read_processed(path).sinogram,
        line_s=float(np.median(np.diff(starts))),
    )


def frames_of(path: str) -> bytes:
    """Return the frames of a raw file as they were written, compressed."""
    with h5py.File(path, "r") as file:
        dataset = file["entry/data/data"]
        return b"".join(dataset.id.read_direct_chunk((i, 0, 0))[1] for i in range(dataset.shape[0]))


def check(rig: Rig, watch: Watch, reference: Reference, entry: Entry, *, is_ended: bool) -> None:
    """Fill the entry of a slice that is over: counts, marks, and what should not be."""
    watch.look()
    problems = entry.problems
    entry.planned = len(reference.frames)
    entry.retakes = watch.attempts - len(watch.newest)
    entry.resumes = max(len(watch.runs) - 1, 0)
    if not watch.runs:
        problems.append("no run of it is in the journal")
        return
    found = find_unfinished(rig.configuration, watch.runs[0])
    for index in range(entry.planned):
        line = watch.newest.get(index)
        if line is None:
            problems.append(f"line {index} is neither there nor marked")
        elif line["line_verdict"] == "accepted":
            entry.accepted += 1
            if frames_of(line["line_raw_file"]) != reference.frames[index]:
                problems.append(f"frames of line {index} differ from the undisturbed ones")
        else:
            entry.marked[index] = f"{line['line_verdict']}: {line['line_reason']}"
            if not line["line_reason"]:
                problems.append(f"line {index} is marked {line['line_verdict']} without a reason")
    problems += [f"line {i}: {why}" for i, why in found.damaged.items()]
    if sorted(found.missing) != sorted(set(range(entry.planned)) - _accepted(watch)):
        problems.append(f"resume would take {sorted(found.missing)}")
    for uid, status in watch.stops.items():
        if status == "success" and len(watch.finals[uid]) != watch.planned[uid]:
            problems.append(f"run {uid[:8]} calls itself a success with {len(watch.finals[uid])} lines")
    if is_ended:
        problems += _in_file(rig, watch, reference, entry)
    problems += [f"{name} is {level}" for name, level in rig.unsafe_outputs().items()]
    problems += _left_behind(rig)


def _accepted(watch: Watch) -> set[int]:
    return {index for index, line in watch.newest.items() if line["line_verdict"] == "accepted"}


def _in_file(rig: Rig, watch: Watch, reference: Reference, entry: Entry) -> list[str]:
    """Return how the processed file differs from what the journal and the undisturbed slice say."""
    path, summary = _processed(rig, watch.runs[0], entry.accepted, len(entry.marked))
    if summary is None:
        return ["there is no processed file"]
    problems = []
    if (summary.lines_done, summary.lines_bad) != (entry.accepted, len(entry.marked)):
        problems.append(
            f"the processed file has {summary.lines_done} lines and {summary.lines_bad} bad ones, "
            f"the journal {entry.accepted} and {len(entry.marked)}"
        )
    if summary.complete != (entry.accepted == entry.planned):
        problems.append(
            f"the processed file calls itself {summary.status} with {entry.accepted} of {entry.planned} lines"
        )
    if not entry.accepted:
        return problems
    try:
        sinogram, accepted = read_processed(path).sinogram, sorted(_accepted(watch))
    except DataError as error:
        return [*problems, str(error)]
    if not np.array_equal(sinogram[accepted], reference.sinogram[accepted], equal_nan=True):
        problems.append("the sinogram differs from the undisturbed one")
    if entry.marked and not np.isnan(sinogram[sorted(entry.marked)]).all():
        problems.append("the sinogram has something where a line is marked")
    return problems


def _processed(rig: Rig, uid: str, n_done: int, n_bad: int) -> tuple[Path, ProcessedSummary | None]:
    """Return file and counts, as soon as live processing has caught up."""
    folder, summary, path = rig.configuration.paths.processed, None, Path()
    deadline = time.monotonic() + LIVE_PATIENCE_S
    while time.monotonic() < deadline:
        for path in folder.glob(f"{uid[:8]}*.nxs"):
            try:
                summary = read_summary(path)
            except DataError:  # being made
                continue
            is_there = (summary.lines_done, summary.lines_bad) == (n_done, n_bad)
            if is_there and summary.status != "running":
                return path, summary
        time.sleep(0.05)
    return path, summary


def _left_behind(rig: Rig) -> list[str]:
    known = {child.pid for child in (rig.sim, rig.live, rig.session) if child is not None}
    found = {
        pid: command
        for pid, command in rig.processes().items()
        if pid not in known and not (rig.has_catalog and "_catalog_process" in command)
    }
    return [f"process {pid} is left: {command[:120]}" for pid, command in found.items()]
