"""The simulated detector: its own reading of PONI text, its own angles, gaps and defects.

Nothing here is shared with the geometry that integration uses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import CalibrationError

__all__ = ["MODELS", "DetectorModel", "Poni", "SimulatedDetector", "demo_poni"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Values that the detector writes where nothing is counted.
GAP, BAD = -1, -2


@dataclass(frozen=True, slots=True)
class DetectorModel:
    """Modules of 195 × 487 pixels of 172 µm, with three dead columns in the middle of each (CdTe)."""

    name: str
    module_rows: int
    module_columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, columns)`` of a frame."""
        return 195 * self.module_rows + 17 * (self.module_rows - 1), 487 * self.module_columns + 7 * (
            self.module_columns - 1
        )

    @property
    def pixel_m(self) -> float:
        """Edge of a pixel."""
        return 172e-6

    def gap_mask(self) -> BoolArray:
        """Return where there is no pixel: between modules, and their dead columns."""
        rows, columns = self.shape
        row_gap = np.arange(rows) % 212 >= 195
        in_module = np.arange(columns) % 494
        column_gap = (in_module >= 487) | ((in_module >= 242) & (in_module <= 244))
        return row_gap[:, None] | column_gap[None, :]


#: Known models by the name without blanks, in small letters.
MODELS: Mapping[str, DetectorModel] = MappingProxyType(
    {
        "pilatuscdte300k": DetectorModel("Pilatus CdTe 300k", 3, 1),
        "pilatuscdte2m": DetectorModel("Pilatus CdTe 2M", 8, 3),
    }
)


@dataclass(frozen=True, slots=True)
class Poni:
    """The fields of a PONI file, lengths in m and angles in rad."""

    detector: str
    distance: float
    poni1: float
    poni2: float
    rot1: float
    rot2: float
    rot3: float
    wavelength: float

    @classmethod
    def parse(cls, text: str) -> Poni:
        """Return the last calibration in the text of a PONI file.

        Raises
        ------
        CalibrationError
            If a field is missing, is not a number, or distance or wavelength are not positive.
        """
        fields: dict[str, str] = {}
        for line in text.splitlines():
            key, colon, value = line.partition(":")
            if colon and not key.lstrip().startswith("#"):
                fields[key.strip().lower()] = value.strip()
        names = ("distance", "poni1", "poni2", "rot1", "rot2", "rot3", "wavelength")
        numbers = {name: _number(fields, name) for name in names}
        for name in ("distance", "wavelength"):
            if not numbers[name] > 0:
                raise CalibrationError(f"{name} in the PONI text is {numbers[name]:g} m; it must be positive")
        return cls(detector=fields.get("detector", ""), **numbers)


@dataclass(frozen=True, eq=False)
class SimulatedDetector:
    """A detector in its place, with its defects.

    Parameters
    ----------
    poni:
        Where it is.
    model:
        What it is.
    poni_text:
        The text that ``poni`` was read from.
    seed:
        Of the defects: bad pixels (masked at -2), hot pixels, and the residue of the flat field.
    """

    poni: Poni
    model: DetectorModel
    poni_text: str
    seed: int = 0

    @classmethod
    def from_poni(cls, poni_text: str, detector: str | None = None, seed: int = 0) -> SimulatedDetector:
        """Return the detector that a PONI text describes, ``detector`` overriding its name.

        Raises
        ------
        CalibrationError
            If the text cannot be used or the detector is not one that is simulated.
        """
        poni = Poni.parse(poni_text)
        name = detector or poni.detector
        model = MODELS.get("".join(name.split()).lower())
        if model is None:
            known = ", ".join(m.name for m in MODELS.values())
            raise CalibrationError(f"detector {name!r} is not simulated; use one of {known}")
        return cls(poni, model, poni_text, seed)

    @property
    def name(self) -> str:
        """Name of the detector, as pyFAI has it."""
        return self.model.name

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, columns)`` of a frame."""
        return self.model.shape

    @property
    def wavelength_A(self) -> float:  # noqa: N802 (unit)
        """Of the beam, from the PONI alone."""
        return self.poni.wavelength * 1e10

    @property
    def distance_mm(self) -> float:
        """From the rotation axis to the detector's plane, along the beam."""
        return 1e3 * self.poni.distance / (math.cos(self.poni.rot1) * math.cos(self.poni.rot2))

    @cached_property
    def position_m(self) -> FloatArray:
        """Pixel centres in the laboratory: (axis 1, axis 2, along the beam), shape ``(rows, columns, 3)``."""
        rows, columns = self.shape
        p1 = (np.arange(rows) + 0.5) * self.model.pixel_m - self.poni.poni1
        p2 = (np.arange(columns) + 0.5) * self.model.pixel_m - self.poni.poni2
        on_plane = np.empty((rows, columns, 3))
        on_plane[..., 0], on_plane[..., 1], on_plane[..., 2] = p1[:, None], p2[None, :], self.poni.distance
        return on_plane @ _rotation(self.poni).T

    @cached_property
    def two_theta_rad(self) -> FloatArray:
        """Scattering angle of each pixel centre, seen from the rotation axis."""
        p = self.position_m
        return np.arctan2(np.hypot(p[..., 0], p[..., 1]), p[..., 2])

    @cached_property
    def azimuth_rad(self) -> FloatArray:
        """Angle about the beam of each pixel centre, from axis 2 towards axis 1."""
        return np.arctan2(self.position_m[..., 0], self.position_m[..., 1])

    @cached_property
    def solid_angle(self) -> FloatArray:
        """Solid angle of each pixel, relative to one at the point of normal incidence."""
        return (self.poni.distance / np.linalg.norm(self.position_m, axis=-1)) ** 3

    @property
    def solid_angle_sr(self) -> FloatArray:
        """Solid angle of each pixel."""
        return (self.model.pixel_m / self.poni.distance) ** 2 * self.solid_angle

    def polarisation(self, factor: float) -> FloatArray:
        """Return the polarisation factor of each pixel; 1 is polarised along axis 2."""
        sine2 = np.sin(self.two_theta_rad) ** 2
        return 0.5 * (2.0 - sine2 - factor * np.cos(2.0 * self.azimuth_rad) * sine2)

    @cached_property
    def gap_mask(self) -> BoolArray:
        """Where there is no pixel (written as -1)."""
        return self.model.gap_mask()

    @cached_property
    def bad_mask(self) -> BoolArray:
        """Pixels that the detector itself excludes (written as -2): 6 of 10 000."""
        return (self._rng(1).random(self.shape) < 6e-4) & ~self.gap_mask

    @cached_property
    def hot_pixels(self) -> tuple[npt.NDArray[np.intp], FloatArray]:
        """Pixels that count without beam and that nobody has excluded: flat indices, counts per s."""
        rng = self._rng(2)
        hot = np.flatnonzero((rng.random(self.shape) < 5e-5) & ~self.gap_mask & ~self.bad_mask)
        return hot, 10.0 ** rng.uniform(1.5, 5.0, len(hot))

    def pixel_of(
        self, two_theta_rad: float, azimuth_rad: float, depth_mm: float = 0.0
    ) -> tuple[float, float] | None:
        """Return where a scattered ray hits, as ``(row, column)`` of pixel centres, or None off the plane.

        The ray starts on the beam, ``depth_mm`` behind the rotation axis (towards the detector).
        """
        sine = math.sin(two_theta_rad)
        direction = np.array(
            [sine * math.sin(azimuth_rad), sine * math.cos(azimuth_rad), math.cos(two_theta_rad)]
        )
        to_detector = _rotation(self.poni).T
        along, start = to_detector @ direction, to_detector @ np.array([0.0, 0.0, 1e-3 * depth_mm])
        if along[2] <= 0:
            return None
        hit = start + along * (self.poni.distance - start[2]) / along[2]
        return (
            float((hit[0] + self.poni.poni1) / self.model.pixel_m - 0.5),
            float((hit[1] + self.poni.poni2) / self.model.pixel_m - 0.5),
        )

    def sensitivity(self, rms: float) -> FloatArray:
        """Return what the flat field leaves uncorrected: pixel sensitivities around 1."""
        return np.clip(1.0 + rms * self._rng(3).standard_normal(self.shape), 0.5, 1.5)

    def _rng(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([abs(self.seed), stream])


def demo_poni() -> str:
    """Return the text of the PONI file that the demonstration uses."""
    return (files("xrdct_beamline") / "config" / "demo.poni").read_text(encoding="utf-8")


def _number(fields: Mapping[str, str], name: str) -> float:
    if name not in fields:
        raise CalibrationError(f"the PONI text has no {name}; write it with pyFAI's calibration tool")
    try:
        value = float(fields[name])
    except ValueError as error:
        raise CalibrationError(f"{name} in the PONI text is {fields[name]!r}, not a number") from error
    if not math.isfinite(value):
        raise CalibrationError(f"{name} in the PONI text is {value:g}; it must be finite")
    return value


def _rotation(poni: Poni) -> FloatArray:
    """Turn about axis 1 by −rot1, then about axis 2 by −rot2, then about the beam by rot3."""

    def turn(angle: float, i: int, j: int) -> FloatArray:
        matrix = np.eye(3)
        matrix[i, i] = matrix[j, j] = math.cos(angle)
        matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
        return matrix

    # axes: 0 is axis 1 (slow), 1 is axis 2 (fast), 2 is along the beam
    return turn(poni.rot3, 0, 1) @ turn(poni.rot2, 0, 2) @ turn(-poni.rot1, 1, 2)
