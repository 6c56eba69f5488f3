"""A cycler's programme as text, one step to a line.

::

    cell LMO/Li                     # or LMO/graphite
    capacity 0.0143 mAh             # what C-rates refer to
    start x 0.95                    # lithium in LixMn2O4

    charge C/3.6 until 4.2 V        # or a current: 4 uA
    hold 4.2 V until 0.4 uA or 2 h
    repeat 5
      discharge 8 uA until 0.0024 mAh or 3.0 V
      pause 3.3 V until done        # or: for 25 min; the level is the trigger line's
    end
    rest 10 min

docs/cabling.md has the whole list. A mistake is told with its line and what to write instead.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from xrdct_beamline.domain.errors import ConfigurationError

from .sequence_run import SequenceRun
from .sequence_steps import CellSettings, Cutoff, Fault, Repeat, Step, StepKind
from .voltage_curves import Chemistry

__all__ = ["CellSequence", "parse_sequence"]

UNITS: dict[str, dict[str, float]] = {
    "current": {"A": 1e3, "mA": 1.0, "uA": 1e-3, "µA": 1e-3, "nA": 1e-6},
    "charge": {"Ah": 1e3, "mAh": 1.0, "uAh": 1e-3, "µAh": 1e-3},
    "voltage": {"V": 1.0, "mV": 1e-3},
    "time": {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0},
    "resistance": {"ohm": 1.0, "kohm": 1e3},
}
EXAMPLES = {
    "current": "8 uA or C/2",
    "charge": "0.0143 mAh",
    "voltage": "3.0 V",
    "time": "25 min",
    "resistance": "3.7 kohm",
}
C_RATE = re.compile(r"(?P<times>\d*\.?\d*)C(?:/(?P<hours>\d+\.?\d*))?$")


class _Word(StrEnum):
    CELL, CAPACITY, GRAPHITE, START = "cell", "capacity", "graphite", "start"
    RESISTANCE, RELAXATION, FADE, LEAK, FAULT = "resistance", "relaxation", "fade", "leak", "fault"
    CHARGE, DISCHARGE, HOLD, REST, PAUSE = "charge", "discharge", "hold", "rest", "pause"
    REPEAT, END = "repeat", "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSequence:
    """A cell and what its cycler does with it.

    Parameters
    ----------
    settings:
        The cell.
    steps:
        In order; loops nest.
    time_scale:
        Cell seconds per laboratory second; pauses of a given length are the laboratory's, because a
        scan takes its own time.
    """

    settings: CellSettings
    steps: tuple[Step | Repeat, ...]
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.time_scale) and self.time_scale > 0):
            raise ConfigurationError(f"time_scale of a sequence is {self.time_scale:g}; it must be positive")

    @property
    def relaxation_s(self) -> float:
        """Time constant of the overpotential, in cell seconds."""
        return self.settings.relaxation_s

    def equilibrium_voltage(self, x: float) -> float:
        """Return the voltage of the cell at rest, in V."""
        return float(self.settings.electrodes.voltage(x))

    def scaled(self, time_scale: float) -> CellSequence:
        """Return the same sequence at another speed."""
        return replace(self, time_scale=time_scale)

    def begin(self) -> SequenceRun:
        """Return a run of it, at its beginning."""
        return SequenceRun(self.settings, self.steps, self.time_scale)


@dataclass
class _Text:
    """One line, taken apart word by word."""

    where: str
    words: list[str]

    def error(self, what: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(f"{self.where}: {what}; {remedy}")

    def next(self, wanted: str) -> str:
        if not self.words:
            raise self.error("the line ends too early", f"add {wanted}")
        return self.words.pop(0)

    def expect(self, *choices: str) -> str:
        word = self.next(f"'{choices[0]}'" if len(choices) == 1 else f"one of {', '.join(choices)}")
        if word not in choices:
            raise self.error(f"{word!r} is not understood here", f"write {' or '.join(choices)}")
        return word

    def number(self, wanted: str, *, least: float = 0.0, most: float = math.inf) -> float:
        word = self.next(wanted)
        try:
            value = float(word)
        except ValueError:
            raise self.error(f"{word!r} is no number", f"write {wanted}") from None
        if not (math.isfinite(value) and least <= value <= most):
            limits = f"{least:g} to {most:g}" if math.isfinite(most) else f"{least:g} or more"
            raise self.error(f"{word} is out of range", f"write {limits}, such as {wanted}")
        return value

    def quantity(self, *kinds: str) -> tuple[str, float]:
        """Return which of the kinds it is, and how much in mA, mAh, V, s or ohm; more than zero."""
        example = " or ".join(EXAMPLES[kind] for kind in kinds)
        value = self.number(example)
        unit = self.next(f"a unit, as in {example}")
        for kind in kinds:
            if unit in UNITS[kind]:
                if value <= 0:
                    raise self.error(f"{value:g} {unit} is not more than zero", f"write {example}")
                return kind, value * UNITS[kind][unit]
        known = ", ".join(unit for kind in kinds for unit in UNITS[kind])
        raise self.error(f"{unit!r} is not a unit that fits here", f"use one of {known}, as in {example}")

    def finish(self) -> None:
        if self.words:
            raise self.error(f"{' '.join(self.words)!r} is too much", "take it out, or put # before it")


def parse_sequence(text: str, *, source: str = "sequence", time_scale: float = 1.0) -> CellSequence:
    """Return the sequence that a text describes.

    Parameters
    ----------
    source:
        For messages, such as the file's name.

    Raises
    ------
    ConfigurationError
        Naming the line, what is wrong with it, and what to write.
    """
    parser = _Parser(source)
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.partition("#")[0].split()
        if words:
            parser.take(_Text(where=f"{source}, line {number}", words=words), number)
    return CellSequence(settings=parser.settings(), steps=parser.steps(), time_scale=time_scale)


@dataclass
class _Parser:
    source: str
    header: dict[str, float | Chemistry] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    body: list[list[Step | Repeat]] = field(default_factory=lambda: [[]])
    loops: list[tuple[int, int, str]] = field(default_factory=list)  # line, count, where

    def take(self, text: _Text, line: int) -> None:
        word = text.words.pop(0)
        if word not in list(_Word):
            close = difflib.get_close_matches(word, list(_Word), n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(_Word)}"
            raise text.error(f"{word!r} is not a step or setting", hint)
        if word in StepKind.__members__.values():
            self.body[-1].append(self._step(StepKind(word), text, line))
        elif word == _Word.REPEAT:
            count = int(text.number("a number of times, such as 150", least=1))
            self.loops.append((line, count, text.where))
            self.body.append([])
        elif word == _Word.END:
            self._end(text)
        elif word == _Word.FAULT:
            self.faults.append(_fault(text))
        else:
            if self.body[0] or self.loops:
                raise text.error(f"{word!r} comes after the first step", "put it above all steps")
            _HEADERS[word](self.header, text)
        text.finish()

    def _end(self, text: _Text) -> None:
        if not self.loops:
            raise text.error(
                "'end' without 'repeat'", "take it out, or write 'repeat 150' where the loop begins"
            )
        line, count, where = self.loops.pop()
        steps = tuple(self.body.pop())
        if not steps:
            raise ConfigurationError(f"{where}: nothing is repeated; put steps between 'repeat' and 'end'")
        self.body[-1].append(Repeat(line=line, count=count, steps=steps))

    def _step(self, kind: StepKind, text: _Text, line: int) -> Step:
        match kind:
            case StepKind.CHARGE | StepKind.DISCHARGE:
                return Step(
                    line=line, kind=kind, current_mA=self._current(text), until=self._until(text, kind)
                )
            case StepKind.HOLD:
                voltage_V = text.quantity("voltage")[1]
                return Step(line=line, kind=kind, level_V=voltage_V, until=self._until(text, kind))
            case StepKind.REST:
                return Step(line=line, kind=kind, until=Cutoff(time_s=text.quantity("time")[1]))
            case StepKind.PAUSE:
                return _pause(text, line)

    def _until(self, text: _Text, kind: StepKind) -> Cutoff:
        """Read ``until A or B`` or ``for T``."""
        takes_current = kind is StepKind.HOLD
        first = "until 0.4 uA" if takes_current else "until 3.0 V"
        if not text.words:
            raise text.error(f"{kind.value!r} has no end", f"add '{first}' or 'for 30 min'")
        if text.expect("until", "for") == "for":
            return Cutoff(time_s=text.quantity("time")[1])
        limits: dict[str, float] = {}
        while True:
            if takes_current and text.words and C_RATE.match(text.words[0]):
                limits["current"] = self._current(text)
            else:
                measure = "current" if takes_current else "voltage"
                name, value = text.quantity(measure, "charge", "time")
                limits[name] = value
            if not text.words:
                break
            text.expect("or")
        return Cutoff(
            voltage_V=limits.get("voltage"),
            current_mA=limits.get("current"),
            charge_mAh=limits.get("charge"),
            time_s=limits.get("time"),
        )

    def _current(self, text: _Text) -> float:
        rate = C_RATE.match(text.words[0]) if text.words else None
        if rate is None:
            return text.quantity("current")[1]
        word = text.words.pop(0)
        capacity_mAh = self.header.get("capacity_mAh")
        if capacity_mAh is None:
            raise text.error(f"{word} needs a capacity", "write 'capacity 0.0143 mAh' above the first step")
        rate_per_h = float(rate["times"] or 1.0) / float(rate["hours"] or 1.0) if _is_rate(rate) else 0.0
        if not rate_per_h > 0:
            raise text.error(f"{word} is not a rate", "write C/2 or 2C")
        return float(capacity_mAh) * rate_per_h

    def settings(self) -> CellSettings:
        if "capacity_mAh" not in self.header:
            raise ConfigurationError(
                f"{self.source}: the cell has no capacity; write 'capacity 0.0143 mAh' above the first step"
            )
        return CellSettings.make(self.header, tuple(self.faults))

    def steps(self) -> tuple[Step | Repeat, ...]:
        if self.loops:
            raise ConfigurationError(
                f"{self.loops[-1][2]}: 'repeat' without 'end'; write 'end' after its steps"
            )
        if not self.body[0]:
            raise ConfigurationError(f"{self.source}: there is no step; write one, such as 'rest 10 min'")
        return tuple(self.body[0])


def _is_rate(rate: re.Match[str]) -> bool:
    hours = rate["hours"]
    return rate["times"] not in (".",) and (hours is None or float(hours) > 0)


def _pause(text: _Text, line: int) -> Step:
    level_V = text.quantity("voltage")[1]
    remedy = "write 'until done', or 'for 25 min'"
    if not text.words:
        raise text.error("'pause' has no end", remedy)
    if text.expect("until", "for") == "for":
        until = Cutoff(time_s=text.quantity("time")[1])
        return Step(line=line, kind=StepKind.PAUSE, level_V=level_V, until=until)
    text.expect("done")
    return Step(line=line, kind=StepKind.PAUSE, level_V=level_V, until=Cutoff(), waits_for_done=True)


def _fault(text: _Text) -> Fault:
    if text.expect("pause", "open") == "open":
        text.expect("circuit")
        text.expect("after")
        return Fault(kind="open circuit", time_s=text.quantity("time")[1])
    pause = int(text.number("the pause's number, from 1", least=1))
    match text.expect("silent", "stuck", "resumes"):
        case "silent":
            return Fault(kind="silent", pause=pause)
        case "stuck":
            return Fault(kind="stuck", pause=pause)
        case _:
            text.expect("after")
            return Fault(kind="resumes", pause=pause, time_s=text.quantity("time")[1])


def _take_cell(header: dict[str, float | Chemistry], text: _Text) -> None:
    header["chemistry"] = Chemistry(text.expect(*Chemistry))


def _take_start(header: dict[str, float | Chemistry], text: _Text) -> None:
    text.expect("x")
    header["start_x"] = text.number("a lithium content, such as 0.95", most=1.0)


def _take_fade(header: dict[str, float | Chemistry], text: _Text) -> None:
    header["fade_per_cycle"] = text.number("per cent per cycle, such as 0.07", most=50.0) / 100.0
    text.expect("%")
    text.expect("per")
    text.expect("cycle")


def _taker(kind: str, name: str) -> Callable[[dict[str, float | Chemistry], _Text], None]:
    def take(header: dict[str, float | Chemistry], text: _Text) -> None:
        header[name] = text.quantity(kind)[1]

    return take


_HEADERS: dict[str, Callable[[dict[str, float | Chemistry], _Text], None]] = {
    _Word.CELL: _take_cell,
    _Word.START: _take_start,
    _Word.FADE: _take_fade,
    _Word.CAPACITY: _taker("charge", "capacity_mAh"),
    _Word.GRAPHITE: _taker("charge", "graphite_mAh"),
    _Word.RESISTANCE: _taker("resistance", "resistance_ohm"),
    _Word.RELAXATION: _taker("time", "relaxation_s"),
    _Word.LEAK: _taker("current", "leak_mA"),
}
