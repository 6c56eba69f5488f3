"""Phase: reflections and structure factors from a CIF."""

from __future__ import annotations

import codecs
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

import gemmi
import numpy as np
import numpy.typing as npt

from ._cif import Crystal, Site, pick_block, read_crystal
from ._symmetry import metric
from .errors import PhaseError

__all__ = ["Phase", "Reflection", "shipped_names"]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: h·c in eV·Å: the photon energy at which f′ is taken; the wavelength itself comes from the PONI.
_HC_EV_A = 12398.419843320026

#: Below this fraction of the cell's electrons squared |F|² is 0; rounding leaves about 1e-30.
_ABSENT = 1e-15

#: Points of the reciprocal lattice that are looked at in one go at most.
_MOST_POINTS = 20_000_000

_PARAMETERS = ("a_A", "b_A", "c_A", "alpha_deg", "beta_deg", "gamma_deg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflection:
    """One family of symmetry-equivalent reflections.

    ``f_squared`` is |F|² in electrons² per cell, with displacement, f′ and f″ (Cromer and Liberman);
    families that merely coincide, as 333 and 511, are listed apart.
    """

    hkl: tuple[int, int, int]
    d_A: float
    two_theta_deg: float
    multiplicity: int
    f_squared: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A crystal structure, as far as its powder pattern needs it.

    Make one with `from_cif` or `shipped`; `with_cell` and `with_occupancy` give altered copies.

    Parameters
    ----------
    name:
        Block name of the CIF.
    cif_text:
        The CIF; its first block counts.
    cell:
        ``(a, b, c)`` in ångström and ``(alpha, beta, gamma)`` in degrees.
    occupancy:
        Site labels whose occupancy differs from the CIF's.
    assumptions:
        A sentence for all that the CIF does not say and that had to be assumed.
    """

    name: str
    cif_text: str = field(repr=False)
    cell: tuple[float, float, float, float, float, float]
    occupancy: tuple[tuple[str, float], ...] = ()
    assumptions: tuple[str, ...] = ()

    @classmethod
    def from_cif(cls, path: str | Path, block: str | None = None) -> Phase:
        """Read a structure of a CIF: the block named, or the first that has sites."""
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise PhaseError(f"the CIF {path} cannot be read: {error}") from error
        phase = cls._from_text(_decode(raw), str(path), block)
        for sentence in phase.assumptions:
            logger.info("%s: %s", path, sentence)
        return phase

    @classmethod
    def shipped(cls, name: str) -> Phase:
        """Return one of the structures that come with this package."""
        names = shipped_names()
        if name not in names:
            raise PhaseError(f"no structure {name!r} is shipped; there are {', '.join(names)}; or use a CIF")
        text = _structures().joinpath(f"{name}.cif").read_text(encoding="utf-8")
        return cls._from_text(text, name)

    @classmethod
    def from_text(cls, text: str, origin: str = "the CIF") -> Phase:
        """Read the text of a CIF, such as a result's copy of it; ``origin`` is what messages call it."""
        return cls._from_text(text, origin)

    @classmethod
    def _from_text(cls, text: str, origin: str, block: str | None = None) -> Phase:
        chosen, assumed = pick_block(text, origin, block)
        crystal = read_crystal(chosen, origin)
        return cls(
            name=crystal.name.strip() or Path(origin).stem,
            cif_text=chosen,
            cell=crystal.cell,
            assumptions=(*assumed, *crystal.assumptions),
        )

    def with_cell(
        self,
        *,
        a_A: float | None = None,
        b_A: float | None = None,
        c_A: float | None = None,
        alpha_deg: float | None = None,
        beta_deg: float | None = None,
        gamma_deg: float | None = None,
    ) -> Phase:
        """Return the phase with other cell parameters; those that symmetry ties to one follow it."""
        given = (a_A, b_A, c_A, alpha_deg, beta_deg, gamma_deg)
        cell = list(self.cell)
        for i, leader in enumerate(self.cell_ties):
            value = given[i] if given[i] is not None else given[leader] if leader >= 0 else None
            if value is not None:
                cell[i] = float(value)
        if not all(math.isfinite(v) and v > 0 for v in cell):
            raise PhaseError(f"cell lengths and angles of {self.name} must be positive, got {cell} Å, °")
        new = (cell[0], cell[1], cell[2], cell[3], cell[4], cell[5])
        if not np.linalg.det(metric(new)) > 0:
            raise PhaseError(f"angles {new[3]:g} {new[4]:g} {new[5]:g}° of {self.name} close no cell")
        return replace(self, cell=self._crystal().symmetry.fit_cell(new, self.name))

    def with_occupancy(self, occupancy: Mapping[str, float]) -> Phase:
        """Return the phase with other occupancies, by site label."""
        labels = [site.label for site in self._crystal().sites]
        for label, value in occupancy.items():
            if label not in labels:
                raise PhaseError(f"{self.name} has no site {label!r}; its sites are {', '.join(labels)}")
            if not 0.0 <= value <= 1.0:
                raise PhaseError(f"occupancy {value:g} of {self.name} {label} must lie between 0 and 1")
        return replace(self, occupancy=tuple(sorted({**dict(self.occupancy), **occupancy}.items())))

    @property
    def space_group(self) -> str:
        """Hermann-Mauguin symbol with the origin choice, as gemmi writes it."""
        return self._crystal().symmetry.name

    @property
    def cell_ties(self) -> tuple[int, int, int, int, int, int]:
        """For each of a, b, c, α, β, γ the index of the one it follows (its own if free), -1 if fixed."""
        return self._crystal().symmetry.ties

    @property
    def free_cell(self) -> tuple[str, ...]:
        """Names of the cell parameters that symmetry leaves free, as `with_cell` takes them."""
        return tuple(_PARAMETERS[i] for i, leader in enumerate(self.cell_ties) if leader == i)

    @property
    def is_cubic(self) -> bool:
        """Whether one length gives the whole cell."""
        return self.cell_ties == (0, 0, 0, -1, -1, -1)

    @property
    def volume_A3(self) -> float:  # noqa: N802
        """Volume of the cell."""
        return math.sqrt(float(np.linalg.det(metric(self.cell))))

    @property
    def composition(self) -> dict[str, float]:
        """Atoms of each element in the cell."""
        atoms: dict[str, float] = {}
        for site, occupancy in self._occupied():
            atoms[site.element] = atoms.get(site.element, 0.0) + occupancy * len(site.positions)
        return atoms

    @property
    def sites(self) -> tuple[tuple[Site, float], ...]:
        """Atoms of the asymmetric unit with their images in the cell, and their occupancies."""
        return tuple(self._occupied())

    @property
    def cell_mass_g_mol(self) -> float:
        """Mass of the contents of one cell, Z·M of Hill and Howard (1987)."""
        return sum(n * float(gemmi.Element(element).weight) for element, n in self.composition.items())

    @property
    def density_g_cm3(self) -> float:
        """Density of the crystal."""
        return self.cell_mass_g_mol / self.volume_A3 / 0.602214076

    def reflections(
        self, wavelength_A: float, two_theta_max_deg: float, two_theta_min_deg: float = 0.0
    ) -> list[Reflection]:
        """List the families of reflections between two angles, by ascending angle; absent ones are left out.

        Raises
        ------
        PhaseError
            If wavelength or angles cannot be used, or a range that has a lower end holds no reflection.
        """
        _check_range(wavelength_A, two_theta_max_deg)
        d_min_A = wavelength_A / (2 * math.sin(math.radians(two_theta_max_deg) / 2))
        hkl, multiplicity, d_A = self._families(d_min_A)
        f_squared = self._f_squared(hkl, d_A, wavelength_A)
        electrons = sum(n * gemmi.Element(e).atomic_number for e, n in self.composition.items())
        floor = _ABSENT * electrons**2
        angles = 2 * np.degrees(np.arcsin(np.minimum(1.0, wavelength_A / (2 * d_A))))
        found = [
            Reflection(
                hkl=(int(hkl[i, 0]), int(hkl[i, 1]), int(hkl[i, 2])),
                d_A=float(d_A[i]),
                two_theta_deg=float(angles[i]),
                multiplicity=int(multiplicity[i]),
                f_squared=float(f_squared[i]),
            )
            for i in np.flatnonzero((f_squared > floor) & (angles >= two_theta_min_deg))
        ]
        if two_theta_min_deg > 0 and not found:
            raise PhaseError(
                f"{self.name} has no reflection between {two_theta_min_deg:g} and {two_theta_max_deg:g}° "
                f"at {wavelength_A:g} Å; widen the range or leave the phase out"
            )
        return sorted(found, key=lambda r: (round(r.two_theta_deg, 9), [-i for i in r.hkl]))

    def _families(self, d_min_A: float) -> tuple[IntArray, IntArray, FloatArray]:
        """Return one member of each family with d ≥ d_min, its multiplicity and d."""
        reciprocal = np.linalg.inv(metric(self.cell))
        limits = np.floor(np.array(self.cell[:3]) / d_min_A + 1e-6).astype(np.int64)
        if np.prod(2.0 * limits + 1.0) > _MOST_POINTS:
            raise PhaseError(
                f"{self.name} has too many reflections down to d = {d_min_A:.3g} Å; lower two_theta_max_deg"
            )
        axes = [np.arange(-n, n + 1) for n in limits]
        hkl = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        inverse_d2 = np.einsum("ni,ij,nj->n", hkl, reciprocal, hkl)
        hkl = hkl[(inverse_d2 > 0) & (inverse_d2 <= (1 + 1e-9) / d_min_A**2)]
        base = 2 * int(limits.max(initial=0)) * 3 + 3
        weights = np.array([base * base, base, 1], dtype=np.int64)
        # The family's name is its largest member; the others are counted into its multiplicity.
        key = np.full(len(hkl), np.iinfo(np.int64).min)
        for rotation in self._crystal().symmetry.rotations:
            np.maximum(key, (hkl @ rotation) @ weights, out=key)
        own = hkl @ weights
        _, multiplicity = np.unique(key, return_counts=True)
        chosen = hkl[own == key]
        chosen = chosen[np.argsort(chosen @ weights)]
        return chosen, multiplicity, 1.0 / np.sqrt(np.einsum("ni,ij,nj->n", chosen, reciprocal, chosen))

    def _f_squared(self, hkl: IntArray, d_A: FloatArray, wavelength_A: float) -> FloatArray:
        """Return |F|² of reflections, the mean of hkl and its Friedel mate."""
        stol2 = 1.0 / (4.0 * d_A**2)
        real = np.zeros(len(hkl), dtype=np.complex128)  # of f + f′
        imaginary = np.zeros(len(hkl), dtype=np.complex128)  # of f″
        for site, occupancy in self._occupied():
            atom = gemmi.Element(site.element)
            f_prime, f_second = gemmi.cromer_liberman(atom.atomic_number, _HC_EV_A / wavelength_A)
            f = np.array([atom.it92.calculate_sf(float(s)) for s in stol2]) + f_prime
            waves = np.exp(2j * math.pi * (hkl @ site.positions.T)).sum(axis=1)
            waves *= occupancy * np.exp(-8.0 * math.pi**2 * site.u_iso_A2 * stol2)
            real += f * waves
            imaginary += f_second * waves
        return np.asarray(np.abs(real) ** 2 + np.abs(imaginary) ** 2)

    def _occupied(self) -> list[tuple[Site, float]]:
        changed = dict(self.occupancy)
        return [(site, changed.get(site.label, site.occupancy)) for site in self._crystal().sites]

    def _crystal(self) -> Crystal:
        return read_crystal(self.cif_text, self.name)


def _decode(raw: bytes) -> str:
    """Return the text of a file; where the encoding is a guess, it may garble comments and names alone."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def shipped_names() -> list[str]:
    """Return the names that `Phase.shipped` knows."""
    return sorted(p.name.removesuffix(".cif") for p in _structures().iterdir() if p.name.endswith(".cif"))


def _structures() -> resources.abc.Traversable:
    return resources.files("xrdct_beamline").joinpath("structures")


def _check_range(wavelength_A: float, two_theta_max_deg: float) -> None:
    if not (math.isfinite(wavelength_A) and wavelength_A > 0):
        raise PhaseError(f"the wavelength is {wavelength_A:g} Å; it must be positive")
    if not 0 < two_theta_max_deg < 180:
        raise PhaseError(f"two_theta_max_deg is {two_theta_max_deg:g}; it must lie between 0 and 180")
