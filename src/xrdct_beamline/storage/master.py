"""The master of a slice scan: one NeXus file that shows its line files as one stack of frames.

It is written when the scan has ended, beside the line files, under a name that it gets once it is
whole. Links are relative: the folder can be moved.
"""

from __future__ import annotations

import json
import os
import time
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np

from xrdct_beamline.domain.documents import CalibrationMetadata
from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.records import ScanLine, ScanRecord
from xrdct_beamline.domain.scan import ScanGeometry

from ._layout import new_data_group, new_group, numbers, reading, write_schema
from .whole import appearing_file

__all__ = ["FRAMES", "read_master", "write_master"]

#: Where a line file keeps its frames, and the master the stack of all.
FRAMES = "/entry/data/data"

#: What a frame is filled with that no line file holds: a gap, which never enters a pattern.
NOT_MEASURED = -1


def write_master(path: Path, record: ScanRecord) -> None:
    """Write the master of a scan; one that is there already is replaced as a whole.

    Raises
    ------
    DataError
        If no line file can be opened, or the folder cannot be written.
    """
    try:
        with appearing_file(path, force=True) as part, h5py.File(part, "w", locking=False) as file:
            _write(file, path.parent, record)
    except (OSError, RuntimeError, ConfigurationError) as error:
        raise DataError(f"the master file {path} cannot be written: {error}; is there room?") from error


def read_master(path: Path | str) -> ScanRecord:
    """Return what a master file says of its scan; raw files are looked for relative to it.

    Raises
    ------
    DataError
        If it is not there, damaged, or no master file.
    """
    path = Path(path)
    with reading(path, "master file") as entry:
        return _record(entry, path.absolute().parent)


def _record(entry: h5py.Group, folder: Path) -> ScanRecord:
    start = json.loads(entry["start_document"][()])
    geometry = ScanGeometry.from_metadata(start["xrdct"]["geometry"])
    lines = entry["lines"]
    shape = (len(geometry.line_order), geometry.shape[1])
    frames = (shape[0] * shape[1],)
    position_mm = numbers(lines, "captured_position", frames).reshape(shape)
    i0, i1 = (numbers(entry, f"{name}/data", frames).reshape(shape) for name in ("i0", "i1"))
    attempt, started_s, ended_s = (
        numbers(lines, name, shape[:1]) for name in ("attempt", "started", "ended")
    )
    found = [
        ScanLine(
            rotation_index=int(index),
            raw_file=folder / name.decode(),
            attempt=int(attempt[row]),
            position_mm=position_mm[row],
            i0=i0[row],
            i1=i1[row],
            started_s=float(started_s[row]),
            ended_s=float(ended_s[row]),
        )
        for row, (index, name) in enumerate(zip(geometry.line_order, lines["raw_file"][()], strict=True))
        if name
    ]
    return ScanRecord(
        start=start,
        geometry=geometry,
        calibration=start["xrdct"].get("calibration"),
        lines=found,
        exit_status=entry["exit_status"][()].decode(),
        ended_s=max((line.ended_s for line in found), default=float("nan")),
        cell={name: values[()] for name, values in entry["cell"].items()},
        baseline={name: values[()] for name, values in entry["baseline"].items()},
    )


def _write(file: h5py.File, folder: Path, record: ScanRecord) -> None:
    file.attrs["default"] = "entry"
    write_schema(file)
    file.attrs["creator"] = f"xrdct-beamline {version('xrdct-beamline')}"
    entry = new_group(file, "entry", "NXentry", default="data")
    start = record.start
    for name, text in (
        ("title", str(start.get("title") or start.get("sample_name") or "")),
        ("run_uid", str(start["uid"])),
        ("start_time", _iso_time(float(start["time"]))),
        ("end_time", _iso_time(record.ended_s)),
        ("exit_status", record.exit_status),
        ("start_document", json.dumps(start, sort_keys=True, default=str)),
    ):
        entry[name] = text
    if start.get("proposal_id"):
        entry["experiment_identifier"] = str(start["proposal_id"])
    sample = new_group(entry, "sample", "NXsample")
    sample["name"] = str(start.get("sample_name") or "")
    _write_positions(entry, sample, record)
    instrument = _write_instrument(entry, folder, record)
    _write_frames(entry, instrument, folder, record)
    for name, values in (("cell", record.cell), ("baseline", record.baseline)):
        group = new_group(entry, name, "NXcollection")
        for key, samples in values.items():
            group[key] = samples


def _write_positions(entry: h5py.Group, sample: h5py.Group, record: ScanRecord) -> None:
    """Write where each planned frame is, in the order of the stack: the order of acquisition."""
    geometry = record.geometry
    n_translations = geometry.shape[1]
    order = np.asarray(geometry.line_order, dtype=np.int64)
    columns = np.concatenate([geometry.line_translations(int(index)) for index in order])
    for name, values, units in (
        ("rotation_index", np.repeat(order, n_translations), None),
        ("translation_index", columns.astype(np.int64), None),
        ("rotation_angle", np.repeat(np.asarray(geometry.rotation_deg)[order], n_translations), "deg"),
        ("x_translation", np.asarray(geometry.translation_mm)[columns], "mm"),
    ):
        where = entry if units is None else sample
        where[name] = values
        if units is not None:
            where[name].attrs["units"] = units
    group = new_group(entry, "geometry", "NXcollection")
    group["json"] = json.dumps(geometry.to_metadata(), sort_keys=True)


def _write_instrument(entry: h5py.Group, folder: Path, record: ScanRecord) -> h5py.Group:
    instrument = new_group(entry, "instrument", "NXinstrument")
    instrument["name"] = str(record.start.get("beamline_id") or "")
    n_translations = record.geometry.shape[1]
    place = {int(index): k for k, index in enumerate(record.geometry.line_order)}
    captured = np.full((len(place), n_translations), np.nan)
    monitors = {name: captured.copy() for name in ("i0", "i1")}
    attempt = np.full(len(place), -1, dtype=np.int16)
    times = np.full((len(place), 2), np.nan)
    raw_files = [""] * len(place)
    for line in record.lines:
        row = place[line.rotation_index]
        captured[row], attempt[row] = line.position_mm, line.attempt
        monitors["i0"][row], monitors["i1"][row] = line.i0, line.i1
        times[row] = line.started_s, line.ended_s
        raw_files[row] = os.path.relpath(line.raw_file, folder)
    for name, counts in monitors.items():
        group = new_group(entry, name, "NXmonitor")
        group["data"] = counts.ravel()
        group["data"].attrs["units"] = "counts"
    lines = new_group(entry, "lines", "NXcollection")
    lines["raw_file"] = raw_files
    lines["attempt"], lines["captured_position"] = attempt, captured.ravel()
    lines["captured_position"].attrs["units"] = "mm"
    for column, name in enumerate(("started", "ended")):
        lines[name] = times[:, column]
        lines[name].attrs["units"] = "s"
        lines[name].attrs["meaning"] = "seconds since 1970-01-01T00:00:00Z"
    return instrument


def _write_frames(entry: h5py.Group, instrument: h5py.Group, folder: Path, record: ScanRecord) -> None:
    n_translations = record.geometry.shape[1]
    place = {int(index): k for k, index in enumerate(record.geometry.line_order)}
    measured = np.zeros(len(place) * n_translations, dtype=np.uint8)
    sources = [(place[line.rotation_index] * n_translations, line, _frames_in(line)) for line in record.lines]
    found = [(first, line, shape) for first, line, shape in sources if shape is not None]
    if not found:
        raise DataError(f"none of the {len(record.lines)} line files can be opened; are they still there?")
    _, rows, columns = found[0][2]
    layout = h5py.VirtualLayout((measured.size, rows, columns), dtype=np.int32)
    for first, line, shape in found:
        n = min(shape[0], n_translations)
        name = os.path.relpath(line.raw_file, folder)
        layout[first : first + n] = h5py.VirtualSource(name, FRAMES, shape=shape)[:n]
        measured[first : first + n] = 1
    # "." is an axis without values. nexusformat takes the number of line files for that of the frames
    # and would call an axis of the frames an error.
    data = new_data_group(entry, "data", [".", "row", "column"], signal="data")
    data.create_virtual_dataset("data", layout, fillvalue=NOT_MEASURED)
    data["data"].attrs["interpretation"] = "image"
    data["row"], data["column"] = np.arange(rows), np.arange(columns)
    for axis in ("row", "column"):
        data[axis].attrs["units"] = "pixel"
    detector = new_group(instrument, "detector", "NXdetector")
    detector["data"] = h5py.SoftLink("/entry/data/data")
    exposure_s = record.start.get("xrdct", {}).get("exposure_s")
    if exposure_s is not None:
        detector["count_time"] = np.full(measured.size, float(exposure_s))
        detector["count_time"].attrs["units"] = "s"
    entry["measured"] = measured
    if record.calibration is not None:
        _write_calibration(detector, record.calibration)


def _write_calibration(detector: h5py.Group, calibration: CalibrationMetadata) -> None:
    group = new_group(detector, "calibration", "NXcollection")
    for key, value in calibration.items():
        group[key] = "" if value is None else str(value)


def _frames_in(line: ScanLine) -> tuple[int, int, int] | None:
    """Return the shape of a line file's frames; None if it cannot be opened."""
    try:
        with h5py.File(line.raw_file, "r", locking=False) as file:
            n, rows, columns = file[FRAMES].shape
            return int(n), int(rows), int(columns)
    except (OSError, KeyError, ValueError):
        return None


def _iso_time(epoch_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(epoch_s))
