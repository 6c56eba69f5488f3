"""Patterns of a phase tabulated over its lattice parameter and over the width, for the kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from ._refine_bins import Bins, Peaks
from ._refine_phase import PhaseModel, lorentz, two_theta
from .peak_profile import Profile

__all__ = [
    "PhaseTable", "ReflectionTable", "Widths", "cubic_table", "fixed_table", "pattern", "reflection_table",
]  # fmt: skip

FloatArray = npt.NDArray[np.float64]

#: Shift of the fastest peak from node to node, in FWHM; interpolation then errs by 3e-4 of a peak.
_STEP_FWHM = 0.1
#: Structure factors are smooth in a: so many knots of a spline, unless the occupancy has corners.
_STRENGTH_KNOTS = 9
#: Reflections below this share of the strongest do not count in the step of the table.
_WEAK = 1e-3
#: A tabulated reflection reaches so many FWHM to either side, in steps of that many to the FWHM.
_REACH_FWHM, _POINTS_PER_FWHM = 25.0, 10.0


@dataclass(frozen=True)
class Widths:
    """Nodes of the sample's width, in degrees; a single 0 where it is not free.

    ``kind`` is "strain", a Lorentzian FWHM of width·tanθ, or "size", of width/cosθ.
    """

    nodes_deg: FloatArray
    kind: str = "strain"

    def lorentz_deg(self, width_deg: float, two_theta_deg: FloatArray) -> FloatArray:
        """Return the Lorentzian FWHM that a width adds at an angle."""
        half = np.radians(two_theta_deg) / 2
        return np.asarray(width_deg * (np.tan(half) if self.kind == "strain" else 1.0 / np.cos(half)))


@dataclass(frozen=True)
class PhaseTable:
    """Patterns over nodes of a and of the width, and their derivative by a.

    ``rows`` has the shape ``(node, width, 2, bin)``; ``mass`` is Z·M·V at each node. A phase whose
    cell is held has one node.
    """

    rows: npt.NDArray[np.float32]
    low: float
    step: float
    mass: FloatArray
    norm: float


def pattern(peaks: Peaks, bins: Bins, profile: Profile, widths: Widths, width_deg: float) -> FloatArray:
    """Return the mean over each bin of peaks of the profile and a sample's width."""
    out = np.zeros(bins.size)
    centre = np.clip(peaks.two_theta_deg, 0.0, 179.9)
    peaks.add_to(out, bins, profile, widths.lorentz_deg(width_deg, centre))
    return out


def cubic_table(phase: PhaseModel, bins: Bins, profile: Profile, widths: Widths) -> PhaseTable:
    """Tabulate a cubic phase over a, with what its structure factors do."""
    low, high = phase.a_limits_A
    n = max(4, int(np.ceil((high - low) / _node_step(phase, profile))) + 1)
    nodes = np.linspace(low, high, n)
    hkl, strength = _strengths(phase, nodes)
    squares = (hkl**2).sum(axis=1)
    values = np.empty((n, widths.nodes_deg.size, bins.size))
    for i, a_A in enumerate(nodes):
        peaks = phase.peaks_of(strength[i], squares / a_A**2)
        for j, width_deg in enumerate(widths.nodes_deg):
            values[i, j] = pattern(peaks, bins, profile, widths, width_deg)
    norm = float(values[n // 2, 0].max()) or 1.0
    values /= norm
    slopes = CubicSpline(nodes, values, axis=0)(nodes, 1)
    rows = np.stack([values, slopes], axis=2).astype(np.float32)
    mass = np.array([phase.mass(phase.full_cell([a_A])) for a_A in nodes])
    return PhaseTable(rows, low, nodes[1] - nodes[0], mass, norm)


def fixed_table(phase: PhaseModel, bins: Bins, profile: Profile, widths: Widths) -> PhaseTable:
    """Tabulate a phase whose cell is held."""
    cell = np.asarray(phase.phase.cell)
    peaks = phase.peaks(cell)
    values = np.stack([pattern(peaks, bins, profile, widths, width) for width in widths.nodes_deg])[None]
    norm = float(values[0, 0].max()) or 1.0
    rows = np.stack([values / norm, np.zeros_like(values)], axis=2).astype(np.float32)
    return PhaseTable(rows, float(cell[0]), 1.0, np.array([phase.mass(cell)]), norm)


@dataclass(frozen=True)
class ReflectionTable:
    """Reflections of a phase whose cell has several free parameters, each with its shape.

    ``shape`` is ``(reflection, width, 2, point)``: the mean over a bin of a peak of unit area, and its
    derivative, against the bin's centre minus the peak's, from ``low`` in steps of ``step``.
    """

    hkl: npt.NDArray[np.int64]
    quarter_wavelength2: FloatArray
    area: FloatArray
    low: FloatArray
    step: FloatArray
    shape: npt.NDArray[np.float32]
    norm: float


def reflection_table(phase: PhaseModel, bins: Bins, profile: Profile, widths: Widths) -> ReflectionTable:
    """Tabulate the shape of each reflection in the range, at its place in the CIF's cell."""
    hkl, strength, inverse_d2 = phase.reflections(np.asarray(phase.phase.cell))
    parts = []
    for wavelength_A, weight in phase.emission:
        angle = two_theta(inverse_d2, wavelength_A)
        keep = (angle > 0) & (angle < 179.0) & (strength > 1e-6 * strength.max(initial=0.0))
        square = np.full(int(keep.sum()), (wavelength_A / 2) ** 2)
        parts.append((hkl[keep], square, weight * strength[keep], angle[keep]))
    hkl, square, area, angle = (np.concatenate(part) for part in zip(*parts, strict=True))
    fwhm = profile.fwhm(angle + phase.zero_deg)
    step = fwhm / _POINTS_PER_FWHM
    n = int(2 * _REACH_FWHM * _POINTS_PER_FWHM) + 1
    shape = np.empty((angle.size, widths.nodes_deg.size, 2, n), dtype=np.float32)
    for r in range(angle.size):
        own = Peaks(np.array([angle[r] + phase.zero_deg]), np.ones(1))
        grid = angle[r] + phase.zero_deg + step[r] * (np.arange(n) - n // 2)
        half = 0.5 * float(np.interp(grid[n // 2], bins.centre_deg, bins.width_deg))
        for j, width_deg in enumerate(widths.nodes_deg):
            values = _means_at(own, grid, half, profile, widths, width_deg)
            shape[r, j, 0] = values
            shape[r, j, 1] = CubicSpline(grid, values)(grid, 1)
    low = -step * (n // 2)
    lp = lorentz(angle)
    norm = float((area * lp / fwhm).max(initial=0.0)) or 1.0
    return ReflectionTable(hkl, square, area / norm, low, step, shape, norm)


def _means_at(
    peak: Peaks, grid: FloatArray, half_deg: float, profile: Profile, widths: Widths, width_deg: float
) -> FloatArray:
    """Return the means of a peak over bins of one width around every point of a grid, which overlap."""
    x, w = np.polynomial.legendre.leggauss(8)
    centre = peak.two_theta_deg[0]
    extra = widths.lorentz_deg(width_deg, peak.two_theta_deg)
    delta = grid[:, None] + half_deg * x - centre
    return profile.shape(delta, np.full_like(delta, centre), extra_lorentz_deg=extra[0]) @ (w / 2)


def _node_step(phase: PhaseModel, profile: Profile) -> float:
    """Return a step of a at which no peak that counts moves by more than a share of its FWHM."""
    a_A = float(phase.phase.cell[0])
    hkl, strength, inverse_d2 = phase.reflections(phase.full_cell([a_A]))
    if not hkl.size:
        return 1.0
    angle = two_theta(inverse_d2, phase.emission[0][0])
    power = strength * lorentz(angle)
    seen = (power > _WEAK * power.max()) & (angle < 179.0)
    angle = angle[seen]
    per_A = 2 * np.degrees(np.tan(np.radians(angle) / 2)) / a_A
    return float(np.min(_STEP_FWHM * profile.fwhm(angle) / per_A))


def _strengths(phase: PhaseModel, nodes: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return hkl and m|F|² ``(node, reflection)`` of a cubic phase."""
    n_knots = nodes.size if phase.occupancy is not None else min(_STRENGTH_KNOTS, nodes.size)
    knots = np.linspace(nodes[0], nodes[-1], n_knots)
    found = [phase.strengths(float(a_A)) for a_A in knots]
    hkl = sorted(set().union(*found))
    strength = np.array([[one.get(h, 0.0) for h in hkl] for one in found])
    strength = np.maximum(CubicSpline(knots, strength)(nodes), 0.0) if n_knots < nodes.size else strength
    return np.array(hkl, dtype=np.int64).reshape(-1, 3), strength
