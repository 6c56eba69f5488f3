"""What every part of the electrode is made of at a state of charge.

Ordinary particles follow the electrode's lithium content, each a little ahead of it or behind.
Particle 1 is lithium-rich: one phase throughout, with a lattice parameter that rises towards the
core, more so the more lithium it holds, and Li2MnO3 near its surface. Particle 2 behaves as the
bulk does: the two-phase reactions of the map, no gradient, and rock salt that grows on discharge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .electrode import SOLID_FRACTION, Electrode
from .lattice import LatticeMap

__all__ = ["MINOR_DENSITY", "MINOR_PHASES", "SPINEL_DENSITY", "Composition", "RegionContents"]

FloatArray = npt.NDArray[np.float64]

#: Minor phases in the order of the last axis of `RegionContents.minor`.
MINOR_PHASES = ("LiMnO2", "Li2MnO3")

#: Densities in g/cm³, for mass fractions to volume fractions: rock salt, Li2MnO3, spinel.
MINOR_DENSITY, SPINEL_DENSITY = np.array([4.43, 3.88]), 4.29

#: Where the discharge begins: no rock salt has grown yet.
_CHARGED_X = 0.2

#: Lattice parameters of the lithium-rich particle: charged; discharged at surface and core.
_RICH_CHARGED_A, _RICH_SURFACE_A, _RICH_CORE_A = 8.080, 8.223, 8.240

#: Mass fractions: rock salt once discharged in Particle 1, Particle 2 and at most in the others;
#: Li2MnO3 in the outer half of Particle 1.
_ROCK_SALT = {"Li-rich": 0.04, "bulk": 0.26}
_ROCK_SALT_OTHERS, _LI2MNO3_SHELL = 0.06, 0.035

#: Spread of the particles' lithium contents around the mean, at mid-charge.
_SPREAD_X = 0.05


@dataclass(frozen=True, slots=True)
class RegionContents:
    """Volume fractions of each region of an electrode; the rest is pores, binder or electrolyte.

    Parameters
    ----------
    a_A, spinel:
        Lattice parameter and volume fraction of up to two spinel phases, shape ``(region, 2)``.
    minor:
        Volume fractions of MINOR_PHASES, shape ``(region, 2)``.
    """

    a_A: FloatArray
    spinel: FloatArray
    minor: FloatArray


class Composition:
    """Contents of an electrode's regions as a function of its mean lithium content.

    Parameters
    ----------
    electrode:
        The slice.
    lattice_map:
        Lattice parameters of stoichiometric spinel.
    seed:
        Of the particles' individual lead and rock salt.
    """

    def __init__(self, electrode: Electrode, lattice_map: LatticeMap, seed: int) -> None:
        self._map = lattice_map
        rng = np.random.default_rng([abs(seed), 11])
        kinds = np.array([p.kind for p in electrode.particles], dtype=object)
        ordinary = kinds == "ordinary"
        volume = np.bincount(electrode.labels.ravel(), minlength=len(kinds) + 1)[1:].astype(np.float64)
        lead = np.clip(rng.standard_normal(len(kinds)), -2.0, 2.0) * ordinary
        if (ordinary * volume).sum() > 0:  # the mean over the electrode stays the cell's
            lead -= ordinary * np.average(lead, weights=ordinary * volume)
        rock_salt = np.where(ordinary, rng.uniform(0.0, _ROCK_SALT_OTHERS, len(kinds)), 0.0)
        rock_salt += np.array([_ROCK_SALT.get(kind, 0.0) for kind in kinds])

        owner = electrode.region_particle
        self._solid = owner >= 0
        self._rich = self._solid & (_take(kinds, owner, "") == "Li-rich")
        self._depth = electrode.region_depth
        self._lead = _take(lead, owner, 0.0)
        self._rock_salt = _take(rock_salt, owner, 0.0)

    def at(self, lithium_content: float) -> RegionContents:
        """Return what the regions hold at a mean lithium content of 0 to 1."""
        x = lithium_content + _SPREAD_X * 4.0 * lithium_content * (1.0 - lithium_content) * self._lead
        a_A, share = self._map.split(x)
        a_A[self._rich] = self._lithium_rich_a(lithium_content)[self._rich, None]
        share[self._rich] = (1.0, 0.0)
        minor = self._minor_volume(lithium_content)
        solid = SOLID_FRACTION * self._solid
        spinel = share * (solid * (1.0 - minor.sum(axis=1)))[:, None]
        return RegionContents(a_A, spinel, minor * solid[:, None])

    def _lithium_rich_a(self, x: float) -> FloatArray:
        discharged = (x - _CHARGED_X) / (1.0 - _CHARGED_X)
        uniform = _RICH_CHARGED_A + (_RICH_SURFACE_A - _RICH_CHARGED_A) * discharged
        gradient = (_RICH_CORE_A - _RICH_SURFACE_A) * max(discharged, 0.0)
        return uniform + gradient * self._depth

    def _minor_volume(self, x: float) -> FloatArray:
        """Volume fractions within the solid, from the mass fractions, shape ``(region, 2)``."""
        grown = np.clip((x - _CHARGED_X) / (1.0 - _CHARGED_X), 0.0, 1.0)
        shell = np.where(self._rich & (self._depth < 0.5), _LI2MNO3_SHELL, 0.0)
        mass = np.stack([self._rock_salt * grown, shell], axis=1)
        volume = mass / MINOR_DENSITY
        total = volume.sum(axis=1) + (1.0 - mass.sum(axis=1)) / SPINEL_DENSITY
        return volume / total[:, None]


def _take(values: npt.NDArray, owner: npt.NDArray[np.int32], absent: object) -> npt.NDArray:
    """Value of each region's particle, or ``absent`` where there is none."""
    padded = np.append(values, np.array([absent], dtype=values.dtype))
    return padded[owner]
