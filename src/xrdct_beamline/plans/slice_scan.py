"""One slice: a line per rotation angle, each verified, each taken again if it has to be."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
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
    CalibrationMetadata,
    Role,
    Verdict,
)
from xrdct_beamline.domain.registration import SampleOffset
from xrdct_beamline.domain.scan import ScanGeometry

from .checks import SliceSettings, acquisition_mode, check_scan, stage_grid, wanted_lines
from .conditions import Guard, wait_until_fit
from .lines import Attempt, LinePlan, attempt_line, fly_line, step_line
from .motion import line_path, still_path
from .slice_record import (
    Slice,
    annotated,
    evidence,
    left_out,
    line_values,
    slice_metadata,
    start_document,
)
from .stubs import (
    bring_to_rest,
    close_failed,
    read_event,
    wait_for_connection,
)
from .verification import reason_to_reject, verdict_on

__all__ = ["slice_scan"]

MEASURES = {AcquisitionMode.FLY: fly_line, AcquisitionMode.STEP: step_line}


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
    guard: Guard | None = None,
    monitor_cell: bool = True,
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[str]:
    """Take a slice line by line, and return its run's uid.

    A pause between lines costs nothing; one within a line costs that line, which is taken again. Beam that
    is lost is waited for between lines, and the line under way is taken again. A line
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
    guard:
        What is looked at between lines besides the beam.
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
    xrdct = slice_metadata(
        geometry, settings, role,
        calibration=calibration, series_uid=series_uid, state_index=state_index, resumes=resumes,
        offset=None if offset is None else offset.to_metadata(),
    )  # fmt: skip
    scan = Slice(
        beamline=beamline,
        geometry=geometry,
        settings=settings,
        travel_mm_s=travel_mm_s or beamline.translation.velocity.get(use_monitor=False),
        guard=guard or Guard(),
    )
    start = {**start_document(scan), **(md or {}), "xrdct": xrdct}
    cell = [beamline.cell] if monitor_cell else []

    @bpp.stage_decorator([beamline.translation, beamline.detector, beamline.compare, beamline.shutter])
    def take() -> MsgGenerator[None]:
        yield from _run(scan, start, cell)

    if travel_mm_s is not None:  # before staging, which remembers what is restored in the end
        yield from bps.prepare(beamline.translation, travel_mm_s, wait=True)
    yield from take()
    return scan.uid


def _run(scan: Slice, start: Mapping[str, Any], cell: Sequence[Any]) -> MsgGenerator[None]:
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


def _take_line(scan: Slice, rotation_index: int, following: int | None) -> MsgGenerator[None]:
    """Take a line, and again until it is accepted or has failed too often."""
    settings, beamline = scan.settings, scan.beamline
    failures = 0
    for number in itertools.count():
        yield from bps.checkpoint()
        yield from wait_for_connection(beamline.needed_for_lines, settings.reconnect_timeout_s)
        waited = yield from wait_until_fit(beamline, scan.guard)
        fate = scan.guard.fate()
        if fate is not None and not fate.is_taken:
            yield from _record(scan, left_out(scan, rotation_index, number, fate))
            return
        line = _plan_line(scan, rotation_index, following, number)
        opened_s = beamline.shutter.open_s
        attempt = yield from bpp.rewindable_wrapper(
            attempt_line(beamline, line, MEASURES[settings.mode]), False
        )
        attempt.open_s = beamline.shutter.open_s - opened_s
        reason, is_interrupted = _judge(scan, line, attempt)
        verdict = verdict_on(
            reason,
            failures=failures,
            max_attempts=settings.max_attempts,
            was_interrupted=is_interrupted,
        )
        if fate is not None and verdict is Verdict.ACCEPTED:
            verdict, reason = fate.verdict, fate.reason
        values = line_values(scan, attempt, rotation_index, number, reason, verdict)
        scan.settling_s = attempt.settling_s
        scan.n_frames += values.captured
        yield from _record(scan, annotated(scan, values, *waited))
        if verdict is not Verdict.RETAKE:
            return
        failures += not is_interrupted


def _judge(scan: Slice, line: LinePlan, attempt: Attempt) -> tuple[str, bool]:
    """Return why an attempt cannot be used, and whether a pause or a lost beam, no fault, is why."""
    beamline = scan.beamline
    reason = reason_to_reject(
        evidence(attempt, scan.settings, len(line.path.grid_mm)),
        line.path.grid_mm,
        minimum_i0=beamline.settings.minimum_i0,
    )
    if not reason or attempt.was_interrupted:
        return reason, attempt.was_interrupted
    beam_problem = beamline.beam.problem()  # waited for before the line is taken again
    return (f"{reason}; {beam_problem}", True) if beam_problem else (reason, False)


def _record(scan: Slice, values: LineValues) -> MsgGenerator[None]:
    yield from bps.abs_set(scan.beamline.line, values, wait=True)
    yield from read_event([scan.beamline.line], LINES)


def _plan_line(scan: Slice, rotation_index: int, following: int | None, number: int) -> LinePlan:
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
