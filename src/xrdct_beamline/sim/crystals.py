"""Crystal structures of the simulated sample, and their structure factors.

Atoms are listed explicitly, no symmetry is applied, and every reflection of the sphere is summed:
this shares nothing with the structure factors of the refinement, which start from CIF files.
Only the tables of free atoms (scattering factors, anomalous dispersion) are gemmi's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import gemmi
import numpy as np
import numpy.typing as npt

__all__ = [
    "ALUMINIUM",
    "CERIA",
    "HC_EV_A",
    "LI2MNO3",
    "LIMNO2",
    "SPINEL",
    "Line",
    "Site",
    "Structure",
    "StructureFactors",
    "make_spinel",
]

FloatArray = npt.NDArray[np.float64]

#: Planck's constant times the speed of light, eV Å.
HC_EV_A = 12398.41984


@dataclass(frozen=True, slots=True)
class Site:
    """Equivalent positions with the atoms on them; ``lithium`` marks the site that empties on charge."""

    atoms: Mapping[str, float]  # element → occupancy
    positions: tuple[tuple[float, float, float], ...]
    B_A2: float
    lithium: bool = False


@dataclass(frozen=True, slots=True)
class Structure:
    """A crystal: metric in Å and degrees, and every site of the cell."""

    name: str
    a_A: float
    sites: tuple[Site, ...]
    b_A: float | None = None  # cubic if absent
    c_A: float | None = None
    beta_deg: float = 90.0

    def reciprocal(self) -> FloatArray:
        """Rows are a*, b*, c* in 1/Å."""
        b, c, beta = self.b_A or self.a_A, self.c_A or self.a_A, math.radians(self.beta_deg)
        direct = np.array(
            [[self.a_A, 0.0, 0.0], [0.0, b, 0.0], [c * math.cos(beta), 0.0, c * math.sin(beta)]]
        )
        return np.linalg.inv(direct).T

    @property
    def volume_A3(self) -> float:  # noqa: N802 (unit)
        """Volume of the cell."""
        return float(1.0 / abs(np.linalg.det(self.reciprocal())))


@dataclass(frozen=True, slots=True)
class Line:
    """All reflections of one d-spacing, their squared structure factors (e² per cell) summed."""

    d_A: float
    two_theta_deg: float
    multiplicity: int
    f_squared_sum: float


def _centred(
    positions: Sequence[Sequence[float]], *centrings: Sequence[float]
) -> tuple[tuple[float, float, float], ...]:
    return tuple(
        ((x + cx) % 1.0, (y + cy) % 1.0, (z + cz) % 1.0)
        for x, y, z in positions
        for cx, cy, cz in ((0.0, 0.0, 0.0), *centrings)
    )


_F = ((0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_C = ((0.5, 0.5, 0.0),)


def _spinel_oxygen(u: float) -> list[tuple[float, float, float]]:
    """32e of Fd-3m, origin at the centre of symmetry, without the face centrings."""
    half = [
        (u, u, u),
        (0.75 - u, 0.25 - u, 0.5 + u),
        (0.25 - u, 0.5 + u, 0.75 - u),
        (0.5 + u, 0.75 - u, 0.25 - u),
    ]
    return half + [(-x, -y, -z) for x, y, z in half]


def make_spinel(
    *, u: float = 0.2632, B_Mn_A2: float = 0.6, B_O_A2: float = 0.9, lithium_on_manganese: float = 0.0
) -> Structure:
    """Return LiMn2O4, Fd-3m; its lithium occupancy and lattice parameter follow the state of charge.

    The arguments are what real samples differ in from a structure that is taken from the literature:
    place of the oxygen, displacements, and a share of the manganese replaced by lithium.
    """
    manganese = {"Mn": 1.0 - lithium_on_manganese}
    if lithium_on_manganese:
        manganese["Li"] = lithium_on_manganese
    on_16d = [(0.5, 0.5, 0.5), (0.25, 0.75, 0.0), (0.75, 0.0, 0.25), (0.0, 0.25, 0.75)]
    return Structure(
        "LiMn2O4",
        8.2441,
        (
            Site(
                {"Li": 1.0}, _centred([(0.125, 0.125, 0.125), (0.875, 0.375, 0.375)], *_F), 0.9, lithium=True
            ),
            Site(manganese, _centred(on_16d, *_F), B_Mn_A2),
            Site({"O": 1.0}, _centred(_spinel_oxygen(u), *_F), B_O_A2),
        ),
    )


SPINEL = make_spinel()

#: LiMnO2, disordered rock salt, Fm-3m.
LIMNO2 = Structure(
    "LiMnO2",
    4.13,
    (
        Site({"Li": 0.5, "Mn": 0.5}, _centred([(0.0, 0.0, 0.0)], *_F), 1.0),
        Site({"O": 1.0}, _centred([(0.5, 0.5, 0.5)], *_F), 1.0),
    ),
)

#: Li2MnO3, C2/m (Strobel & Lambert-Andron 1988).
LI2MNO3 = Structure(
    "Li2MnO3",
    4.937,
    (
        Site({"Mn": 1.0}, _centred([(0.0, 0.16708, 0.0), (0.0, -0.16708, 0.0)], *_C), 0.3),
        Site({"Li": 1.0}, _centred([(0.0, 0.5, 0.0)], *_C), 1.0),
        Site({"Li": 1.0}, _centred([(0.0, 0.0, 0.5)], *_C), 1.0),
        Site({"Li": 1.0}, _centred([(0.0, 0.6606, 0.5), (0.0, -0.6606, 0.5)], *_C), 1.0),
        Site({"O": 1.0}, _centred([(0.2189, 0.0, 0.2273), (-0.2189, 0.0, -0.2273)], *_C), 0.5),
        Site(
            {"O": 1.0},
            _centred(
                [
                    (0.2540, 0.32119, 0.2233),
                    (-0.2540, 0.32119, -0.2233),
                    (-0.2540, -0.32119, -0.2233),
                    (0.2540, -0.32119, 0.2233),
                ],
                *_C,
            ),
            0.5,
        ),
    ),
    b_A=8.532,
    c_A=5.030,
    beta_deg=109.46,
)

#: CeO2, the calibrant, Fm-3m, with the cell of SRM 674b.
CERIA = Structure(
    "CeO2",
    5.411651,
    (
        Site({"Ce": 1.0}, _centred([(0.0, 0.0, 0.0)], *_F), 0.2),
        Site({"O": 1.0}, _centred([(0.25, 0.25, 0.25), (0.75, 0.75, 0.75)], *_F), 0.4),
    ),
)

#: Aluminium of the current collector, Fm-3m.
ALUMINIUM = Structure("Al", 4.0495, (Site({"Al": 1.0}, _centred([(0.0, 0.0, 0.0)], *_F), 0.82),))


class StructureFactors:
    """Powder lines of a structure at one wavelength.

    What depends on the positions alone is summed once, so that lines for other lattice parameters
    (``scale``) and lithium occupancies cost little.

    Parameters
    ----------
    structure:
        What scatters.
    wavelength_A:
        Of the beam; f′ is taken at its energy.
    two_theta_max_deg:
        Lines beyond are left out, for the lattice as listed and for contractions to ``min_scale``.
    min_scale:
        Smallest factor on the lattice parameters that `lines` will be asked for.
    """

    def __init__(
        self, structure: Structure, wavelength_A: float, two_theta_max_deg: float, *, min_scale: float = 1.0
    ) -> None:
        self._structure = structure
        self._wavelength_A = wavelength_A
        self._two_theta_max_deg = two_theta_max_deg
        s_max = 2.0 * math.sin(math.radians(two_theta_max_deg) / 2.0) / wavelength_A
        hkl, inverse_d = _sphere(structure, s_max / min(min_scale, 1.0))
        self._inverse_d, self._line = np.unique(np.round(inverse_d, 9), return_inverse=True)
        self._phases = [_phase_sum(hkl, site) for site in structure.sites]

    def lines(self, *, scale: float = 1.0, lithium: float = 1.0) -> list[Line]:
        """Return the lines of the lattice expanded by ``scale``, lithium sites filled by ``lithium``."""
        inverse_d = self._inverse_d / scale
        amplitude = np.zeros(len(self._line), np.complex128)
        for site, phase in zip(self._structure.sites, self._phases, strict=True):
            occupancy = lithium if site.lithium else 1.0
            f = occupancy * _site_factor(site, inverse_d, self._wavelength_A)
            amplitude = amplitude + f[self._line] * phase
        total = np.bincount(self._line, weights=np.abs(amplitude) ** 2)
        count = np.bincount(self._line)
        sine = 0.5 * self._wavelength_A * inverse_d
        with np.errstate(invalid="ignore"):
            two_theta = 2.0 * np.degrees(np.arcsin(np.where(sine < 1.0, sine, np.nan)))
        return [
            Line(float(1.0 / s), float(tt), int(m), float(f2))
            for s, tt, m, f2 in zip(inverse_d, two_theta, count, total, strict=True)
            if f2 > 1e-6 and tt <= self._two_theta_max_deg
        ]


def _sphere(structure: Structure, s_max: float) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """All hkl but 000 within 1/d ≤ s_max, and their 1/d."""
    lengths = structure.a_A, structure.b_A or structure.a_A, structure.c_A or structure.a_A
    # |h| = |r·a| for r in reciprocal space, at most s_max |a|
    axes = [np.arange(-n, n + 1) for n in (math.floor(s_max * length) for length in lengths)]
    hkl = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    inverse_d = np.linalg.norm(hkl @ structure.reciprocal(), axis=1)
    keep = (inverse_d > 0) & (inverse_d <= s_max)
    return hkl[keep], inverse_d[keep]


def _phase_sum(hkl: npt.NDArray[np.int64], site: Site) -> npt.NDArray[np.complex128]:
    return np.exp(2j * np.pi * (hkl @ np.array(site.positions).T)).sum(axis=1)


def _site_factor(site: Site, inverse_d: FloatArray, wavelength_A: float) -> FloatArray:
    """Mean scattering factor of a site with its thermal factor, in electrons."""
    stol2 = 0.25 * inverse_d**2
    total = np.zeros_like(stol2)
    for symbol, occupancy in site.atoms.items():
        element = gemmi.Element(symbol)
        f_prime, _ = gemmi.cromer_liberman(element.atomic_number, HC_EV_A / wavelength_A)
        free = np.array([element.it92.calculate_sf(float(s)) for s in stol2])
        total += occupancy * (free + f_prime)
    return total * np.exp(-site.B_A2 * stol2)
