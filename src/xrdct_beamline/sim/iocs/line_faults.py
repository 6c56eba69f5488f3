"""What can go wrong with the trigger line's wire; handles that no hardware has."""

# mypy: disable-error-code="no-redef"
# (a putter has the name of its property: caproto's way)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from caproto import SkipWrite
from caproto.server import PVGroup, pvproperty

from .common import choice

__all__ = ["LineFault", "LineFaults"]

CELL, STUCK_LOW, STUCK_HIGH, CHATTER, ALARM = MODES = ("Cell", "Stuck low", "Stuck high", "Chatter", "Alarm")
STUCK_V = 3.3


@dataclass
class LineFault:
    """What is wrong with the wire now.

    Attributes
    ----------
    mode:
        What takes the place of the cell's level; with "Alarm" the input says that it is not to be believed.
    noise_V:
        Standard deviation of what is added.
    """

    mode: str = CELL
    noise_V: float = 0.0

    @property
    def chatters(self) -> bool:
        """Whether pulses come that are far shorter than any debounce time."""
        return self.mode == CHATTER

    @property
    def has_alarm(self) -> bool:
        """Whether the input is in alarm."""
        return self.mode == ALARM

    def on_wire(self, cell_V: float, rng: np.random.Generator) -> float:
        """Return the level on the wire."""
        level_V = cell_V
        if self.mode == STUCK_LOW:
            level_V = 0.0
        elif self.mode == STUCK_HIGH:
            level_V = STUCK_V
        return level_V + (float(rng.normal(0.0, self.noise_V)) if self.noise_V else 0.0)


class LineFaults(PVGroup):
    """``SIM:Line…``.

    Parameters
    ----------
    prefix:
        Such as ``XRDCT:SIM:``.
    fault:
        Shared with the line.
    """

    mode = choice(MODES, "LineMode", "Whether the line follows the cell, or what it does instead")
    noise = pvproperty(name="LineNoise", value=0.0, units="V", doc="Standard deviation on the line")

    def __init__(self, prefix: str, *, fault: LineFault) -> None:
        super().__init__(prefix)
        self._fault = fault

    @mode.putter
    async def mode(self, instance: Any, value: str) -> None:
        """Set the fault."""
        self._fault.mode = value

    @noise.putter
    async def noise(self, instance: Any, value: float) -> None:
        """Set the noise."""
        if not value >= 0:
            raise SkipWrite
        self._fault.noise_V = float(value)
