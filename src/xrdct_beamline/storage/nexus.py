"""The processed file of one slice: patterns at their places, the slice, and where they came from.

Everything is laid out at its full size before the first line arrives, in a file that gets its name
once it is whole. From then on only numbers change in place, never the structure: a process that is
killed leaves a file that opens, and viewers may look into a growing one. A line's numbers are with
the operating system before its status says that they are there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.documents import CalibrationMetadata
from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.results import RefinedMaps
from xrdct_beamline.domain.scan import ScanGeometry

from ._nexus_layout import lay_out
from .interior import write_figures
from .maps import read_maps, write_maps
from .nexus_reader import LineStatus, ProcessedSummary, read_processed, read_slice, read_summary

__all__ = [
    "LineStatus",
    "ProcessedFile",
    "ProcessedHeader",
    "ProcessedSummary",
    "read_maps",
    "read_processed",
    "read_slice",
    "read_summary",
]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
ReadBins = Callable[[slice], tuple[FloatArray, FloatArray]]

#: Bins of the slice that are written together; a multiple of the file's chunks.
_BINS_AT_ONCE = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessedHeader:
    """What a processed file says before it holds a line.

    Parameters
    ----------
    run_uid, series_uid, role, state_index, title, started_s:
        From the start document.
    geometry, calibration:
        Whole, so that the file needs no other to be understood.
    axis_px:
        Column of the rotation axis.
    settings:
        What the numbers depend on, as plain JSON values.
    outer_uids:
        Runs that say what lies outside of a region of interest; the file makes room for that.
    phases, n_background:
        Phases whose refined maps the file makes room for, and terms of the background.
    """

    run_uid: str
    geometry: ScanGeometry
    calibration: CalibrationMetadata
    axis_px: float
    settings: Mapping[str, Any]
    role: str = ""
    series_uid: str = ""
    state_index: int | None = None
    title: str = ""
    started_s: float = 0.0
    outer_uids: tuple[str, ...] = ()
    phases: Sequence[str] = ()
    n_background: int = 6


class ProcessedFile:
    """The processed file of one slice, open for writing; its owner is told by a lock beside it.

    Make one with `create`, `open` or `open_or_create`.
    """

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path = path
        self._file = file
        self._entry = file["entry"]

    @classmethod
    def create(cls, path: Path, header: ProcessedHeader, radial: FloatArray) -> Self:
        """Lay out a new file; one that is there already is replaced.

        Raises
        ------
        ConfigurationError
            If the folder cannot be written, or its disk has no room for the whole file.
        """
        partial = path.with_name(f".{path.name}.part")
        try:
            with h5py.File(partial, "w", locking=False) as file:
                lay_out(file, header, radial, version("xrdct-beamline"))
            os.replace(partial, path)
            return cls(path, h5py.File(path, "r+", locking=False))
        except (OSError, RuntimeError) as error:  # h5py reports a full disk as either
            with contextlib.suppress(OSError):
                partial.unlink()
            raise ConfigurationError(
                f"cannot make the processed file {path}: {error}; "
                "choose a folder with room that you may write"
            ) from error

    @classmethod
    def open(cls, path: Path, header: ProcessedHeader) -> Self:
        """Open the file of a run to go on with it.

        Raises
        ------
        ConfigurationError
            If it belongs to another run, or was made with other settings.
        DataError
            If it is not there, damaged, or no processed file.
        """
        try:
            file = h5py.File(path, "r", locking=False)
        except OSError as error:
            raise DataError(f"the processed file {path} cannot be opened: {error}") from error
        try:
            _check_header(path, file, header)
        except BaseException:
            file.close()
            raise
        return cls(path, file)  # it becomes writable with the first thing that is written

    @classmethod
    def open_or_create(cls, path: Path, header: ProcessedHeader, radial: Any) -> Self:
        """Go on with a run's file, or begin one; ``radial()`` is called only for that.

        A file that is damaged or made with other settings is kept under another name: what it held
        can be computed anew.

        Raises
        ------
        ConfigurationError
            If the file belongs to another run, or none can be made.
        """
        if path.exists():
            try:
                return cls.open(path, header)
            except OtherSettings as error:
                logger.warning("%s; it is kept as %s", error, _set_aside(path, "other-settings"))
            except DataError as error:
                logger.warning("%s; it is kept as %s", error, _set_aside(path, "damaged"))
        return cls.create(path, header, radial())

    @property
    def radial(self) -> npt.NDArray[np.float64]:
        """Bin centres ``(bin,)``."""
        return self._entry["sinogram/radial"][()]

    @property
    def is_finished(self) -> bool:
        """Whether `finish` was called and nothing written since."""
        return bool(self._entry["finished"][()])

    @property
    def monitor_reference(self) -> float | None:
        """Counts of I0 to which intensities are normalised; None before the first line."""
        value = float(self._entry["monitor_reference"][()])
        return value if np.isfinite(value) else None

    def lines(self) -> dict[int, tuple[str, int]]:
        """Return the raw file and the attempt of each line that is done, by rotation index."""
        lines = self._entry["lines"]
        status, attempt, raw = lines["status"][()], lines["attempt"][()], lines["raw_file"][()]
        return {
            int(index): (raw[index].decode(), int(attempt[index]))
            for index in np.flatnonzero(status == LineStatus.DONE)
        }

    def measured(self) -> BoolArray:
        """Return which cells ``(rotation, translation)`` hold a pattern."""
        return self._entry["sinogram/measured"][()].astype(bool)

    def read_line(self, rotation_index: int) -> tuple[FloatArray, FloatArray, BoolArray]:
        """Return intensity and sigma ``(translation, bin)`` and the measured mask of a line."""
        group = self._entry["sinogram"]
        return (
            group["intensity"][rotation_index],
            group["intensity_errors"][rotation_index],
            group["measured"][rotation_index].astype(bool),
        )

    def write_line(
        self,
        rotation_index: int,
        *,
        intensity: FloatArray,
        sigma: FloatArray,
        measured: BoolArray,
        raw_file: str,
        attempt: int,
        monitor_reference: float | None = None,
        outside: FloatArray | None = None,
    ) -> None:
        """Put a line in its place, replacing what was there; it survives this process from here on.

        Raises
        ------
        DataError
            If the disk does not take it.
        """
        with self._writing(f"line {rotation_index}"):
            group, lines = self._entry["sinogram"], self._entry["lines"]
            self._entry["finished"][()] = 0
            lines["status"][rotation_index] = LineStatus.AWAITED
            self._file.flush()
            group["intensity"][rotation_index] = intensity
            group["intensity_errors"][rotation_index] = sigma
            group["measured"][rotation_index] = measured
            if "outside" in self._entry:
                self._entry["outside/intensity"][rotation_index] = np.nan if outside is None else outside
            lines["raw_file"][rotation_index] = raw_file.encode()
            lines["attempt"][rotation_index] = attempt
            lines["reason"][rotation_index] = b""
            if monitor_reference is not None:
                self._entry["monitor_reference"][()] = monitor_reference
            self._file.flush()
            lines["status"][rotation_index] = LineStatus.DONE
            self._file.flush()

    def mark_line(self, rotation_index: int, reason: str) -> None:
        """Note that a line was given up, and why."""
        with self._writing(f"line {rotation_index}"):
            lines = self._entry["lines"]
            lines["reason"][rotation_index] = _cut(reason, lines["reason"].dtype.itemsize)
            lines["status"][rotation_index] = LineStatus.BAD
            self._file.flush()

    def write_slice(self, read: ReadBins, covered_deg: float) -> None:
        """Write the slice and its overview, replacing the one before.

        Parameters
        ----------
        read:
            Returns intensity and sigma ``(y, x, bin)`` of some bins; called for a few at a time, so
            that a large slice need not be copied as a whole.
        covered_deg:
            How much of the half turn the slice stands for.

        Raises
        ------
        DataError
            If the disk does not take it.
        """
        n_measured = 0
        with self._writing("the slice"):
            intensity, errors = self._entry["slice/intensity"], self._entry["slice/intensity_errors"]
            n_bins = intensity.shape[-1]
            total = np.zeros(intensity.shape[:2])
            for first in range(0, n_bins, _BINS_AT_ONCE):
                bins = slice(first, min(first + _BINS_AT_ONCE, n_bins))
                values, sigma = read(bins)
                intensity[..., bins] = values
                errors[..., bins] = sigma
                is_measured = np.isfinite(values[0, 0])
                total += values[..., is_measured].sum(axis=-1)
                n_measured += int(is_measured.sum())
            self._entry["overview/intensity"][...] = total / n_measured if n_measured else np.nan
            self._entry["slice/covered_deg"][()] = covered_deg
            self._file.flush()

    def write_maps(
        self, maps: RefinedMaps, drift_A: tuple[float, float] = (float("nan"), float("nan"))
    ) -> None:
        """Write the refined maps, and the drift within the scan with its esd, replacing those before.

        Raises
        ------
        DataError
            If the file has no room for them, or the disk does not take them.
        """
        with self._writing("the maps"):
            write_maps(self._entry, maps, drift_A)
            self._file.flush()

    def write_interior(self, *, verdict: str, reasons: Sequence[str], figures: Mapping[str, Any]) -> None:
        """Write how good the correction for what lies outside was, if the file has room for one."""
        if "interior" in self._entry:
            with self._writing("the verdict on its correction"):
                write_figures(self._entry, verdict=verdict, reasons=reasons, figures=figures)
                self._file.flush()

    def finish(self, *, exit_status: str, lines_retaken: int) -> None:
        """Say that nothing more comes, and how the run ended."""
        is_complete = bool((self._entry["lines/status"][()] == LineStatus.DONE).all())
        with self._writing("its end"):
            self._entry["lines_retaken"][()] = lines_retaken
            self._entry["exit_status"][()] = exit_status.encode()
            self._entry["end_time"][()] = _iso_time(time.time()).encode()
            self._entry["complete"][()] = is_complete
            self._file.flush()
            self._entry["finished"][()] = 1
            self._file.flush()

    def close(self) -> None:
        """Close the file; without effect the second time."""
        self._file.close()

    @contextlib.contextmanager
    def _writing(self, what: str) -> Any:
        try:
            if not self._file or self._file.mode == "r":
                self._file.close()
                self._file = h5py.File(self.path, "r+", locking=False)
                self._entry = self._file["entry"]
            yield
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"the processed file {self.path} did not take {what}: {error}; free space on its disk"
            ) from error


class OtherSettings(ConfigurationError):
    """A file of the right run that was made with other settings."""


def _check_header(path: Path, file: h5py.File, header: ProcessedHeader) -> None:
    try:
        run_uid = file["entry/run_uid"][()].decode()
        settings = json.loads(file["entry/process/settings"][()])
        shape = file["entry/sinogram/measured"].shape
    except (KeyError, ValueError, OSError, AttributeError) as error:
        raise DataError(f"the processed file {path} is damaged: {error}") from error
    if run_uid != header.run_uid:
        raise ConfigurationError(
            f"{path} holds run {run_uid}, not {header.run_uid}; choose another output folder or move it away"
        )
    if settings != dict(header.settings) or shape != header.geometry.shape:
        raise OtherSettings(f"{path} was made with other settings than those of now")


def _set_aside(path: Path, why: str) -> Path:
    """Give a file a name that nobody uses, and return that."""
    for number in range(1, 1000):
        other = path.with_name(f"{path.stem}.{why}-{number}{path.suffix}")
        if not other.exists():
            os.replace(path, other)
            return other
    raise ConfigurationError(f"{path.parent} holds a thousand files {path.stem}.{why}-*; remove some")


def _cut(text: str, n_bytes: int) -> bytes:
    return text.encode()[:n_bytes].decode(errors="ignore").encode()


def _iso_time(epoch_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(epoch_s))
