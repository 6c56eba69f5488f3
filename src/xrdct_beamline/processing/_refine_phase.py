"""What a phase adds to a pattern, at a cell: peaks, masses, and which cell parameters are free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import PhaseError
from xrdct_beamline.domain.phases import Phase

from ._refine_bins import Peaks

__all__ = ["Emission", "OccupancyMap", "PhaseModel", "cell_map", "occupancy_function", "two_theta"]

FloatArray = npt.NDArray[np.float64]
Emission = tuple[tuple[float, float], ...]
OccupancyMap = Callable[[float], Mapping[str, float]] | Mapping[float, Mapping[str, float]]


def cell_map(phase: Phase) -> tuple[int, ...]:
    """Return, for each cell parameter, the free one that it follows, or -1."""
    leaders = sorted({tie for tie in phase.cell_ties if tie >= 0})
    return tuple(leaders.index(tie) if tie >= 0 else -1 for tie in phase.cell_ties)


def two_theta(inverse_d2: npt.ArrayLike, wavelength_A: npt.ArrayLike) -> FloatArray:
    """Return 2θ in degrees of 1/d², in 1/Å²; 180 where the wavelength is too long."""
    sine = 0.5 * np.asarray(wavelength_A) * np.sqrt(np.asarray(inverse_d2))
    return np.degrees(2 * np.arcsin(np.minimum(sine, 1.0)))


def lorentz(two_theta_deg: FloatArray) -> FloatArray:
    """Return the Lorentz factor 1/(sin²θ cosθ) of a powder."""
    half = np.radians(two_theta_deg) / 2
    return np.asarray(1.0 / (np.sin(half) ** 2 * np.cos(half)))


def metric(cell: npt.ArrayLike) -> FloatArray:
    """Return the metric tensor of a cell, in Å²."""
    a, b, c, alpha, beta, gamma = np.asarray(cell, dtype=np.float64)
    cos = np.cos(np.radians([alpha, beta, gamma]))
    return np.array(
        [[a * a, a * b * cos[2], a * c * cos[1]], [a * b * cos[2], b * b, b * c * cos[0]],
         [a * c * cos[1], b * c * cos[0], c * c]]
    )  # fmt: skip


def occupancy_function(name: str, given: OccupancyMap) -> Callable[[float], Mapping[str, float]]:
    """Return occupancies by a_A; a table is interpolated linearly and held beyond its ends."""
    if callable(given):
        return given
    if not given:
        raise PhaseError(f"the occupancy map of {name} is empty; give {{a_A: {{site: occupancy}}}}")
    knots = sorted(given)
    sites = sorted(given[knots[0]])
    if any(sorted(given[a]) != sites for a in knots):
        raise PhaseError(f"the occupancy map of {name} must name the same sites at every a_A")
    columns = {site: [float(given[a][site]) for a in knots] for site in sites}
    return lambda a_A: {site: float(np.interp(a_A, knots, column)) for site, column in columns.items()}


@dataclass(frozen=True)
class PhaseModel:
    """A phase as the fit sees it.

    Of a cubic phase the structure factors are those at each a (and at the occupancies that go with it);
    of others they stay those of the CIF's cell while the cell moves. ``map`` says for each of the six
    cell parameters which free one it follows, -1 where it is held.
    """

    phase: Phase
    emission: Emission
    two_theta_max_deg: float
    zero_deg: float
    map: tuple[int, ...]
    a_limits_A: tuple[float, float]
    occupancy: Callable[[float], Mapping[str, float]] | None = None

    @property
    def name(self) -> str:
        """Name of the phase."""
        return self.phase.name

    @property
    def n_cell(self) -> int:
        """Number of free cell parameters."""
        return max(self.map) + 1

    @property
    def follows_a(self) -> bool:
        """Whether the cell is one free length."""
        return self.n_cell == 1 and self.phase.is_cubic

    @cached_property
    def reference(self) -> FloatArray:
        """Values of the free cell parameters in the CIF."""
        return np.array([self.phase.cell[self.map.index(k)] for k in range(self.n_cell)])

    def full_cell(self, free: npt.ArrayLike) -> FloatArray:
        """Return the cell ``(…, 6)`` of free parameters ``(…, n_cell)``."""
        values = np.asarray(free, dtype=np.float64)
        cell = np.broadcast_to(np.asarray(self.phase.cell), (*values.shape[:-1], 6)).copy()
        for position, source in enumerate(self.map):
            if source >= 0:
                cell[..., position] = values[..., source]
        return cell

    def full_esd(self, free: npt.ArrayLike) -> FloatArray:
        """Return the deviations ``(…, 6)`` of the cell, NaN of what is held."""
        values = np.asarray(free, dtype=np.float64)
        cell = np.full((*values.shape[:-1], 6), np.nan)
        for position, source in enumerate(self.map):
            if source >= 0:
                cell[..., position] = values[..., source]
        return cell

    def at(self, a_A: float) -> Phase:
        """Return the phase with another a, cubic, and what goes with it."""
        phase = self.phase.with_cell(a_A=a_A)
        return phase.with_occupancy(self.occupancy(a_A)) if self.occupancy is not None else phase

    def strengths(self, a_A: float | None = None) -> dict[tuple[int, int, int], float]:
        """Return m|F|² by hkl: of the CIF's cell, or of another a.

        The list reaches a little beyond the range whatever the a, so that it is the same for all.
        """
        longest, shortest = (f(w for w, _ in self.emission) for f in (max, min))
        main = self.emission[0][0]
        sine = np.sin(np.radians(min(self.two_theta_max_deg, 179.0)) / 2) * main / shortest
        phase = self.phase
        if a_A is not None:
            phase, sine = self.at(a_A), sine * self.a_limits_A[1] / a_A
        top = float(np.degrees(2 * np.arcsin(min(sine, 0.9999 * main / max(longest, main)))))
        return {r.hkl: r.multiplicity * r.f_squared for r in phase.reflections(main, top)}

    @cached_property
    def _fixed(self) -> dict[tuple[int, int, int], float]:
        return self.strengths()

    def reflections(self, cell: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], FloatArray, FloatArray]:
        """Return hkl ``(n, 3)``, m|F|² and 1/d² of the reflections at a cell."""
        cell = np.asarray(cell, dtype=np.float64)
        found = self.strengths(float(cell[0])) if self.follows_a else self._fixed
        hkl = np.array(list(found), dtype=np.int64).reshape(-1, 3)
        inverse = np.linalg.inv(metric(cell))
        return hkl, np.array(list(found.values())), np.einsum("ni,ij,nj->n", hkl, inverse, hkl)

    def peaks(self, cell: npt.ArrayLike) -> Peaks:
        """Return all peaks at a cell, those of every wavelength, with unit scale."""
        _, strength, inverse_d2 = self.reflections(cell)
        return self.peaks_of(strength, inverse_d2)

    def peaks_of(self, strength: FloatArray, inverse_d2: FloatArray) -> Peaks:
        """Return the peaks of reflections given by m|F|² and 1/d²."""
        parts = []
        for wavelength_A, weight in self.emission:
            angle = two_theta(inverse_d2, wavelength_A)
            seen = (angle > 0) & (angle < 179.9)
            parts.append((angle[seen], weight * strength[seen] * lorentz(angle[seen])))
        centre = np.concatenate([angle for angle, _ in parts])
        return Peaks(centre + self.zero_deg, np.concatenate([area for _, area in parts]))

    def mass(self, cell: npt.ArrayLike) -> float:
        """Return Z·M·V at a cell, which makes mass fractions of scales (Hill and Howard 1987)."""
        values = np.asarray(cell, dtype=np.float64)
        phase = self.at(float(values[0])) if self.follows_a else self.phase
        return phase.cell_mass_g_mol * float(np.sqrt(np.linalg.det(metric(values))))
