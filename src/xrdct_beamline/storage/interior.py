"""In the processed file: what lies outside of a region of interest, and how well it is known."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import DataError, XrdctError
from xrdct_beamline.domain.scan import ScanGeometry

__all__ = ["FinishedScan", "MeasuredSinogram", "finished_scans", "read_measured", "write_figures"]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.floating[Any]]

#: Room for the figures of merit, as JSON, and for what is wrong, in sentences.
FIGURES_BYTES, REASONS_BYTES = 4096, 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedScan:
    """What tells one processed file from another."""

    path: Path
    run_uid: str
    role: str
    series_uid: str
    state_index: int | None
    title: str
    started_s: float
    radius_mm: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredSinogram:
    """A sinogram ``(rotation, translation, bin)`` as it was measured, and where."""

    geometry: ScanGeometry
    axis_px: float
    sinogram: FloatArray
    radial: npt.NDArray[np.float64]
    monitor_reference: float


def finished_scans(folder: Path) -> list[FinishedScan]:
    """Return the slices of a folder that have ended; files that cannot be read are passed over."""
    found = []
    for path in sorted(folder.glob("*.nxs")):
        try:
            with h5py.File(path, "r", locking=False) as file:
                if file["entry/finished"][()]:
                    found.append(_finished(path, file["entry"]))
        except (OSError, KeyError, ValueError, XrdctError) as error:
            logger.info("%s is not among the outer scans: %s", path, error)
    return found


def read_measured(path: Path) -> MeasuredSinogram:
    """Return the sinogram of a processed file.

    Raises
    ------
    DataError
        If it is not there, damaged, or was not normalised by a monitor.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            entry = file["entry"]
            found = MeasuredSinogram(
                geometry=ScanGeometry.from_metadata(json.loads(entry["geometry/json"][()])),
                axis_px=float(entry["geometry/axis_px"][()]),
                sinogram=entry["sinogram/intensity"][()],
                radial=entry["sinogram/radial"][()],
                monitor_reference=float(entry["monitor_reference"][()]),
            )
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"the outer scan {path} cannot be read: {error}") from error
    if not found.monitor_reference > 0:
        raise DataError(f"the outer scan {path} holds no line that was normalised by a monitor")
    return found


def write_figures(
    entry: h5py.Group, *, verdict: str, reasons: Sequence[str], figures: Mapping[str, Any]
) -> None:
    """Write the verdict on a correction into the room that the layout has made for it."""
    group = entry["interior"]
    group["verdict"][()] = verdict.encode()
    group["reasons"][()] = _cut("; ".join(reasons), REASONS_BYTES)
    group["figures"][()] = _cut(json.dumps(figures), FIGURES_BYTES)


def _finished(path: Path, entry: h5py.Group) -> FinishedScan:
    state_index = int(entry["state_index"][()])
    geometry = ScanGeometry.from_metadata(json.loads(entry["geometry/json"][()]))
    axis_px, last = float(entry["geometry/axis_px"][()]), geometry.shape[1] - 1
    return FinishedScan(
        path=path,
        run_uid=entry["run_uid"][()].decode(),
        role=entry["role"][()].decode(),
        series_uid=entry["series_uid"][()].decode(),
        state_index=None if state_index < 0 else state_index,
        title=entry["title"][()].decode(),
        started_s=datetime.fromisoformat(entry["start_time"][()].decode()).timestamp(),
        radius_mm=(min(axis_px, last - axis_px) + 0.5) * geometry.step_mm,
    )


def _cut(text: str, n_bytes: int) -> bytes:
    return text.encode()[:n_bytes].decode(errors="ignore").encode()
