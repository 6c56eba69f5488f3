"""What is done to a beamline and to its programs, and when; and the book that is kept of it. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Entry", "Fault", "Injection", "Ledger", "Place", "ScanPlan", "draw_scans", "place_of"]


class Fault(StrEnum):
    """What can be done, in the words of the ledger."""

    FRAME_DROPPED = "frame dropped"
    FRAME_DROPPED_EACH_TIME = "frame dropped each time"
    QUEUE_FULL = "file writer's queue full"
    DETECTOR_HANGS = "detector hangs"
    ARMED_LATE = "armed late"
    MOVE_SHORT = "move stops short"
    DONE_EARLY = "move called done early"
    I0_DEAD = "upstream monitor dead"
    I1_DEAD = "beamstop diode dead"
    BEAM_LOST = "beam lost"
    SHUTTER_CLOSED = "shutter closed by somebody"
    DISK_LOW = "disk nearly full"
    DISK_FULL = "disk full"
    IOC_KILLED = "IOCs killed"
    IOC_STOPPED = "IOCs stopped for a while"
    SESSION_KILLED = "session killed"
    SESSION_STOPPED = "session stopped for a while"
    LIVE_KILLED = "live service killed"
    LIVE_STOPPED = "live service stopped for a while"
    CATALOG_KILLED = "catalog killed"
    CATALOG_STOPPED = "catalog stopped for a while"
    CELL_RUNS_ON = "cell runs on"
    WIRE_NOISE = "wire noisy"
    WIRE_CHATTERS = "wire chatters"
    WIRE_HIGH = "wire stuck high"
    WIRE_LOW = "wire stuck low"
    WIRE_ALARM = "input in alarm"
    WIRE_AWAY = "input's server killed"


class Place(StrEnum):
    """When a fault strikes."""

    LINE = "while lines are taken"
    PAUSE_LINE = "while lines are taken in a pause of the cell"
    WAIT = "while a pause of the cell is waited for"


_WAITS = {fault for fault in Fault if fault.name.startswith("WIRE_")}

#: Shortest and longest time for which a fault lasts, where that is not until something else happens.
_HOLD_S = {
    Fault.QUEUE_FULL: (0.2, 1.0),
    Fault.DETECTOR_HANGS: (0.2, 1.5),
    Fault.ARMED_LATE: (0.5, 2.0),
    Fault.I0_DEAD: (0.2, 4.0),
    Fault.I1_DEAD: (0.2, 4.0),
    Fault.BEAM_LOST: (0.05, 2.0),
    Fault.DISK_LOW: (0.5, 2.0),
    Fault.DISK_FULL: (0.5, 2.0),
    Fault.IOC_KILLED: (0.05, 1.0),
    Fault.IOC_STOPPED: (0.1, 4.0),
    Fault.SESSION_STOPPED: (0.1, 3.0),
    Fault.LIVE_KILLED: (0.0, 1.0),
    Fault.LIVE_STOPPED: (0.1, 3.0),
    Fault.CATALOG_STOPPED: (0.5, 4.0),
    Fault.WIRE_NOISE: (0.5, 1.5),
    Fault.WIRE_CHATTERS: (0.5, 1.5),
    Fault.WIRE_AWAY: (0.05, 0.5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """One fault.

    Parameters
    ----------
    line:
        How many lines are over before it.
    fraction:
        Of the next line, when it strikes.
    hold_s:
        For which it lasts.
    number:
        Of a frame, or odd and even of two stages.
    """

    fault: Fault
    line: int
    fraction: float
    hold_s: float
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPlan:
    """A slice and what is done to it; the faults come in the order of their lines.

    Parameters
    ----------
    in_pause:
        Whether the slice waits for a pause of the cell.
    """

    number: int
    in_pause: bool
    injections: tuple[Injection, ...]


@dataclass(slots=True, kw_only=True)
class Entry:
    """What became of one slice.

    Parameters
    ----------
    injected:
        Faults that struck, with what was seen of each.
    planned, accepted, marked:
        Lines; those that are marked have a reason.
    retakes, resumes:
        Attempts beyond the first, and sessions that went on with the slice.
    problems:
        What should not be; empty if the book balances.
    """

    scan: ScanPlan
    injected: list[Injection] = field(default_factory=list)
    planned: int = 0
    accepted: int = 0
    marked: dict[int, str] = field(default_factory=dict)
    retakes: int = 0
    resumes: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def balances(self) -> bool:
        """Whether each planned line is in the file or marked with a reason, and nothing else is wrong."""
        has_reasons = all(self.marked.values())
        return not self.problems and has_reasons and self.accepted + len(self.marked) == self.planned


@dataclass(slots=True, kw_only=True)
class Ledger:
    """The entries of a campaign."""

    entries: list[Entry] = field(default_factory=list)

    @property
    def n_injected(self) -> int:
        """Faults that struck."""
        return sum(len(entry.injected) for entry in self.entries)

    @property
    def balances(self) -> bool:
        """Whether every entry does."""
        return all(entry.balances for entry in self.entries)

    def by_fault(self) -> dict[str, dict[str, int]]:
        """Return, per kind of fault, how often it struck, and what became of those slices."""
        rows: dict[str, Counter[str]] = {}
        for entry in self.entries:
            for injection in entry.injected:
                row = rows.setdefault(str(injection.fault), Counter())
                row["struck"] += 1
                row["slices complete"] += entry.accepted == entry.planned
                row["slices with marked lines"] += bool(entry.marked)
                row["not balanced"] += not entry.balances
        return {name: dict(row) for name, row in sorted(rows.items())}

    def totals(self) -> Mapping[str, int]:
        """Return sums over all slices."""
        entries = self.entries
        return {
            "faults": self.n_injected,
            "slices": len(entries),
            "lines_planned": sum(entry.planned for entry in entries),
            "lines_accepted": sum(entry.accepted for entry in entries),
            "lines_marked": sum(len(entry.marked) for entry in entries),
            "retakes": sum(entry.retakes for entry in entries),
            "resumes": sum(entry.resumes for entry in entries),
            "not_balanced": sum(not entry.balances for entry in entries),
        }


def place_of(fault: Fault) -> Place:
    """Return when a fault strikes."""
    if fault in _WAITS:
        return Place.WAIT
    return Place.PAUSE_LINE if fault is Fault.CELL_RUNS_ON else Place.LINE


def draw_scans(
    seed: int, *, n_lines: int, n_frames: int, left_out: Iterable[Fault] = ()
) -> Iterator[ScanPlan]:
    """Yield slices without end, one to three faults each; every kind comes once before any comes again.

    Parameters
    ----------
    n_lines, n_frames:
        Of a slice, and of a line.
    left_out:
        Kinds that cannot be tried here.
    """
    rng = random.Random(seed)
    without = set(left_out)
    kinds = _deck(rng, [fault for fault in Fault if fault not in without])
    number = 0
    later: list[Fault] = []
    while True:
        wanted = rng.choice((1, 1, 2, 2, 3))
        found = [*later, *(next(kinds) for _ in range(wanted - len(later)))]
        drawn, later = _together(found)
        injections = [_injection(rng, fault, n_lines, n_frames) for fault in drawn]
        places = {place_of(fault) for fault in drawn}
        yield ScanPlan(
            number=number,
            in_pause=places != {Place.LINE} or rng.random() < 0.25,
            injections=tuple(sorted(injections, key=lambda i: (i.line, i.fraction))),
        )
        number += 1


def _deck(rng: random.Random, kinds: Sequence[Fault]) -> Iterator[Fault]:
    while True:
        yield from rng.sample(kinds, len(kinds))


def _together(found: Sequence[Fault]) -> tuple[list[Fault], list[Fault]]:
    """Return what can be done to one slice, only one thing while it waits for the cell, and the rest."""
    waits = [fault for fault in found if place_of(fault) is Place.WAIT]
    others = [fault for fault in found if place_of(fault) is not Place.WAIT]
    return waits[:1] + others, waits[1:]


def _injection(rng: random.Random, fault: Fault, n_lines: int, n_frames: int) -> Injection:
    return Injection(
        fault=fault,
        line=-1 if place_of(fault) is Place.WAIT else rng.randrange(n_lines - 1),
        fraction=round(rng.uniform(0.0, 1.0), 3),
        hold_s=round(rng.uniform(*_HOLD_S.get(fault, (0.0, 0.0))), 2),
        number=rng.randrange(n_frames),
    )
