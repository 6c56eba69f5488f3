"""The cell and its cycler: discharges with pauses, or whatever sequence a text describes.

Everything is a function of explicit times; nothing here reads a clock.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from xrdct_beamline.domain.errors import ConfigurationError

from .cell_state import CellState
from .lattice import LMO_LATTICE, LatticeMap, SpinelPhase, lattice_parameters
from .voltage_curves import OCV_RANGE, open_circuit_voltage

__all__ = [
    "LMO_LATTICE",
    "Cell",
    "CellProgramme",
    "CellState",
    "LatticeMap",
    "Programme",
    "SpinelPhase",
    "cell_state",
    "lattice_parameters",
    "open_circuit_voltage",
]

#: Charge that moves x by one in the disc: 0.0143 mAh (110 of 148.2 mAh/g) move it by 0.74.
CAPACITY_PER_X_MAH = 0.0143 / 0.742


class ProgrammeRun(Protocol):
    """A programme on its way; times are laboratory seconds since its start."""

    def at(self, elapsed_s: float) -> CellState:
        """Return the state; a negative time is before the start."""
        ...

    def done(self, elapsed_s: float) -> bool:
        """Tell of a DONE pulse; return whether it ended a pause."""
        ...


class Programme(Protocol):
    """What a cycler does."""

    @property
    def time_scale(self) -> float:
        """Cell seconds per laboratory second."""
        ...

    @property
    def relaxation_s(self) -> float:
        """Time constant of the overpotential, in cell seconds."""
        ...

    def equilibrium_voltage(self, x: float) -> float:
        """Return the voltage of the cell at rest, in V."""
        ...

    def scaled(self, time_scale: float) -> Programme:
        """Return the same programme at another speed."""
        ...

    def begin(self) -> ProgrammeRun:
        """Return a run of it, at its beginning."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CellProgramme:
    """Constant current from one lithium content to another, with pauses on the way.

    Parameters
    ----------
    start_x, end_x:
        Lithium contents; a falling content is a charge.
    pauses_at:
        Contents at which the current is interrupted, in the order of the programme.
    pause_s:
        Length of each pause on the laboratory's clock, which ``time_scale`` leaves alone because
        a scan takes its own time; None waits for DONE (closed loop).
    current_mA:
        Magnitude of the current.
    capacity_per_x_mAh:
        Charge that changes the content by one.
    overpotential_V, relaxation_s:
        Voltage lost under current, and the time constant with which it comes and goes (cell time).
    cutoff_V:
        Voltage under current at which a discharge ends, whatever ``end_x`` says.
    time_scale:
        Cell seconds per laboratory second while current flows, and for the relaxation.
    trigger_high_V:
        Level of the trigger line during a pause; 0 otherwise.

    Raises
    ------
    ConfigurationError
        If a content is outside of 0 to 1, the pauses are not between the ends and in order, or a
        duration, current or capacity is not positive.
    """

    start_x: float = 0.20
    end_x: float = 1.0
    pauses_at: tuple[float, ...] = (0.25, 0.50, 0.75, 0.95)
    pause_s: float | None = 60.0
    current_mA: float = 0.008
    capacity_per_x_mAh: float = CAPACITY_PER_X_MAH
    overpotential_V: float = 0.030
    relaxation_s: float = 120.0
    cutoff_V: float = 3.0
    time_scale: float = 1.0
    trigger_high_V: float = 3.3

    def __post_init__(self) -> None:
        for name in ("current_mA", "capacity_per_x_mAh", "relaxation_s", "time_scale"):
            _check_positive(name, getattr(self, name))
        if self.pause_s is not None:
            _check_positive("pause_s", self.pause_s)
        for x in (self.start_x, *self.pauses_at, self.end_x):
            if not 0.0 <= x <= 1.0:
                raise ConfigurationError(f"the cell programme asks for x = {x:g}; LixMn2O4 takes 0 to 1")
        if self.start_x == self.end_x:
            raise ConfigurationError(f"the cell programme starts and ends at x = {self.start_x:g}")
        way = [self.direction * x for x in (self.start_x, *self.pauses_at, self.end_x)]
        in_order = all(a <= b for a, b in itertools.pairwise(way))
        if not in_order or len(set(self.pauses_at)) < len(self.pauses_at):
            raise ConfigurationError(
                f"pauses at {self.pauses_at} must follow one another from {self.start_x:g} to {self.end_x:g}"
            )

    @property
    def direction(self) -> int:
        """+1 on discharge (lithium enters the spinel), −1 on charge."""
        return 1 if self.end_x > self.start_x else -1

    @property
    def x_per_lab_s(self) -> float:
        """Change of the lithium content per laboratory second under current, without its sign."""
        return self.current_mA / 3600.0 / self.capacity_per_x_mAh * self.time_scale

    @property
    def last_x(self) -> float:
        """Content at which the programme ends: ``end_x``, or where the cut-off is met before."""
        if self.direction < 0 or self._loaded_voltage(self.end_x) >= self.cutoff_V:
            return self.end_x
        low, high = self.start_x, min(self.end_x, OCV_RANGE[1])
        if self._loaded_voltage(high) >= self.cutoff_V:
            return self.end_x
        while high - low > 1e-9:
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self._loaded_voltage(middle) >= self.cutoff_V else (low, middle)
        return low

    def scaled(self, time_scale: float) -> CellProgramme:
        """Return the same programme at another speed."""
        return replace(self, time_scale=time_scale)

    def equilibrium_voltage(self, x: float) -> float:
        """Return the voltage of the cell at rest, in V."""
        return float(open_circuit_voltage(x))

    def begin(self) -> ProgrammeRun:
        """Return a run of it, at its beginning."""
        return _PausedRun(self)

    def _loaded_voltage(self, x: float) -> float:
        return float(open_circuit_voltage(x)) - self.direction * self.overpotential_V


@dataclass(frozen=True, slots=True)
class _Segment:
    """A stretch of the programme: under current if ``x_end`` differs from ``x_start``."""

    step: str
    start_s: float  # laboratory seconds after the start
    end_s: float
    x_start: float
    x_end: float
    pause_index: int = -1


def cell_state(programme: CellProgramme, elapsed_s: float, done_s: tuple[float, ...] = ()) -> CellState:
    """Return the cell's state a laboratory time after its start.

    Parameters
    ----------
    programme:
        What the cycler does.
    elapsed_s:
        Seconds since the start; negative before it.
    done_s:
        Times of DONE, ascending; in a closed loop the first one within a pause ends it.
    """
    if elapsed_s < 0:
        return _state(programme, "rest", programme.start_x, 0.0, elapsed_s)
    loss_V = 0.0
    for segment in _segments(programme, done_s):
        under_current = segment.x_start != segment.x_end
        target_V = programme.direction * programme.overpotential_V if under_current else 0.0
        until_s = min(elapsed_s, segment.end_s)
        decay = math.exp(-(until_s - segment.start_s) * programme.time_scale / programme.relaxation_s)
        loss_V = target_V + (loss_V - target_V) * decay
        if elapsed_s < segment.end_s:
            x = _content(programme, segment, elapsed_s)
            return _state(programme, segment.step, x, loss_V, elapsed_s, segment.pause_index)
    raise AssertionError("the last segment has no end")  # pragma: no cover


def _segments(programme: CellProgramme, done_s: tuple[float, ...]) -> Iterator[_Segment]:
    under_current = "discharge" if programme.direction > 0 else "charge"
    last_x, t, x = programme.last_x, 0.0, programme.start_x
    for index, pause_x in enumerate(programme.pauses_at):
        if (pause_x - last_x) * programme.direction > 0:
            break  # the cut-off is met before this pause
        if pause_x != x:
            arrival_s = t + abs(pause_x - x) / programme.x_per_lab_s
            yield _Segment(under_current, t, arrival_s, x, pause_x)
            t, x = arrival_s, pause_x
        release_s = _release(programme, t, done_s)
        yield _Segment("pause", t, release_s, x, x, index)
        t = release_s
    if last_x != x and math.isfinite(t):
        arrival_s = t + abs(last_x - x) / programme.x_per_lab_s
        yield _Segment(under_current, t, arrival_s, x, last_x)
        t, x = arrival_s, last_x
    if math.isfinite(t):
        yield _Segment("end", t, math.inf, x, x)


def _release(programme: CellProgramme, paused_s: float, done_s: tuple[float, ...]) -> float:
    if programme.pause_s is not None:
        return paused_s + programme.pause_s
    first = bisect.bisect_left(done_s, paused_s)
    return done_s[first] if first < len(done_s) else math.inf


def _content(programme: CellProgramme, segment: _Segment, elapsed_s: float) -> float:
    if segment.x_start == segment.x_end:
        return segment.x_start
    moved = programme.direction * programme.x_per_lab_s * (elapsed_s - segment.start_s)
    low, high = sorted((segment.x_start, segment.x_end))
    return min(max(segment.x_start + moved, low), high)


def _state(
    programme: CellProgramme, step: str, x: float, loss_V: float, elapsed_s: float, pause_index: int = -1
) -> CellState:
    flows = step in ("charge", "discharge")
    return CellState(
        step=step,
        lithium_content=x,
        voltage_V=float(open_circuit_voltage(x)) - loss_V,
        current_mA=-programme.direction * programme.current_mA if flows else 0.0,
        capacity_mAh=abs(x - programme.start_x) * programme.capacity_per_x_mAh,
        trigger_level_V=programme.trigger_high_V if step == "pause" else 0.0,
        elapsed_s=max(elapsed_s, 0.0),
        pause_index=pause_index,
    )


class _PausedRun:
    """A run of a `CellProgramme`."""

    def __init__(self, programme: CellProgramme) -> None:
        self._programme = programme
        self._done_s: list[float] = []

    def at(self, elapsed_s: float) -> CellState:
        return cell_state(self._programme, elapsed_s, tuple(self._done_s))

    def done(self, elapsed_s: float) -> bool:
        if self._programme.pause_s is not None or self.at(elapsed_s).step != "pause":
            return False
        self._done_s.append(elapsed_s)
        return True


class Cell:
    """A cycler with its cell: remembers when it was started, stopped and told DONE.

    All times are seconds of one clock, whichever the caller uses.
    """

    def __init__(self, programme: Programme) -> None:
        self.programme = programme
        self._run = programme.begin()
        self._started_s: float | None = None
        self._stopped_s: float | None = None

    def start(self, now_s: float) -> None:
        """Run the programme from its beginning."""
        self._run = self.programme.begin()
        self._started_s, self._stopped_s = now_s, None

    def stop(self, now_s: float) -> None:
        """Interrupt the current for good; the state stays as it is."""
        if self._started_s is not None and self._stopped_s is None:
            self._stopped_s = now_s

    @property
    def is_running(self) -> bool:
        """Whether the programme was started and not stopped."""
        return self._started_s is not None and self._stopped_s is None

    def done(self, now_s: float) -> bool:
        """Note a DONE pulse; return whether it ended a pause (only in a closed loop)."""
        if self._started_s is None or self._stopped_s is not None:
            return False
        return self._run.done(now_s - self._started_s)

    def at(self, now_s: float) -> CellState:
        """Return the state at a time."""
        if self._started_s is None:
            return self._run.at(-1.0)
        if self._stopped_s is None or now_s <= self._stopped_s:
            return self._run.at(now_s - self._started_s)
        return self._rest_after_stop(now_s, self._started_s, self._stopped_s)

    def _rest_after_stop(self, now_s: float, started_s: float, stopped_s: float) -> CellState:
        last = self._run.at(stopped_s - started_s)
        rest_V = self.programme.equilibrium_voltage(last.lithium_content)
        decay = math.exp(-(now_s - stopped_s) * self.programme.time_scale / self.programme.relaxation_s)
        return replace(
            last,
            step="rest",
            voltage_V=rest_V + (last.voltage_V - rest_V) * decay,
            current_mA=0.0,
            trigger_level_V=0.0,
            elapsed_s=now_s - started_s,
            pause_index=-1,
        )


def _check_positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigurationError(f"{name} of the cell programme is {value:g}; it must be positive")
