"""What a report is drawn from: plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.results import LatticeHistogram

from .snapshot import ParticleRow, StatePoint

__all__ = ["CellCurve", "LatticeMap", "ReportState", "ReportValues"]

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellCurve:
    """Epoch seconds, V and mA, each ``(sample,)``, and the pauses; the end of a running pause is None."""

    time_s: FloatArray
    voltage_V: FloatArray
    current_mA: FloatArray
    pauses: Sequence[tuple[float, float | None]] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LatticeMap:
    """What was refined in one slice.

    Parameters
    ----------
    a_A:
        ``(y, x)``, NaN where the fit did not converge or holds too little of the phase.
    depth_um, depth_a_A, depth_esd_A:
        Lattice parameter against the depth below the particles' surfaces: centres of the steps, means
        and standard errors of the mean.
    """

    phase: str
    a_A: FloatArray
    histogram: LatticeHistogram
    point: StatePoint
    n_converged: int
    n_refined: int
    median_esd_A: float
    median_rwp: float
    particles: Sequence[ParticleRow]
    depth_um: FloatArray
    depth_a_A: FloatArray
    depth_esd_A: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportState:
    """One slice: its mean intensity ``(y, x)``, edges in mm, counts, verdict and refined map."""

    name: str
    run_uid: str
    intensity: FloatArray
    extent_mm: tuple[float, float, float, float]
    step_mm: float
    counts: str
    lattice: LatticeMap | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReportValues:
    """A whole report: the slices in order, the cell where it is known, and the settings as they were."""

    title: str
    states: Sequence[ReportState]
    cell: CellCurve | None = None
    settings: str = ""
    version: str = ""
