"""Handles of the simulation itself, which no hardware has: the cell's programme and faults."""

# mypy: disable-error-code="no-redef"
# (a putter has the name of its property: caproto's way)

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from caproto import SkipWrite
from caproto.server import PVGroup, pvproperty

from xrdct_beamline.sim.beamline_state import BeamlineState
from xrdct_beamline.sim.electrochemistry import Cell

from .common import Clock, choice, publish
from .sample import CellInBeam

__all__ = ["Controls"]

PERIOD_S = 0.1
OFF_ON = ("Off", "On")


class Controls(PVGroup):
    """``SIM:``.

    Parameters
    ----------
    prefix:
        Such as ``XRDCT:SIM:``.
    state, clock:
        The beamline and its time.
    cell, in_beam:
        The cycler, and what the beam sees of it.
    """

    cell_run = choice(("Stop", "Run"), "CellRun", "Run starts the programme from its beginning")
    lithium_content = pvproperty(name="LithiumContent_RBV", value=0.0, read_only=True, doc="Mean x")
    time_scale = pvproperty(name="TimeScale", value=1.0, doc="Of the cell; holds from the next CellRun")
    freeze = choice(OFF_ON, "Freeze", "Frames depend on positions alone: content held, beam steady")
    beam_off = choice(OFF_ON, "BeamOff", "No beam, no ring current")
    drop_frame = pvproperty(name="DropFrame", value=-1, doc="Pulse of the next line that is missed; once")
    detector_hangs = choice(OFF_ON, "DetectorHangs", "Exposures begin and are never read out")
    arm_delay = pvproperty(name="ArmDelay", value=0.0, units="s", doc="The detector arms so much later")

    def __init__(
        self, prefix: str, *, state: BeamlineState, clock: Clock, cell: Cell, in_beam: CellInBeam
    ) -> None:
        super().__init__(prefix)
        self._state, self._clock, self._cell, self._in_beam = state, clock, cell, in_beam
        self._monitors = state.monitors

    async def prepare(self) -> None:
        """Show the options' values, before the server starts."""
        await publish(self.time_scale, self._cell.programme.time_scale)
        if self._monitors.steady:
            self._in_beam.freeze(on=True)
            await publish(self.freeze, "On")

    async def run(self) -> None:
        """Publish ten times a second what changes by itself."""
        while True:
            await publish(self.lithium_content, self._in_beam.lithium_content(self._clock()))
            await publish(self.drop_frame, self._state.faults.drop_frame)
            await asyncio.sleep(PERIOD_S)

    @cell_run.putter
    async def cell_run(self, instance: Any, value: str) -> None:
        """Start or stop the cycler."""
        if value == "Run":
            self._cell.programme = self._cell.programme.scaled(self.time_scale.value)
            self._cell.start(self._clock())
        else:
            self._cell.stop(self._clock())

    @time_scale.putter
    async def time_scale(self, instance: Any, value: float) -> None:
        """Refuse what is no rate."""
        if not value > 0:
            raise SkipWrite

    @freeze.putter
    async def freeze(self, instance: Any, value: str) -> None:
        """Hold what the frames depend on besides positions."""
        self._in_beam.freeze(value == "On")
        self._state.monitors = replace(self._monitors, steady=value == "On")

    @beam_off.putter
    async def beam_off(self, instance: Any, value: str) -> None:
        """Dump the beam, or bring it back."""
        self._state.beam.set(value == "Off", self._clock())

    @drop_frame.putter
    async def drop_frame(self, instance: Any, value: int) -> None:
        """Set the fault for the next series."""
        self._state.faults.drop_frame = int(value)

    @detector_hangs.putter
    async def detector_hangs(self, instance: Any, value: str) -> None:
        """Set the fault."""
        self._state.faults.detector_hangs = value == "On"

    @arm_delay.putter
    async def arm_delay(self, instance: Any, value: float) -> float:
        """Set the fault."""
        self._state.faults.arm_delay_s = max(float(value), 0.0)
        return self._state.faults.arm_delay_s
