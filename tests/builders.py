"""Documents and raw files as a run leaves them, for tests without a control system."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt
from event_model import compose_run, compose_stream_resource

from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.documents import (
    CELL,
    CELL_KEYS,
    IMAGE,
    LINE_KEYS,
    LINES,
    PRIMARY,
    SCHEMA_VERSION,
    CalibrationMetadata,
    Role,
    Verdict,
)  # fmt: skip
from xrdct_beamline.domain.results import RefinedMaps
from xrdct_beamline.domain.scan import ScanGeometry

Document = tuple[str, dict[str, Any]]

#: A detector of 40 x 48 pixels, 0.1 m from the sample; its corner lies at about 45 degrees.
TINY_SHAPE = (40, 48)
TINY_PONI = """poni_version: 2
Detector: Detector
Detector_config: {"pixel1": 0.002, "pixel2": 0.002, "max_shape": [40, 48]}
Distance: 0.1
Poni1: 0.04
Poni2: 0.048
Rot1: 0
Rot2: 0
Rot3: 0
Wavelength: 2.48e-11
"""

COMPRESSIONS: Mapping[str, Mapping[str, Any]] = {
    "bitshuffle": dict(hdf5plugin.Bitshuffle(cname="lz4")),
    "gzip": {"compression": "gzip"},
    "none": {},
}


def write_raw_line(
    path: Path, frames: npt.NDArray[Any], compression: str = "bitshuffle", missing: Sequence[int] = ()
) -> str:
    """Write frames ``(frame, row, column)`` as the file writer of the detector does; return the path."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "/entry/data/data",
            shape=frames.shape,
            dtype=frames.dtype,
            chunks=(1, *frames.shape[1:]),
            **COMPRESSIONS[compression],
        )
        for index, frame in enumerate(frames):
            if index not in missing:
                dataset[index] = frame
        attributes = file.create_group("/entry/instrument/NDAttributes")
        attributes["NDArrayUniqueId"] = np.arange(len(frames), dtype=np.int32)
        attributes["NDArrayTimeStamp"] = 1.7e9 + 0.0112 * np.arange(len(frames))
    return str(path)


def damage_frame(path: Path | str, index: int) -> None:
    """Overwrite the middle of a frame's chunk."""
    with h5py.File(path, "r") as file:
        chunk = file["/entry/data/data"].id.get_chunk_info_by_coord((index, 0, 0))
    with Path(path).open("r+b") as raw:
        raw.seek(chunk.byte_offset + 10)
        raw.write(b"\xff" * (chunk.size - 20))


def tiny_calibration() -> CalibrationMetadata:
    """Calibration of the tiny detector, as a start document has it."""
    return DetectorGeometry(poni_text=TINY_PONI).to_metadata()


def rings_frame(scale: float, n_rings: int = 3) -> npt.NDArray[np.int32]:
    """Return a frame of the tiny detector with rings, ``scale`` counts per pixel at their crests."""
    rows, columns = np.indices(TINY_SHAPE)
    radius = np.hypot(rows - 19.5, columns - 23.5)
    crests = sum(np.exp(-0.5 * ((radius - 5.0 - 5.0 * ring) / 1.5) ** 2) for ring in range(n_rings))
    return np.rint(scale * crests).astype(np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt of a line, as its event will tell it."""

    rotation_index: int
    raw_file: str
    attempt: int = 0
    verdict: str = Verdict.ACCEPTED
    reason: str = ""
    i0: npt.NDArray[np.float64] | float = 1000.0


def slice_documents(
    geometry: ScanGeometry,
    attempts: Iterable[Attempt],
    *,
    role: str = Role.BROAD,
    calibration: CalibrationMetadata | None = None,
    series_uid: str = "",
    state_index: int | None = None,
    uid: str | None = None,
    resumes: str = "",
    with_stop: bool = True,
) -> Iterator[Document]:
    """Yield the documents of a slice as `slice_scan` emits them: start, descriptors, lines, stop."""
    xrdct: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "role": str(role),
        "geometry": geometry.to_metadata(),
        "calibration": calibration or tiny_calibration(),
        "exposure_s": 0.01,
        "period_s": 0.0112,
    }
    if series_uid:
        xrdct["series_uid"] = series_uid
    if state_index is not None:
        xrdct["state_index"] = state_index
    if resumes:
        xrdct["resumes"] = resumes
    run = compose_run(uid=uid, metadata={"xrdct": xrdct, "sample_name": "cell 1"})
    yield "start", dict(run.start_doc)
    n_translations = geometry.shape[1]
    lines = run.compose_descriptor(name=LINES, data_keys=_line_keys(n_translations))
    yield "descriptor", dict(lines.descriptor_doc)
    frames = {"source": "PV:PIL", "dtype": "array", "shape": list(TINY_SHAPE), "dtype_numpy": "<i4"}
    primary = run.compose_descriptor(name=PRIMARY, data_keys={IMAGE: {**frames, "external": "STREAM:"}})
    yield "descriptor", dict(primary.descriptor_doc)
    for number, attempt in enumerate(attempts):
        yield from _frame_documents(run, primary, attempt, number * n_translations, n_translations)
        data = _line_data(geometry, attempt, number * n_translations)
        yield "event", dict(lines.compose_event(data=data, timestamps=dict.fromkeys(data, time.time())))
    if with_stop:
        yield "stop", dict(run.compose_stop())


def series_documents(
    samples: Iterable[tuple[float, float, float, str]], *, uid: str | None = None
) -> Iterator[Document]:
    """Yield the documents of the run that records the cell; samples are (time_s, V, mA, step)."""
    run = compose_run(uid=uid, metadata={"xrdct": {"schema": SCHEMA_VERSION, "role": str(Role.SERIES)}})
    yield "start", dict(run.start_doc)
    keys = {key: {"source": "PV:CELL", "dtype": "number", "shape": []} for key in CELL_KEYS}
    keys["cell_step"]["dtype"] = "string"
    cell = run.compose_descriptor(name=CELL, data_keys=keys)
    yield "descriptor", dict(cell.descriptor_doc)
    for time_s, voltage, current, step in samples:
        data = dict(zip(CELL_KEYS, (voltage, current, 0.0, step, 0.0), strict=True))
        stamps = dict.fromkeys(data, time_s)
        yield "event", dict(cell.compose_event(data=data, timestamps=stamps, time=time_s))
    yield "stop", dict(run.compose_stop())


def _frame_documents(
    run: Any, primary: Any, attempt: Attempt, first: int, n_frames: int
) -> Iterator[Document]:
    resource = compose_stream_resource(
        mimetype="application/x-hdf5",
        uri=f"file://localhost{attempt.raw_file}",
        data_key=IMAGE,
        parameters={"dataset": "/entry/data/data", "chunk_shape": [1, *TINY_SHAPE]},
        start=run.start_doc,
    )
    yield "stream_resource", dict(resource.stream_resource_doc)
    span = {"start": first, "stop": first + n_frames}
    datum = resource.compose_stream_datum(
        indices=span,
        seq_nums={"start": first + 1, "stop": first + n_frames + 1},
        descriptor=primary.descriptor_doc,
    )
    yield "stream_datum", dict(datum)


def _line_keys(n_translations: int) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for name in LINE_KEYS:
        is_text = name in ("line_verdict", "line_reason", "line_raw_file", "line_note")
        kind = "string" if is_text else "number"
        keys[name] = {"source": "SIM:line", "dtype": kind, "shape": []}
    for name in ("line_position_mm", "line_i0", "line_i1"):
        keys[name] = {"source": "SIM:line", "dtype": "array", "shape": [n_translations]}
    return keys


def _line_data(geometry: ScanGeometry, attempt: Attempt, first_frame: int) -> dict[str, Any]:
    n = geometry.shape[1]
    places = geometry.line_translations(attempt.rotation_index)
    now = time.time()
    return {
        "line_rotation_index": attempt.rotation_index,
        "line_rotation_deg": geometry.rotation_deg[attempt.rotation_index],
        "line_attempt": attempt.attempt,
        "line_planned": n,
        "line_acquired": n,
        "line_captured": n,
        "line_dropped": 0,
        "line_verdict": str(attempt.verdict),
        "line_reason": attempt.reason,
        "line_raw_file": attempt.raw_file,
        "line_first_frame": first_frame,
        "line_position_mm": np.asarray(geometry.translation_mm)[places],
        "line_i0": np.broadcast_to(np.asarray(attempt.i0, dtype=np.float64), n).copy(),
        "line_i1": np.full(n, 500.0),
        "line_started_s": now - 1.0,
        "line_ended_s": now,
        "line_move_s": 0.1,
        "line_waited_s": 0.0,
        "line_open_s": 1.0,
        "line_photons": 1e11,
        "line_note": "",
    }


#: Blobs (x, y, sigma, height), in mm: no rotation and no mirror image of them equals them.
PHANTOM = ((0.04, 0.02, 0.018, 1.0), (-0.05, 0.03, 0.012, 0.7), (-0.01, -0.055, 0.015, 0.4))


def phantom_image(geometry: ScanGeometry) -> npt.NDArray[np.float64]:
    """Return the phantom's density ``(y, x)`` on the grid of a slice, y up."""
    t_mm = np.asarray(geometry.translation_mm)
    x, y = np.meshgrid(t_mm, -t_mm)
    blobs = (h * np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / s**2) for x0, y0, s, h in PHANTOM)
    return sum(blobs, start=np.zeros_like(x))


def phantom_ray(geometry: ScanGeometry, rotation_index: int) -> npt.NDArray[np.float64]:
    """Return the line integral, per translation step, at each translation of a rotation."""
    theta = np.radians(geometry.rotation_deg[rotation_index])
    t_mm = np.asarray(geometry.translation_mm)
    rays = (
        h * s * np.sqrt(2 * np.pi) * np.exp(-0.5 * ((t_mm - x * np.cos(theta) - y * np.sin(theta)) / s) ** 2)
        for x, y, s, h in PHANTOM
    )
    return sum(rays, start=np.zeros_like(t_mm)) / geometry.step_mm


def phantom_line(geometry: ScanGeometry, rotation_index: int, counts: float = 300.0) -> npt.NDArray[np.int32]:
    """Return the frames of a line of the phantom, in the order of acquisition."""
    rays = phantom_ray(geometry, rotation_index)[geometry.line_translations(rotation_index)]
    return np.array([rings_frame(counts * ray) for ray in rays])


def made_maps(names: Iterable[str], shape: Any, *, a_A: Any = 8.2) -> RefinedMaps:
    """Return maps of cubic phases with one lattice parameter map for all and plain values for the rest."""
    status = np.zeros(shape, np.int8)
    a = np.broadcast_to(np.asarray(a_A, dtype=np.float64), status.shape)
    cell = np.stack([a, a, a, *[np.full(status.shape, 90.0)] * 3], axis=-1)

    def each(value: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        return {name: value.copy() for name in names}

    names = tuple(names)
    constant = np.ones(status.shape)
    return RefinedMaps(
        names=names,
        cell=each(cell),
        cell_esd=each(np.full_like(cell, 3e-4)),
        scale=each(constant),
        scale_esd=each(0.02 * constant),
        mass_fraction=each(constant / len(names)),
        mass_fraction_esd=each(0.01 * constant),
        background=np.zeros((*status.shape, 4)),
        width=np.full(status.shape, np.nan),
        width_esd=np.full(status.shape, np.nan),
        rwp=0.1 * constant,
        status=status,
    )
