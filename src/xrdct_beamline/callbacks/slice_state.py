"""A slice while it grows: what was planned, what is there, and where results go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.documents import CalibrationMetadata, Verdict
from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.domain.results import RefinedMaps
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.processing.interior import InteriorFigures
from xrdct_beamline.processing.interior_lines import RegionCorrector
from xrdct_beamline.processing.reconstruction import IncrementalFBP

from .settings import ProcessingSettings

__all__ = ["Float32Array", "LineKey", "LineResult", "SliceRun", "SliceSink", "SliceState"]

Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

#: Which data a line came from: raw file and attempt.
LineKey = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceRun:
    """A run that gives one slice, from its start document."""

    uid: str
    role: str
    title: str
    started_s: float
    geometry: ScanGeometry
    calibration: CalibrationMetadata
    settings: ProcessingSettings
    series_uid: str = ""
    state_index: int | None = None
    resumes: str = ""
    outer_uids: tuple[str, ...] = ()

    @classmethod
    def from_start(cls, doc: Mapping[str, Any], settings: ProcessingSettings) -> SliceRun:
        """Read a start document.

        Raises
        ------
        DataError
            If it lacks the geometry or the calibration.
        """
        xrdct = doc["xrdct"]
        for key in ("geometry", "calibration"):
            if not xrdct.get(key):
                raise DataError(f"run {doc['uid'][:8]} has no {key} in its start document; it gives no slice")
        return cls(
            uid=doc["uid"],
            role=str(xrdct["role"]),
            title=str(doc.get("sample_name") or doc.get("title") or ""),
            started_s=float(doc["time"]),
            geometry=ScanGeometry.from_metadata(xrdct["geometry"]),
            calibration=xrdct["calibration"],
            settings=settings,
            series_uid=str(xrdct.get("series_uid") or ""),
            state_index=xrdct.get("state_index"),
            resumes=str(xrdct.get("resumes") or ""),
            outer_uids=tuple(str(uid) for uid in xrdct.get("outer_uids") or ()),
        )

    @property
    def axis_px(self) -> float:
        """Column of the rotation axis; 0 where there is but one."""
        first, step = self.geometry.translation_mm[0], self.geometry.step_mm
        return (self.settings.axis_mm - first) / step if np.isfinite(step) else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LineResult:
    """The patterns of one line at their places.

    Parameters
    ----------
    rotation_index:
        Row of the sinogram.
    key:
        The data that it came from.
    intensity, sigma:
        ``(translation, bin)``, normalised by the monitor; NaN where not measured.
    measured:
        ``(translation,)``.
    ended_s:
        When the line's file was closed, epoch seconds.
    outside:
        What of the intensity lies outside of a region of interest, same shape; None where nothing
        is known of it.
    """

    rotation_index: int
    key: LineKey
    intensity: Float32Array
    sigma: Float32Array
    measured: BoolArray
    ended_s: float = float("nan")
    outside: Float32Array | None = None

    @property
    def freed(self) -> Float32Array:
        """Intensity less what lies outside: what the slice is made of."""
        return self.intensity if self.outside is None else self.intensity - self.outside


@dataclass(slots=True, kw_only=True, eq=False)
class SliceState:
    """What is there of a slice; changed by its processor alone, read by its sinks.

    Parameters
    ----------
    run:
        What was planned.
    make_radial:
        Gives the bin centres; called when something needs them.
    done:
        Lines that are in the slice, and the data each came from.
    marked:
        Lines given up or unusable, and why.
    retaken:
        Attempts, as (rotation index, attempt), that were followed by another.
    measured:
        ``(rotation, translation)``.
    monitor_reference:
        Counts of I0 to which intensities are normalised; None before the first line.
    fbp:
        Sinogram and slice; None before they are needed.
    no_slice:
        Why the scan gives patterns but no slice, or "".
    maps:
        Final refined maps; set when the slice is closed, if anything is refined.
    drift_A:
        Change of the mean lattice parameter within the scan and its esd; NaN where it is not known.
    interior:
        Frees the lines of what lies outside of a region of interest; None before it is needed.
    figures:
        How good the correction was; set when the slice is closed.
    uncorrected:
        Why lines stay as they are although outer scans are named, or "".
    was_finished:
        Set by a sink that has the whole slice already.
    exit_status:
        Of the run, once it has ended.
    """

    run: SliceRun
    make_radial: Callable[[], npt.NDArray[np.float64]]
    done: dict[int, LineKey] = field(default_factory=dict)
    marked: dict[int, str] = field(default_factory=dict)
    retaken: set[tuple[int, int]] = field(default_factory=set)
    measured: BoolArray = field(init=False)
    monitor_reference: float | None = None
    fbp: IncrementalFBP | None = None
    no_slice: str = ""
    interior: RegionCorrector | None = None
    figures: InteriorFigures | None = None
    uncorrected: str = ""
    maps: RefinedMaps | None = None
    drift_A: tuple[float, float] = (float("nan"), float("nan"))
    was_finished: bool = False
    exit_status: str = ""
    _radial: npt.NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        self.measured = np.zeros(self.run.geometry.shape, dtype=np.bool_)

    @property
    def radial(self) -> npt.NDArray[np.float64]:
        """Bin centres ``(bin,)``."""
        if self._radial is None:
            self._radial = self.make_radial()
        return self._radial

    @property
    def frames_integrated(self) -> int:
        """Cells of the sinogram that hold a pattern."""
        return int(self.measured.sum())

    @property
    def is_complete(self) -> bool:
        """Whether every line is there."""
        return len(self.done) == self.run.geometry.shape[0]

    def place(self, line: LineResult) -> None:
        """Note that a line is in the slice; the last one wins."""
        self.done[line.rotation_index] = line.key
        self.marked.pop(line.rotation_index, None)
        self.measured[line.rotation_index] = line.measured


class SliceSink(Protocol):
    """Where slices go. Inherit to be told only of what matters to you."""

    def opened(self, state: SliceState) -> None:
        """Begin a slice; a sink that has lines of it puts them into ``state.done`` and ``state.measured``."""

    def restored(self, state: SliceState, rotation_index: int) -> LineResult | None:
        """Return a line that `opened` found, for the reconstruction."""
        return None

    def line_done(self, state: SliceState, line: LineResult) -> None:
        """Take a line that was added to the slice."""

    def line_marked(self, state: SliceState, rotation_index: int, verdict: Verdict, reason: str) -> None:
        """Learn that an attempt of a line gave nothing."""

    def closed(self, state: SliceState) -> None:
        """End a slice: no more lines come, whether it is complete or not."""
