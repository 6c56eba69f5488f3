"""The trigger line on a serial port, looked at from a thread."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from ophyd import Component, Signal
from ophyd.status import Status

from xrdct_beamline.domain.errors import ConnectionFailed, DeviceError

from ._status import finished
from .serial_lines import NoReading, TriggerWires
from .trigger_line import TriggerLine
from .trigger_settings import TriggerOutput, TriggerSettings

__all__ = ["DigitalSerialTriggerLine", "SerialTriggerLine"]

logger = logging.getLogger(__name__)

LOOKS_PER_DEBOUNCE = 5
FASTEST_S, SLOWEST_S = 0.002, 0.1
REOPEN_S = 1.0
FAILURES = 3  # readings in a row that fail before there is no level
SLOW_READINGS = 5  # in a row, longer than the debounce time


class _Output(Signal):
    """An output that is set at once."""

    def put(self, value: Any, **kwargs: Any) -> None:
        """Drive the line; a lost port is the reading thread's to report."""
        self.parent.drive(TriggerOutput(self.attr_name), bool(value))
        super().put(int(value), force=True)

    def set(self, value: Any, **kwargs: Any) -> Status:
        """Drive the line."""
        self.put(value)
        return finished()


class SerialTriggerLine(TriggerLine):
    """A voltmeter, read over and over by a thread of its own.

    Its level is known only at the moments of its readings: the debounce time has to pass between two of
    them, with high ones in between and no gap as long as itself. Failed readings are not levels; after
    three in a row, or when the port is lost, there is no level until one succeeds again. A lost port is
    opened anew every second.

    Parameters
    ----------
    wires:
        What is read and driven; opened here.

    Raises
    ------
    ConnectionFailed
        If the port cannot be opened, does not give a reading, or gives them too slowly for the debounce time.
    """

    is_polled = True

    level = Component(Signal, value=0.0, kind="hinted")
    ready = Component(_Output, value=0, kind="omitted")
    busy = Component(_Output, value=0, kind="omitted")
    done = Component(_Output, value=0, kind="omitted")

    def __init__(self, wires: TriggerWires, *, name: str, settings: TriggerSettings, **kwargs: Any) -> None:
        self._wires = wires
        self._ends = threading.Event()
        super().__init__(name=name, settings=settings, **kwargs)
        chosen_s = settings.debounce_s / LOOKS_PER_DEBOUNCE
        self._period_s = settings.sample_period_s or min(max(chosen_s, FASTEST_S), SLOWEST_S)
        self._failures = self._slow = 0
        self._read_s = time.monotonic()
        self._wires.open()
        try:
            self._check_readings()
        except BaseException:
            self._wires.close()
            raise
        self._thread = threading.Thread(target=self._watch, name=f"{name}-wire", daemon=True)
        self._thread.start()

    @property
    def source(self) -> str:
        """Port and line."""
        return self._wires.source

    def drive(self, output: TriggerOutput, is_high: bool) -> None:
        """Set an output."""
        try:
            self._wires.drive(output, is_high)
        except OSError as error:
            if is_high:
                raise DeviceError(
                    f"{output.value} of {self.name} cannot be driven ({error}); check {self.settings.port}, "
                    "and whether it has RTS and DTR"
                ) from error
            logger.warning("%s of %s cannot be dropped: %s", output.value, self.name, error)

    def destroy(self) -> None:
        """End the thread and close the port, outputs low."""
        self.stop()
        self._ends.set()
        self._thread.join(timeout=2 * self.settings.reply_timeout_s + 1.0)
        self._wires.close()
        super().destroy()

    def _check_readings(self) -> None:
        """Refuse a source without a level, or whose readings are too slow for the debounce time."""
        times_s = []
        for _ in range(2):
            try:
                self._take(self._wires.read())
            except NoReading as error:
                raise ConnectionFailed(
                    f"{self.name} ({self.source}) gives no level: {error}; check cable, speed and range"
                ) from error
            times_s.append(time.monotonic())
        apart_s = times_s[1] - times_s[0]
        if self.settings.debounce_s and apart_s > self.settings.debounce_s / 2:
            raise ConnectionFailed(
                f"{self.name} ({self.source}) takes {apart_s:.3f} s for a reading and debounce_s is "
                f"{self.settings.debounce_s:g} s; set it to {3 * apart_s:.2f} s or more"
            )

    def _watch(self) -> None:
        while not self._ends.wait(self._period_s):
            try:
                self._take(self._wires.read())
            except NoReading as error:
                self._fail(str(error))
            except Exception as error:  # of this thread nobody else would hear
                self._reopen(error)

    def _take(self, level: float) -> None:
        now_s, read_s = time.time(), time.monotonic()
        is_slow = bool(self.settings.debounce_s) and read_s - self._read_s > self.settings.debounce_s
        self._failures, self._read_s = 0, read_s
        self._slow = self._slow + 1 if is_slow else 0
        if self._slow >= SLOW_READINGS:
            self._fail_slow()
            return
        if level != self.level.get():
            self.level.put(level, timestamp=now_s, force=True)
        self._receive(level, now_s)

    def _fail(self, reason: str) -> None:
        self._failures += 1
        with self._lock:
            self._logic.missed()
        if self._failures >= FAILURES:
            self._invalidate(reason)

    def _fail_slow(self) -> None:
        self._invalidate(
            f"its last {SLOW_READINGS} readings came further apart than the debounce time of "
            f"{self.settings.debounce_s:g} s, because the machine is busy or the instrument slow"
        )

    def _reopen(self, error: Exception) -> None:
        self._invalidate(f"its port was lost ({error})")
        logger.warning("%s lost its port: %s", self.name, error)
        while not self._ends.wait(REOPEN_S):
            try:
                self._wires.open()
                self._wires.read()
            except (OSError, DeviceError) as again:
                logger.info("%s: %s", self.name, again)
            else:
                for output in (self.ready, self.busy, self.done):
                    output.put(output.get())
                return


class DigitalSerialTriggerLine(SerialTriggerLine):
    """Modem-control lines; their levels are 0 and 1."""

    is_digital = True
