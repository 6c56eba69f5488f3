"""Beam monitors, fast shutter and storage ring."""

# mypy: disable-error-code="no-redef"
# (a putter has the name of its property: caproto's way)

from __future__ import annotations

import asyncio
import math
from typing import Any

from caproto.server import PVGroup, pvproperty

from xrdct_beamline.sim.beamline_state import BeamlineState

from .common import Clock, choice, publish

__all__ = ["Beam"]

PERIOD_S = 0.1
FREE_GATE_S = 0.01  # monitors count for so long when nothing gates them
GATE_SHOWN_S = 0.5
SHUTTER_S = 0.005  # travel of the blade
RING_mA, RING_LOSS_mA, TOP_UP_S = 200.0, 0.4, 60.0


class Beam(PVGroup):
    """I0, I1, shutter, ring current and flux.

    Parameters
    ----------
    prefix:
        Such as ``XRDCT:``.
    state, clock:
        The beamline and its time.
    flux:
        Photons per second at relative intensity 1.
    """

    i0 = pvproperty(name="I0", value=0.0, read_only=True, units="counts", doc="Upstream, last gate")
    i1 = pvproperty(name="I1", value=0.0, read_only=True, units="counts", doc="Beamstop, last gate")
    shutter = choice(("Closed", "Open"), "SHUTTER:OPEN", "Completes when the blade has moved")
    shutter_is_open = choice(("Closed", "Open"), "SHUTTER:OPEN_RBV", "Where the blade is", read_only=True)
    ring_current = pvproperty(name="SR:CURRENT", value=0.0, read_only=True, units="mA", doc="Stored")
    flux = pvproperty(name="BEAM:FLUX", value=0.0, read_only=True, units="ph/s", doc="Before the shutter")

    def __init__(self, prefix: str, *, state: BeamlineState, clock: Clock, flux: float) -> None:
        super().__init__(prefix)
        self._state, self._clock, self._flux = state, clock, flux

    @shutter.putter
    async def shutter(self, instance: Any, value: str) -> None:
        """Move the blade."""
        await asyncio.sleep(SHUTTER_S)
        self._state.shutter.set(value == "Open", self._clock())
        await publish(self.shutter_is_open, value)

    async def run(self) -> None:
        """Publish ten times a second."""
        while True:
            await self._publish(self._clock())
            await asyncio.sleep(PERIOD_S)

    async def _publish(self, now_s: float) -> None:
        state, gate = self._state, self._state.last_gate
        if gate is None or now_s - gate.time_s > GATE_SHOWN_S:
            gate = state.gate(now_s - FREE_GATE_S, FREE_GATE_S)
        is_on = state.beam.at(now_s)
        await publish(self.i0, gate.i0)
        await publish(self.i1, gate.i1)
        loss = RING_LOSS_mA * math.fmod(now_s, TOP_UP_S) / TOP_UP_S
        await publish(self.ring_current, is_on * (RING_mA - loss))
        await publish(self.flux, is_on * self._flux * state.monitors.intensity(now_s))
