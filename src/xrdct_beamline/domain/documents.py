"""Names that plans write into documents and that processing finds again."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NotRequired, TypedDict

__all__ = [
    "BASELINE",
    "CELL",
    "CELL_KEYS",
    "IMAGE",
    "LINES",
    "LINE_KEYS",
    "PRIMARY",
    "SCHEMA_VERSION",
    "CalibrationMetadata",
    "Role",
    "Verdict",
    "XrdctMetadata",
]

SCHEMA_VERSION = 1

#: Streams of a run. One StreamDatum per line in PRIMARY, one event per attempt of a line in LINES,
#: the monitored cell in CELL, motors and settings in BASELINE.
PRIMARY, LINES, CELL, BASELINE = "primary", "lines", "cell", "baseline"

#: Data key of the frames in PRIMARY (external, HDF5 ``/entry/data/data``, one file per attempt).
IMAGE = "pilatus_image"


class Role(StrEnum):
    """What a run is in its series."""

    BROAD = "broad"
    COARSE = "coarse"
    ROI = "roi"
    VOLUME = "volume"
    POINT = "point"
    SERIES = "series"  # the run that records the cell around its slices


class Verdict(StrEnum):
    """What became of one attempt of a line."""

    ACCEPTED = "accepted"
    RETAKE = "retake"  # short or late; another attempt follows
    BAD = "bad"  # the last attempt failed too, or time was up; the scan went on
    CELL_RUNNING = "cell_running"  # begun, or not taken, after the cell had run on


#: Data keys of one event of LINES, written by the device ``line`` (its name is the prefix).
#: Arrays have one value per planned translation, in the order of acquisition, NaN where not captured.
LINE_KEYS = (
    "line_rotation_index",  # integer: row of the sinogram
    "line_rotation_deg",  # number: read back
    "line_attempt",  # integer: 0 for the first
    "line_planned",  # integer: frames asked for
    "line_acquired",  # integer: pulses sent by the position compare (step mode: exposures asked)
    "line_captured",  # integer: frames in the raw file
    "line_dropped",  # integer: arrays dropped by the file writer
    "line_verdict",  # string: a Verdict
    "line_reason",  # string: why not accepted, or ""
    "line_raw_file",  # string: absolute path of the closed raw file, "" if none was written
    "line_first_frame",  # integer: index of its first frame in PRIMARY
    "line_position_mm",  # array: captured mid-exposure translation
    "line_i0",  # array: counts of the upstream monitor
    "line_i1",  # array: counts of the beamstop diode
    "line_started_s",  # number: epoch seconds at which the line was started (armed and moving)
    "line_ended_s",  # number: epoch seconds at which its file was closed
    "line_move_s",  # number: seconds spent on moving to the line's start
    "line_waited_s",  # number: seconds spent before on waiting for beam, disk or cell
    "line_open_s",  # number: seconds for which the fast shutter was open
    "line_photons",  # number: on the sample: flux of the beam monitor x line_open_s
    "line_note",  # string: what was waited for, and what the frames warn of, or ""
)

#: Data keys of one event of CELL, written by the device ``cell``.
CELL_KEYS = (
    "cell_voltage",  # number, V
    "cell_current",  # number, mA, negative on discharge
    "cell_capacity",  # number, mAh passed since the start
    "cell_step",  # string: the cycler's step, "pause" while paused
    "cell_trigger_level",  # number, V on the trigger line
)


class CalibrationMetadata(TypedDict):
    """What is needed to integrate the run's frames, whole."""

    poni: str  # text of the PONI file
    poni_sha256: str
    detector: str | None  # pyFAI name that overrides the PONI's
    mask: str | None  # base64 of zlib of np.packbits of the boolean mask (True = masked)
    mask_sha256: str | None  # of the packed bits


class XrdctMetadata(TypedDict):
    """``start["xrdct"]``."""

    schema: int
    role: str
    geometry: NotRequired[dict[str, Any]]  # ScanGeometry.to_metadata(); absent for SERIES
    calibration: NotRequired[CalibrationMetadata]
    exposure_s: NotRequired[float]
    period_s: NotRequired[float]
    series_uid: NotRequired[str]
    state_index: NotRequired[int]  # which pause of the series
    outer_uids: NotRequired[list[str]]  # scans around this one, widest first; else the newest are taken
    resumes: NotRequired[str]  # uid of the run that this one completes: the first one of its slice
    offset: NotRequired[dict[str, float]]  # SampleOffset.to_metadata(): what the stages followed
