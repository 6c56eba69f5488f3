"""The layout of a processed file: every group and dataset, at its full size.

Viewers follow ``@default`` from the file to the entry to ``overview``: an image of the electrode.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .nexus import ProcessedHeader

__all__ = ["lay_out"]

FloatArray = npt.NDArray[np.floating[Any]]

#: Room for a path or a reason; what is longer is cut.
_PATH_BYTES, _TEXT_BYTES = 4096, 512
#: Voxels and bins of a chunk of the slice: a pattern and a map each touch few of them.
_SLICE_CHUNK = (32, 32, 32)
_RADIAL_UNITS = {"2th_deg": ("deg", "2θ"), "q_A^-1": ("1/angstrom", "q"), "q_nm^-1": ("1/nm", "q")}
_SIGNAL_NAME = "counts per pixel at the monitor's reference"


def lay_out(file: h5py.File, header: ProcessedHeader, radial: FloatArray, version: str) -> None:
    """Write all that is known before the first line, and room for all that follows."""
    file.attrs["default"] = "entry"
    file.attrs["creator"] = f"xrdct-beamline {version}"
    entry = _group(file, "entry", "NXentry", default="overview")
    _write_run(entry, header)
    _lay_out_sinogram(entry, header, radial)
    _lay_out_slice(entry, header, radial)
    _lay_out_lines(entry, header.geometry.shape[0])
    _write_geometry(entry, header)
    _write_calibration(entry, header)
    _write_process(entry, header, version)


def _write_run(entry: h5py.Group, header: ProcessedHeader) -> None:
    unit = header.settings.get("unit", "2th_deg")
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(header.started_s))
    for name, text in (
        ("title", header.title), ("run_uid", header.run_uid), ("series_uid", header.series_uid),
        ("role", header.role), ("start_time", started), ("unit", unit),
    ):  # fmt: skip
        entry[name] = text
    for name in ("end_time", "exit_status"):
        _room(entry, name, (), "S64", None)
    entry["state_index"] = -1 if header.state_index is None else header.state_index
    _room(entry, "complete", (), np.uint8, 0)
    _room(entry, "finished", (), np.uint8, 0)
    _room(entry, "lines_retaken", (), np.int64, 0)
    _room(entry, "monitor_reference", (), np.float64, np.nan)


def _lay_out_sinogram(entry: h5py.Group, header: ProcessedHeader, radial: FloatArray) -> None:
    geometry = header.geometry
    group = _data_group(entry, "sinogram", ["rotation", "translation", "radial"])
    shape = (*geometry.shape, len(radial))
    # Contiguous: a line is one piece of the file, and nothing but its numbers is written with it.
    for name in ("intensity", "intensity_errors"):
        _room(group, name, shape, np.float32, np.nan)
    group["intensity"].attrs["long_name"] = _SIGNAL_NAME
    group["intensity"].attrs["interpretation"] = "spectrum"
    _room(group, "measured", geometry.shape, np.uint8, 0)
    _axis(group, "rotation", np.asarray(geometry.rotation_deg), "deg")
    _axis(group, "translation", np.asarray(geometry.translation_mm), "mm")
    _radial_axis(group, header, radial)


def _lay_out_slice(entry: h5py.Group, header: ProcessedHeader, radial: FloatArray) -> None:
    n, step_mm = header.geometry.shape[1], header.geometry.step_mm
    x_mm = (np.arange(n) - header.axis_px) * (step_mm if np.isfinite(step_mm) else 1.0)
    shape = (n, n, len(radial))
    group = _data_group(entry, "slice", ["y", "x", "radial"])
    chunks = tuple(min(c, s) for c, s in zip(_SLICE_CHUNK, shape, strict=True))
    for name in ("intensity", "intensity_errors"):
        _room(group, name, shape, np.float32, np.nan, chunks=chunks)
    group["intensity"].attrs["long_name"] = f"{_SIGNAL_NAME}, per step"
    group["intensity"].attrs["interpretation"] = "spectrum"
    _room(group, "covered_deg", (), np.float64, 0.0)
    _radial_axis(group, header, radial)
    overview = _data_group(entry, "overview", ["y", "x"])
    _room(overview, "intensity", (n, n), np.float32, np.nan)
    overview["intensity"].attrs["long_name"] = "mean over all bins"
    overview["intensity"].attrs["interpretation"] = "image"
    for where in (group, overview):
        _axis(where, "y", -x_mm, "mm")
        _axis(where, "x", x_mm, "mm")


def _lay_out_lines(entry: h5py.Group, n_rotations: int) -> None:
    group = _group(entry, "lines", "NXcollection")
    _room(group, "status", (n_rotations,), np.uint8, 0)
    group["status"].attrs["meaning"] = "0 awaited, 1 done, 2 given up"
    _room(group, "attempt", (n_rotations,), np.int16, -1)
    _room(group, "raw_file", (n_rotations,), f"S{_PATH_BYTES}", None)
    _room(group, "reason", (n_rotations,), f"S{_TEXT_BYTES}", None)


def _write_geometry(entry: h5py.Group, header: ProcessedHeader) -> None:
    group = _group(entry, "geometry", "NXcollection")
    group["json"] = json.dumps(header.geometry.to_metadata())
    group["line_order"] = np.asarray(header.geometry.line_order)
    group["zigzag"] = header.geometry.zigzag
    group["axis_px"] = header.axis_px


def _write_calibration(entry: h5py.Group, header: ProcessedHeader) -> None:
    calibration = header.calibration
    group = _group(entry, "calibration", "NXcollection")
    group["poni"] = calibration["poni"]
    group["poni_sha256"] = calibration["poni_sha256"]
    group["detector"] = calibration["detector"] or ""
    group["mask_sha256"] = calibration["mask_sha256"] or ""
    if calibration["mask"] is not None:
        bits = zlib.decompress(base64.b64decode(calibration["mask"]))
        group["mask_packed"] = np.frombuffer(bits, dtype=np.uint8)
        group["mask_packed"].attrs["meaning"] = "numpy.packbits of the mask, rows first, 1 = masked"


def _write_process(entry: h5py.Group, header: ProcessedHeader, version: str) -> None:
    group = _group(entry, "process", "NXprocess")
    group["program"] = "xrdct-beamline"
    group["version"] = version
    group["date"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    group["settings"] = json.dumps(dict(header.settings), sort_keys=True)


def _group(parent: h5py.Group, name: str, nx_class: str, **attributes: Any) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    for key, value in attributes.items():
        group.attrs[key] = value
    return group


def _data_group(entry: h5py.Group, name: str, axes: list[str]) -> h5py.Group:
    group = _group(entry, name, "NXdata", signal="intensity", axes=axes)
    for number, axis in enumerate(axes):
        group.attrs[f"{axis}_indices"] = number
    return group


def _axis(group: h5py.Group, name: str, values: FloatArray, units: str) -> None:
    group[name] = np.asarray(values, dtype=np.float64)
    group[name].attrs["units"] = units


def _radial_axis(group: h5py.Group, header: ProcessedHeader, radial: FloatArray) -> None:
    units, symbol = _RADIAL_UNITS.get(header.settings.get("unit", "2th_deg"), ("", ""))
    _axis(group, "radial", radial, units)
    group["radial"].attrs["long_name"] = f"{symbol} ({units})"


def _room(
    group: h5py.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    fill: float | None,
    chunks: tuple[int, ...] | None = None,
) -> None:
    """Create a dataset and take its room on the disk now, filled (text: with nothing)."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
    if fill is not None:
        creation.set_fill_value(np.asarray(fill, dtype=dtype))
    if chunks is not None:
        creation.set_chunk(chunks)
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5d.create(group.id, name.encode(), kind, space, dcpl=creation)
