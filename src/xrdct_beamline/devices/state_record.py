"""What is written down about one state of the cell: the event of a series' stream ``states``."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ophyd import Component, Device, Signal
from ophyd.status import Status

from ._status import finished

__all__ = ["StateRecord", "StateValues"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateValues:
    """One pause of the cell.

    Parameters
    ----------
    index:
        Which pause, from 0.
    edge_s, ended_s:
        When the trigger line rose, and when the last scan was done; epoch seconds.
    budget_s:
        How long the cell waits; NaN where it waits for DONE.
    open_s, photons:
        For how long the fast shutter was open, and the photons that came through: the state's dose.
    cell_ran_on:
        Whether the cell ran on before the scans were done.
    """

    index: int
    edge_s: float
    ended_s: float
    budget_s: float
    open_s: float
    photons: float
    cell_ran_on: bool


class StateRecord(Device):
    """Holds the values of the latest state; ``set`` takes `StateValues`."""

    index = Component(Signal, value=-1, kind="hinted")
    edge_s = Component(Signal, value=0.0, kind="normal")
    ended_s = Component(Signal, value=0.0, kind="normal")
    budget_s = Component(Signal, value=0.0, kind="normal")
    open_s = Component(Signal, value=0.0, kind="normal")
    photons = Component(Signal, value=0.0, kind="hinted")
    cell_ran_on = Component(Signal, value=False, kind="normal")

    def set(self, values: StateValues) -> Status:
        """Take the values of a state."""
        for item in fields(values):
            getattr(self, item.name).put(getattr(values, item.name))
        return finished()
