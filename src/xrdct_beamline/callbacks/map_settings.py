"""What is refined in each voxel of a slice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.instrument import Instrument
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.processing.peak_profile import Profile
from xrdct_beamline.processing.refinement import PatternModel, refine

__all__ = ["MapSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapSettings:
    """Phases, profile and range of the refinement, and how its lattice map is shown.

    Parameters
    ----------
    phases:
        The first one's lattice parameter is the map that is shown.
    instrument:
        From a calibrant; data of another wavelength are refused.
    radial_range:
        Part of the pattern that is fitted, in the unit of its axis; all of it without.
    background:
        Terms of the Chebyshev background.
    limits_A:
        Range of the colours and of the histogram.
    window_A:
        Lattice parameters that no phase in equilibrium has; marked in the histogram.
    """

    phases: tuple[Phase, ...]
    instrument: Instrument
    radial_range: tuple[float, float] | None = None
    background: int = 6
    limits_A: tuple[float, float] = (8.0, 8.3)
    window_A: tuple[float, float] | None = (8.076, 8.145)

    def __post_init__(self) -> None:
        if not self.phases:
            raise ConfigurationError("a refinement needs at least one phase; name a shipped one or a CIF")
        for name in ("radial_range", "limits_A", "window_A"):
            pair = getattr(self, name)
            if pair is not None and not pair[0] < pair[1]:
                raise ConfigurationError(f"{name} is {pair[0]:g} to {pair[1]:g}; the first must be less")

    def bins_of(self, radial: npt.NDArray[np.floating[Any]]) -> slice:
        """Return the bins that are fitted.

        Raises
        ------
        ConfigurationError
            If fewer than 20 lie in the range.
        """
        if self.radial_range is None:
            return slice(0, len(radial))
        first, last = np.searchsorted(radial, self.radial_range)
        if last - first < 20:
            raise ConfigurationError(
                f"{last - first} bins of the pattern ({radial[0]:g} to {radial[-1]:g}) lie within the range "
                f"of the refinement, {self.radial_range[0]:g} to {self.radial_range[1]:g}; widen it"
            )
        return slice(int(first), int(last))

    def model(self, radial: npt.NDArray[np.floating[Any]], wavelength_A: float, unit: str) -> PatternModel:
        """Return the model of patterns on an axis; it takes a second or so to make."""
        self.instrument.refuse_other_wavelength(wavelength_A)
        return PatternModel(
            self.phases,
            radial,
            wavelength_A,
            unit=unit,
            profile=Profile(**self.instrument.profile),
            background=self.background,
            zero_deg=self.instrument.zero_deg,
        )

    def warm_up(self) -> None:
        """Compile the kernels, or load them: a few bins and patterns suffice."""
        radial = np.linspace(*self.instrument.two_theta_range_deg, 64)
        model = self.model(radial, self.instrument.wavelength_A, "2th_deg")
        patterns = np.ones((2, 64), np.float32)
        refine(patterns, model, threads=1)
        refine(patterns, model, np.ones_like(patterns), threads=1)

    def to_metadata(self) -> dict[str, Any]:
        """Return all that the maps depend on as plain JSON values; `from_metadata` makes it anew."""
        return {
            "phases": [
                {
                    "name": phase.name,
                    "cif": phase.cif_text,
                    "cell": list(phase.cell),
                    "occupancy": dict(phase.occupancy),
                }
                for phase in self.phases
            ],
            "instrument": self.instrument.to_toml(),
            "radial_range": None if self.radial_range is None else list(self.radial_range),
            "background": self.background,
            "limits_A": list(self.limits_A),
            "window_A": None if self.window_A is None else list(self.window_A),
        }

    @classmethod
    def from_metadata(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings that `to_metadata` described.

        Raises
        ------
        ConfigurationError
            If they are not all there, or cannot be.
        """
        try:
            phases = tuple(
                replace(
                    Phase.from_text(phase["cif"], phase["name"]),
                    name=phase["name"],
                    cell=tuple(phase["cell"]),
                    occupancy=tuple(sorted(phase["occupancy"].items())),
                )
                for phase in values["phases"]
            )
            return cls(
                phases=phases,
                instrument=Instrument.from_toml(values["instrument"]),
                radial_range=_pair(values["radial_range"]),
                background=int(values["background"]),
                limits_A=(float(values["limits_A"][0]), float(values["limits_A"][1])),
                window_A=_pair(values["window_A"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"a recipe's refinement cannot be read: {error}") from error


def _pair(values: Any) -> tuple[float, float] | None:
    return None if values is None else (float(values[0]), float(values[1]))
