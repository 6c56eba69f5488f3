"""The model of one pattern as a function of a vector of named parameters, with its derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import numpy.typing as npt

from ..domain.errors import ProcessingError
from ..domain.phases import Phase
from ._pattern_terms import PhaseLines, bin_means, chebyshev, lorentz_polarisation
from .peak_profile import Profile

__all__ = ["COPPER_K_ALPHA", "GLOBALS", "Model", "Radiation", "Setting"]

FloatArray = npt.NDArray[np.float64]

_LETTERS = tuple(f.name for f in fields(Profile))

#: What may be free once for all phases, and for each phase.
GLOBALS = ("zero_deg", "displacement_deg", *_LETTERS)
PER_PHASE = ("cell", "size_deg", "strain_deg")

_CELL = ("a_A", "b_A", "c_A", "alpha_deg", "beta_deg", "gamma_deg")

#: Step of the differences, and lowest and highest value, of each kind of parameter.
_KINDS: dict[str, tuple[float, float, float]] = {
    "zero_deg": (1e-5, -1.0, 1.0),
    "displacement_deg": (1e-5, -1.0, 1.0),
    "u": (1e-6, 0.0, 100.0),
    "v": (1e-6, -10.0, 10.0),
    "w": (1e-8, 1e-7, 10.0),
    "x": (1e-6, 0.0, 5.0),
    "y": (1e-6, 0.0, 20.0),
    "z": (1e-6, 0.0, 5.0),
    "axial": (1e-6, 0.0, 0.2),
    "sensor_depth_deg": (1e-6, 0.0, 1.0),
    "size_deg": (1e-6, 0.0, 5.0),
    "strain_deg": (1e-6, 0.0, 20.0),
    "length": (1e-6, 0.0, np.inf),
    "angle": (1e-5, 0.0, 180.0),
}

#: A cell may move by this fraction, an angle of it by this many degrees: more is another cell.
_CELL_REACH = 0.01
_ANGLE_REACH_DEG = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Radiation:
    """What the pattern was measured with.

    Parameters
    ----------
    emission:
        Wavelength in Å and share of the intensity of each line of the source; shares sum to 1.
    monochromator_deg:
        2θ of the monochromator of a laboratory diffractometer, 0 if there is none; None for patterns
        that are corrected for polarisation, as integrated frames are.
    """

    emission: tuple[tuple[float, float], ...]
    monochromator_deg: float | None = None

    def __post_init__(self) -> None:
        if not self.emission or any(not (0 < w < np.inf and s > 0) for w, s in self.emission):
            raise ProcessingError(
                f"emission {self.emission} needs pairs of wavelength in Å and share, positive"
            )
        if abs(sum(share for _, share in self.emission) - 1.0) > 1e-6:
            raise ProcessingError(f"the shares of the emission {self.emission} must sum to 1")

    @classmethod
    def monochromatic(cls, wavelength_A: float) -> Radiation:
        """Return a beam of one wavelength, for patterns that are corrected for polarisation."""
        return cls(emission=((wavelength_A, 1.0),))


#: Kα1 and Kα2 of copper: Hölzer et al., Phys. Rev. A 56 (1997) 4554; shares 2 : 1.
COPPER_K_ALPHA = ((1.5405929, 2.0 / 3.0), (1.5444274, 1.0 / 3.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """State of the instrument: what a fit starts from and what it finds.

    Parameters
    ----------
    zero_deg:
        Added to the 2θ of every line.
    displacement_deg:
        Added as displacement · cos θ: a sample that lies off the axis of a Bragg-Brentano diffractometer.
    """

    profile: Profile = field(default_factory=lambda: Profile(w=1e-3, z=5e-3))
    zero_deg: float = 0.0
    displacement_deg: float = 0.0


class Model:
    """Pattern of phases on bins, of parameters that are listed in ``names``.

    Parameters
    ----------
    edges_deg:
        Edges of the bins, ascending.
    phases:
        Structures, with the cells to start from.
    free:
        Of `GLOBALS` and `PER_PHASE`; scales and background always are.
    """

    def __init__(
        self,
        edges_deg: FloatArray,
        phases: Sequence[Phase],
        radiation: Radiation,
        start: Setting,
        free: Sequence[str],
        n_background: int,
    ) -> None:
        _check(phases, free, n_background)
        self.edges_deg, self.radiation, self.start = edges_deg, radiation, start
        self.lines = [PhaseLines.of(p, radiation.emission, edges_deg[0], edges_deg[-1]) for p in phases]
        self.basis = chebyshev(0.5 * (edges_deg[1:] + edges_deg[:-1]), n_background)
        shared = [name for name in GLOBALS if name in free]
        self.names = [*shared]
        self._phase_of: list[int | None] = [None] * len(shared)
        values = [self._start_of(name) for name in shared]
        for p, phase in enumerate(phases):
            for name, value in _own(phase, free):
                self.names.append(f"{phase.name}:{name}")
                self._phase_of.append(p)
                values.append(value)
        self.n_shape = len(values)  # all but scales and background
        self.names += [f"{phase.name}:scale" for phase in phases]
        self.names += [f"background:{i}" for i in range(n_background)]
        self.start_shape = np.array(values)
        self.steps, self.low, self.high = self._limits()

    def pattern(self, x: FloatArray) -> FloatArray:
        """Return the whole pattern."""
        units = self.unit_patterns(x)
        return np.asarray(units @ self.scales(x) + self.basis @ self.background(x))

    def jacobian(self, x: FloatArray) -> FloatArray:
        """Return the derivative by each parameter, shape ``(bin, parameter)``."""
        scales, units = self.scales(x), self.unit_patterns(x)
        columns = []
        for i in range(self.n_shape):
            moved = x.copy()
            moved[i] += self.steps[i]
            of = range(len(self.lines)) if self._phase_of[i] is None else (self._phase_of[i],)
            change = sum(scales[p] * (self.unit_pattern(moved, p) - units[:, p]) for p in of if p is not None)
            columns.append(change / self.steps[i])
        return np.column_stack([*columns, units, self.basis])

    def unit_patterns(self, x: FloatArray) -> FloatArray:
        """Return the patterns of the phases at unit scale, shape ``(bin, phase)``."""
        return np.column_stack([self.unit_pattern(x, p) for p in range(len(self.lines))])

    def unit_pattern(self, x: FloatArray, p: int) -> FloatArray:
        """Return the pattern of one phase at unit scale."""
        centres, areas, _ = self.line_list(x, p)
        extra = self.sample_width(x, p, centres)
        return bin_means(self.edges_deg, centres, areas, self.setting(x).profile, extra)

    def line_list(self, x: FloatArray, p: int) -> tuple[FloatArray, FloatArray, npt.NDArray[np.int64]]:
        """Return position and area at unit scale of each line of one phase, and its reflection's index."""
        setting, lines = self.setting(x), self.lines[p]
        spacing = lines.spacings_A(self.cell(x, p))
        found = []
        for wavelength_A, share in self.radiation.emission:
            sine = wavelength_A / (2.0 * spacing)
            index = np.flatnonzero(sine < 1.0)
            true = 2.0 * np.degrees(np.arcsin(sine[index]))
            factor = lorentz_polarisation(true, self.radiation.monochromator_deg)
            moved = true + setting.zero_deg + setting.displacement_deg * np.cos(np.radians(true / 2.0))
            found.append((moved, share * lines.strength[index] * factor, index))
        centres, areas, index = (np.concatenate(part) for part in zip(*found, strict=True))
        return centres, areas, index

    def sample_width(self, x: FloatArray, p: int, centres_deg: FloatArray) -> FloatArray:
        """Return the Lorentzian FWHM that the grains and strains of a phase add."""
        name, half = self.lines[p].phase.name, np.radians(centres_deg / 2.0)
        size, strain = (self.value(x, f"{name}:{kind}") for kind in ("size_deg", "strain_deg"))
        return np.asarray(size / np.cos(half) + strain * np.tan(half))

    def setting(self, x: FloatArray) -> Setting:
        """Return the state of the instrument."""
        letters = {n: max(v, 0.0) if n in ("axial", "sensor_depth_deg") else v for n, v in self._letters(x)}
        return replace(
            self.start,
            profile=replace(self.start.profile, **letters),
            zero_deg=self.value(x, "zero_deg", self.start.zero_deg),
            displacement_deg=self.value(x, "displacement_deg", self.start.displacement_deg),
        )

    def cell(self, x: FloatArray, p: int) -> FloatArray:
        """Return the cell of a phase, what symmetry ties together equal."""
        phase = self.lines[p].phase
        cell = np.array(phase.cell)
        for i, leader in enumerate(phase.cell_ties):
            if leader >= 0:
                cell[i] = self.value(x, f"{phase.name}:{_CELL[leader]}", cell[i])
        return cell

    def value(self, x: FloatArray, name: str, fixed: float = 0.0) -> float:
        """Return a parameter of the vector, or what it is fixed at."""
        return float(x[self.names.index(name)]) if name in self.names else fixed

    def scales(self, x: FloatArray) -> FloatArray:
        """Return the scale of each phase."""
        return x[self.n_shape : self.n_shape + len(self.lines)]

    def background(self, x: FloatArray) -> FloatArray:
        """Return the coefficients of the background."""
        return x[self.n_shape + len(self.lines) :]

    def _letters(self, x: FloatArray) -> list[tuple[str, float]]:
        return [(n, self.value(x, n)) for n in _LETTERS if n in self.names[: self.n_shape]]

    def _start_of(self, name: str) -> float:
        owner = self.start if name in ("zero_deg", "displacement_deg") else self.start.profile
        return float(getattr(owner, name))

    def _limits(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        n_linear = len(self.names) - self.n_shape
        rows = []
        for name, value in zip(self.names, self.start_shape, strict=False):
            kind = name.rpartition(":")[2]
            if kind in _CELL:
                is_length = kind.endswith("_A")
                reach = _CELL_REACH * value if is_length else _ANGLE_REACH_DEG
                rows.append((_KINDS["length" if is_length else "angle"][0], value - reach, value + reach))
            else:
                rows.append(_KINDS[kind])
        steps = np.array([r[0] for r in rows] + [1.0] * n_linear)
        low = np.array([r[1] for r in rows] + [0.0] * len(self.lines) + [-np.inf] * self.basis.shape[1])
        high = np.array([r[2] for r in rows] + [np.inf] * n_linear)
        return steps, low, high


def _own(phase: Phase, free: Sequence[str]) -> list[tuple[str, float]]:
    """Return names and starts of what is free in one phase."""
    own = []
    if "cell" in free:
        own += [(_CELL[i], phase.cell[i]) for i, leader in enumerate(phase.cell_ties) if leader == i]
    own += [(kind, 0.01) for kind in ("size_deg", "strain_deg") if kind in free]
    return own


def _check(phases: Sequence[Phase], free: Sequence[str], n_background: int) -> None:
    names = [phase.name for phase in phases]
    if not names:
        raise ProcessingError("a pattern needs at least one phase")
    if len(set(names)) < len(names):
        raise ProcessingError(f"phases have the same name: {', '.join(names)}; rename a CIF block")
    unknown = [name for name in free if name not in (*GLOBALS, *PER_PHASE)]
    if unknown:
        raise ProcessingError(
            f"{', '.join(unknown)} cannot be free; choose from {', '.join((*GLOBALS, *PER_PHASE))}"
        )
    if n_background < 1:
        raise ProcessingError(f"background is {n_background} terms; at least 1 is needed")
