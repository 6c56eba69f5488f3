"""What is done with the frames of a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from xrdct_beamline.domain.errors import ConfigurationError

__all__ = ["ProcessingSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingSettings:
    """How frames become patterns and patterns a slice.

    Parameters
    ----------
    bins, unit, radial_range, estimator, lower, upper, unbiased, solid_angle, polarisation, engine, threads:
        As in `processing.integration.Integrator`.
    monitor_reference:
        Counts of I0 at which intensities stay as they are. None takes the median of the first line
        of a series, and keeps it for the whole series.
    axis_mm:
        Translation at which the rotation axis is in the beam.
    """

    bins: int = 1000
    unit: str = "2th_deg"
    radial_range: tuple[float, float] | None = None
    estimator: str = "trimmed_mean"
    lower: float = 0.05
    upper: float = 0.05
    unbiased: bool = True
    solid_angle: bool = True
    polarisation: float | None = 0.99
    engine: str = "native"
    threads: int | None = None
    monitor_reference: float | None = None
    axis_mm: float = 0.0

    def __post_init__(self) -> None:
        if self.monitor_reference is not None and not self.monitor_reference > 0:
            raise ConfigurationError(
                f"monitor_reference is {self.monitor_reference:g} counts; it must be positive, or left out"
            )

    def integrator_arguments(self) -> dict[str, Any]:
        """Return the keywords of `Integrator`."""
        own = ("monitor_reference", "axis_mm")
        return {name: value for name, value in asdict(self).items() if name not in own}

    def to_metadata(self) -> dict[str, Any]:
        """Return what the numbers depend on as plain JSON values."""
        values = asdict(self)
        del values["threads"]  # how fast the numbers come, not which
        if self.radial_range is not None:
            values["radial_range"] = list(self.radial_range)
        return values

    @classmethod
    def from_metadata(cls, values: Mapping[str, Any]) -> Self:
        """Return the settings that `to_metadata` described; what else is in there is left alone.

        Raises
        ------
        ConfigurationError
            If a value cannot be.
        """
        known = {f.name for f in fields(cls)} - {"threads"}
        own = {name: value for name, value in values.items() if name in known}
        if own.get("radial_range") is not None:
            own["radial_range"] = tuple(own["radial_range"])
        try:
            return cls(**own)
        except TypeError as error:
            raise ConfigurationError(f"a recipe's processing cannot be read: {error}") from error
