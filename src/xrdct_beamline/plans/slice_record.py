"""What is written down about a slice and its lines."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from xrdct_beamline.devices.beamline import Beamline
from xrdct_beamline.devices.line_record import LineValues
from xrdct_beamline.devices.line_watch import AcquisitionMode
from xrdct_beamline.domain.documents import LINES, SCHEMA_VERSION, Role, Verdict
from xrdct_beamline.domain.scan import ScanGeometry

from .checks import SliceSettings
from .conditions import Fate, Guard
from .lines import Attempt
from .verification import LineEvidence, padded

__all__ = ["Slice", "annotated", "evidence", "left_out", "line_values", "slice_metadata", "start_document"]


@dataclass(slots=True, kw_only=True)
class Slice:
    """A slice while it is taken: what is fixed, and what its lines hand on to each other.

    Parameters
    ----------
    travel_mm_s:
        Velocity of the translation between lines.
    guard:
        What is looked at between lines.
    n_frames:
        In the stream of frames so far.
    settling_s:
        Spent after the line before, until the stages stood.
    """

    beamline: Beamline
    geometry: ScanGeometry
    settings: SliceSettings
    travel_mm_s: float
    guard: Guard
    uid: str = ""
    n_frames: int = 0
    settling_s: float = 0.0


def annotated(scan: Slice, values: LineValues, waited_s: float, waited_for: str) -> LineValues:
    """Return a line's values with what was waited for and what its frames warn of."""
    notes = [f"waited {waited_s:.3g} s: {waited_for}"] if waited_for else []
    if values.verdict != Verdict.RETAKE and values.captured:
        notes += [warning] if (warning := scan.guard.inspect(values)) else []
    return replace(values, waited_s=waited_s, note="; ".join(notes))


def left_out(scan: Slice, rotation_index: int, number: int, fate: Fate) -> LineValues:
    """Return the values of a line that is not taken."""
    return replace(
        LineValues.empty(scan.geometry.shape[1]),
        rotation_index=rotation_index,
        rotation_deg=scan.geometry.rotation_deg[rotation_index],
        attempt=number,
        verdict=str(fate.verdict),
        reason=fate.reason,
        first_frame=scan.n_frames,
        started_s=time.time(),
        ended_s=time.time(),
    )


def evidence(attempt: Attempt, settings: SliceSettings, planned: int) -> LineEvidence:
    """Return what was counted and measured in an attempt."""
    outcome = attempt.outcome
    exposed = outcome.exposed if outcome and settings.mode is AcquisitionMode.FLY else None
    return LineEvidence(
        planned=planned,
        pulses=attempt.pulses,
        exposed=exposed,
        captured=outcome.captured if outcome else 0,
        dropped=outcome.dropped if outcome else 0,
        write_error=outcome.write_error if outcome else "",
        position_mm=attempt.position_mm,
        i0=attempt.i0,
        i1=attempt.i1,
        problem=attempt.problem,
    )


def line_values(
    scan: Slice, attempt: Attempt, rotation_index: int, number: int, reason: str, verdict: Verdict
) -> LineValues:
    """Return what is written down, positions and angle in the sample's frame."""
    outcome, planned, signs = attempt.outcome, scan.geometry.shape[1], scan.beamline.settings
    shift_mm = scan.settings.offset.translation_mm(scan.geometry.rotation_deg[rotation_index])
    return LineValues(
        rotation_index=rotation_index,
        rotation_deg=signs.rotation_sign * attempt.rotation_deg,
        attempt=number,
        planned=planned,
        acquired=attempt.pulses,
        captured=outcome.captured if outcome else 0,
        dropped=outcome.dropped if outcome else 0,
        verdict=str(verdict),
        reason=reason,
        raw_file=outcome.raw_file if outcome else "",
        first_frame=scan.n_frames,
        position_mm=signs.translation_sign * padded(attempt.position_mm, planned) - shift_mm,
        i0=padded(attempt.i0, planned),
        i1=padded(attempt.i1, planned),
        started_s=attempt.started_s,
        ended_s=attempt.ended_s,
        move_s=scan.settling_s + attempt.move_s,
        open_s=attempt.open_s,
        photons=attempt.open_s * scan.beamline.beam.known_flux(),
    )


def slice_metadata(
    geometry: ScanGeometry, settings: SliceSettings, role: Role, **optional: Any
) -> dict[str, Any]:
    """Return what ``start["xrdct"]`` holds in any case, and those of the optional that are not None."""
    given = {name: value for name, value in optional.items() if value is not None}
    return given | {
        "schema": SCHEMA_VERSION,
        "role": str(role),
        "geometry": geometry.to_metadata(),
        "exposure_s": settings.exposure_s,
        "period_s": settings.period_s,
    }


def start_document(scan: Slice) -> dict[str, Any]:
    """Return what other bluesky programs expect in a start document."""
    beamline, geometry, settings = scan.beamline, scan.geometry, scan.settings
    return {
        "plan_name": "slice_scan",
        "detectors": [beamline.detector.name],
        "motors": [beamline.rotation.name, beamline.translation.name],
        "shape": list(geometry.shape),
        "num_points": len(settings.lines) * geometry.shape[1],
        "num_lines": len(settings.lines),
        "hints": {"dimensions": [(["line_rotation_deg"], LINES)]},
        "plan_args": {
            "mode": str(settings.mode),
            "directory": settings.directory,
            "max_attempts": settings.max_attempts,
            "travel_mm_s": scan.travel_mm_s,
        },
    }
