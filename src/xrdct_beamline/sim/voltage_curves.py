"""Equilibrium voltages of the electrodes, and of the cells made of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

__all__ = ["OCV_RANGE", "Chemistry", "ElectrodePair", "graphite_voltage", "open_circuit_voltage"]

#: Where the fit of LiyMn2O4's voltage holds; its singularity lies at 0.998432.
OCV_RANGE = (0.17, 0.998)

#: Graphite is given a little less than no lithium, so that its voltage runs away as it does when empty.
GRAPHITE_RANGE = (-0.02, 1.0)

#: LiyMn2O4 content at which the counter electrode's ``full`` content is counted: 4.2 V against lithium.
CHARGED_X = 0.195


def open_circuit_voltage(lithium_content: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the equilibrium voltage of LiyMn2O4 against lithium, in V.

    The fit of Doyle, Newman et al. 1996 (J. Electrochem. Soc. 143, 1890); contents outside of its
    range are taken at the nearer end of it.
    """
    y = np.clip(np.asarray(lithium_content, dtype=np.float64), *OCV_RANGE)
    return (
        4.19829
        + 0.0565661 * np.tanh(-14.5546 * y + 8.60942)
        - 0.0275479 * ((0.998432 - y) ** -0.492465 - 1.90111)
        - 0.157123 * np.exp(-0.04738 * y**8)
        + 0.810239 * np.exp(-40.0 * (y - 0.133875))
    )


def graphite_voltage(lithium_content: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the equilibrium voltage of LiyC6 against lithium, in V.

    The fit for MCMB 2528 in Newman's Dualfoil (1998), as PyBaMM's Marquis2019 set quotes it.
    """
    y = np.clip(np.asarray(lithium_content, dtype=np.float64), *GRAPHITE_RANGE)
    steps = (  # height, centre and width of each
        (0.0351, 0.286, 0.083),
        (-0.0045, 0.849, 0.119),
        (-0.035, 0.9233, 0.05),
        (-0.0147, 0.5, 0.034),
        (-0.102, 0.194, 0.142),
        (-0.022, 0.9, 0.0164),
        (-0.011, 0.124, 0.0226),
        (0.0155, 0.105, 0.029),
    )
    tanh = sum(height * np.tanh((y - centre) / width) for height, centre, width in steps)
    return np.asarray(0.194 + 1.5 * np.exp(-120.0 * y) + tanh)


class Chemistry(StrEnum):
    """Positive and negative electrode."""

    LMO_LI = "LMO/Li"
    LMO_GRAPHITE = "LMO/graphite"


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectrodePair:
    """A cell's equilibrium voltage against the lithium content of its LixMn2O4.

    Parameters
    ----------
    chemistry:
        Both electrodes.
    graphite_per_x:
        Change of graphite's content for a change by one of x: the ratio of the electrodes' capacities.
    graphite_charged:
        Graphite's content at x = 0.195.
    """

    chemistry: Chemistry = Chemistry.LMO_LI
    graphite_per_x: float = 1.25
    graphite_charged: float = 0.85

    def voltage(self, x: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return the equilibrium voltage, in V."""
        positive_V = open_circuit_voltage(x)
        if self.chemistry is Chemistry.LMO_LI:
            return positive_V
        moved = np.asarray(x, dtype=np.float64) - CHARGED_X
        return positive_V - graphite_voltage(self.graphite_charged - moved * self.graphite_per_x)
