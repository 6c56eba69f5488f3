"""From refined maps to what the page shows of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.callbacks.map_settings import MapSettings
from xrdct_beamline.display.snapshot import Chemistry, ParticleRow, StatePoint
from xrdct_beamline.domain.results import Particles, RefinedMaps, RefinementStatus
from xrdct_beamline.processing.histograms import lattice_histogram
from xrdct_beamline.processing.particles import measure, segment

__all__ = ["MIN_SIGNIFICANCE", "chemistry_of", "particle_rows", "particles_of", "state_point", "well_lit"]

FloatArray = npt.NDArray[np.floating[Any]]

#: Scale over its esd below which a voxel holds too little of the phase for its lattice parameter to count.
MIN_SIGNIFICANCE = 5.0

#: Edges of the histogram that the page shows.
_N_EDGES = 121


def well_lit(maps: RefinedMaps, phase: str) -> npt.NDArray[np.bool_]:
    """Return the voxels ``(y, x)`` whose fit converged and that hold enough of a phase."""
    scale, esd = maps.scale[phase], maps.scale_esd[phase]
    with np.errstate(invalid="ignore"):
        significant = scale > MIN_SIGNIFICANCE * esd
    return (maps.status == RefinementStatus.CONVERGED) & significant & np.isfinite(maps.a_A[phase])


def particles_of(
    maps: RefinedMaps, phase: str, *, axis_px: float, step_mm: float
) -> tuple[npt.NDArray[np.int32], Particles]:
    """Return the labels ``(y, x)`` and the properties of the particles of a phase."""
    lit = well_lit(maps, phase)
    scale = np.where(maps.status == RefinementStatus.NOT_MEASURED, np.nan, maps.scale[phase])
    labels = segment(np.where(np.isfinite(scale), scale, 0.0), measured=np.isfinite(scale))
    a_A = np.where(lit, maps.a_A[phase], np.nan)
    found = measure(
        labels,
        axis_px=axis_px,
        step_mm=step_mm,
        a_A=a_A,
        a_esd_A=np.where(lit, maps.a_esd_A[phase], np.nan),
        scale=maps.scale[phase],
    )
    return labels, found


def state_point(state_index: int, a_A: FloatArray) -> StatePoint | None:
    """Return the mean of a slice's lattice parameters and the range of nine tenths; None without any."""
    values = a_A[np.isfinite(a_A)]
    if not values.size:
        return None
    low, high = np.percentile(values, (5, 95))
    return StatePoint(
        state_index=state_index, a_mean_A=float(values.mean()), a_low_A=float(low), a_high_A=float(high)
    )


def chemistry_of(
    maps: RefinedMaps,
    settings: MapSettings,
    *,
    axis_px: float,
    step_mm: float,
    lines_done: int,
    state_index: int,
    trend: Mapping[int, StatePoint],
    drift_A: tuple[float, float] = (float("nan"), float("nan")),
    note: str = "",
) -> Chemistry:
    """Return what the page shows of the maps of one slice.

    Parameters
    ----------
    trend:
        Points of the series' other slices, by state; this slice's own replaces what is there.
    drift_A:
        Change of the mean lattice parameter within the scan, and its esd.
    """
    phase = settings.phases[0].name
    lit = well_lit(maps, phase)
    a_A = np.where(lit, maps.a_A[phase], np.nan).astype(np.float32)
    a_esd_A = np.where(lit, maps.a_esd_A[phase], np.nan).astype(np.float32)
    edges_A = np.linspace(*settings.limits_A, _N_EDGES)
    window = settings.window_A or settings.limits_A
    histogram = lattice_histogram(a_A, a_esd_A=a_esd_A, edges_A=edges_A, window_A=window)
    _, found = particles_of(maps, phase, axis_px=axis_px, step_mm=step_mm)
    point = state_point(state_index, a_A)
    points = {**trend, **({} if point is None else {state_index: point})}
    return Chemistry(
        phase=phase,
        a_A=a_A,
        a_esd_A=a_esd_A,
        limits_A=settings.limits_A,
        edges_A=edges_A,
        counts=histogram.counts,
        window_A=settings.window_A,
        window_share=histogram.fraction if settings.window_A else float("nan"),
        particles=particle_rows(found),
        trend=tuple(points[index] for index in sorted(points)),
        drift_A=drift_A[0],
        drift_esd_A=drift_A[1],
        lines_done=lines_done,
        note=note,
    )


def particle_rows(found: Particles) -> Sequence[ParticleRow]:
    """Return the particles as they are listed, the largest first."""
    largest_first = np.argsort(-found.area_mm2, kind="stable")
    return [
        ParticleRow(
            label=int(found.label[i]),
            x_mm=float(found.x_mm[i]),
            y_mm=float(found.y_mm[i]),
            radius_um=1e3 * float(found.radius_mm[i]),
            a_A=float(found.a_A[i]),
            a_esd_A=float(found.a_esd_A[i]),
        )
        for i in largest_first
    ]
