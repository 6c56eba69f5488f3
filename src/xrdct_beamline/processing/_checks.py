"""What several reconstructions ask for before they start."""

from __future__ import annotations

import importlib
from typing import Any

from xrdct_beamline.domain.errors import ConfigurationError, ProcessingError

__all__ = ["check_axis", "check_distance", "optional_module"]


def check_axis(axis_px: float, n_translations: int) -> None:
    """Refuse a rotation axis outside of the field."""
    if not 0 <= axis_px <= n_translations - 1:
        raise ProcessingError(
            f"the rotation axis at {axis_px:g} px is outside of the field of {n_translations} "
            f"translations (0 to {n_translations - 1}); find it with find_axis, or widen the scan"
        )


def check_distance(distance_mm: float) -> None:
    """Refuse a detector that is not in front of the sample."""
    if not distance_mm > 0:
        raise ProcessingError(f"the distance to the detector is {distance_mm:g} mm; it must be positive")


def optional_module(name: str, *, needed_by: str, remedy: str) -> Any:
    """Import a package that is not always installed; explain its absence.

    Raises
    ------
    ConfigurationError
        If it cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigurationError(f"{needed_by}, which cannot be imported ({error}): {remedy}") from error
