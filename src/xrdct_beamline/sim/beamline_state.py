"""What the simulated beamline does between two commands, as functions of explicit time.

Times are seconds on one monotonic clock (epoch seconds in double precision would blur a stage at
20 mm/s by 5 nm); positions are in the axis' own unit. Nothing here waits, reads a clock or
knows a control system, so that a position, a pulse or a gate asked for later is the same number.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from xrdct_beamline.domain.errors import ConfigurationError

__all__ = [
    "Axis",
    "BeamlineState",
    "Exposure",
    "ExposureSeries",
    "Faults",
    "FrameState",
    "Gate",
    "Monitors",
    "Switch",
    "Trajectory",
    "pulse_times",
]

#: Below this, in the axis' unit, a compare point counts as already reached.
POSITION_TOLERANCE = 1e-9

#: Times that differ by less are the same.
ROUNDING_S = 1e-9

#: How far back positions and switches are remembered: a frame is rendered within seconds.
HISTORY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One move with a trapezoidal velocity: ramp up, cruise, ramp down.

    A move too short for the full velocity is a triangle at the same acceleration.

    Parameters
    ----------
    start, end:
        Positions between which the axis moves.
    started_s:
        When it starts.
    velocity:
        Cruising speed, positive, per second.
    ramp_s:
        Seconds from rest to that speed (the motor record's ACCL).
    stopped_s:
        When the move was cut short, or infinity. The axis stays where it was then.
    """

    start: float
    end: float
    started_s: float
    velocity: float = 1.0
    ramp_s: float = 0.0
    stopped_s: float = math.inf

    def __post_init__(self) -> None:
        if not self.velocity > 0 or self.ramp_s < 0:
            raise ConfigurationError(
                f"a move needs a positive velocity and no negative ramp, got {self.velocity:g} per second "
                f"and {self.ramp_s:g} s"
            )

    @classmethod
    def at_rest(cls, position: float, since_s: float = -math.inf) -> Trajectory:
        """Return the trajectory of an axis that stands still."""
        return cls(start=position, end=position, started_s=since_s)

    @property
    def distance(self) -> float:
        """Length of the path, positive."""
        return abs(self.end - self.start)

    @property
    def direction(self) -> int:
        """+1, -1, or 0 for a move without travel."""
        return (self.end > self.start) - (self.end < self.start)

    @property
    def _profile(self) -> tuple[float, float, float]:
        """Ramp time, ramp length and cruise time."""
        ramp_length = self.velocity * self.ramp_s / 2
        if self.distance >= 2 * ramp_length:
            return self.ramp_s, ramp_length, (self.distance - 2 * ramp_length) / self.velocity
        ramp_s = math.sqrt(self.distance * self.ramp_s / self.velocity)
        return ramp_s, self.distance / 2, 0.0

    @property
    def finished_s(self) -> float:
        """When the axis stands still again."""
        ramp_s, _, cruise_s = self._profile
        return min(self.started_s + 2 * ramp_s + cruise_s, self.stopped_s)

    def position(self, time_s: float) -> float:
        """Return the position at a time; before the move its start, after it its end."""
        elapsed = min(time_s, self.stopped_s) - self.started_s
        ramp_s, ramp_length, cruise_s = self._profile
        if elapsed <= 0 or self.distance == 0:
            return self.start
        if elapsed >= 2 * ramp_s + cruise_s:
            return self.end  # exactly, whatever the arithmetic in between
        if elapsed < ramp_s:
            travelled = ramp_length * (elapsed / ramp_s) ** 2
        elif elapsed <= ramp_s + cruise_s:
            travelled = ramp_length + (elapsed - ramp_s) * self.velocity
        else:
            left = 2 * ramp_s + cruise_s - elapsed
            travelled = self.distance - ramp_length * (left / ramp_s) ** 2
        return self.start + self.direction * travelled

    def crossing_s(self, position: float) -> float | None:
        """Return when the axis reaches a position on its way, None if it does not."""
        along = (position - self.start) * self.direction
        if self.direction == 0 or not -POSITION_TOLERANCE <= along <= self.distance + POSITION_TOLERANCE:
            return None
        along = min(max(along, 0.0), self.distance)
        ramp_s, ramp_length, cruise_s = self._profile
        if along < ramp_length:
            elapsed = ramp_s * math.sqrt(along / ramp_length)
        elif along <= self.distance - ramp_length:
            elapsed = ramp_s + (along - ramp_length) / self.velocity
        else:
            elapsed = 2 * ramp_s + cruise_s - ramp_s * math.sqrt((self.distance - along) / ramp_length)
        time_s = self.started_s + elapsed
        return time_s if time_s <= self.stopped_s else None

    def stopped(self, time_s: float) -> Trajectory:
        """Return the same move, cut short at a time."""
        return replace(self, stopped_s=min(max(time_s, self.started_s), self.finished_s))


def pulse_times(
    trajectory: Trajectory, *, start: float, step: float, count: int, first: int = 0
) -> list[tuple[int, float]]:
    """Return number and time of the compare pulses ``first <= k < count`` that one move produces.

    Pulse k fires where the axis crosses ``start + k·step`` in the direction of ``step``. A point that
    was already passed when the move began fires nothing, and so do all after it: the comparator
    waits for it.
    """
    if step == 0 or trajectory.direction != math.copysign(1, step):
        return []
    pulses = []
    for k in range(first, count):
        time_s = trajectory.crossing_s(start + k * step)
        if time_s is None:
            break
        pulses.append((k, time_s))
    return pulses


class Axis:
    """The moves of one axis, remembered long enough to say where it was when a frame was exposed."""

    def __init__(self, position: float = 0.0) -> None:
        self._moves = deque([Trajectory.at_rest(position)], maxlen=HISTORY)

    @property
    def trajectory(self) -> Trajectory:
        """The latest move."""
        return self._moves[-1]

    def move(self, end: float, now_s: float, *, velocity: float, ramp_s: float) -> Trajectory:
        """Start a move from where the axis is now; a move in flight ends here."""
        self.stop(now_s)
        move = Trajectory(
            start=self.position(now_s), end=end, started_s=now_s, velocity=velocity, ramp_s=ramp_s
        )
        self._moves.append(move)
        return move

    def stop(self, now_s: float) -> Trajectory:
        """Stop where the axis is now and return the move as it became."""
        if now_s < self.trajectory.finished_s:
            self._moves[-1] = self.trajectory.stopped(now_s)
        return self.trajectory

    def position(self, time_s: float) -> float:
        """Return the position at a time, at most `HISTORY` moves ago."""
        index = bisect_right([move.started_s for move in self._moves], time_s) - 1
        return self._moves[max(index, 0)].position(time_s)

    def is_moving(self, time_s: float) -> bool:
        """Whether the latest move is under way."""
        return self.trajectory.started_s <= time_s < self.trajectory.finished_s


class Switch:
    """Something that is on or off, and when it changed."""

    def __init__(self, on: bool = False) -> None:
        self._changes: deque[tuple[float, bool]] = deque([(-math.inf, on)], maxlen=HISTORY)

    def set(self, on: bool, now_s: float) -> None:
        """Switch at a time; no change is no event."""
        if on != self._changes[-1][1]:
            self._changes.append((now_s, on))

    def at(self, time_s: float) -> bool:
        """Whether it was on at a time."""
        return self._changes[self._index(time_s)][1]

    def fraction(self, begin_s: float, end_s: float) -> float:
        """Return the part of an interval during which it was on."""
        if end_s <= begin_s:
            return float(self.at(begin_s))
        inner = [t for t, _ in self._changes if begin_s < t < end_s]
        edges = [begin_s, *inner, end_s]
        on_s = sum(b - a for a, b in itertools.pairwise(edges) if self.at(a))
        return min(on_s / (end_s - begin_s), 1.0)

    def _index(self, time_s: float) -> int:
        return max(bisect_right([t for t, _ in self._changes], time_s) - 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """One frame of a series: when its counters were open."""

    number: int  # from 0
    start_s: float
    duration_s: float

    @property
    def end_s(self) -> float:
        """When the counters close."""
        return self.start_s + self.duration_s

    @property
    def middle_s(self) -> float:
        """Mid-exposure, to which positions refer."""
        return self.start_s + self.duration_s / 2


@dataclass(slots=True, kw_only=True)
class ExposureSeries:
    """Which trigger pulses of one acquisition become exposures.

    Parameters
    ----------
    n_images:
        Exposures after which the series is over.
    exposure_s, readout_s:
        A pulse that comes earlier than their sum after the start of the last exposure is lost.
    armed_s:
        Pulses before it are lost; infinity while the detector is not ready.
    missed:
        Number of a pulse, from 0, that the detector misses whatever its spacing; -1 for none.
    """

    n_images: int
    exposure_s: float
    readout_s: float
    armed_s: float = math.inf
    missed: int = -1
    _last: Exposure | None = field(default=None, init=False)
    _pulses: int = field(default=0, init=False)

    @property
    def accepted(self) -> int:
        """Exposures so far."""
        return 0 if self._last is None else self._last.number + 1

    @property
    def is_full(self) -> bool:
        """Whether all images have been exposed."""
        return self.accepted >= self.n_images

    def pulse(self, time_s: float, duration_s: float | None = None) -> Exposure | None:
        """Return the exposure that a pulse starts, None if it is lost.

        ``duration_s`` is the gate's width where the pulse defines the exposure (Ext. Enable).
        """
        if time_s < self.armed_s or self.is_full:
            return None
        number, self._pulses = self._pulses, self._pulses + 1
        ready_s = -math.inf if self._last is None else self._last.end_s + self.readout_s - ROUNDING_S
        if number == self.missed or time_s < ready_s:
            return None
        duration_s = self.exposure_s if duration_s is None else duration_s
        self._last = Exposure(number=self.accepted, start_s=time_s, duration_s=duration_s)
        return self._last

    def free_running(self, start_s: float, period_s: float, number: int) -> Exposure:
        """Return an exposure of a series that one pulse, or the software, started.

        A period shorter than exposure and readout is stretched to their sum.
        """
        period_s = max(period_s, self.exposure_s + self.readout_s)
        self._last = Exposure(number=number, start_s=start_s + number * period_s, duration_s=self.exposure_s)
        return self._last


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitors:
    """Beam intensity and what the two diodes count in a gate.

    Parameters
    ----------
    seed:
        Seeds drift and noise.
    rate:
        Counts per second of I0 at relative intensity 1.
    steady:
        Without drift and noise: what is seen and counted then depends on positions and cell alone.
    """

    seed: int = 0
    rate: float = 2.0e8
    steady: bool = False

    #: Period and depth of the slow drift that normalisation has to remove.
    DRIFT_S = 47.0
    DRIFT = 0.01

    def intensity(self, time_s: float) -> float:
        """Return the beam's relative intensity, 1 on average, with the beam on."""
        if self.steady:
            return 1.0
        phase = 2 * math.pi * math.fmod(time_s, self.DRIFT_S) / self.DRIFT_S + self.seed
        return 1.0 + self.DRIFT * math.sin(phase)

    def counts(
        self, *, middle_s: float, duration_s: float, beam: float, transmission: float
    ) -> tuple[float, float]:
        """Return I0 and I1 of one gate; ``beam`` is the part of it during which there was beam."""
        expected = self.rate * duration_s * beam * self.intensity(middle_s)
        if self.steady:
            return float(round(expected)), float(round(expected * max(transmission, 0.0)))
        # one generator per gate: the same gate asked for twice counts the same
        rng = np.random.default_rng([self.seed, round(middle_s * 1e6) % 2**63])
        return float(rng.poisson(expected)), float(rng.poisson(expected * max(transmission, 0.0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What the position compare captures during one exposure."""

    position_mm: float  # at mid-gate
    i0: float
    i1: float
    time_s: float  # mid-gate


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameState:
    """All that a frame depends on besides the sample and the seed."""

    rotation_deg: float
    translation_mm: float
    lithium_content: float
    exposure_s: float
    i0: float  # relative to the nominal flux, 0 in the dark


@dataclass(slots=True, kw_only=True)
class Faults:
    """What is made to go wrong on purpose."""

    drop_frame: int = -1  # pulse of the next line that the detector misses
    drop_times: int = 1  # lines that miss it
    detector_hangs: bool = False  # exposures begin and never come back
    arm_delay_s: float = 0.0  # the detector arms this much later than usual
    short_move: str = ""  # stage whose next move ends short of its target, and says nothing of it
    early_done: str = ""  # stage whose next move is called done half-way
    dead_monitor: str = ""  # "i0" or "i1", which counts nothing

    def take_drop(self) -> int:
        """Return the pulse that the line which begins now misses, -1 for none."""
        missed = self.drop_frame
        self.drop_times -= 1
        if self.drop_times <= 0:
            self.drop_frame, self.drop_times = -1, 1
        return missed

    def take_short_move(self, stage: str) -> bool:
        """Whether the move that begins now ends short of its target."""
        is_short = self.short_move == stage
        self.short_move = "" if is_short else self.short_move
        return is_short

    def take_early_done(self, stage: str) -> bool:
        """Whether the move that begins now is called done half-way."""
        is_early = self.early_done == stage
        self.early_done = "" if is_early else self.early_done
        return is_early


@dataclass(slots=True, kw_only=True)
class BeamlineState:
    """Stages, beam and sample between them, as all simulated devices share them.

    Parameters
    ----------
    monitors:
        Intensity and counts.
    transmission:
        Part of the beam that passes the sample at (rotation_deg, translation_mm, lithium_content).
    lithium_content:
        Mean content of the electrode at a time.
    """

    monitors: Monitors
    transmission: Callable[[float, float, float], float]
    lithium_content: Callable[[float], float]
    translation: Axis = field(default_factory=Axis)
    rotation: Axis = field(default_factory=Axis)
    vertical: Axis = field(default_factory=Axis)
    shutter: Switch = field(default_factory=Switch)
    beam: Switch = field(default_factory=lambda: Switch(on=True))
    faults: Faults = field(default_factory=Faults)
    last_gate: Gate | None = None

    def beam_fraction(self, begin_s: float, end_s: float) -> float:
        """Return the part of an interval during which beam reached the sample."""
        return self.shutter.fraction(begin_s, end_s) * self.beam.fraction(begin_s, end_s)

    def gate(self, start_s: float, duration_s: float) -> Gate:
        """Return what is captured in a gate; ask once it is over."""
        middle_s = start_s + duration_s / 2
        position_mm = self.translation.position(middle_s)
        transmission = self.transmission(
            self.rotation.position(middle_s), position_mm, self.lithium_content(middle_s)
        )
        i0, i1 = self.monitors.counts(
            middle_s=middle_s,
            duration_s=duration_s,
            beam=self.beam_fraction(start_s, start_s + duration_s),
            transmission=transmission,
        )
        dead = self.faults.dead_monitor
        i0, i1 = 0.0 if dead == "i0" else i0, 0.0 if dead == "i1" else i1
        return Gate(position_mm=position_mm, i0=i0, i1=i1, time_s=middle_s)

    def frame_state(self, exposure: Exposure) -> FrameState:
        """Return what the detector saw in an exposure; ask once it is over."""
        beam = self.beam_fraction(exposure.start_s, exposure.end_s)
        return FrameState(
            rotation_deg=self.rotation.position(exposure.middle_s),
            translation_mm=self.translation.position(exposure.middle_s),
            lithium_content=self.lithium_content(exposure.middle_s),
            exposure_s=exposure.duration_s,
            i0=beam * self.monitors.intensity(exposure.middle_s),
        )
