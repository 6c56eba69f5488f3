"""The detector of a run, shared by all who ask for the same calibration."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.documents import CalibrationMetadata

__all__ = ["detector_of"]


def detector_of(calibration: CalibrationMetadata) -> DetectorGeometry:
    """Return the geometry that a start document describes; the same object for the same calibration.

    Raises
    ------
    CalibrationError
        If it cannot be used, or does not match its hashes.
    """
    return _detector(tuple(sorted(calibration.items())))


@lru_cache(maxsize=2)  # the slices of a series have one calibration; each holds arrays of a frame's size
def _detector(items: tuple[tuple[str, Any], ...]) -> DetectorGeometry:
    return DetectorGeometry.from_metadata(dict(items))  # type: ignore[arg-type]
