"""Instrument: what a calibrant says of the shape and place of reflections, as a small text file."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .errors import CalibrationError

__all__ = ["LETTERS", "Instrument"]

#: Parameters of the profile; `Profile` of the pattern fits takes them by these names.
LETTERS = ("u", "v", "w", "x", "y", "z", "axial", "sensor_depth_deg")

#: Relative difference of wavelengths that already matters: 2e-4 Å in a spinel.
_WAVELENGTH_TOLERANCE = 2e-5

_HEADER = """\
# Instrument, from a calibrant. Widths in degrees of 2 theta: Gaussian FWHM^2 = u tan^2 + v tan + w,
# Lorentzian FWHM = x/cos + y tan + z, of theta. zero_deg is added to the calculated 2 theta.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """Profile and zero of an instrument, and where they come from.

    Parameters
    ----------
    wavelength_A:
        Of the PONI that the calibrant's frame was integrated with.
    profile:
        Values of `LETTERS`; those that are missing are 0.
    zero_deg:
        Added to the 2θ of every reflection.
    two_theta_range_deg:
        Where the profile was seen; beyond it is an extrapolation.
    esds:
        Of the profile's letters and ``zero_deg``, where they were refined.
    provenance:
        Calibrant, file names and SHA-256, what was fixed, and how good the fit was.
    """

    wavelength_A: float
    profile: Mapping[str, float]
    zero_deg: float = 0.0
    two_theta_range_deg: tuple[float, float]
    esds: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, str | float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [name for name in self.profile if name not in LETTERS]
        if unknown:
            raise CalibrationError(f"an instrument has no profile parameter {', '.join(unknown)}")
        numbers = {"wavelength_A": self.wavelength_A, "zero_deg": self.zero_deg, **self.profile}
        for name, value in numbers.items():
            if not isinstance(value, int | float) or not math.isfinite(value):
                raise CalibrationError(f"{name} of an instrument is {value!r}; it must be a number")
        low, high = self.two_theta_range_deg
        if not 0 <= low < high < 180:
            raise CalibrationError(
                f"two_theta_range_deg is {low:g} to {high:g}; it must ascend within 0 to 180"
            )
        if self.wavelength_A <= 0:
            raise CalibrationError(
                f"the wavelength of an instrument is {self.wavelength_A:g} Å; it must be positive"
            )

    @classmethod
    def load(cls, path: str | Path) -> Instrument:
        """Read an instrument file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CalibrationError(f"the instrument file {path} cannot be read: {error}") from error
        return cls.from_toml(text, str(path))

    @classmethod
    def from_toml(cls, text: str, origin: str = "the instrument") -> Instrument:
        """Return the instrument that `to_toml` wrote."""
        try:
            values: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise CalibrationError(f"{origin} is not TOML: {error}") from error
        missing = [k for k in ("wavelength_A", "profile", "two_theta_range_deg") if k not in values]
        if missing:
            raise CalibrationError(f"{origin} lacks {', '.join(missing)}; write it with xrdct calibrate")
        unknown = [k for k in values if k not in {f.name for f in fields(cls)}]
        if unknown:
            raise CalibrationError(f"{origin} has the unknown entry {unknown[0]}; take it out")
        ends = values["two_theta_range_deg"]
        if not isinstance(ends, list) or len(ends) != 2:
            raise CalibrationError(f"two_theta_range_deg of {origin} is {ends!r}; it must be two angles")
        try:
            return cls(**{**values, "two_theta_range_deg": (ends[0], ends[1])})
        except (CalibrationError, TypeError, ValueError) as error:
            raise CalibrationError(f"{origin} cannot be used: {error}") from error

    def to_toml(self) -> str:
        """Return the text of an instrument file."""
        low, high = self.two_theta_range_deg
        lines = [
            _HEADER.rstrip(),
            f"wavelength_A = {float(self.wavelength_A)!r}",
            f"zero_deg = {float(self.zero_deg)!r}",
            f"two_theta_range_deg = [{float(low)!r}, {float(high)!r}]",
        ]
        for name in ("profile", "esds", "provenance"):
            lines += ["", f"[{name}]"]
            lines += [f"{key} = {_toml(value)}" for key, value in getattr(self, name).items()]
        return "\n".join(lines) + "\n"

    def save(self, path: str | Path) -> None:
        """Write an instrument file."""
        try:
            Path(path).write_text(self.to_toml(), encoding="utf-8")
        except OSError as error:
            raise CalibrationError(f"the instrument file {path} cannot be written: {error}") from error

    def refuse_other_wavelength(self, wavelength_A: float) -> None:
        """Refuse to serve data of another wavelength: every lattice parameter would be wrong."""
        if abs(wavelength_A / self.wavelength_A - 1.0) > _WAVELENGTH_TOLERANCE:
            raise CalibrationError(
                f"the instrument was calibrated at {self.wavelength_A:.7g} Å, "
                f"the PONI says {wavelength_A:.7g} Å; calibrate with a frame of this wavelength"
            )


def _toml(value: str | float) -> str:
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        return f'"{escaped}"'
    return repr(float(value))
