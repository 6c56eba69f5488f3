"""Lattice parameter and composition of LixMn2O4 as functions of its lithium content."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ConfigurationError

__all__ = ["LMO_LATTICE", "LatticeMap", "SpinelPhase", "lattice_parameters"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpinelPhase:
    """One spinel phase in equilibrium: lattice parameter, lithium content and its share."""

    a_A: float
    lithium: float
    fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatticeMap:
    """Piecewise linear map from lithium content x to the cubic lattice parameter.

    Between two break points lies either a solid solution, in which a follows x, or a gap of
    miscibility, in which the phases of its two ends coexist by the lever rule.

    Parameters
    ----------
    x, a_A:
        Break points, both ascending.
    two_phase:
        For each interval whether its ends coexist.

    Raises
    ------
    ConfigurationError
        If the break points do not ascend from x = 0 to 1, or the numbers do not match.
    """

    x: tuple[float, ...]
    a_A: tuple[float, ...]
    two_phase: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not len(self.x) == len(self.a_A) == len(self.two_phase) + 1:
            raise ConfigurationError(
                f"a lattice map of {len(self.x)} contents needs as many lattice parameters "
                f"(got {len(self.a_A)}) and one interval less (got {len(self.two_phase)})"
            )
        if self.x[0] != 0.0 or self.x[-1] != 1.0:
            raise ConfigurationError(
                f"a lattice map must reach from x = 0 to 1, got {self.x[0]}-{self.x[-1]}"
            )
        for name, values in (("x", self.x), ("a_A", self.a_A)):
            if any(b <= a for a, b in itertools.pairwise(values)):
                raise ConfigurationError(f"{name} of the lattice map must ascend strictly, got {values}")

    def split(self, lithium: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return lattice parameters and fractions of the two phases at each lithium content.

        Both have shape ``(..., 2)``. Outside of a two-phase range the first fraction is 1 and the
        lattice parameters are equal. Contents outside of 0 to 1 are taken at the nearer end.
        """
        x = np.clip(np.asarray(lithium, dtype=np.float64), 0.0, 1.0)
        breaks, a = np.array(self.x), np.array(self.a_A)
        interval = np.clip(np.searchsorted(breaks, x, side="right") - 1, 0, len(self.two_phase) - 1)
        lever = (x - breaks[interval]) / (breaks[interval + 1] - breaks[interval])
        coexist = np.array(self.two_phase)[interval]
        solution = a[interval] + lever * (a[interval + 1] - a[interval])
        parameters = np.stack(
            [np.where(coexist, a[interval], solution), np.where(coexist, a[interval + 1], solution)], axis=-1
        )
        rich = np.where(coexist, lever, 0.0)
        return parameters, np.stack([1.0 - rich, rich], axis=-1)

    def lithium(self, a_A: npt.ArrayLike) -> FloatArray:
        """Return the lithium content of the phase with a lattice parameter.

        Across a gap of miscibility it is interpolated: off-stoichiometric spinel passes through
        there in one phase.
        """
        return np.interp(np.asarray(a_A, dtype=np.float64), self.a_A, self.x)


#: End points as published for the operando cell, the contents between are an assumption.
LMO_LATTICE = LatticeMap(
    x=(0.0, 0.20, 0.58, 0.80, 0.90, 1.0),
    a_A=(8.030, 8.076, 8.145, 8.183, 8.205, 8.245),
    two_phase=(False, True, False, True, False),
)


def lattice_parameters(
    lithium_content: float, lattice_map: LatticeMap = LMO_LATTICE
) -> tuple[SpinelPhase, ...]:
    """Return the one or two spinel phases that make up a lithium content.

    Raises
    ------
    ConfigurationError
        If the content is not within 0 to 1.
    """
    if not 0.0 <= lithium_content <= 1.0:
        raise ConfigurationError(f"lithium content is {lithium_content:g}; LixMn2O4 takes 0 to 1")
    parameters, fractions = lattice_map.split(lithium_content)
    return tuple(
        SpinelPhase(a_A=float(a), lithium=float(lattice_map.lithium(a)), fraction=float(f))
        for a, f in zip(parameters, fractions, strict=True)
        if f > 0.0
    )
