"""The line on which the potentiostat says "paused", the outputs that answer it, and their watchdog."""

# mypy: disable-error-code="no-redef"
# (a putter has the name of its property: caproto's way)

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from caproto import AlarmSeverity, AlarmStatus
from caproto.server import PVGroup, pvproperty

from xrdct_beamline.sim.electrochemistry import Cell

from .common import Clock, choice, publish
from .line_faults import STUCK_V, LineFault

__all__ = ["TriggerLine"]

POLL_S = 0.02
NOISE_S = 0.2
NOISE_V = 0.005
HIGH_V = 2.0  # of the binary input
WATCHDOG_S = 5.0
LOW_HIGH = ("Low", "High")
IDLE, ALIVE, LOST = ALIVENESS = ("Idle", "Alive", "Lost")


class TriggerLine(PVGroup):
    """``TRIG:``. In a closed loop a rising DONE lets the cell go on.

    HEARTBEAT takes a new number every now and then from whoever has the lines in hand, and 0 when it lets
    go of them. If no number comes for WATCHDOG seconds, the outputs drop and the fast shutter closes.

    Parameters
    ----------
    prefix:
        Such as ``XRDCT:TRIG:``.
    cell, clock:
        The cycler and the beamline's time.
    seed:
        Of the noise on the line.
    fault:
        What is wrong with the line.
    close_shutter:
        What else the watchdog does.
    """

    level = pvproperty(name="LEVEL", value=0.0, read_only=True, units="V", record="ai", doc="Of the input")
    input = choice(LOW_HIGH, "INPUT", "The same on a binary input", read_only=True)
    ready = choice(LOW_HIGH, "READY", "High once armed")
    busy = choice(LOW_HIGH, "BUSY", "High while measuring")
    done = choice(LOW_HIGH, "DONE", "Rises when the slice is complete")
    heartbeat = pvproperty(name="HEARTBEAT", value=0, doc="A new number each time; 0 ends the watch")
    watchdog = pvproperty(
        name="WATCHDOG", value=WATCHDOG_S, units="s", doc="Longest time between heartbeats; 0 for no watch"
    )
    alive = choice(ALIVENESS, "ALIVE", "Whether heartbeats come", read_only=True)

    def __init__(
        self,
        prefix: str,
        *,
        cell: Cell,
        clock: Clock,
        seed: int,
        fault: LineFault | None = None,
        close_shutter: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        super().__init__(prefix)
        self._cell, self._clock = cell, clock
        self._rng = np.random.default_rng([seed, 1])
        self._fault = fault or LineFault()
        self._close_shutter = close_shutter
        self._done_is_high = False
        self._beaten_s: float | None = None

    async def run(self) -> None:
        """Show an edge within 20 ms, noise five times a second."""
        shown_V, shown_s = -1.0, -NOISE_S
        while True:
            now_s = self._clock()
            level_V = self._fault.on_wire(self._cell.at(now_s).trigger_level_V, self._rng)
            if self._fault.chatters:
                await self._show(STUCK_V)
                shown_V = STUCK_V
            if level_V != shown_V or now_s - shown_s >= NOISE_S:
                await self._show(level_V + float(self._rng.normal(0.0, NOISE_V)))
                shown_V, shown_s = level_V, now_s
            await self._watch(now_s)
            await asyncio.sleep(POLL_S)

    async def _show(self, level_V: float) -> None:
        alarm = (
            {"severity": AlarmSeverity.INVALID_ALARM, "status": AlarmStatus.READ}
            if self._fault.has_alarm
            else {"severity": AlarmSeverity.NO_ALARM, "status": AlarmStatus.NO_ALARM}
        )
        await publish(self.level, level_V, **alarm)
        await publish(self.input, LOW_HIGH[level_V >= HIGH_V], **alarm)

    async def _watch(self, now_s: float) -> None:
        """Drop what was raised by somebody who has not been heard of for too long."""
        limit_s = float(self.watchdog.value)
        if self._beaten_s is None or limit_s <= 0 or now_s - self._beaten_s <= limit_s:
            return
        self._beaten_s = None
        for output in (self.ready, self.busy, self.done):
            await output.write("Low")
        if self._close_shutter is not None:
            await self._close_shutter()
        await publish(self.alive, LOST)

    @heartbeat.putter
    async def heartbeat(self, instance: Any, value: int) -> None:
        """Start, go on with, or end the watch."""
        self._beaten_s = self._clock() if value else None
        await publish(self.alive, ALIVE if value else IDLE)

    @done.putter
    async def done(self, instance: Any, value: str) -> None:
        """Tell the cycler of a rising edge."""
        # Compared with what was asked for: caproto keeps a client's index as a number in instance.value.
        was_high, self._done_is_high = self._done_is_high, value == "High"
        if self._done_is_high and not was_high:
            self._cell.done(self._clock())
