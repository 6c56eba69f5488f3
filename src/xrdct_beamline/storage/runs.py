"""What a journal knows of runs: which there are, which belong together, and what their lines left on disk."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xrdct_beamline.domain.documents import LINES, Verdict
from xrdct_beamline.domain.errors import DataError

from .journal import Document
from .raw import Hdf5Frames

__all__ = [
    "RecordedLine",
    "Run",
    "checked_lines",
    "find_run",
    "journaled_runs",
    "recorded_lines",
    "slice_runs",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run by its start document, and its stop document if it came to have one."""

    start: Mapping[str, Any]
    stop: Mapping[str, Any] | None = None

    @property
    def uid(self) -> str:
        """Its name."""
        return str(self.start["uid"])

    @property
    def resumes(self) -> str:
        """The run that it completes, or empty."""
        return str(self.start.get("xrdct", {}).get("resumes") or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedLine:
    """The newest attempt of a line in the runs of one slice.

    ``problem`` says why what was accepted cannot be used; it is empty until the raw file was looked at.
    """

    rotation_index: int
    verdict: str
    planned: int
    raw_file: str
    data: Mapping[str, Any]
    problem: str = ""


def journaled_runs(journal: Path | str) -> list[Run]:
    """Return the runs of a journal, oldest first. Only their first and last documents are decoded.

    Raises
    ------
    DataError
        If there is no such journal.
    """
    runs: dict[str, Run] = {}
    for name, doc in _documents(Path(journal), ("start", "stop")):
        if name == "start":
            runs[doc["uid"]] = Run(start=doc)
        elif doc["run_start"] in runs:
            runs[doc["run_start"]] = Run(start=runs[doc["run_start"]].start, stop=doc)
    return list(runs.values())


def find_run(runs: Sequence[Run], name: str) -> Run:
    """Return the run whose uid begins with ``name``; "last" is the newest run of a slice.

    Raises
    ------
    DataError
        If there is none, or more than one.
    """
    slices = [run for run in runs if run.start.get("xrdct", {}).get("geometry")]
    if name == "last":
        if not slices:
            raise DataError("the journal holds no slice; measure one first")
        return slices[-1]
    found = [run for run in runs if run.uid.startswith(name)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(run.uid[:8] for run in (found or slices[-5:])) or "none"
    if not found:
        raise DataError(f"the journal has no run {name}; the newest slices are {known}")
    raise DataError(f"{len(found)} runs of the journal begin with {name!r} ({known}); give more letters")


def slice_runs(runs: Sequence[Run], run: Run) -> list[Run]:
    """Return the runs that make one slice: the first one, and those that resume it, in order."""
    by_uid = {item.uid: item for item in runs}
    first = run
    while first.resumes in by_uid:
        first = by_uid[first.resumes]
    members = {first.uid}
    chain = []
    for item in runs:
        if item.uid in members or item.resumes in members:
            members.add(item.uid)
            chain.append(item)
    return chain


def recorded_lines(journal: Path | str, uids: Iterable[str]) -> dict[int, RecordedLine]:
    """Return the newest attempt of each line of some runs, by rotation index; later runs win."""
    wanted = set(uids)
    descriptors: set[str] = set()
    lines: dict[int, RecordedLine] = {}
    for name, doc in _documents(Path(journal), ("descriptor", "event")):
        if name == "descriptor":
            if doc["run_start"] in wanted and doc["name"] == LINES:
                descriptors.add(doc["uid"])
        elif doc["descriptor"] in descriptors:
            data = doc["data"]
            index = int(data["line_rotation_index"])
            lines[index] = RecordedLine(
                rotation_index=index,
                verdict=str(data["line_verdict"]),
                planned=int(data["line_planned"]),
                raw_file=str(data["line_raw_file"]),
                data=data,
            )
    return lines


def checked_lines(lines: Mapping[int, RecordedLine], frames: Hdf5Frames) -> dict[int, RecordedLine]:
    """Return the lines with what is wrong with the raw files of those that were accepted."""
    return {index: _checked(line, frames) for index, line in lines.items()}


def _checked(line: RecordedLine, frames: Hdf5Frames) -> RecordedLine:
    if line.verdict != Verdict.ACCEPTED:
        return line
    try:
        count = frames.count(line.raw_file)
        problem = "" if count == line.planned else f"{line.raw_file} holds {count} of {line.planned} frames"
        for name in ("line_i0", "line_position_mm"):
            if not problem and not np.isfinite(np.asarray(line.data[name], dtype=float)).all():
                problem = f"{name} has values that were not captured"
    except DataError as error:
        problem = str(error)
    return RecordedLine(
        rotation_index=line.rotation_index,
        verdict=Verdict.RETAKE if problem else line.verdict,
        planned=line.planned,
        raw_file=line.raw_file,
        data=line.data,
        problem=problem,
    )


def _documents(journal: Path, names: Sequence[str]) -> Iterator[Document]:
    """Yield the documents of some kinds; the others are not decoded."""
    starts = tuple(f'["{name}",'.encode() for name in names)
    try:
        with journal.open("rb") as file:
            for line in file:
                if line.startswith(starts) and (document := _decode(line, journal)) is not None:
                    yield document
    except FileNotFoundError:
        raise DataError(f"there is no journal {journal}; give the file that the session wrote") from None
    except OSError as error:
        raise DataError(f"the journal {journal} cannot be read: {error}") from error


def _decode(line: bytes, journal: Path) -> Document | None:
    try:
        name, doc = json.loads(line)
    except ValueError:  # torn by a kill
        logger.warning("journal %s: %d bytes are no document; skipped", journal, len(line))
        return None
    return name, doc
