"""The wire on which the potentiostat says "paused", and the lines that answer it."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Protocol

from ophyd import Component, Device, Signal
from ophyd.status import DeviceStatus, Status

from xrdct_beamline.domain.errors import TriggerError

from ._status import put_if_connected, settle, until
from .trigger_logic import TriggerLogic, TriggerSettings, TriggerState

__all__ = ["TriggerLine", "TriggerSignals"]

LOW, HIGH = 0, 1
DIGITAL_LOW, DIGITAL_HIGH = 0.25, 0.75  # thresholds of an input whose levels are 0 and 1
UPDATE_PATIENCE_S = 1.0  # for the update that a fresh reading has overtaken
LOOK_AGAIN_S = 0.01


class TriggerSignals(Protocol):
    """What a backend supplies: the level that is read, and the outputs that are put."""

    level: Signal
    ready: Signal
    busy: Signal
    done: Signal

    @property
    def source(self) -> str:
        """Where the level comes from, for messages."""
        ...


class TriggerLine(Device):
    """Waits for the cell's pause, over whichever wire a subclass supplies (`TriggerSignals`).

    ``trigger`` arms, raises READY once armed, and is done when the level has been high for the debounce
    time; the event's keys then hold the edge's own time. ``set("released")`` disarms and is done once
    the level has been low since. READY, BUSY and DONE are low after `stop`, `stage`, `unstage` and at the
    end of the process that had the line in hand (`own`); after a kill it is for the server's watchdog to
    see to that. A plan stages the line, so that a halt, too, ends in `unstage`; the RunEngine's
    ``stop(success=True)`` for a pause leaves it waiting, or a pause of the operator would lose the cell's.

    Parameters
    ----------
    settings:
        Thresholds and times.
    """

    #: Whether the level is 0 or 1, and whether it is known only when it is read.
    is_digital: ClassVar[bool] = False
    is_polled: ClassVar[bool] = False

    edge_s = Component(Signal, value=0.0, kind="normal", doc="epoch seconds of the crossing")
    waited_s = Component(Signal, value=0.0, kind="normal")
    ignored = Component(Signal, value=0, kind="normal", doc="edges while disarmed, so far")
    glitches = Component(Signal, value=0, kind="normal")
    timeout_s = Component(Signal, value=3600.0, kind="config")
    release_timeout_s = Component(Signal, value=60.0, kind="config")

    level: Signal
    ready: Signal
    busy: Signal
    done: Signal

    def __init__(
        self, prefix: str = "", *, name: str, settings: TriggerSettings | None = None, **kwargs: Any
    ) -> None:
        self.settings = settings or TriggerSettings()
        self._status: DeviceStatus | None = None
        self._lock = threading.RLock()
        self._timers: list[threading.Timer] = []
        self._armed_s = self._doubted_s = 0.0
        self.is_owned = False  # whether this process has the line in hand
        self._owes_low = False  # READY could not be dropped, its server being away
        super().__init__(prefix, name=name, **kwargs)
        digital = replace(self.settings, low_V=DIGITAL_LOW, high_V=DIGITAL_HIGH)
        self._logic = TriggerLogic(
            f"{self.name} ({self.source})",
            digital if self.is_digital else self.settings,
            is_polled=self.is_polled,
            unit="" if self.is_digital else "V",
        )
        self.has_been_low = Signal(name=f"{self.name}_has_been_low", value=0)  # since the last edge
        atexit.register(_make_safe, weakref.ref(self))

    @property
    def source(self) -> str:
        """Where the level comes from, for messages."""
        raise NotImplementedError

    @property
    def state(self) -> TriggerState:
        """Where the state machine is."""
        return self._logic.state

    def own(self) -> None:
        """Drop outputs that a killed session has left high, and from now on at the end of this process.

        A program that only looks at the line must not do so: another may be measuring.
        """
        self.is_owned = True
        for output in (self.ready, self.busy, self.done):
            if output.connected and output.get():
                output.put(LOW, wait=False)

    # -- verbs ---------------------------------------------------------------------------------

    def trigger(self) -> DeviceStatus:
        """Arm and wait for an edge; a line that waits already goes on doing so."""
        with self._lock:
            if self._status is not None and self._logic.state is not TriggerState.DISARMED:
                return self._status
            self._armed_s = time.monotonic()
            self._logic.arm(self._armed_s)
            self.is_owned = True
            status = DeviceStatus(self, call_stop_on_failure=False)
            try:
                self.ready.put(HIGH, wait=False)  # within the lock: a failure must not be overtaken by it
            except BaseException:
                self._disarm()
                raise
            self._status = status
            self._start_timer(float(self.timeout_s.get()), self._on_timeout)
        self._advance()
        return status

    def set(self, state: str) -> Status:
        """Disarm; done once the level has been low again, so that the next edge is a new one."""
        if state != "released":
            raise TriggerError(f"{self.name} can be set to 'released' only, not to {state!r}")
        self._disarm()
        limit_s = float(self.release_timeout_s.get())
        return until(self.has_been_low, 1, limit_s, lambda: self._still_high(limit_s))

    def stage(self) -> list[object]:
        """Bring the outputs to their safe level: whoever used the line before may have been killed."""
        self.own()
        return super().stage()

    def stop(self, *, success: bool = False) -> None:
        """Disarm and bring the outputs to their safe level; with ``success`` go on waiting."""
        if success:
            return
        status = self._status
        error = self._logic.error("was stopped while it waited", "start it again", time.monotonic())
        self._disarm()
        if status is not None and not status.done:
            settle(status, error)
        self._outputs_low()

    def unstage(self) -> list[object]:
        """Disarm and bring the outputs to their safe level."""
        self.stop()
        return super().unstage()

    def _outputs_low(self) -> None:
        for output in (self.ready, self.busy, self.done):
            put_if_connected(output, LOW)

    def _disarm(self) -> None:
        with self._lock:
            self._logic.release()
            self._cancel_timers()
            self._status = None

    # -- what the backend tells ----------------------------------------------------------------

    def _receive(self, level: float, stamp_s: float) -> None:
        """Take a level that its source stamped at an epoch time."""
        if self.is_digital and self.settings.input_inverted:
            level = 1.0 - level
        with self._lock:
            self._logic.sample(level, time.monotonic(), stamp_s)
            self._publish_counts()
        self._advance()

    def _invalidate(self, reason: str) -> None:
        """Take note that there is no level."""
        with self._lock:
            self._logic.invalid(reason)
        self._advance()

    def _is_high_now(self) -> bool:
        """Whether a fresh reading confirms what the latest update said; a backend that can look, does."""
        return True

    def _publish_counts(self) -> None:
        for signal, count in (
            (self.ignored, self._logic.ignored_edges),
            (self.glitches, self._logic.glitches),
        ):
            if signal.get() != count:
                signal.put(count)
        if not self._logic.is_high and not self.has_been_low.get():
            self.has_been_low.put(1)

    # -- what happens meanwhile ----------------------------------------------------------------

    def _on_timeout(self) -> None:
        status = self._status
        if status is not None and not self._advance():
            settle(status, self._logic.timed_out(time.monotonic()))
            self.stop()

    def _advance(self) -> bool:
        """Finish or fail the status if the level says so."""
        with self._lock:
            status = self._status
            if status is None or status.done:
                return self._logic.state is TriggerState.TRIGGERED
            try:
                self._logic.check(time.monotonic())
            except TriggerError as error:
                self._disarm()
                self._owes_low = not put_if_connected(self.ready, LOW)
                settle(status, error)
                return False
            is_due = self._logic.is_due(time.monotonic())
        if is_due and not self._confirm():
            return False
        return self._accept(status)

    def _accept(self, status: Status) -> bool:
        with self._lock:
            if status.done or status is not self._status:
                return self._logic.state is TriggerState.TRIGGERED
            now_s = time.monotonic()
            is_triggered = self._logic.advance(now_s)
            if is_triggered:
                self._cancel_timers()
                self.edge_s.put(self._logic.edge_s)
                self.has_been_low.put(int(not self._logic.is_high))
                self.waited_s.put(now_s - self._armed_s)
            elif (due_s := self._logic.due_s(now_s)) is not None:
                self._start_timer(due_s, self._advance)
        if is_triggered:
            settle(status)
        return is_triggered

    def _confirm(self) -> bool:
        """Look at the line once more: on a busy machine the update that it fell may still be queued."""
        if self._is_high_now():
            self._doubted_s = 0.0
            return True
        now_s = time.monotonic()
        with self._lock:
            self._doubted_s = self._doubted_s or now_s
            if now_s - self._doubted_s < UPDATE_PATIENCE_S:
                self._start_timer(LOOK_AGAIN_S, self._advance)
                return False
            self._doubted_s = 0.0
        self._invalidate("its updates do not arrive")
        return False

    def _start_timer(self, delay_s: float, act: Callable[[], Any]) -> None:
        timer = threading.Timer(delay_s, act)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _still_high(self, waited_s: float) -> TriggerError:
        return self._logic.error(
            f"is still high {waited_s:g} s after it was released",
            "has the cycler seen DONE, or does its pause go on?",
            time.monotonic(),
        )


def _make_safe(reference: weakref.ref[TriggerLine]) -> None:
    """Bring the outputs to their safe level at the end of the process."""
    line = reference()
    if line is not None and line.is_owned:
        line.stop()
