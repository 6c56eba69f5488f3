"""`PatternModel`: the phases of a sample as a pattern shows them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import PhaseError, ProcessingError
from xrdct_beamline.domain.phases import Phase

from ._refine_bins import check_bins
from ._refine_kit import Layout, build_kit
from ._refine_phase import Emission, OccupancyMap, PhaseModel, cell_map, occupancy_function
from ._refine_tables import Widths
from .peak_profile import Profile

__all__ = ["PatternModel"]

FloatArray = npt.NDArray[np.float64]
Cell = float | Sequence[float] | FloatArray
ByPhase = Mapping[str, float] | Sequence[float] | FloatArray

#: Limits of a length, if none are given, as shares of the CIF's, and of an angle in degrees.
_CUBIC_SHARE, _OTHER_SHARE, _ANGLE_DEG = 0.03, 0.015, 1.5
#: Nodes of the free width.
_WIDTH_NODES = 9
#: Bins are drawn this many times finer in the exact pattern than its peaks ask for.
_EXACT_SAMPLES = 12


class PatternModel:
    """What a pattern is made of, with tables for a quick fit; the same for every voxel.

    The value of a bin is the mean over it of

        Σ_phases scale Σ_hkl m|F|² / (sin²θ cosθ) · shape(2θ − 2θ_hkl) + background,

    per degree. Patterns are taken as corrected for polarisation and solid angle.

    Parameters
    ----------
    phases:
        Their names are the keys of all results.
    radial:
        Centres of the bins in ``unit``, ascending.
    wavelength_A:
        The main wavelength, which f′ is taken at.
    unit:
        ``2th_deg``, ``q_A^-1`` or ``q_nm^-1``.
    profile:
        Of the instrument.
    background:
        Number of Chebyshev coefficients over the range.
    emission:
        ``((wavelength_A, weight), …)`` of a line with several components; one of weight 1 by default.
    zero_deg:
        Measured minus true 2θ, from a calibrant; never free.
    free_cells:
        Phases whose cell is free; by default the cubic ones. Of a cubic phase everything is tabulated
        over a; of others each reflection moves, with the structure factors of the CIF's cell.
    cell_limits:
        ``{name: (lowest, highest)}`` of a in ångström; other lengths keep in proportion. By default 3 %
        (cubic) or 1.5 % to either side of the CIF's.
    occupancy_map:
        ``{name: callable or table}``: a_A → ``{site label: occupancy}``, for cubic phases with a free cell.
    free_width:
        Whether a Lorentzian width of the sample is free: ``"strain"`` (or True) adds width·tanθ to the
        FWHM of every phase, ``"size"`` width/cosθ, in degrees. Never below 0.
    width_limit_deg:
        Its largest value.

    Raises
    ------
    PhaseError
        If names repeat, a phase has no reflection in range, or options name a phase that is not there.
    ProcessingError
        If the bins cannot be used.
    """

    def __init__(
        self,
        phases: Iterable[Phase],
        radial: npt.ArrayLike,
        wavelength_A: float,
        unit: str = "2th_deg",
        profile: Profile | None = None,
        background: int = 6,
        *,
        emission: Emission | None = None,
        zero_deg: float = 0.0,
        free_cells: Iterable[str] | None = None,
        cell_limits: Mapping[str, tuple[float, float]] | None = None,
        occupancy_map: Mapping[str, OccupancyMap] | None = None,
        free_width: bool | str = False,
        width_limit_deg: float = 1.0,
    ) -> None:
        given = list(phases)
        names = [phase.name for phase in given]
        _check_names(names, "cell_limits", cell_limits)
        _check_names(names, "occupancy_map", occupancy_map)
        free = {p.name for p in given if p.is_cubic} if free_cells is None else set(free_cells)
        _check_names(names, "free_cells", dict.fromkeys(free))
        self.emission = _check_emission(emission, wavelength_A)
        self.wavelength_A = self.emission[0][0]
        self.bins = check_bins(radial, unit, self.wavelength_A)
        self.radial, self.unit = np.asarray(radial, dtype=np.float64), unit
        self.profile = Profile() if profile is None else profile
        self.zero_deg = zero_deg
        self.widths = _check_width(free_width, width_limit_deg)
        if not 0 <= background <= 40:
            raise ProcessingError(f"background = {background}; use 0 to 40 coefficients")
        self.n_background = background
        limits, maps = dict(cell_limits or {}), dict(occupancy_map or {})
        self.phases = [
            self._phase_model(phase, phase.name in free, limits.get(phase.name), maps.get(phase.name))
            for phase in given
        ]
        self.layout = Layout(self.phases, background, self.widths)
        self.kit, self.norms, self.templates = build_kit(
            self.phases, self.layout, self.bins, self.profile, self.widths, zero_deg
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the phases, in order."""
        return tuple(phase.name for phase in self.phases)

    def _phase_model(
        self, phase: Phase, free: bool, limits: tuple[float, float] | None, occupancy: OccupancyMap | None
    ) -> PhaseModel:
        if occupancy is not None and not (free and phase.is_cubic):
            raise PhaseError(f"the occupancy map of {phase.name} follows a free cubic cell; this one is not")
        a_A, share = phase.cell[0], _CUBIC_SHARE if phase.is_cubic else _OTHER_SHARE
        low, high = limits or (a_A * (1 - share), a_A * (1 + share))
        if not 0 < low < high < math.inf:
            raise PhaseError(
                f"cell limits of {phase.name} are {low:g} to {high:g} Å; they must ascend from 0"
            )
        model = PhaseModel(
            phase=phase,
            emission=self.emission,
            # A peak beyond the last bin still reaches into the range.
            two_theta_max_deg=min(float(self.bins.edges_deg[-1]) * 1.02 + 0.5, 179.0),
            zero_deg=self.zero_deg,
            map=cell_map(phase) if free else (-1,) * 6,
            a_limits_A=(float(low), float(high)),
            occupancy=None if occupancy is None else occupancy_function(phase.name, occupancy),
        )
        peaks = model.peaks(np.asarray(phase.cell))
        low_deg, high_deg = self.bins.edges_deg[[0, -1]]
        if not np.any((peaks.two_theta_deg >= low_deg) & (peaks.two_theta_deg <= high_deg)):
            raise PhaseError(
                f"{phase.name} has no reflection between {low_deg:.4g} and {high_deg:.4g}° in 2θ at "
                f"{self.wavelength_A:g} Å; leave it out or widen the range"
            )
        return model

    def full_cell(self, name: str, cell: Cell) -> FloatArray:
        """Return the six parameters of a cell given as a (the rest in proportion) or as all six."""
        phase = self.phases[self.names.index(name)]
        if isinstance(cell, (int, float, np.floating)):
            full = np.asarray(phase.phase.cell)
            return np.concatenate([full[:3] * (float(cell) / full[0]), full[3:]])
        values = np.asarray(cell, dtype=np.float64)
        if values.shape != (6,):
            raise ProcessingError(f"the cell of {name} has shape {values.shape}; give a, or all six")
        return values

    def pattern(
        self,
        cells: Mapping[str, Cell],
        scales: ByPhase,
        background: npt.ArrayLike = (),
        width: float = 0.0,
    ) -> FloatArray:
        """Return the exact pattern ``(bin,)``, without the tables of the fit.

        Parameters
        ----------
        cells:
            a in ångström, or all six parameters, by phase; the CIF's where a phase is left out.
        scales:
            By phase, or in their order.
        background:
            Chebyshev coefficients.
        width:
            Of the sample, in degrees.
        """
        total = self._background(background)
        for phase, scale in zip(self.phases, self._ordered(scales), strict=True):
            cell = self.full_cell(phase.name, cells.get(phase.name, phase.phase.cell))
            total += scale * self.phase_pattern(phase, cell, width)
        return total

    def phase_pattern(self, phase: PhaseModel, cell: FloatArray, width: float) -> FloatArray:
        """Return the exact pattern of one phase at unit scale."""
        peaks = phase.peaks(cell)
        x, w = self.bins.samples(_EXACT_SAMPLES)
        total = np.zeros(self.bins.size)
        for centre, area in zip(peaks.two_theta_deg, peaks.area, strict=True):
            extra = self.widths.lorentz_deg(width, np.asarray(centre))
            total += area * (self.profile.shape(x - centre, centre, extra_lorentz_deg=extra) @ w)
        return total

    def cramer_rao(
        self,
        cells: Mapping[str, Cell],
        scales: ByPhase,
        background: npt.ArrayLike = (),
        *,
        sigma: npt.ArrayLike | None = None,
        width: float = 0.0,
    ) -> dict[str, dict[str, float]]:
        """Return the least standard deviations that an unbiased fit of one pattern can have.

        From central differences of the exact pattern, with all that the model leaves free (a cell of
        several parameters gives those of a alone).

        Parameters
        ----------
        sigma:
            Per bin; without it the pattern is of counts, whose variance is the pattern.

        Returns
        -------
        ``{"a_A": {name: …}, "scale": {name: …}, "width": {"": …}}``
        """
        names = self.names
        full = {n: self.full_cell(n, cells.get(n, self.phases[i].phase.cell)) for i, n in enumerate(names)}
        scale = np.asarray(self._ordered(scales), dtype=np.float64)
        model = self.pattern(full, scale, background, width)
        variance = model if sigma is None else np.asarray(sigma, dtype=np.float64) ** 2
        columns: list[tuple[str, str, FloatArray]] = []
        for k, phase in enumerate(self.phases):
            columns.append(("scale", phase.name, self.phase_pattern(phase, full[phase.name], width)))
            for q, slope in enumerate(self._cell_slopes(phase, full[phase.name], width)):
                columns.append(("a_A" if q == 0 else f"cell {q}", phase.name, scale[k] * slope))
        if self.layout.width_free:
            h = 1e-3 * self.widths.nodes_deg[-1]
            h = min(h, width) if width > 0 else h
            up = self.pattern(full, scale, background, width + h)
            down = self.pattern(full, scale, background, max(width - h, 0.0))
            columns.append(("width", "", (up - down) / (h + min(h, width))))
        columns += [
            ("background", str(i), row) for i, row in enumerate(self.bins.chebyshev(self.n_background))
        ]
        jacobian = np.array([column for _, _, column in columns]) / np.sqrt(variance)
        deviations = np.sqrt(np.diag(np.linalg.inv(jacobian @ jacobian.T)))
        found: dict[str, dict[str, float]] = {}
        for (kind, name, _), deviation in zip(columns, deviations, strict=True):
            found.setdefault(kind, {})[name] = float(deviation)
        return found

    def _cell_slopes(self, phase: PhaseModel, cell: FloatArray, width: float) -> list[FloatArray]:
        slopes = []
        for q in range(phase.n_cell):
            moves = np.array([source == q for source in phase.map])
            h = 1e-6 * float(cell[np.flatnonzero(moves)[0]])
            up, down = (self.phase_pattern(phase, cell + s * h * moves, width) for s in (1, -1))
            slopes.append((up - down) / (2 * h))
        return slopes

    def _background(self, coefficients: npt.ArrayLike) -> FloatArray:
        values = np.atleast_1d(np.asarray(coefficients, dtype=np.float64))
        return np.asarray(values @ self.bins.chebyshev(values.size))

    def _ordered(self, values: ByPhase) -> list[float]:
        if isinstance(values, Mapping):
            _check_names(list(self.names), "scales", values)
            return [float(values.get(name, 0.0)) for name in self.names]
        if len(values) != len(self.phases):
            raise ProcessingError(f"{len(values)} scales were given for {len(self.phases)} phases")
        return [float(value) for value in values]


def _check_names(names: list[str], option: str, given: Mapping[str, Any] | None) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if not names:
        raise PhaseError("a model needs at least one phase")
    if twice:
        raise PhaseError(
            f"two phases are called {', '.join(twice)}; results go by name: rename one "
            "(dataclasses.replace(phase, name=…))"
        )
    unknown = sorted(set(given or ()) - set(names))
    if unknown:
        raise PhaseError(f"{option} names {', '.join(unknown)}, and the phases are {', '.join(names)}")


def _check_emission(emission: Emission | None, wavelength_A: float) -> Emission:
    lines = emission or ((wavelength_A, 1.0),)
    if not (math.isfinite(wavelength_A) and wavelength_A > 0):
        raise ProcessingError(f"the wavelength is {wavelength_A} Å; it must be positive")
    if not all(math.isfinite(w) and w > 0 and math.isfinite(s) and s >= 0 for w, s in lines):
        raise ProcessingError(f"emission {lines} needs positive wavelengths and weights")
    total = sum(weight for _, weight in lines)
    if total <= 0:
        raise ProcessingError(f"the weights of emission {lines} sum to 0")
    return tuple((float(w), float(s) / total) for w, s in lines)


def _check_width(free_width: bool | str, limit_deg: float) -> Widths:
    if free_width is False:
        return Widths(np.zeros(1))
    kind = "strain" if free_width is True else free_width
    if kind not in ("strain", "size"):
        raise ProcessingError(f"free_width is {free_width!r}; use False, 'strain' or 'size'")
    if not 0 < limit_deg < math.inf:
        raise ProcessingError(f"width_limit_deg is {limit_deg}; it must be positive")
    return Widths(np.linspace(0.0, limit_deg, _WIDTH_NODES), kind)
