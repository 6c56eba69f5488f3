"""Position compare and capture: one pulse per frame, and what was measured in each gate.

Names are those of a PandABlocks IOC; another box is another class with the same verbs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from ophyd import Component, Device, EpicsSignal, EpicsSignalRO
from ophyd.status import Status

from xrdct_beamline.domain.errors import LineFailed

from ._status import combine, put_if_connected, then, until, write_changed

__all__ = ["MAX_PULSES", "CompareLine", "PositionCompare"]

MAX_PULSES = 4096  # elements of the captured waveforms
ARM_TIMEOUT_S = 5.0
CAPTURE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareLine:
    """Pulses of one line, in the stage's own coordinate.

    Parameters
    ----------
    start_mm:
        Position of the first pulse, which starts an exposure.
    step_mm:
        Distance of pulses; negative for a line that runs backwards.
    gate_s:
        Width of pulse and gate: the exposure.
    """

    start_mm: float
    step_mm: float
    pulses: int
    gate_s: float


class PositionCompare(Device):
    """Sends a pulse at each grid position and captures position and monitors in each gate.

    ``prepare`` takes a `CompareLine`, ``set`` arms and disarms, ``trigger`` is done once all gates are
    captured, and ``read`` then gives them.
    """

    start_mm = Component(EpicsSignal, "PCOMP1:START", kind="omitted", auto_monitor=True, put_complete=True)
    step_mm = Component(EpicsSignal, "PCOMP1:STEP", kind="omitted", auto_monitor=True, put_complete=True)
    pulses = Component(EpicsSignal, "PCOMP1:PULSES", kind="omitted", auto_monitor=True, put_complete=True)
    width_s = Component(EpicsSignal, "PCOMP1:WIDTH", kind="omitted", auto_monitor=True, put_complete=True)
    enable = Component(EpicsSignal, "PCOMP1:ENABLE", kind="omitted", put_complete=True)
    active = Component(EpicsSignalRO, "PCOMP1:ACTIVE", kind="omitted", auto_monitor=True)
    produced = Component(EpicsSignalRO, "PCOMP1:PRODUCED", kind="normal")
    arm = Component(EpicsSignal, "PCAP:ARM", kind="omitted", put_complete=True)
    disarm = Component(EpicsSignal, "PCAP:DISARM", kind="omitted", put_complete=True)
    capturing = Component(EpicsSignalRO, "PCAP:ACTIVE", kind="omitted", auto_monitor=True)
    num_captured = Component(EpicsSignalRO, "PCAP:NUM_CAPTURED", kind="omitted", auto_monitor=True)
    position_mm = Component(EpicsSignalRO, "PCAP:POSITION", kind="normal")
    i0 = Component(EpicsSignalRO, "PCAP:I0", kind="normal")
    i1 = Component(EpicsSignalRO, "PCAP:I1", kind="normal")
    timestamp_s = Component(EpicsSignalRO, "PCAP:TIMESTAMP", kind="omitted")

    def prepare(self, line: CompareLine) -> Status:
        """Disarm, and write the settings of a line, which may be done while the stage still moves."""
        if not 0 < line.pulses <= MAX_PULSES:
            raise LineFailed(
                f"{self.name} cannot send {line.pulses} pulses: it captures at most {MAX_PULSES}; "
                "split the line"
            )
        settings = [
            (self.start_mm, line.start_mm),
            (self.step_mm, line.step_mm),
            (self.pulses, line.pulses),
            (self.width_s, line.gate_s),
        ]
        return combine([self.enable.set(0), write_changed(settings)])

    def set(self, is_armed: bool) -> Status:
        """Arm for the prepared line once the stage stands at its start, or disarm."""
        if not is_armed:
            return combine([self.enable.set(0), self.disarm.set(1)])
        return then(self.arm.set(1), lambda: then(self.enable.set(1), self._until_armed))

    def trigger(self) -> Status:
        """Return a status that is done once the gates of all pulses are captured."""
        return until(self.num_captured, int(self.pulses.get()), CAPTURE_TIMEOUT_S, self._not_captured)

    def read(self) -> dict[str, dict[str, Any]]:
        """Read pulses sent and the captured arrays, as long as what was captured."""
        count = int(self.num_captured.get(use_monitor=False))
        reading: dict[str, dict[str, Any]] = {}
        for signal in (self.position_mm, self.i0, self.i1):
            value = signal.get(count=count) if count else []
            reading[signal.name] = {"value": value, "timestamp": signal.timestamp}
        return {**self.produced.read(), **reading}

    def stop(self, *, success: bool = False) -> None:
        """Send no more pulses."""
        put_if_connected(self.enable, 0)
        put_if_connected(self.disarm, 1)

    def pause(self) -> None:
        """Send no more pulses."""
        self.stop(success=True)

    def resume(self) -> None:
        """Stay disarmed: the line is taken anew."""

    def unstage(self) -> list[object]:
        """Disarm."""
        self.stop()
        return super().unstage()

    def _until_armed(self) -> Status:
        waits = partial(until, wanted=1, timeout_s=ARM_TIMEOUT_S, describe=self._not_armed)
        return combine([waits(self.capturing), waits(self.active)])

    def _not_armed(self) -> LineFailed:
        return LineFailed(
            f"{self.name} did not arm within {ARM_TIMEOUT_S:g} s (compare active {self.active.get()}, "
            f"capture active {self.capturing.get()}); check the blocks' wiring"
        )

    def _not_captured(self) -> LineFailed:
        return LineFailed(
            f"{self.name} captured {self.num_captured.get()} of {self.pulses.get()} gates; "
            "did the stage cross every position?"
        )
