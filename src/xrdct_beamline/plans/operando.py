"""A slice in each pause of a cycling cell."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from bluesky.run_engine import WaitForTimeoutError
from bluesky.utils import FailedStatus, MsgGenerator, short_uid
from ophyd.status import Status

from xrdct_beamline.devices.beamline import Beamline
from xrdct_beamline.devices.state_record import StateRecord, StateValues
from xrdct_beamline.devices.trigger_line import TriggerLine
from xrdct_beamline.domain.documents import CELL, SCHEMA_VERSION, Role
from xrdct_beamline.domain.errors import ConfigurationError

from .stubs import cause, close_failed, read_event, shared_future

__all__ = ["STATES", "TRIGGER", "ask", "check_loop", "operando"]

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

#: Streams of the series' run: one event per pause of the cell, when its edge has been seen, and
#: one when its scans are done.
TRIGGER, STATES = "trigger", "states"

SERIES = "series"  # run key: the slices' runs are nested in this one
LOW, HIGH = 0, 1
DONE_PULSE_S = 0.1
PAUSE_POLL_S = 1.0  # an operator's pause waits no longer than this while the cell is waited for


def operando(
    beamline: Beamline,
    scan: Callable[[int, str], MsgGenerator[Any]],
    n_pauses: int,
    *,
    timeout_s: float,
    done_pulse: bool = True,
    pause_s: float | None = None,
    scan_s: float | None = None,
    between: Callable[[int, str], MsgGenerator[Any]] | None = None,
    until: Callable[[], bool] | None = None,
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[str]:
    """Wait for each pause of the cell, scan in it, and return the uid of the series' run.

    READY is high while a pause is waited for, BUSY while a scan runs; DONE is pulsed after it.

    Parameters
    ----------
    scan:
        Called with the number of the pause and the series' uid; a plan with a run of its own.
    timeout_s:
        How long to wait for each pause.
    done_pulse:
        Whether the cycler waits for DONE (closed loop).
    pause_s, scan_s:
        For a cycler that waits a fixed time (open loop), that time, and how long a scan takes.
    between:
        Called after each pause but the last as ``scan`` is, once the cell runs on; a plan of a few
        seconds: care of the detector, or a choice from live results, for which there is `ask`.
    until:
        Asked after each pause; true ends the series before its ``n_pauses``.

    Raises
    ------
    ConfigurationError
        Before anything starts, if a scan cannot finish within the pause.
    TriggerError
        If the line is high before anybody waits, invalid, or does not rise in time.
    """
    check_loop(n_pauses, done_pulse=done_pulse, pause_s=pause_s, scan_s=scan_s)
    series = _Series(
        beamline=beamline, scan=scan, n_pauses=n_pauses, done_pulse=done_pulse, pause_s=pause_s,
        between=between, until=until, state=StateRecord(name="state"),
    )  # fmt: skip
    trigger = beamline.trigger
    start = {
        "plan_name": "operando",
        "num_pauses": n_pauses,
        **(md or {}),
        "xrdct": {"schema": SCHEMA_VERSION, "role": str(Role.SERIES)},
    }
    release_timeout_s = timeout_s if pause_s is None else pause_s + timeout_s

    @bpp.stage_decorator([trigger])
    def staged() -> MsgGenerator[str]:
        yield from bps.mv(trigger.timeout_s, timeout_s, trigger.release_timeout_s, release_timeout_s)
        uid = yield from _of_series(bps.open_run(start))
        pauses = _pauses(series, str(uid))
        yield from _of_series(
            bpp.contingency_wrapper(pauses, except_plan=close_failed, else_plan=bps.close_run)
        )
        return str(uid)

    return (yield from staged())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Series:
    """What `operando` was asked for."""

    beamline: Beamline
    scan: Callable[[int, str], MsgGenerator[Any]]
    n_pauses: int
    done_pulse: bool
    pause_s: float | None
    between: Callable[[int, str], MsgGenerator[Any]] | None
    until: Callable[[], bool] | None
    state: StateRecord


def _of_series(plan: MsgGenerator[Any]) -> MsgGenerator[Any]:
    return (yield from bpp.set_run_key_wrapper(plan, run=SERIES))


def _pauses(series: _Series, uid: str) -> MsgGenerator[None]:
    """Take the pauses one after the other, the cell recorded through it all."""
    yield from bps.monitor(series.beamline.cell, name=CELL)
    for index in range(series.n_pauses):
        yield from _one_pause(series, index, uid)
        is_last = index == series.n_pauses - 1 or (series.until is not None and series.until())
        yield from _release(series.beamline.trigger, is_last=is_last)
        if is_last:
            break
        if series.between is not None:
            yield from bpp.set_run_key_wrapper(series.between(index, uid), f"between {index}")
    yield from bps.unmonitor(series.beamline.cell)


def _one_pause(series: _Series, index: int, uid: str) -> MsgGenerator[None]:
    """Wait for the pause, scan in it, and write down what came of it."""
    beamline, trigger = series.beamline, series.beamline.trigger
    yield from _wait_for_pause(trigger)
    yield from read_event([trigger], TRIGGER)
    opened_s = beamline.shutter.open_s
    yield from bps.mv(trigger.ready, LOW)  # one after the other: never both high
    yield from bps.mv(trigger.busy, HIGH)
    yield from bpp.set_run_key_wrapper(series.scan(index, uid), f"slice {index}")
    yield from bps.mv(trigger.busy, LOW)
    values = _state_values(beamline, index, series.pause_s, beamline.shutter.open_s - opened_s)
    if series.done_pulse:
        yield from _pulse(trigger)
    yield from bps.abs_set(series.state, values, wait=True)
    yield from read_event([series.state], STATES)


def ask(question: Callable[[], Answer], *, timeout_s: float, otherwise: Answer) -> MsgGenerator[Answer]:
    """Call a function in a thread of its own, and return its answer, or another one where none comes.

    For choices from live results: whatever the function waits for, computes or raises, the scan goes on
    after ``timeout_s`` at the latest.
    """
    answers: list[Answer] = []
    status = Status()

    def call() -> None:
        try:
            answers.append(question())
        except Exception:  # somebody's analysis must not end the series
            logger.exception("the question between two pauses failed")
        status.set_finished()

    threading.Thread(target=call, name="between-pauses", daemon=True).start()
    with contextlib.suppress(WaitForTimeoutError):
        yield from bps.wait_for([shared_future(status)], timeout=timeout_s)
    if not answers:
        logger.warning("no answer to the question between two pauses; going on with %r", otherwise)
        return otherwise
    return answers[0]


def _state_values(beamline: Beamline, index: int, pause_s: float | None, open_s: float) -> StateValues:
    trigger = beamline.trigger
    return StateValues(
        index=index,
        edge_s=float(trigger.edge_s.get()),
        ended_s=time.time(),
        budget_s=math.nan if pause_s is None else pause_s,
        open_s=open_s,
        photons=open_s * beamline.beam.known_flux(),
        cell_ran_on=bool(trigger.has_been_low.get()),
    )


def check_loop(n_pauses: int, *, done_pulse: bool, pause_s: float | None, scan_s: float | None) -> None:
    """Refuse a series that cannot work out."""
    if n_pauses < 1:
        raise ConfigurationError(f"n_pauses is {n_pauses}; a series takes at least 1")
    if pause_s is None:
        if not done_pulse:
            raise ConfigurationError(
                "without a DONE pulse the cycler waits a fixed time: say how long (pause_s) and what a scan "
                "takes (scan_s)"
            )
        return
    if scan_s is None:
        raise ConfigurationError("pause_s is given without scan_s; slice_duration_s estimates it")
    if scan_s > pause_s:
        raise ConfigurationError(
            f"a scan takes about {scan_s:.0f} s and the cell waits {pause_s:.0f} s; "
            "take fewer lines or frames, or let the cycler wait longer"
        )


def _wait_for_pause(trigger: TriggerLine) -> MsgGenerator[None]:
    """Arm, and wait for the edge; an operator's pause finds a checkpoint every second."""
    try:
        status = yield from bps.trigger(trigger, group=short_uid("pause"))
        waits = [shared_future(status)]
        while not status.done:
            yield from bps.checkpoint()
            try:
                yield from bps.wait_for(waits, timeout=PAUSE_POLL_S)
            except WaitForTimeoutError:
                continue
        yield from bps.null()
    except FailedStatus as error:
        raise cause(error) from error
    logger.info("the cell has paused (edge at %.3f s)", trigger.edge_s.get())


def _pulse(trigger: TriggerLine) -> MsgGenerator[None]:
    """Tell the cycler to go on."""
    yield from bps.mv(trigger.done, HIGH)
    yield from bps.sleep(DONE_PULSE_S)
    yield from bps.mv(trigger.done, LOW)


def _release(trigger: TriggerLine, *, is_last: bool) -> MsgGenerator[None]:
    """Disarm, and unless it was the last pause wait until the level is low again."""
    try:
        yield from bps.abs_set(trigger, "released", wait=not is_last)
    except FailedStatus as error:
        raise cause(error) from error
