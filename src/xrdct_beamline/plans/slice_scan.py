"""One slice: a line per rotation angle, each verified, each taken again if it has to be."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from bluesky.utils import MsgGenerator

from xrdct_beamline.devices.beamline import Beamline
from xrdct_beamline.devices.line_record import LineValues
from xrdct_beamline.devices.line_watch import AcquisitionMode, LineRequest
from xrdct_beamline.domain.documents import (
    BASELINE,
    CELL,
    LINES,
    PRIMARY,
    SCHEMA_VERSION,
    CalibrationMetadata,
    Role,
    Verdict,
)
from xrdct_beamline.domain.registration import SampleOffset
from xrdct_beamline.domain.scan import ScanGeometry

from .checks import SliceSettings, acquisition_mode, check_scan, stage_grid, wanted_lines
from .lines import Attempt, LinePlan, attempt_line, fly_line, step_line
from .motion import line_path, still_path
from .stubs import (
    bring_to_rest,
    close_failed,
    read_event,
    wait_for_beam,
    wait_for_connection,
)
from .verification import LineEvidence, padded, reason_to_reject, verdict_on

__all__ = ["slice_scan"]

MEASURES = {AcquisitionMode.FLY: fly_line, AcquisitionMode.STEP: step_line}


@dataclass(slots=True, kw_only=True)
class _Slice:
    """A slice while it is taken: what is fixed, and what its lines hand on to each other.

    Parameters
    ----------
    travel_mm_s:
        Velocity of the translation between lines.
    n_frames:
        In the stream of frames so far.
    settling_s:
        Spent after the line before, until the stages stood.
    """

    beamline: Beamline
    geometry: ScanGeometry
    settings: SliceSettings
    travel_mm_s: float
    uid: str = ""
    n_frames: int = 0
    settling_s: float = 0.0


def slice_scan(
    beamline: Beamline,
    geometry: ScanGeometry,
    *,
    exposure_s: float = 0.010,
    period_s: float = 0.0112,
    mode: str = "fly",
    directory: Path | str,
    calibration: CalibrationMetadata | None = None,
    role: Role = Role.ROI,
    series_uid: str | None = None,
    state_index: int | None = None,
    resumes: str | None = None,
    lines: Sequence[int] | None = None,
    max_attempts: int = 3,
    reconnect_timeout_s: float = 60.0,
    offset: SampleOffset | None = None,
    travel_mm_s: float | None = None,
    monitor_cell: bool = True,
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[str]:
    """Take a slice line by line, and return its run's uid.

    A pause between lines costs nothing; one within a line costs that line, which is taken again. A line
    that fails is taken again into a new file, ``max_attempts`` times in all; then it is marked bad and
    the scan goes on.

    Parameters
    ----------
    geometry:
        Which frame is which.
    mode:
        "fly", one move per line, or "step" for hardware without a position compare.
    directory:
        Folder of the raw files as the detector's computer sees it; made if it is not there.
    series_uid, state_index:
        Run of the series, and which of its pauses this is.
    resumes, lines:
        Run that this one completes, and the rotation indices to take; all by default.
    reconnect_timeout_s:
        How long a server may be away before the scan ends.
    offset:
        Where the sample is, against the geometry; the stages follow, the record stays the sample's.
    travel_mm_s:
        Velocity of the translation between lines and after the scan, where it is not the stage's of now:
        a killed session leaves that of a line.
    monitor_cell:
        Whether this run records the cell.

    Raises
    ------
    ConfigurationError
        Before anything has moved, if the scan cannot be taken.
    """
    settings = SliceSettings(
        exposure_s=exposure_s,
        period_s=period_s,
        mode=acquisition_mode(mode),
        directory=str(directory),
        lines=wanted_lines(geometry, lines),
        max_attempts=max_attempts,
        reconnect_timeout_s=reconnect_timeout_s,
        offset=offset or SampleOffset(),
    )
    check_scan(beamline, geometry, settings)
    optional = {
        "calibration": calibration,
        "series_uid": series_uid,
        "state_index": state_index,
        "resumes": resumes,
        "offset": None if offset is None else offset.to_metadata(),
    }
    xrdct = _metadata(geometry, settings, role) | {k: v for k, v in optional.items() if v is not None}
    scan = _Slice(
        beamline=beamline,
        geometry=geometry,
        settings=settings,
        travel_mm_s=travel_mm_s or beamline.translation.velocity.get(use_monitor=False),
    )
    start = {**_start(scan), **(md or {}), "xrdct": xrdct}
    cell = [beamline.cell] if monitor_cell else []

    @bpp.stage_decorator([beamline.translation, beamline.detector, beamline.compare, beamline.shutter])
    def take() -> MsgGenerator[None]:
        yield from _run(scan, start, cell)

    if travel_mm_s is not None:  # before staging, which remembers what is restored in the end
        yield from bps.prepare(beamline.translation, travel_mm_s, wait=True)
    yield from take()
    return scan.uid


def _run(scan: _Slice, start: Mapping[str, Any], cell: Sequence[Any]) -> MsgGenerator[None]:
    """Open the run, take its lines, close it."""
    beamline = scan.beamline
    scan.uid = yield from bps.open_run(dict(start))

    def body() -> MsgGenerator[None]:
        yield from bps.abs_set(beamline.line, LineValues.empty(scan.geometry.shape[1]), wait=True)
        yield from bps.declare_stream(beamline.detector, name=PRIMARY, collect=True)
        yield from bps.declare_stream(beamline.line, name=LINES)
        yield from read_event(beamline.baseline, BASELINE)
        for device in cell:
            yield from bps.monitor(device, name=CELL)
        yield from bring_to_rest(beamline)  # a killed session may have left a line in flight
        for rotation_index, following in itertools.zip_longest(scan.settings.lines, scan.settings.lines[1:]):
            yield from _take_line(scan, rotation_index, following)
        for device in cell:
            yield from bps.unmonitor(device)
        yield from read_event(beamline.baseline, BASELINE)

    # the beam is off before anybody is told that the run has ended
    safely = bpp.finalize_wrapper(body(), partial(bring_to_rest, beamline))
    yield from bpp.contingency_wrapper(safely, except_plan=close_failed, else_plan=bps.close_run)


def _take_line(scan: _Slice, rotation_index: int, following: int | None) -> MsgGenerator[None]:
    """Take a line, and again until it is accepted or has failed too often."""
    settings, beamline = scan.settings, scan.beamline
    failures = 0
    for number in itertools.count():
        yield from bps.checkpoint()
        yield from wait_for_connection(beamline.needed_for_lines, settings.reconnect_timeout_s)
        yield from wait_for_beam(beamline)
        line = _plan_line(scan, rotation_index, following, number)
        attempt = yield from bpp.rewindable_wrapper(
            attempt_line(beamline, line, MEASURES[settings.mode]), False
        )
        reason = reason_to_reject(
            _evidence(attempt, settings, len(line.path.grid_mm)),
            line.path.grid_mm,
            minimum_i0=beamline.settings.minimum_i0,
        )
        verdict = verdict_on(
            reason,
            failures=failures,
            max_attempts=settings.max_attempts,
            was_interrupted=attempt.was_interrupted,
        )
        values = _values(scan, attempt, rotation_index, number, reason, verdict)
        scan.settling_s = attempt.settling_s
        scan.n_frames += values.captured
        yield from bps.abs_set(beamline.line, values, wait=True)
        yield from read_event([beamline.line], LINES)
        if verdict is not Verdict.RETAKE:
            return
        failures += not attempt.was_interrupted


def _plan_line(scan: _Slice, rotation_index: int, following: int | None, number: int) -> LinePlan:
    settings, geometry = scan.settings, scan.geometry
    sign = scan.beamline.settings.rotation_sign
    grid_mm = stage_grid(scan.beamline, geometry, rotation_index, settings.offset)
    if settings.mode is AcquisitionMode.FLY:
        path = line_path(
            grid_mm,
            exposure_s=settings.exposure_s,
            period_s=settings.period_s,
            ramp_s=scan.beamline.translation.acceleration.get(),
        )
    else:
        path = still_path(grid_mm)
    return LinePlan(
        rotation_deg=sign * geometry.rotation_deg[rotation_index],
        next_rotation_deg=None if following is None else sign * geometry.rotation_deg[following],
        path=path,
        request=LineRequest(
            n_frames=len(grid_mm),
            exposure_s=settings.exposure_s,
            period_s=settings.period_s,
            directory=settings.directory,
            file_name=f"{scan.uid[:8]}_{rotation_index:04d}",
            file_number=number,
            mode=settings.mode,
        ),
        travel_mm_s=scan.travel_mm_s,
    )


def _evidence(attempt: Attempt, settings: SliceSettings, planned: int) -> LineEvidence:
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


def _values(
    scan: _Slice, attempt: Attempt, rotation_index: int, number: int, reason: str, verdict: Verdict
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
    )


def _metadata(geometry: ScanGeometry, settings: SliceSettings, role: Role) -> dict[str, Any]:
    return {
        "schema": SCHEMA_VERSION,
        "role": str(role),
        "geometry": geometry.to_metadata(),
        "exposure_s": settings.exposure_s,
        "period_s": settings.period_s,
    }


def _start(scan: _Slice) -> dict[str, Any]:
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
