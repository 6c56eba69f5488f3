"""DetectorGeometry: PONI and mask to pixel angles, solid angle and polarisation."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pyFAI.detectors import detector_factory
from pyFAI.geometry import Geometry
from pyFAI.io.ponifile import PoniFile

from .documents import CalibrationMetadata
from .errors import CalibrationError

__all__ = ["RADIAL_UNITS", "DetectorGeometry"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Radial units by pyFAI's names.
RADIAL_UNITS = ("2th_deg", "q_A^-1", "q_nm^-1")

_REQUIRED = ("distance", "poni1", "poni2", "rot1", "rot2", "rot3")


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectorGeometry:
    """Where each pixel looks, by pyFAI's own geometry in double precision.

    Make one with `from_poni` or `from_metadata`.

    Parameters
    ----------
    poni_text:
        Contents of a PONI file; of several entries the last counts, as in pyFAI.
    user_mask:
        Pixels to leave out besides the detector's gaps, shape ``(row, column)``, True = masked.
    detector:
        pyFAI detector name that overrides the PONI's.

    Raises
    ------
    CalibrationError
        If the PONI is incomplete, the detector unknown or the mask of another shape.
    """

    poni_text: str
    user_mask: BoolArray | None = None
    detector: str | None = None

    def __post_init__(self) -> None:
        shape = self.shape
        if self.user_mask is not None and self.user_mask.shape != shape:
            raise CalibrationError(
                f"the mask has shape {self.user_mask.shape}, the detector {self.detector_name} has {shape}; "
                "give the mask of this detector, rows first"
            )

    @classmethod
    def from_poni(
        cls,
        poni: str | Path,
        mask: str | Path | npt.ArrayLike | None = None,
        detector: str | None = None,
    ) -> DetectorGeometry:
        """Read a PONI file and, as a path or an array (True = masked), a mask."""
        try:
            text = Path(poni).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CalibrationError(f"the PONI file {poni} cannot be read: {error}") from error
        user_mask = _mask_array(mask)
        try:
            return cls(poni_text=text, user_mask=user_mask, detector=detector)
        except CalibrationError as error:
            raise CalibrationError(f"with the PONI file {poni}: {error}") from error

    @classmethod
    def from_metadata(cls, metadata: CalibrationMetadata) -> DetectorGeometry:
        """Return the geometry of a run, from what `to_metadata` wrote into its start document."""
        if _sha256(metadata["poni"].encode()) != metadata["poni_sha256"]:
            raise CalibrationError("the run's PONI text does not match its SHA-256; the document was altered")
        geometry = cls(poni_text=metadata["poni"], detector=metadata["detector"])
        if metadata["mask"] is None:
            return geometry
        packed = zlib.decompress(base64.b64decode(metadata["mask"]))
        if _sha256(packed) != metadata["mask_sha256"]:
            raise CalibrationError("the run's mask does not match its SHA-256; the document was altered")
        rows, columns = geometry.shape
        bits = np.unpackbits(np.frombuffer(packed, dtype=np.uint8))[: rows * columns]
        mask = bits.astype(bool).reshape(geometry.shape)
        return cls(poni_text=metadata["poni"], user_mask=mask, detector=metadata["detector"])

    def to_metadata(self) -> CalibrationMetadata:
        """Return plain JSON values, whole: `from_metadata` needs no file."""
        packed = None if self.user_mask is None else np.packbits(self.user_mask).tobytes()
        return {
            "poni": self.poni_text,
            "poni_sha256": _sha256(self.poni_text.encode()),
            "detector": self.detector,
            "mask": None if packed is None else base64.b64encode(zlib.compress(packed)).decode(),
            "mask_sha256": None if packed is None else _sha256(packed),
        }

    @cached_property
    def _poni(self) -> PoniFile:
        return _parse_poni(self.poni_text, self.detector)

    @property
    def detector_name(self) -> str:
        """Name by which pyFAI knows the detector."""
        return str(self._poni.detector.name)

    @property
    def shape(self) -> tuple[int, int]:
        """``(rows, columns)`` of a frame."""
        rows, columns = self._poni.detector.shape
        return int(rows), int(columns)

    @property
    def wavelength_A(self) -> float:  # noqa: N802
        """Wavelength, from the PONI alone."""
        return float(self._poni.wavelength) * 1e10

    @property
    def distance_m(self) -> float:
        """Distance from the sample to the point of normal incidence."""
        return float(self._poni.dist)

    @property
    def pixel_m(self) -> tuple[float, float]:
        """Pixel size along rows' and columns' directions, slow axis first."""
        return float(self._poni.detector.pixel1), float(self._poni.detector.pixel2)

    @cached_property
    def mask(self) -> BoolArray:
        """Pixels that never count: the detector's gaps and the mask, True = masked."""
        gaps = self._poni.detector.mask
        mask = np.zeros(self.shape, bool) if gaps is None else np.asarray(gaps, bool)
        if self.user_mask is not None:
            mask = mask | self.user_mask
        mask.setflags(write=False)
        return mask

    def pyfai(self) -> Geometry:
        """Return a new pyFAI geometry; its caches live as long as the caller keeps it."""
        poni = self._poni
        geometry = Geometry(
            dist=poni.dist, poni1=poni.poni1, poni2=poni.poni2, rot1=poni.rot1, rot2=poni.rot2,
            rot3=poni.rot3, detector=poni.detector, wavelength=poni.wavelength,
        )  # fmt: skip
        if poni.parallax:
            geometry.enable_parallax()
        return geometry

    @cached_property
    def _geometry(self) -> Geometry:
        return self.pyfai()

    def release(self) -> None:
        """Drop the images that pyFAI keeps (100 MB for a 2M detector); they are made anew when asked for."""
        self.__dict__.pop("_geometry", None)

    def radial(self, unit: str = "2th_deg") -> FloatArray:
        """Return the radial position of each pixel centre, shape ``(row, column)``."""
        check_unit(unit)
        return np.array(self._geometry.center_array(self.shape, unit=unit), dtype=np.float64)

    def azimuth_rad(self) -> FloatArray:
        """Return the azimuth of each pixel centre in [-π, π], shape ``(row, column)``."""
        return np.array(self._geometry.center_array(self.shape, unit="chi_rad"), dtype=np.float64)

    def solid_angle(self) -> FloatArray:
        """Return each pixel's solid angle relative to that at normal incidence."""
        return np.array(self._geometry.solidAngleArray(self.shape), dtype=np.float64)

    def polarisation(self, factor: float) -> FloatArray:
        """Return each pixel's polarisation factor for a degree of horizontal polarisation in [-1, 1]."""
        if not -1.0 <= factor <= 1.0:
            raise CalibrationError(
                f"the polarisation is {factor:g}; it must lie between -1 (vertical) and 1 (horizontal)"
            )
        return np.array(self._geometry.polarization(self.shape, factor=factor), dtype=np.float64)


def check_unit(unit: str) -> None:
    """Refuse a radial unit that is not one of `RADIAL_UNITS`."""
    if unit not in RADIAL_UNITS:
        raise CalibrationError(f"the radial unit {unit!r} is unknown; use one of {', '.join(RADIAL_UNITS)}")


def _parse_poni(text: str, detector: str | None) -> PoniFile:
    entries = _poni_entries(text)
    name = detector if detector is not None else entries.get("detector")
    if name is None:
        raise CalibrationError("the PONI names no detector; give its pyFAI name as the detector argument")
    if detector is not None:
        _override_detector(entries, detector)
    try:
        poni = PoniFile(data=entries)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise CalibrationError(f"pyFAI cannot use the PONI with the detector {name!r}: {error}") from error
    if poni.detector.shape is None or poni.detector.pixel1 is None:
        raise CalibrationError(f"the detector {name!r} has no fixed shape; give the name of a real detector")
    if not poni.wavelength or not poni.wavelength > 0:
        raise CalibrationError(
            "the PONI has no wavelength, and it is taken from nowhere else; add a line 'Wavelength: <metres>'"
        )
    return poni


def _poni_entries(text: str) -> dict[str, Any]:
    lines = (line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))
    entries: dict[str, Any] = {key.strip().lower(): value.strip() for key, value in lines}
    lacking = [key for key in _REQUIRED if key not in entries]
    if lacking:
        raise CalibrationError(
            f"the PONI lacks {', '.join(lacking)}; it must be a PONI file as pyFAI-calib2 writes it"
        )
    return entries


def _override_detector(entries: dict[str, Any], name: str) -> None:
    """Put a detector in place of the PONI's; how the PONI's was mounted stays."""
    try:
        replacement = detector_factory(name)
    except RuntimeError as error:
        raise CalibrationError(
            f"pyFAI knows no detector {name!r}; see pyFAI.detectors.ALL_DETECTORS for the names"
        ) from error
    mounted = _orientation(entries.get("detector_config"))
    entries["detector"] = type(replacement).__name__
    for key in ("pixelsize1", "pixelsize2", "splinefile"):
        entries.pop(key, None)
    if mounted is not None:
        entries["detector_config"] = {"orientation": mounted}
    else:
        entries.pop("detector_config", None)
        entries["poni_version"] = 1


def _orientation(detector_config: str | None) -> int | None:
    if detector_config is None:
        return None
    try:
        orientation = json.loads(detector_config).get("orientation")
    except (ValueError, AttributeError) as error:
        raise CalibrationError(f"the PONI's Detector_config is not JSON: {error}") from error
    return None if orientation is None else int(orientation)


def _mask_array(mask: str | Path | npt.ArrayLike | None) -> BoolArray | None:
    if mask is None:
        return None
    if not isinstance(mask, (str, Path)):
        return np.array(mask, dtype=bool)
    try:
        if str(mask).endswith(".npy"):
            return np.load(mask, allow_pickle=False).astype(bool)
        import fabio  # not needed where the mask is an array or comes from a document

        return np.asarray(fabio.open(str(mask)).data).astype(bool)
    except (OSError, RuntimeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise CalibrationError(f"the mask {mask} cannot be read as an image: {error}") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
