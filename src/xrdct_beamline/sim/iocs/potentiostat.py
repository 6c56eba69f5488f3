"""The gateway to the cell's cycler: it shows, it does not steer."""

from __future__ import annotations

import asyncio

import numpy as np
from caproto.server import PVGroup, pvproperty

from xrdct_beamline.sim.electrochemistry import Cell

from .common import Clock, epoch, label, publish

__all__ = ["Potentiostat"]

PERIOD_S = 0.125
NOISE_V, NOISE_mA = 1e-4, 2e-6


class Potentiostat(PVGroup):
    """``CELL:``; SampleTime is the last to change in a sample.

    Parameters
    ----------
    prefix:
        Such as ``XRDCT:CELL:``.
    cell, clock:
        The cycler and the beamline's time.
    seed:
        Of the noise.
    """

    voltage = pvproperty(
        name="Voltage_RBV", value=0.0, read_only=True, units="V", precision=4, doc="Of the cell"
    )
    current = pvproperty(
        name="Current_RBV", value=0.0, read_only=True, units="mA", precision=6, doc="Negative on discharge"
    )
    capacity = pvproperty(
        name="Capacity_RBV", value=0.0, read_only=True, units="mAh", precision=6, doc="Passed since the start"
    )
    step = label("Step_RBV", "rest", "Of the programme", read_only=True)
    sample_time = pvproperty(
        name="SampleTime_RBV", value=0.0, read_only=True, units="s", doc="Epoch seconds; changes last"
    )

    def __init__(self, prefix: str, *, cell: Cell, clock: Clock, seed: int) -> None:
        super().__init__(prefix)
        self._cell, self._clock = cell, clock
        self._rng = np.random.default_rng([seed, 2])

    async def run(self) -> None:
        """Take eight samples a second."""
        while True:
            now_s = self._clock()
            state = self._cell.at(now_s)
            await publish(self.voltage, state.voltage_V + float(self._rng.normal(0.0, NOISE_V)))
            await publish(self.current, state.current_mA + float(self._rng.normal(0.0, NOISE_mA)))
            await publish(self.capacity, state.capacity_mAh)
            await publish(self.step, state.step)
            await publish(self.sample_time, epoch(self._clock, now_s))
            await asyncio.sleep(PERIOD_S)
