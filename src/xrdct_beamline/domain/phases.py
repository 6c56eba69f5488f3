"""Phase: reflections and structure factors from a CIF."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

import gemmi

from .errors import PhaseError

__all__ = ["Phase", "Reflection", "shipped_names"]

#: h·c in eV·Å: the photon energy at which f′ is taken; the wavelength itself comes from the PONI.
_HC_EV_A = 12398.419843320026

#: Below this fraction of the strongest |F|² a reflection is absent; rounding leaves about 1e-30.
_ABSENT = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Reflection:
    """One family of symmetry-equivalent reflections.

    ``f_squared`` is |F|² in electrons² per cell, with displacement and f′; families that merely
    coincide, as 333 and 511, are listed apart.
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
    """

    name: str
    cif_text: str = field(repr=False)
    cell: tuple[float, float, float, float, float, float]
    occupancy: tuple[tuple[str, float], ...] = ()

    @classmethod
    def from_cif(cls, path: str | Path) -> Phase:
        """Read the first block of a CIF."""
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise PhaseError(f"the CIF {path} cannot be read: {error}") from error
        return cls._from_text(text, str(path))

    @classmethod
    def shipped(cls, name: str) -> Phase:
        """Return one of the structures that come with this package."""
        names = shipped_names()
        if name not in names:
            raise PhaseError(f"no structure {name!r} is shipped; there are {', '.join(names)}; or use a CIF")
        text = _structures().joinpath(f"{name}.cif").read_text(encoding="utf-8")
        return cls._from_text(text, name)

    @classmethod
    def _from_text(cls, text: str, origin: str) -> Phase:
        structure = _parse(text, origin)
        a, b, c, alpha, beta, gamma = structure.cell.parameters
        return cls(name=structure.name, cif_text=text, cell=(a, b, c, alpha, beta, gamma))

    def with_cell(
        self,
        *,
        a_A: float | None = None,
        b_A: float | None = None,
        c_A: float | None = None,
        beta_deg: float | None = None,
    ) -> Phase:
        """Return the phase with other cell lengths; of a cubic cell ``a_A`` alone sets all three."""
        a, b, c, alpha, beta, gamma = self.cell
        if a_A is not None and a == b == c and b_A is None and c_A is None:
            b_A = c_A = a_A
        lengths = [new if new is not None else old for new, old in ((a_A, a), (b_A, b), (c_A, c))]
        if not all(math.isfinite(v) and v > 0 for v in lengths):
            raise PhaseError(f"cell lengths of {self.name} must be positive, got {lengths} Å")
        new_beta = beta if beta_deg is None else beta_deg
        return replace(self, cell=(lengths[0], lengths[1], lengths[2], alpha, new_beta, gamma))

    def with_occupancy(self, occupancy: Mapping[str, float]) -> Phase:
        """Return the phase with other occupancies, by site label."""
        labels = [site.label for site in _parse(self.cif_text, self.name).sites]
        for label, value in occupancy.items():
            if label not in labels:
                raise PhaseError(f"{self.name} has no site {label!r}; its sites are {', '.join(labels)}")
            if not 0.0 <= value <= 1.0:
                raise PhaseError(f"occupancy {value:g} of {self.name} {label} must lie between 0 and 1")
        return replace(self, occupancy=tuple(sorted({**dict(self.occupancy), **occupancy}.items())))

    @property
    def space_group(self) -> str:
        """Hermann-Mauguin symbol with the origin choice, as gemmi writes it."""
        return str(self._structure().spacegroup.xhm())

    @property
    def is_cubic(self) -> bool:
        """Whether one length gives the whole cell."""
        return str(self._structure().spacegroup.crystal_system_str()) == "cubic"

    @property
    def volume_A3(self) -> float:  # noqa: N802
        """Volume of the cell."""
        return float(self._structure().cell.volume)

    @property
    def composition(self) -> dict[str, float]:
        """Atoms of each element in the cell."""
        structure = self._structure()
        images = len(structure.cell.images) + 1
        atoms: dict[str, float] = {}
        for site in structure.sites:
            atoms[site.element.name] = atoms.get(site.element.name, 0.0) + site.occ * images
        return atoms

    @property
    def cell_mass_g_mol(self) -> float:
        """Mass of the contents of one cell, Z·M of Hill and Howard (1987)."""
        return sum(n * float(gemmi.Element(element).weight) for element, n in self.composition.items())

    @property
    def density_g_cm3(self) -> float:
        """Density of the crystal."""
        return self.cell_mass_g_mol / self.volume_A3 / 0.602214076

    def reflections(self, wavelength_A: float, two_theta_max_deg: float) -> list[Reflection]:
        """List the families of reflections up to an angle, by ascending angle; absent ones are left out."""
        if not (math.isfinite(wavelength_A) and wavelength_A > 0):
            raise PhaseError(f"the wavelength is {wavelength_A:g} Å; it must be positive")
        if not 0 < two_theta_max_deg < 180:
            raise PhaseError(f"two_theta_max_deg is {two_theta_max_deg:g}; it must lie between 0 and 180")
        structure = self._structure()
        calculator = gemmi.StructureFactorCalculatorX(structure.cell)
        calculator.addends.add_cl_fprime(_HC_EV_A / wavelength_A)
        d_min_A = wavelength_A / (2 * math.sin(math.radians(two_theta_max_deg) / 2))
        operations = structure.spacegroup.operations()
        found = []
        for hkl in gemmi.make_miller_array(structure.cell, structure.spacegroup, d_min_A):
            orbit = _orbit([int(i) for i in hkl], operations)
            d_A = float(structure.cell.calculate_d(max(orbit)))
            f = calculator.calculate_sf_from_small_structure(structure, max(orbit))
            found.append(
                Reflection(
                    hkl=max(orbit),
                    d_A=d_A,
                    two_theta_deg=2 * math.degrees(math.asin(min(1.0, wavelength_A / (2 * d_A)))),
                    multiplicity=len(orbit),
                    f_squared=abs(f) ** 2,
                )
            )
        floor = _ABSENT * max((r.f_squared for r in found), default=0.0)
        present = [r for r in found if r.f_squared > floor]
        return sorted(present, key=lambda r: (round(r.two_theta_deg, 9), [-i for i in r.hkl]))

    def _structure(self) -> gemmi.SmallStructure:
        """Return gemmi's structure with this cell, occupancies counted per general position."""
        structure = _parse(self.cif_text, self.name)
        structure.cell.set(*self.cell)
        structure.setup_cell_images()
        changed = dict(self.occupancy)
        for site in structure.sites:
            site.occ = changed.get(site.label, site.occ)
        # Without this an atom on a special position counts once per operation that leaves it in place.
        structure.change_occupancies_to_crystallographic()
        return structure


def shipped_names() -> list[str]:
    """Return the names that `Phase.shipped` knows."""
    return sorted(p.name.removesuffix(".cif") for p in _structures().iterdir() if p.name.endswith(".cif"))


def _structures() -> resources.abc.Traversable:
    return resources.files("xrdct_beamline").joinpath("structures")


def _parse(text: str, origin: str) -> gemmi.SmallStructure:
    try:
        block = gemmi.cif.read_string(text)[0]
        structure = gemmi.make_small_structure_from_block(block)
    except (ValueError, RuntimeError, IndexError) as error:
        raise PhaseError(f"{origin} is not a CIF that gemmi can read: {error}") from error
    if not structure.cell.is_crystal():
        raise PhaseError(f"{origin} has no unit cell; add _cell_length_a and the other five")
    if structure.spacegroup is None:
        raise PhaseError(f"{origin} names no space group known to gemmi; add _space_group_name_H-M_alt")
    if not structure.sites:
        raise PhaseError(f"{origin} has no atom sites, and a pattern needs them; add the _atom_site loop")
    unknown = [site.label for site in structure.sites if site.element.atomic_number == 0]
    if unknown:
        raise PhaseError(
            f"{origin} has sites of unknown element: {', '.join(unknown)}; correct _atom_site_type_symbol"
        )
    return structure


def _orbit(hkl: list[int], operations: gemmi.GroupOps) -> set[tuple[int, int, int]]:
    """Return the equivalents of a reflection under the Laue class."""
    orbit = set()
    for operation in operations.sym_ops:
        h, k, l = operation.apply_to_hkl(hkl)  # noqa: E741 - the field's letters
        orbit |= {(h, k, l), (-h, -k, -l)}
    return orbit
