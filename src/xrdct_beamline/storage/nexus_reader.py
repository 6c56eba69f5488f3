"""Reading processed files, finished or growing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import DataError

from ._layout import numbers, reading

__all__ = [
    "LineStatus",
    "ProcessedRays",
    "ProcessedSlice",
    "ProcessedSummary",
    "read_poni",
    "read_processed",
    "read_rays",
    "read_settings",
    "read_slice",
    "read_summary",
]

FloatArray = npt.NDArray[np.floating[Any]]


class LineStatus(IntEnum):
    """What the file holds of a line."""

    AWAITED = 0
    DONE = 1
    BAD = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedSummary:
    """Counts of a processed file."""

    run_uid: str
    series_uid: str
    state_index: int | None
    complete: bool
    status: str
    exit_status: str
    lines_planned: int
    lines_done: int
    lines_bad: int
    lines_retaken: int
    frames_planned: int
    frames_integrated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedSlice:
    """A slice as it was written, ``(y, x, bin)``, and its sinogram, ``(rotation, translation, bin)``."""

    intensity: FloatArray
    sigma: FloatArray
    sinogram: FloatArray
    radial: FloatArray
    unit: str
    step_mm: float
    extent_mm: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedRays:
    """What is known of the rays of a slice, but for their intensities.

    Parameters
    ----------
    sigma:
        ``(rotation, translation, bin)``; NaN where nothing was measured.
    rotation_deg:
        The planned angles.
    axis_px:
        Column of the rotation axis.
    poni:
        Text of the calibration.
    """

    sigma: FloatArray
    rotation_deg: FloatArray
    axis_px: float
    poni: str


def read_summary(path: Path | str) -> ProcessedSummary:
    """Return the counts of a processed file, finished or not.

    Raises
    ------
    DataError
        If it is not there, damaged, or no processed file.
    """
    with reading(path, "processed file") as entry:
        measured = numbers(entry, "sinogram/measured", (None, None))
        status = numbers(entry, "lines/status", measured.shape[:1])
        is_finished, is_complete = bool(entry["finished"][()]), bool(entry["complete"][()])
        state_index = int(entry["state_index"][()])
        return ProcessedSummary(
            run_uid=entry["run_uid"][()].decode(),
            series_uid=entry["series_uid"][()].decode(),
            state_index=None if state_index < 0 else state_index,
            complete=is_finished and is_complete,
            status=("complete" if is_complete else "partial") if is_finished else "running",
            exit_status=entry["exit_status"][()].decode(),
            lines_planned=int(status.size),
            lines_done=int((status == LineStatus.DONE).sum()),
            lines_bad=int((status == LineStatus.BAD).sum()),
            lines_retaken=int(entry["lines_retaken"][()]),
            frames_planned=int(measured.size),
            frames_integrated=int(measured.astype(bool).sum()),
        )


def read_processed(path: Path | str) -> ProcessedSlice:
    """Return slice and sinogram of a processed file.

    Raises
    ------
    DataError
        If the file is not there, damaged, or holds no slice yet.
    """
    with reading(path, "processed file") as entry:
        group = entry["slice"]
        if not group["covered_deg"][()] > 0:
            raise DataError(
                f"the processed file {path} holds no slice yet; wait for its end, or replay the run"
            )
        x_mm, y_mm = (numbers(group, axis, (None,)) for axis in "xy")
        radial = numbers(group, "radial", (None,), "f")
        shape = (y_mm.size, x_mm.size, radial.size)
        step_mm = float(x_mm[1] - x_mm[0])
        half = step_mm / 2
        return ProcessedSlice(
            intensity=numbers(group, "intensity", shape, "f"),
            sigma=numbers(group, "intensity_errors", shape, "f"),
            sinogram=numbers(entry, "sinogram/intensity", (None, None, radial.size), "f"),
            radial=radial,
            unit=entry["unit"][()].decode(),
            step_mm=step_mm,
            extent_mm=(
                float(x_mm[0] - half), float(x_mm[-1] + half), float(y_mm[-1] - half), float(y_mm[0] + half),
            ),
        )  # fmt: skip


def read_poni(path: Path | str) -> str:
    """Return the text of the PONI that the frames were integrated with.

    Raises
    ------
    DataError
        If the file is no processed file.
    """
    with reading(path, "processed file") as entry:
        return entry["calibration/poni"][()].decode()


def read_settings(path: Path | str) -> str:
    """Return the settings that a processed file was made with, as JSON.

    Raises
    ------
    DataError
        If the file is no processed file.
    """
    with reading(path, "processed file") as entry:
        return entry["process/settings"][()].decode()


def read_slice(path: Path | str) -> tuple[FloatArray, FloatArray, tuple[float, float, float, float]]:
    """Return intensity ``(y, x, bin)``, bin centres and edges of the slice in mm, as `read_processed`."""
    found = read_processed(path)
    return found.intensity, found.radial, found.extent_mm


def read_rays(path: Path | str) -> ProcessedRays:
    """Return what is known of the rays behind the slice of a processed file.

    Raises
    ------
    DataError
        If the file is not there or damaged.
    """
    with reading(path, "processed file") as entry:
        sigma = numbers(entry, "sinogram/intensity_errors", entry["sinogram/intensity"].shape)
        return ProcessedRays(
            sigma=sigma,
            rotation_deg=numbers(entry, "sinogram/rotation", sigma.shape[:1]),
            axis_px=float(entry["geometry/axis_px"][()]),
            poni=entry["calibration/poni"][()].decode(),
        )
