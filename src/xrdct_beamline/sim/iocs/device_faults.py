"""What can go wrong with stages, monitors and the detector; handles that no hardware has."""

# mypy: disable-error-code="no-redef"
# (a putter has the name of its property: caproto's way)

from __future__ import annotations

import asyncio
from typing import Any

from caproto.server import PVGroup, pvproperty

from xrdct_beamline.sim.beamline_state import Faults

from .common import choice, publish

__all__ = ["DeviceFaults"]

PERIOD_S = 0.1
STAGES = ("None", "translation", "rotation", "vertical")
MONITORS = ("None", "i0", "i1")


class DeviceFaults(PVGroup):
    """``SIM:``, beside what `Controls` has.

    Parameters
    ----------
    prefix:
        Such as ``XRDCT:SIM:``.
    faults:
        Shared with the devices.
    """

    drop_times = pvproperty(name="DropTimes", value=1, doc="Lines that miss the pulse of DropFrame")
    short_move = choice(STAGES, "ShortMove", "Stage whose next move ends at nine tenths of its way; once")
    early_done = choice(STAGES, "EarlyDone", "Stage whose next move is called done half-way; once")
    dead_monitor = choice(MONITORS, "DeadMonitor", "Monitor that counts nothing")

    def __init__(self, prefix: str, *, faults: Faults) -> None:
        super().__init__(prefix)
        self._faults = faults

    async def run(self) -> None:
        """Show ten times a second what has been used up."""
        while True:
            await publish(self.drop_times, self._faults.drop_times)
            await publish(self.short_move, self._faults.short_move or "None")
            await publish(self.early_done, self._faults.early_done or "None")
            await asyncio.sleep(PERIOD_S)

    @drop_times.putter
    async def drop_times(self, instance: Any, value: int) -> None:
        """Set the fault."""
        self._faults.drop_times = max(int(value), 1)

    @short_move.putter
    async def short_move(self, instance: Any, value: str) -> None:
        """Set the fault for the next move."""
        self._faults.short_move = "" if value == "None" else value

    @early_done.putter
    async def early_done(self, instance: Any, value: str) -> None:
        """Set the fault for the next move."""
        self._faults.early_done = "" if value == "None" else value

    @dead_monitor.putter
    async def dead_monitor(self, instance: Any, value: str) -> None:
        """Set the fault."""
        self._faults.dead_monitor = "" if value == "None" else value
