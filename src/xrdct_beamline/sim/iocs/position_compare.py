"""Position compare and capture under the names of a PandABlocks IOC."""

# mypy: disable-error-code="no-redef"
# (a putter has the name of its property: caproto's way)

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import Any

from caproto.server import PVGroup, pvproperty

from xrdct_beamline.sim.beamline_state import BeamlineState, Gate, Trajectory, pulse_times

from .common import WAVEFORM_LENGTH, Clock, choice, epoch, publish, waveform

__all__ = ["PositionCompare"]

logger = logging.getLogger(__name__)

PUBLISH_PERIOD_S = 0.05


class PositionCompare(PVGroup):
    """Pulses at equidistant positions of the translation, and what was captured in their gates.

    Settings are latched when ENABLE goes to ONE. Pulse k fires at ``START + k·STEP``, in the
    direction of STEP only.

    Parameters
    ----------
    prefix:
        Such as ``XRDCT:PANDA:``.
    state:
        The beamline.
    clock:
        Its time.
    gate_s:
        Gate width used while WIDTH is 0: the detector's exposure.
    on_pulse:
        Called with time and width of each pulse.
    """

    start = pvproperty(name="PCOMP1:START", value=0.0, units="mm", doc="Position of the first pulse")
    step = pvproperty(name="PCOMP1:STEP", value=0.001, units="mm", doc="Distance of pulses, signed")
    pulses = pvproperty(name="PCOMP1:PULSES", value=0, doc="Number of pulses; 0 for no end")
    width = pvproperty(
        name="PCOMP1:WIDTH", value=0.0, units="s", doc="Width of pulse and gate; 0 for the exposure"
    )
    enable = choice(("ZERO", "ONE"), "PCOMP1:ENABLE", "ONE starts comparing, ZERO ends it")
    active = choice(("0", "1"), "PCOMP1:ACTIVE", "1 until the last gate is over", read_only=True)
    produced = pvproperty(name="PCOMP1:PRODUCED", value=0, read_only=True, doc="Pulses sent")
    arm = choice(("0", "1"), "PCAP:ARM", "1 empties the captured arrays and starts capturing")
    disarm = choice(("0", "1"), "PCAP:DISARM", "1 ends capturing")
    capturing = choice(("0", "1"), "PCAP:ACTIVE", "1 while capturing", read_only=True)
    num_captured = pvproperty(
        name="PCAP:NUM_CAPTURED", value=0, read_only=True, doc="Gates captured; the arrays are first"
    )
    position = waveform("PCAP:POSITION", "Translation at mid-gate", units="mm")
    i0 = waveform("PCAP:I0", "Upstream monitor per gate", units="counts")
    i1 = waveform("PCAP:I1", "Beamstop diode per gate", units="counts")
    timestamp = waveform("PCAP:TIMESTAMP", "Mid-gate, epoch seconds", units="s")

    def __init__(
        self,
        prefix: str,
        *,
        state: BeamlineState,
        clock: Clock,
        gate_s: Callable[[], float],
        on_pulse: Callable[[float, float], None],
    ) -> None:
        super().__init__(prefix)
        self._state, self._clock, self._gate_s, self._on_pulse = state, clock, gate_s, on_pulse
        self._enabled_s = math.inf
        self._is_capturing = False
        self._sent = 0
        self._due: deque[tuple[int, float]] = deque()
        self._open_gates: deque[tuple[float, float]] = deque()
        self._captured: list[Gate] = []
        self._unpublished = False  # captured values that no client has seen
        self._published_s = -math.inf
        self._rescheduled = asyncio.Event()

    async def run(self) -> None:
        """Fire pulses when they are due and publish what was captured; for as long as the server runs."""
        while True:
            self._fire()
            self._unpublished |= self._collect()
            is_over = not self._due and not self._open_gates
            if is_over or self._clock() >= self._published_s + PUBLISH_PERIOD_S:
                await self._publish()
            self._rescheduled.clear()
            try:
                await asyncio.wait_for(self._rescheduled.wait(), self._next_s())
            except TimeoutError:
                continue

    def follow(self, move: Trajectory) -> None:
        """Take note of a move of the translation, or of its being cut short."""
        self._fire()  # what was due before the stop
        self._schedule(move)

    # -- pulses -------------------------------------------------------------------------------

    def _schedule(self, move: Trajectory) -> None:
        self._due.clear()
        if self._enabled_s < math.inf:
            count = self.pulses.value or WAVEFORM_LENGTH
            pulses = pulse_times(move, start=self._start, step=self._step, count=count, first=self._sent)
            if pulses and pulses[0][1] >= self._enabled_s:
                self._due.extend(pulses)
        self._rescheduled.set()

    def _fire(self) -> None:
        now_s = self._clock()
        while self._due and self._due[0][1] <= now_s:
            number, time_s = self._due.popleft()
            width_s = self.width.value or self._gate_s()
            self._sent = number + 1
            if self._is_capturing and len(self._captured) + len(self._open_gates) < WAVEFORM_LENGTH:
                self._open_gates.append((time_s, width_s))
            self._on_pulse(time_s, width_s)
        if self.pulses.value and self._sent >= self.pulses.value:
            self._enabled_s = math.inf

    def _collect(self) -> bool:
        """Evaluate the gates that are over."""
        before = len(self._captured)
        while self._open_gates and sum(self._open_gates[0]) <= self._clock():
            self._captured.append(self._state.gate(*self._open_gates.popleft()))
        if len(self._captured) > before:
            self._state.last_gate = self._captured[-1]
        return len(self._captured) > before

    def _next_s(self) -> float | None:
        """Seconds until something is due, None if nothing is."""
        due = [time_s for _, time_s in list(self._due)[:1]]
        if self._open_gates and not self._due:
            due.append(sum(self._open_gates[-1]))
        return max(min(due) - self._clock(), 0.0) if due else None

    # -- settings -----------------------------------------------------------------------------

    @enable.putter
    async def enable(self, instance: Any, value: str) -> None:
        """Latch the settings and compare from now on."""
        if value == "ONE":
            self._start, self._step = float(self.start.value), float(self.step.value)
            self._enabled_s, self._sent = self._clock(), 0
        else:
            self._fire()
            self._enabled_s = math.inf
        self._schedule(self._state.translation.trajectory)
        await self._publish()

    @arm.putter
    async def arm(self, instance: Any, value: str) -> str:
        """Empty the arrays and capture."""
        if value == "1":
            self._captured.clear()
            self._open_gates.clear()
            self._is_capturing = True
            self._unpublished = True
            await self._publish()
        return "0"

    @disarm.putter
    async def disarm(self, instance: Any, value: str) -> str:
        """Capture no more; gates that are open still count."""
        if value == "1":
            self._is_capturing = False
            self._unpublished |= self._collect()
            await self._publish()
        return "0"

    # -- publishing ---------------------------------------------------------------------------

    async def _publish(self) -> None:
        is_active = self._enabled_s < math.inf or bool(self._open_gates)
        self._published_s = self._clock()
        await publish(self.produced, self._sent)
        await publish(self.capturing, str(int(self._is_capturing)))
        if self._unpublished:
            self._unpublished = False
            gates = list(self._captured)
            await publish(self.position, [gate.position_mm for gate in gates])
            await publish(self.i0, [gate.i0 for gate in gates])
            await publish(self.i1, [gate.i1 for gate in gates])
            await publish(self.timestamp, [epoch(self._clock, gate.time_s) for gate in gates])
            await publish(self.num_captured, len(gates))
        await publish(self.active, str(int(is_active)))
