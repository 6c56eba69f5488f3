"""The rest of a slice whose run was cut short, in the same geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bluesky.utils import MsgGenerator

from xrdct_beamline.devices.beamline import Beamline
from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.registration import SampleOffset
from xrdct_beamline.domain.scan import ScanGeometry

from .slice_scan import slice_scan

__all__ = ["repeat_line", "resume_slice"]

#: Of the first run's start document, for whoever looks for its continuation.
_CARRIED = ("series_uid", "state_index", "calibration")


def resume_slice(
    beamline: Beamline,
    start: Mapping[str, Any],
    lines: Sequence[int],
    *,
    offset: SampleOffset | None = None,
    **options: Any,
) -> MsgGenerator[str]:
    """Take the lines that a slice lacks, as its first run would have; return the new run's uid.

    Parameters
    ----------
    start:
        Start document of the first run of the slice.
    lines:
        Rotation indices to take.
    offset:
        Where the sample is now, against the geometry; that of the first run by default.
    options:
        Go to `slice_scan`.

    Raises
    ------
    ConfigurationError
        If the run is no slice, or the slice lacks nothing.
    """
    if not lines:
        raise ConfigurationError(f"run {start['uid'][:8]} lacks no line; there is nothing to resume")
    xrdct = _of_slice(start)
    carried = {key: xrdct[key] for key in _CARRIED if key in xrdct}
    return (
        yield from slice_scan(
            beamline,
            lines=lines,
            resumes=start["uid"],
            role=Role(xrdct["role"]),
            offset=offset or (SampleOffset.from_metadata(xrdct["offset"]) if "offset" in xrdct else None),
            **{**_as_before(start), **carried, **options},
        )
    )


def repeat_line(
    beamline: Beamline, start: Mapping[str, Any], rotation_index: int, **options: Any
) -> MsgGenerator[str]:
    """Take a line of a slice once more, in a run of its own that gives no slice, to compare the two."""
    _of_slice(start)
    return (
        yield from slice_scan(
            beamline, lines=[rotation_index], role=Role.POINT, **{**_as_before(start), **options}
        )
    )


def _of_slice(start: Mapping[str, Any]) -> Mapping[str, Any]:
    xrdct: Mapping[str, Any] = start.get("xrdct", {})
    if not xrdct.get("geometry"):
        raise ConfigurationError(f"run {start['uid'][:8]} is no slice; name the run of one")
    return xrdct


def _as_before(start: Mapping[str, Any]) -> dict[str, Any]:
    xrdct, arguments = start["xrdct"], start.get("plan_args", {})
    found = {
        "geometry": ScanGeometry.from_metadata(xrdct["geometry"]),
        "exposure_s": xrdct["exposure_s"],
        "period_s": xrdct["period_s"],
    }
    known = ("mode", "directory", "max_attempts", "travel_mm_s")
    return found | {key: arguments[key] for key in known if key in arguments}
