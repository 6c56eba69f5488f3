"""What the page shows, as one immutable value, and the place where the newest one lies.

The processing publishes when it has something new; every viewer looks on its own clock and
redraws when the version has changed. Neither waits for the other.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = ["Chemistry", "ParticleRow", "RunPhase", "Snapshot", "SnapshotStore", "StatePoint"]

RunPhase = Literal["waiting", "scanning", "done"]
FloatArray = npt.NDArray[np.floating[Any]]


def _empty() -> FloatArray:
    return np.empty(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticleRow:
    """One particle as the page lists it."""

    label: int
    x_mm: float
    y_mm: float
    radius_um: float
    a_A: float
    a_esd_A: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StatePoint:
    """The lattice parameter of one slice: its mean and the range that holds nine tenths of the voxels."""

    state_index: int
    a_mean_A: float
    a_low_A: float
    a_high_A: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chemistry:
    """What the refinement found in the newest slice.

    Parameters
    ----------
    phase:
        Name of the phase whose lattice parameter is shown.
    a_A, a_esd_A:
        ``(y, x)``, ångström; NaN where there is too little of the phase.
    limits_A:
        Range of the colours; the same for all slices of a series.
    edges_A, counts:
        Histogram over the voxels, shapes ``(n + 1,)`` and ``(n,)``.
    window_A, window_share:
        The non-characteristic window, in which no phase in equilibrium lies, and the share of voxels in it.
    particles:
        The largest first.
    trend:
        One point per slice of the series, by state.
    drift_A, drift_esd_A:
        How far the mean lattice parameter moved from the first half of the scan to the second; NaN
        when it is not known.
    lines_done:
        Lines that the slice held when it was refined.
    note:
        What a person should know of the map; empty if nothing.
    """

    phase: str
    a_A: FloatArray
    a_esd_A: FloatArray
    limits_A: tuple[float, float]
    edges_A: FloatArray
    counts: npt.NDArray[Any]
    window_A: tuple[float, float] | None = None
    window_share: float = float("nan")
    particles: Sequence[ParticleRow] = ()
    trend: Sequence[StatePoint] = ()
    drift_A: float = float("nan")
    drift_esd_A: float = float("nan")
    lines_done: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """State of the experiment at one moment.

    Arrays are held by reference, not copied: a producer that goes on adding lines to the same
    sinogram costs nothing, and a viewer may at worst draw a line before it is counted.

    Parameters
    ----------
    version:
        Counts publications; set by `SnapshotStore`.
    run_uid, title:
        The run being shown and what a person calls it.
    state_index:
        Which pause of the cell the run belongs to, counted from 0; None outside of a series.
    phase:
        Whether lines are awaited, arriving, or complete.
    lines_done, lines_planned, frames_done, frames_planned, lines_retaken, slices_done:
        Progress of the run, and slices completed in the series.
    lag_s:
        Seconds from the end of the newest line to its slice; NaN before the first.
    message:
        One sentence for the people watching.
    cell_time_s, cell_voltage, cell_current:
        History of the cell: seconds from any fixed zero, V, mA; all of shape ``(sample,)``.
    pauses:
        Start and end of each pause on the clock of ``cell_time_s``; the end of a running pause is None.
    radial, unit, pattern, pattern_sigma:
        The newest pattern on its axis, shape ``(bin,)``, and pyFAI's name of the axis.
    phase_ticks:
        For each phase, where its reflections lie on ``radial``.
    sinogram:
        ``(rotation, translation, bin)``, NaN where not measured yet; None before the first line.
    span_deg:
        Angles that the sinogram's rows cover, end excluded.
    slice_:
        ``(y, x, bin)``, y decreasing with the row; None before the first line.
    slice_scale:
        Factor on ``slice_`` while angles are missing, so that the producer need not copy it.
    extent_mm:
        Outer edges of the slice, ``(x_min, x_max, y_min, y_max)``.
    chemistry:
        What the refinement found; None before its first map.
    """

    version: int = 0
    run_uid: str = ""
    title: str = ""
    state_index: int | None = None
    phase: RunPhase = "waiting"
    lines_done: int = 0
    lines_planned: int = 0
    frames_done: int = 0
    frames_planned: int = 0
    lines_retaken: int = 0
    slices_done: int = 0
    lag_s: float = float("nan")
    message: str = ""
    cell_time_s: FloatArray = field(default_factory=_empty)
    cell_voltage: FloatArray = field(default_factory=_empty)
    cell_current: FloatArray = field(default_factory=_empty)
    pauses: Sequence[tuple[float, float | None]] = ()
    radial: FloatArray = field(default_factory=_empty)
    unit: str = "2th_deg"
    pattern: FloatArray = field(default_factory=_empty)
    pattern_sigma: FloatArray | None = None
    phase_ticks: Mapping[str, FloatArray] = field(default_factory=dict)
    sinogram: FloatArray | None = None
    span_deg: float = 180.0
    slice_: FloatArray | None = None
    slice_scale: float = 1.0
    extent_mm: tuple[float, float, float, float] = (-0.5, 0.5, -0.5, 0.5)
    chemistry: Chemistry | None = None


class SnapshotStore:
    """Holds the newest snapshot; any thread may publish, any thread may look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest = Snapshot()

    def publish(self, **changes: Any) -> Snapshot:
        """Replace the named fields, count the version up, and return the new snapshot.

        Raises
        ------
        TypeError
            If a name is no field of `Snapshot`.
        """
        with self._lock:
            changes["version"] = self._latest.version + 1
            self._latest = replace(self._latest, **changes)
            return self._latest

    def latest(self) -> Snapshot:
        """Return the newest snapshot."""
        return self._latest

    @property
    def version(self) -> int:
        """Version of the newest snapshot; 0 before the first publication."""
        return self._latest.version
