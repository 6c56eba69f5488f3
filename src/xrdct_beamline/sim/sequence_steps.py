"""What a cycler's programme is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from .voltage_curves import Chemistry, ElectrodePair

__all__ = ["CellSettings", "Cutoff", "Fault", "Repeat", "Step", "StepKind"]

#: Change of x that the nominal capacity stands for: 110 of 148.2 mAh/g.
X_PER_CAPACITY = 0.742


class StepKind(StrEnum):
    """What a step does with the cell."""

    CHARGE = "charge"
    DISCHARGE = "discharge"
    HOLD = "hold"
    REST = "rest"
    PAUSE = "pause"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutoff:
    """What ends a step: whichever comes first."""

    voltage_V: float | None = None
    current_mA: float | None = None
    charge_mAh: float | None = None
    time_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of a programme; ``level_V`` is the voltage that is held, or the trigger line's in a pause."""

    line: int
    kind: StepKind
    current_mA: float = 0.0
    level_V: float = 0.0
    until: Cutoff = field(default_factory=Cutoff)
    waits_for_done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Steps that are done several times."""

    line: int
    count: int
    steps: tuple[Step | Repeat, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong.

    ``silent``: a pause's trigger line stays low. ``stuck``: the line stays high after it. ``resumes``: the
    cycler goes on after ``time_s``, DONE or not. ``open circuit``: no current flows any more after so much
    cell time. Pauses count from 1.
    """

    kind: str
    pause: int = 0
    time_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSettings:
    """The cell of a sequence.

    Parameters
    ----------
    capacity_mAh:
        Nominal; moves x by 0.742.
    start_x:
        Lithium content at the start.
    electrodes:
        The voltage at rest.
    resistance_ohm, relaxation_s:
        Of the overpotential, which comes and goes with one time constant.
    fade_per_cycle:
        Part of the capacity that is lost with each charge after a discharge: less active material.
    leak_mA:
        Self-discharge, which no cycler sees.
    faults:
        What goes wrong.
    """

    capacity_mAh: float
    start_x: float
    electrodes: ElectrodePair
    resistance_ohm: float
    relaxation_s: float
    fade_per_cycle: float
    leak_mA: float
    faults: tuple[Fault, ...] = ()

    @property
    def charge_per_x(self) -> float:
        """Charge that changes x by one, of the fresh cell, in mAh."""
        return self.capacity_mAh / X_PER_CAPACITY

    @classmethod
    def make(cls, given: Mapping[str, float | Chemistry], faults: tuple[Fault, ...]) -> CellSettings:
        """Return the settings that a text gives, and reasonable others.

        Without a resistance, a current of 1C loses 54 mV, as 8 µA in the micro-cell lose 30 mV. Graphite
        has 1.05 of the cell's capacity.
        """
        numbers = {name: float(value) for name, value in given.items() if not isinstance(value, Chemistry)}
        capacity_mAh = numbers["capacity_mAh"]
        graphite_mAh = numbers.get("graphite_mAh", 1.05 * capacity_mAh)
        chemistry = given.get("chemistry")
        if not isinstance(chemistry, Chemistry):
            chemistry = Chemistry.LMO_LI
        return cls(
            capacity_mAh=capacity_mAh,
            start_x=numbers.get("start_x", 0.95 if chemistry == Chemistry.LMO_LI else 0.85),
            electrodes=ElectrodePair(
                chemistry=chemistry, graphite_per_x=capacity_mAh / X_PER_CAPACITY / graphite_mAh
            ),
            resistance_ohm=numbers.get("resistance_ohm", 54.0 / capacity_mAh),
            relaxation_s=numbers.get("relaxation_s", 120.0),
            fade_per_cycle=numbers.get("fade_per_cycle", 0.0),
            leak_mA=numbers.get("leak_mA", 0.0),
            faults=faults,
        )
