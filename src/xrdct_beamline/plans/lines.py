"""One attempt of a line: moving, arming, exposing, reading back. Whatever fails is in the result."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from bluesky import plan_stubs as bps
from bluesky.utils import MsgGenerator, short_uid
from ophyd.status import StatusBase

from xrdct_beamline.devices.beam import ShutterState
from xrdct_beamline.devices.beamline import Beamline
from xrdct_beamline.devices.line_watch import AcquisitionMode, LineOutcome, LineRequest
from xrdct_beamline.devices.position_compare import CompareLine
from xrdct_beamline.domain.documents import PRIMARY

from .motion import LinePath
from .stubs import HARDWARE_ERRORS, bring_to_rest, cause, verify_at, wait_until_done

__all__ = ["Attempt", "LinePlan", "attempt_line", "fly_line", "step_line"]

logger = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]


def _none() -> Floats:
    return np.empty(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlan:
    """What an attempt has to do, in the stages' coordinates.

    Parameters
    ----------
    next_rotation_deg:
        Where to turn while the translation runs down, None to stay.
    travel_mm_s:
        Velocity of the translation between lines.
    """

    rotation_deg: float
    next_rotation_deg: float | None
    path: LinePath
    request: LineRequest
    travel_mm_s: float


@dataclass(slots=True, kw_only=True)
class Attempt:
    """What an attempt has yielded so far.

    Parameters
    ----------
    settling_s:
        Spent after the last frame, until the stages stood.
    open_s:
        For which the shutter was open.
    statuses:
        Everything that was started; drained if the attempt fails.
    """

    problem: str = ""
    was_interrupted: bool = False
    rotation_deg: float = float("nan")
    pulses: int = 0
    position_mm: Floats = field(default_factory=_none)
    i0: Floats = field(default_factory=_none)
    i1: Floats = field(default_factory=_none)
    outcome: LineOutcome | None = None
    started_s: float = 0.0
    ended_s: float = 0.0
    move_s: float = 0.0
    settling_s: float = 0.0
    open_s: float = 0.0
    statuses: list[StatusBase] = field(default_factory=list)

    def keep(self, status: StatusBase) -> StatusBase:
        """Remember a status until the end of the attempt."""
        self.statuses.append(status)
        return status


Measure = Callable[[Beamline, LinePlan, Attempt], MsgGenerator[None]]


def attempt_line(beamline: Beamline, line: LinePlan, measure: Measure) -> MsgGenerator[Attempt]:
    """Take a line once; afterwards everything stands still, the file is closed and collected."""
    attempt = Attempt()
    detector = beamline.detector
    interruptions, outcome_before = detector.interruptions, detector.outcome
    try:
        yield from measure(beamline, line, attempt)
    except HARDWARE_ERRORS as error:
        attempt.problem = str(cause(error))
        attempt.was_interrupted = detector.interruptions > interruptions
        logger.warning("line at %g deg: %s", line.rotation_deg, attempt.problem)
        yield from bring_to_rest(beamline, attempt.statuses)
        yield from bps.collect(detector, name=PRIMARY)
        if attempt.started_s and line.request.mode is AcquisitionMode.FLY:
            yield from _read_what_was_captured(beamline, attempt)
        attempt.ended_s = time.time()
    if detector.outcome is not outcome_before:
        attempt.outcome = detector.outcome
    return attempt


def fly_line(beamline: Beamline, line: LinePlan, attempt: Attempt) -> MsgGenerator[None]:
    """Take a line in one move, one compare pulse per frame."""
    translation, detector, compare = beamline.translation, beamline.detector, beamline.compare
    path, group = line.path, short_uid("line")
    ready = [attempt.keep((yield from bps.prepare(compare, _compare_line(line), group=group)))]
    yield from _arm_on_the_way(beamline, line, path.start_mm, attempt)
    yield from wait_until_done(ready, group)
    ready = [
        attempt.keep((yield from bps.abs_set(compare, True, group=group))),
        attempt.keep((yield from bps.prepare(translation, path.velocity_mm_s, group=group))),
        attempt.keep((yield from bps.abs_set(beamline.shutter, ShutterState.OPEN, group=group))),
    ]
    yield from wait_until_done(ready, group)

    attempt.started_s = time.time()
    crossing = attempt.keep((yield from bps.abs_set(translation, path.end_mm, group=f"{group}-move")))
    yield from _do(attempt, bps.complete(detector, group=group), group)
    attempt.ended_s = time.time()
    leaving = yield from _leave(beamline, line, attempt, f"{group}-move")
    yield from _do(attempt, bps.trigger(compare, group=group), group)
    yield from _read_gates(beamline, attempt)
    yield from _hand_on(beamline, attempt, [crossing, *leaving], f"{group}-move")


def step_line(beamline: Beamline, line: LinePlan, attempt: Attempt) -> MsgGenerator[None]:
    """Take a line point by point, for hardware without a position compare."""
    detector, beam, group = beamline.detector, beamline.beam, short_uid("line")
    yield from _arm_on_the_way(beamline, line, line.path.grid_mm[0], attempt)
    yield from _do(attempt, bps.abs_set(beamline.shutter, ShutterState.OPEN, group=group), group)
    attempt.started_s = time.time()
    points: list[tuple[float, float, float]] = []
    for target_mm in line.path.grid_mm:
        yield from _do(attempt, bps.abs_set(beamline.translation, target_mm, group=group), group)
        yield from _do(attempt, bps.trigger(detector, group=group), group)
        yield from _do(attempt, bps.trigger(beam, group=group), group)
        reading = yield from bps.read(beam)
        points.append(
            (beamline.translation.position, reading[beam.i0.name]["value"], reading[beam.i1.name]["value"])
        )
        attempt.pulses = len(points)
        attempt.position_mm, attempt.i0, attempt.i1 = np.asarray(points, dtype=float).T
    yield from _do(attempt, bps.complete(detector, group=group), group)
    attempt.ended_s = time.time()
    leaving = yield from _leave(beamline, line, attempt, f"{group}-move")
    yield from _hand_on(beamline, attempt, leaving, f"{group}-move")


def _read_gates(beamline: Beamline, attempt: Attempt) -> MsgGenerator[None]:
    """Take over what the position compare has sent and captured."""
    compare = beamline.compare
    reading = yield from bps.read(compare)
    attempt.pulses = int(reading[compare.produced.name]["value"])
    attempt.position_mm, attempt.i0, attempt.i1 = (
        np.asarray(reading[signal.name]["value"], dtype=float)
        for signal in (compare.position_mm, compare.i0, compare.i1)
    )


def _read_what_was_captured(beamline: Beamline, attempt: Attempt) -> MsgGenerator[None]:
    """Note for the record how far a failed line has come, if that can be had."""
    try:
        yield from _read_gates(beamline, attempt)
    except HARDWARE_ERRORS as error:
        logger.warning("what the position compare captured is not known: %s", cause(error))


def _arm_on_the_way(
    beamline: Beamline, line: LinePlan, start_mm: float, attempt: Attempt
) -> MsgGenerator[None]:
    """Bring the stages to the start of a line; meanwhile open the file and arm."""
    began_s, group = time.monotonic(), short_uid("start")
    rotation, translation, detector = beamline.rotation, beamline.translation, beamline.detector
    moves = [attempt.keep((yield from bps.abs_set(rotation, line.rotation_deg, group=f"{group}-move")))]
    if not translation.is_at(start_mm):
        yield from _do(attempt, bps.prepare(translation, line.travel_mm_s, group=group), group)
    moves.append(attempt.keep((yield from bps.abs_set(translation, start_mm, group=f"{group}-move"))))
    yield from _do(attempt, bps.prepare(detector, line.request, group=group), group)
    armed = attempt.keep((yield from bps.kickoff(detector, group=group)))
    yield from wait_until_done(moves, f"{group}-move")
    attempt.move_s = time.monotonic() - began_s
    yield from verify_at(rotation, line.rotation_deg)
    yield from verify_at(translation, start_mm)
    attempt.rotation_deg = rotation.position
    yield from wait_until_done([armed], group)


def _leave(
    beamline: Beamline, line: LinePlan, attempt: Attempt, group: str
) -> MsgGenerator[list[StatusBase]]:
    """Close the shutter, and turn to the next line while the translation runs down."""
    leaving = [attempt.keep((yield from bps.abs_set(beamline.shutter, ShutterState.CLOSED, group=group)))]
    if line.next_rotation_deg is not None:
        turn = yield from bps.abs_set(beamline.rotation, line.next_rotation_deg, group=group)
        leaving.append(attempt.keep(turn))
    return leaving


def _hand_on(
    beamline: Beamline, attempt: Attempt, leaving: list[StatusBase], group: str
) -> MsgGenerator[None]:
    """Emit the file, and wait until everything stands."""
    disarmed = attempt.keep((yield from bps.abs_set(beamline.compare, False, group=group)))
    yield from bps.collect(beamline.detector, name=PRIMARY)
    began_s = time.monotonic()
    yield from wait_until_done([*leaving, disarmed], group)
    attempt.settling_s = time.monotonic() - began_s


def _do(attempt: Attempt, step: MsgGenerator[StatusBase], group: str) -> MsgGenerator[None]:
    """Start one thing and wait for it."""
    status = attempt.keep((yield from step))
    yield from wait_until_done([status], group)


def _compare_line(line: LinePlan) -> CompareLine:
    path = line.path
    return CompareLine(
        start_mm=path.compare_start_mm,
        step_mm=path.step_mm,
        pulses=len(path.grid_mm),
        gate_s=line.request.exposure_s,
    )
