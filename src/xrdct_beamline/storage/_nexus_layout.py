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

from ._layout import new_data_group, new_group, new_room, write_schema
from .interior import FIGURES_BYTES, REASONS_BYTES
from .maps import lay_out_maps

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
    write_schema(file)
    file.attrs["creator"] = f"xrdct-beamline {version}"
    entry = new_group(file, "entry", "NXentry", default="overview")
    _write_run(entry, header)
    _lay_out_sinogram(entry, header, radial)
    _lay_out_slice(entry, header, radial)
    if header.phases:
        x_mm = _voxel_x_mm(header)
        lay_out_maps(entry, header.phases, -x_mm, x_mm, header.n_background)
    if header.outer_uids:
        _lay_out_interior(entry, header, radial)
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
        new_room(entry, name, (), "S64", None)
    entry["state_index"] = -1 if header.state_index is None else header.state_index
    new_room(entry, "complete", (), np.uint8, 0)
    new_room(entry, "finished", (), np.uint8, 0)
    new_room(entry, "lines_retaken", (), np.int64, 0)
    new_room(entry, "monitor_reference", (), np.float64, np.nan)


def _lay_out_sinogram(entry: h5py.Group, header: ProcessedHeader, radial: FloatArray) -> None:
    geometry = header.geometry
    group = new_data_group(entry, "sinogram", ["rotation", "translation", "radial"])
    shape = (*geometry.shape, len(radial))
    # Contiguous: a line is one piece of the file, and nothing but its numbers is written with it.
    for name in ("intensity", "intensity_errors"):
        new_room(group, name, shape, np.float32, np.nan)
    group["intensity"].attrs["long_name"] = _SIGNAL_NAME
    group["intensity"].attrs["interpretation"] = "spectrum"
    new_room(group, "measured", geometry.shape, np.uint8, 0)
    _axis(group, "rotation", np.asarray(geometry.rotation_deg), "deg")
    _axis(group, "translation", np.asarray(geometry.translation_mm), "mm")
    _radial_axis(group, header, radial)


def _lay_out_slice(entry: h5py.Group, header: ProcessedHeader, radial: FloatArray) -> None:
    x_mm = _voxel_x_mm(header)
    n = len(x_mm)
    shape = (n, n, len(radial))
    group = new_data_group(entry, "slice", ["y", "x", "radial"])
    chunks = tuple(min(c, s) for c, s in zip(_SLICE_CHUNK, shape, strict=True))
    for name in ("intensity", "intensity_errors"):
        new_room(group, name, shape, np.float32, np.nan, chunks=chunks)
    group["intensity"].attrs["long_name"] = f"{_SIGNAL_NAME}, per step"
    group["intensity"].attrs["interpretation"] = "spectrum"
    new_room(group, "covered_deg", (), np.float64, 0.0)
    _radial_axis(group, header, radial)
    overview = new_data_group(entry, "overview", ["y", "x"])
    new_room(overview, "intensity", (n, n), np.float32, np.nan)
    overview["intensity"].attrs["long_name"] = "mean over all bins"
    overview["intensity"].attrs["interpretation"] = "image"
    for where in (group, overview):
        _axis(where, "y", -x_mm, "mm")
        _axis(where, "x", x_mm, "mm")


def _voxel_x_mm(header: ProcessedHeader) -> FloatArray:
    step_mm = header.geometry.step_mm
    n_translations = header.geometry.shape[1]
    return (np.arange(n_translations) - header.axis_px) * (step_mm if np.isfinite(step_mm) else 1.0)


def _lay_out_interior(entry: h5py.Group, header: ProcessedHeader, radial: FloatArray) -> None:
    """Make room for what lies outside of a region of interest, beside the sinogram as measured."""
    group = new_data_group(entry, "outside", ["rotation", "translation", "radial"])
    new_room(group, "intensity", (*header.geometry.shape, len(radial)), np.float32, np.nan)
    group["intensity"].attrs["long_name"] = "what the slice is freed of: sinogram less this"
    _axis(group, "rotation", np.asarray(header.geometry.rotation_deg), "deg")
    _axis(group, "translation", np.asarray(header.geometry.translation_mm), "mm")
    _radial_axis(group, header, radial)
    process = new_group(entry, "interior", "NXprocess")
    process["program"] = "xrdct-beamline"
    process["outer_uids"] = json.dumps(list(header.outer_uids))
    new_room(process, "verdict", (), "S16", None)
    new_room(process, "reasons", (), f"S{REASONS_BYTES}", None)
    new_room(process, "figures", (), f"S{FIGURES_BYTES}", None)


def _lay_out_lines(entry: h5py.Group, n_rotations: int) -> None:
    group = new_group(entry, "lines", "NXcollection")
    new_room(group, "status", (n_rotations,), np.uint8, 0)
    group["status"].attrs["meaning"] = "0 awaited, 1 done, 2 given up"
    new_room(group, "attempt", (n_rotations,), np.int16, -1)
    new_room(group, "raw_file", (n_rotations,), f"S{_PATH_BYTES}", None)
    new_room(group, "reason", (n_rotations,), f"S{_TEXT_BYTES}", None)


def _write_geometry(entry: h5py.Group, header: ProcessedHeader) -> None:
    group = new_group(entry, "geometry", "NXcollection")
    group["json"] = json.dumps(header.geometry.to_metadata())
    group["line_order"] = np.asarray(header.geometry.line_order)
    group["zigzag"] = header.geometry.zigzag
    group["axis_px"] = header.axis_px


def _write_calibration(entry: h5py.Group, header: ProcessedHeader) -> None:
    calibration = header.calibration
    group = new_group(entry, "calibration", "NXcollection")
    group["poni"] = calibration["poni"]
    group["poni_sha256"] = calibration["poni_sha256"]
    group["detector"] = calibration["detector"] or ""
    group["mask_sha256"] = calibration["mask_sha256"] or ""
    if calibration["mask"] is not None:
        bits = zlib.decompress(base64.b64decode(calibration["mask"]))
        group["mask_packed"] = np.frombuffer(bits, dtype=np.uint8)
        group["mask_packed"].attrs["meaning"] = "numpy.packbits of the mask, rows first, 1 = masked"


def _write_process(entry: h5py.Group, header: ProcessedHeader, version: str) -> None:
    group = new_group(entry, "process", "NXprocess")
    group["program"] = "xrdct-beamline"
    group["version"] = version
    group["date"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    group["settings"] = json.dumps(dict(header.settings), sort_keys=True)


def _axis(group: h5py.Group, name: str, values: FloatArray, units: str) -> None:
    group[name] = np.asarray(values, dtype=np.float64)
    group[name].attrs["units"] = units


def _radial_axis(group: h5py.Group, header: ProcessedHeader, radial: FloatArray) -> None:
    units, symbol = _RADIAL_UNITS.get(header.settings.get("unit", "2th_deg"), ("", ""))
    _axis(group, "radial", radial, units)
    group["radial"].attrs["long_name"] = f"{symbol} ({units})"
