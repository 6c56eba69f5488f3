"""The line on which the potentiostat says "paused", and the outputs that answer it."""

# mypy: disable-error-code="no-redef"
# (a putter has the name of its property: caproto's way)

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from caproto.server import PVGroup, pvproperty

from xrdct_beamline.sim.electrochemistry import Cell

from .common import Clock, choice, publish

__all__ = ["TriggerLine"]

POLL_S = 0.02
NOISE_S = 0.2
NOISE_V = 0.005
LOW_HIGH = ("Low", "High")


class TriggerLine(PVGroup):
    """``TRIG:``. In a closed loop a rising DONE lets the cell go on.

    Parameters
    ----------
    prefix:
        Such as ``XRDCT:TRIG:``.
    cell, clock:
        The cycler and the beamline's time.
    seed:
        Of the noise on the line.
    """

    level = pvproperty(name="LEVEL", value=0.0, read_only=True, units="V", record="ai", doc="Of the input")
    ready = choice(LOW_HIGH, "READY", "High once armed")
    busy = choice(LOW_HIGH, "BUSY", "High while measuring")
    done = choice(LOW_HIGH, "DONE", "Rises when the slice is complete")

    def __init__(self, prefix: str, *, cell: Cell, clock: Clock, seed: int) -> None:
        super().__init__(prefix)
        self._cell, self._clock = cell, clock
        self._rng = np.random.default_rng([seed, 1])
        self._done_is_high = False

    async def run(self) -> None:
        """Show an edge within 20 ms, noise five times a second."""
        shown_V, shown_s = -1.0, -NOISE_S
        while True:
            now_s = self._clock()
            level_V = self._cell.at(now_s).trigger_level_V
            if level_V != shown_V or now_s - shown_s >= NOISE_S:
                await publish(self.level, level_V + float(self._rng.normal(0.0, NOISE_V)))
                shown_V, shown_s = level_V, now_s
            await asyncio.sleep(POLL_S)

    @done.putter
    async def done(self, instance: Any, value: str) -> None:
        """Tell the cycler of a rising edge."""
        # Compared with what was asked for: caproto keeps a client's index as a number in instance.value.
        was_high, self._done_is_high = self._done_is_high, value == "High"
        if self._done_is_high and not was_high:
            self._cell.done(self._clock())
