"""The wire on which the potentiostat says "paused", and the lines that answer it."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from typing import Any

from ophyd import Component, Device, EpicsSignal, EpicsSignalRO, Signal
from ophyd.status import DeviceStatus, Status
from ophyd.utils.epics_pvs import AlarmSeverity

from xrdct_beamline.domain.errors import TriggerError

from ._status import put_if_connected, settle, until
from .trigger_logic import TriggerLogic, TriggerSettings, TriggerState

__all__ = ["TriggerLine"]

LOW, HIGH = 0, 1


class TriggerLine(Device):
    """Waits for the cell's pause.

    ``trigger`` arms, raises READY once armed, and is done when the level has been high for the debounce
    time; the event's keys then hold the edge's own time. ``set("released")`` disarms and is done once
    the level has been low since. READY, BUSY and DONE are low after `stop`, `unstage` and at the end of the
    process; nothing but the hardware can see to that after a kill. A plan stages the line, so that a
    halt, too, ends in `unstage`; the RunEngine's ``stop(success=True)`` for a pause leaves it waiting,
    or a pause of the operator would lose the cell's.

    Parameters
    ----------
    settings:
        Thresholds and debounce time.
    """

    level = Component(EpicsSignalRO, "LEVEL", kind="hinted", auto_monitor=True)
    ready = Component(EpicsSignal, "READY", kind="omitted", put_complete=True)
    busy = Component(EpicsSignal, "BUSY", kind="omitted", put_complete=True)
    done = Component(EpicsSignal, "DONE", kind="omitted", put_complete=True)

    edge_s = Component(Signal, value=0.0, kind="normal", doc="epoch seconds of the crossing")
    waited_s = Component(Signal, value=0.0, kind="normal")
    ignored = Component(Signal, value=0, kind="normal", doc="edges while disarmed, so far")
    glitches = Component(Signal, value=0, kind="normal")
    timeout_s = Component(Signal, value=3600.0, kind="config")
    release_timeout_s = Component(Signal, value=60.0, kind="config")

    def __init__(
        self, prefix: str, *, name: str, settings: TriggerSettings | None = None, **kwargs: Any
    ) -> None:
        self._status: DeviceStatus | None = None
        self._lock = threading.RLock()
        self._timers: list[threading.Timer] = []
        self._armed_s = 0.0
        super().__init__(prefix, name=name, **kwargs)
        self._logic = TriggerLogic(f"{self.name} ({self.level.pvname})", settings or TriggerSettings())
        self.has_been_low = Signal(name=f"{self.name}_has_been_low", value=0)  # since the last edge
        self.level.subscribe(self._on_level)
        self.level.subscribe(self._on_connection, event_type=EpicsSignalRO.SUB_META, run=False)
        atexit.register(_make_safe, weakref.ref(self))

    @property
    def state(self) -> TriggerState:
        """Where the state machine is."""
        return self._logic.state

    # -- verbs ---------------------------------------------------------------------------------

    def trigger(self) -> DeviceStatus:
        """Arm and wait for an edge; a line that waits already goes on doing so."""
        with self._lock:
            if self._status is not None and self._logic.state is not TriggerState.DISARMED:
                return self._status
            self._armed_s = time.time()
            self._logic.arm(self._armed_s)
            status = self._status = DeviceStatus(self, call_stop_on_failure=False)
            self._start_timer(float(self.timeout_s.get()), self._on_timeout)
        self.ready.put(HIGH, wait=False)
        self._advance()
        return status

    def set(self, state: str) -> Status:
        """Disarm; done once the level has been low again, so that the next edge is a new one."""
        if state != "released":
            raise TriggerError(f"{self.name} can be set to 'released' only, not to {state!r}")
        self._disarm()
        limit_s = float(self.release_timeout_s.get())
        return until(self.has_been_low, 1, limit_s, lambda: self._still_high(limit_s))

    def stop(self, *, success: bool = False) -> None:
        """Disarm and bring the outputs to their safe level; with ``success`` go on waiting."""
        if success:
            return
        status = self._status
        self._disarm()
        if status is not None and not status.done:
            settle(status, TriggerError(f"{self.name} was stopped while it waited for the cell's pause"))
        for output in (self.ready, self.busy, self.done):
            put_if_connected(output, LOW)

    def unstage(self) -> list[object]:
        """Disarm and bring the outputs to their safe level."""
        self.stop()
        return super().unstage()

    def _disarm(self) -> None:
        with self._lock:
            self._logic.release()
            self._cancel_timers()
            self._status = None

    # -- what happens meanwhile ----------------------------------------------------------------

    def _on_level(self, *, value: Any, timestamp: float | None = None, **kwargs: Any) -> None:
        severity = self.level.alarm_severity
        with self._lock:
            if severity is not None and severity >= AlarmSeverity.MAJOR:
                self._logic.invalid(f"its alarm severity is {AlarmSeverity(severity).name}")
            else:
                now_s = time.time()
                self._logic.sample(float(value), now_s, timestamp or now_s)
            self.ignored.put(self._logic.ignored_edges)
            self.glitches.put(self._logic.glitches)
            if not self._logic.is_high:
                self.has_been_low.put(1)
        self._advance()

    def _on_connection(self, *, connected: bool = True, **kwargs: Any) -> None:
        if not connected:
            with self._lock:
                self._logic.invalid("its server went away")
            self._advance()

    def _on_timeout(self) -> None:
        status = self._status
        if status is not None and not self._advance():
            settle(status, self._logic.timed_out(time.time()))
            self.stop()

    def _advance(self) -> bool:
        """Finish or fail the status if the level says so."""
        with self._lock:
            status = self._status
            if status is None or status.done:
                return self._logic.state is TriggerState.TRIGGERED
            try:
                self._logic.check()
            except TriggerError as error:
                self._disarm()
                put_if_connected(self.ready, LOW)
                settle(status, error)
                return False
            now_s = time.time()
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

    def _start_timer(self, delay_s: float, act: Any) -> None:
        timer = threading.Timer(delay_s, act)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _still_high(self, waited_s: float) -> TriggerError:
        return TriggerError(
            f"{self.name} is still high ({self.level.get():.2f} V) {waited_s:g} s after it was released; "
            "has the cycler seen DONE, or does its pause go on?"
        )


def _make_safe(reference: weakref.ref[TriggerLine]) -> None:
    """Bring the outputs to their safe level at the end of the process."""
    line = reference()
    if line is not None:
        line.stop()
