"""Refined maps in a processed file: room for them, writing them, reading them back."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.results import RefinedMaps

from ._layout import new_data_group, new_group, new_room, numbers, reading, write_schema
from .whole import appearing_file

__all__ = ["MapsHeader", "lay_out_maps", "map_group_name", "read_maps", "write_maps", "write_maps_file"]

FloatArray = npt.NDArray[np.floating[Any]]

#: Maps of each phase: name in the file, attribute of `RefinedMaps`, units.
_OF_PHASE = (
    ("a", "a_A", "angstrom"),
    ("a_errors", "a_esd_A", "angstrom"),
    ("cell", "cell", ""),
    ("cell_errors", "cell_esd", ""),
    ("scale", "scale", ""),
    ("scale_errors", "scale_esd", ""),
    ("mass_fraction", "mass_fraction", ""),
    ("mass_fraction_errors", "mass_fraction_esd", ""),
)

#: Of the cells, for those who look at a map.
_DERIVED = ("a", "a_errors")

#: A map nobody has refined.
NOT_REFINED = 255


def map_group_name(phase: str) -> str:
    """Return the name of a phase's group: NeXus takes letters, digits and underscores."""
    return re.sub(r"\W", "_", phase, flags=re.ASCII)


def lay_out_maps(
    entry: h5py.Group, phases: Sequence[str], y_mm: FloatArray, x_mm: FloatArray, n_background: int
) -> None:
    """Make room for the maps ``(y, x)`` of each phase, unmeasured as yet."""
    shape = (len(y_mm), len(x_mm))
    maps = new_group(entry, "maps", "NXcollection", default=map_group_name(phases[0]))
    for place, phase in enumerate(phases):
        of_phase = new_data_group(maps, map_group_name(phase), ["y", "x"], signal="a")
        of_phase.attrs["phase"], of_phase.attrs["place"] = phase, place
        for name, _, units in _OF_PHASE:
            new_room(of_phase, name, (*shape, 6) if name.startswith("cell") else shape, np.float32, np.nan)
            if units:
                of_phase[name].attrs["units"] = units
        of_phase["cell"].attrs["meaning"] = "a, b, c in angstrom; alpha, beta, gamma in degrees"
        of_phase["a"].attrs["long_name"] = f"lattice parameter a of {phase} (Å)"
        of_phase["a"].attrs["interpretation"] = "image"
        _axes(of_phase, y_mm, x_mm)
    fit = new_data_group(maps, "fit", ["y", "x"], signal="rwp")
    new_room(fit, "rwp", shape, np.float32, np.nan)
    new_room(fit, "status", shape, np.uint8, NOT_REFINED)
    fit["status"].attrs["meaning"] = (
        "0 converged, 1 no signal, 2 at limit, 3 failed, 4 not measured, 255 not refined"
    )
    new_room(fit, "background", (*shape, n_background), np.float32, np.nan)
    for name in ("width", "width_errors"):
        new_room(fit, name, shape, np.float32, np.nan)
        fit[name].attrs["units"] = "deg"
    for name in ("drift", "drift_errors"):
        new_room(fit, name, (), np.float64, np.nan)
        fit[name].attrs["units"] = "angstrom"
    fit["drift"].attrs["meaning"] = "mean a of the first phase, second half of the lines minus the first"
    _axes(fit, y_mm, x_mm)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapsHeader:
    """Where maps come from.

    Parameters
    ----------
    source:
        The processed file that was refined.
    y_mm, x_mm:
        Centres of the voxels; y falls with the row.
    settings:
        What the numbers depend on, as plain JSON values.
    """

    source: Path
    y_mm: FloatArray
    x_mm: FloatArray
    settings: Mapping[str, Any]


def write_maps_file(path: Path, maps: RefinedMaps, header: MapsHeader) -> None:
    """Write maps into a NeXus file of their own, which gets its name once it is whole.

    Raises
    ------
    ConfigurationError
        If the file cannot be written.
    """
    try:
        with appearing_file(path, force=True) as part, h5py.File(part, "w", locking=False) as file:
            _fill(file, maps, header)
    except (OSError, RuntimeError) as error:  # h5py reports a full disk as either
        raise ConfigurationError(
            f"cannot write the maps {path}: {error}; choose a folder with room that you may write"
        ) from error


def _fill(file: h5py.File, maps: RefinedMaps, header: MapsHeader) -> None:
    file.attrs["default"] = "entry"
    write_schema(file)
    entry = new_group(file, "entry", "NXentry", default="maps")
    process = new_group(entry, "process", "NXprocess")
    process["program"], process["version"] = "xrdct-beamline", version("xrdct-beamline")
    process["settings"] = json.dumps(dict(header.settings), sort_keys=True)
    process["source"] = header.source.name
    with h5py.File(header.source, "r", locking=False) as source:
        for name in ("title", "run_uid", "series_uid", "state_index", "role", "start_time"):
            if f"entry/{name}" in source:
                entry[name] = source[f"entry/{name}"][()]
    lay_out_maps(entry, maps.names, header.y_mm, header.x_mm, maps.background.shape[-1])
    write_maps(entry, maps)


def write_maps(entry: h5py.Group, maps: RefinedMaps, drift_A: tuple[float, float] = (np.nan, np.nan)) -> None:
    """Put maps into the room made for them, replacing what was there.

    Raises
    ------
    DataError
        If the file has no room for a phase, or for maps of this shape.
    """
    status = np.asarray(maps.status)
    groups = {phase: f"maps/{map_group_name(phase)}" for phase in maps.names}
    for phase, where in groups.items():
        if where not in entry:
            raise DataError(
                f"the processed file has no room for maps of {phase}; refine into a file of its own"
            )
        if entry[where]["a"].shape != status.shape:
            raise DataError(
                f"maps of shape {status.shape} do not fit the processed file's {entry[where]['a'].shape}"
            )
    for phase, where in groups.items():
        for name, attribute, _ in _OF_PHASE:
            entry[where][name][...] = getattr(maps, attribute)[phase]
    fit = entry["maps/fit"]
    fit["rwp"][...] = maps.rwp
    fit["status"][...] = status
    fit["background"][...] = maps.background
    fit["drift"][()], fit["drift_errors"][()] = drift_A
    fit["width"][...], fit["width_errors"][...] = maps.width, maps.width_esd


def read_maps(path: Path | str) -> RefinedMaps:
    """Return the maps of a processed file.

    Raises
    ------
    DataError
        If the file holds no maps.
    """
    with reading(path, "processed file") as entry:
        if "maps" not in entry or (entry["maps/fit/status"][()] == NOT_REFINED).all():
            raise DataError(f"{path} holds no refined maps; run xrdct refine on it")
        return _read(entry["maps"])


def _read(maps: h5py.Group) -> RefinedMaps:
    groups = {str(group.attrs["phase"]): group for group in maps.values() if "phase" in group.attrs}

    fit = maps["fit"]
    status = numbers(fit, "status", (None, None))
    if not groups:
        raise ValueError("it names no phase")

    def each(dataset: str) -> dict[str, npt.NDArray[np.float64]]:
        shape = (*status.shape, 6) if dataset.startswith("cell") else status.shape
        return {phase: numbers(group, dataset, shape).astype(np.float64) for phase, group in groups.items()}

    return RefinedMaps(
        names=tuple(sorted(groups, key=lambda phase: int(groups[phase].attrs["place"]))),
        **{attribute: each(dataset) for dataset, attribute, _ in _OF_PHASE if dataset not in _DERIVED},
        background=numbers(fit, "background", (*status.shape, None)).astype(np.float64),
        width=numbers(fit, "width", status.shape).astype(np.float64),
        width_esd=numbers(fit, "width_errors", status.shape).astype(np.float64),
        rwp=numbers(fit, "rwp", status.shape).astype(np.float64),
        status=status.astype(np.int8),
    )


def _axes(where: h5py.Group, y_mm: FloatArray, x_mm: FloatArray) -> None:
    for name, values in (("y", y_mm), ("x", x_mm)):
        where[name] = np.asarray(values, dtype=np.float64)
        where[name].attrs["units"] = "mm"
