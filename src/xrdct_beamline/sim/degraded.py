"""An electrode after 150 cycles: how much of each particle has turned into something else.

The more of a particle has segregated into LiMnO2 and Li2MnO3, the less manganese(III) its spinel
holds, and the smaller is its lattice parameter. The low end is as published (20 and 11 wt %, below
the window of the bulk); what the bulk and the best particles hold is an assumption.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .composition import MINOR_DENSITY, SPINEL_DENSITY, RegionContents
from .electrode import SOLID_FRACTION, Electrode

__all__ = ["DegradedComposition"]

FloatArray = npt.NDArray[np.float64]

#: Low, middle and high lattice parameter: share of the particles, a in Å and its spread between
#: particles, mass fractions of LiMnO2 and Li2MnO3.
_CLASSES = (
    (0.12, 8.085, 0.006, 0.20, 0.11),
    (0.76, 8.118, 0.008, 0.09, 0.05),
    (0.12, 8.195, 0.006, 0.03, 0.01),
)


class DegradedComposition:
    """Contents of an electrode's regions after cycling, whatever the lithium content.

    Parameters
    ----------
    electrode:
        The slice.
    seed:
        Of which particle has degraded how much.
    """

    def __init__(self, electrode: Electrode, seed: int) -> None:
        rng = np.random.default_rng([abs(seed), 13])
        n = len(electrode.particles)
        table = np.array(_CLASSES)
        self.classes = rng.choice(len(table), n, p=table[:, 0])
        row = table[self.classes]
        a_A = row[:, 1] + row[:, 2] * np.clip(rng.standard_normal(n), -2.0, 2.0)
        owner = electrode.region_particle
        solid = (owner >= 0).astype(np.float64)
        mass = np.append(row[:, 3:], [[0.0, 0.0]], axis=0)[owner]
        volume = mass / MINOR_DENSITY
        total = volume.sum(axis=1) + (1.0 - mass.sum(axis=1)) / SPINEL_DENSITY
        minor = volume / total[:, None]
        spinel = SOLID_FRACTION * solid * (1.0 - minor.sum(axis=1))
        lattice = np.append(a_A, table[1, 1])[owner]
        self._contents = RegionContents(
            np.stack([lattice, lattice], axis=1),
            np.stack([spinel, np.zeros_like(spinel)], axis=1),
            minor * (SOLID_FRACTION * solid)[:, None],
        )

    def at(self, lithium_content: float) -> RegionContents:
        """Return what the regions hold."""
        return self._contents
