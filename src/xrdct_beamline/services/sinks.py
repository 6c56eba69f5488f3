"""Where live processing puts its results: the processed file and the page's snapshot."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.callbacks.calibration import detector_of
from xrdct_beamline.callbacks.cell_recorder import CellHistory
from xrdct_beamline.callbacks.map_settings import MapSettings
from xrdct_beamline.callbacks.slice_state import LineResult, SliceRun, SliceSink, SliceState
from xrdct_beamline.display.snapshot import SnapshotStore
from xrdct_beamline.domain.documents import Verdict
from xrdct_beamline.domain.errors import DataError, XrdctError
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.domain.results import RefinedMaps
from xrdct_beamline.storage.nexus import ProcessedFile, ProcessedHeader
from xrdct_beamline.storage.nexus_reader import read_processed

from .chemistry import chemistry_of
from .trend import Trend

__all__ = ["NexusSink", "SnapshotSink", "processed_path"]

logger = logging.getLogger(__name__)


def processed_path(output_dir: Path, run: SliceRun) -> Path:
    """Return where the processed file of a run belongs."""
    state = "" if run.state_index is None else f"_state{run.state_index:02d}"
    return output_dir / f"{run.uid[:8]}{state}.nxs"


class NexusSink(SliceSink):
    """Writes each slice into a processed file, and goes on with one that is there.

    Parameters
    ----------
    output_dir:
        Folder of the processed files.
    slice_every_lines:
        How often the slice is written while it grows; it always is at the end.
    on_slice:
        Called with each file that has been ended and closed.
    maps:
        What is refined, for which the files make room.
    """

    def __init__(
        self,
        output_dir: Path,
        slice_every_lines: int = 50,
        on_slice: Callable[[Path], None] | None = None,
        maps: MapSettings | None = None,
    ) -> None:
        self.paths: list[Path] = []
        self._on_slice = on_slice
        self._output_dir = output_dir
        self._every = slice_every_lines
        self._maps = maps
        self._files: dict[str, ProcessedFile] = {}

    def opened(self, state: SliceState) -> None:
        """Open or make the file, and say which lines it holds."""
        path = processed_path(self._output_dir, state.run)
        file = ProcessedFile.open_or_create(path, _header(state.run, self._maps), lambda: state.radial)
        self._files[state.run.uid] = file
        state.done.update(file.lines())
        measured = file.measured()
        for index in state.done:
            state.measured[index] = measured[index]
        state.monitor_reference = file.monitor_reference or state.monitor_reference
        state.was_finished = file.is_finished
        if path not in self.paths:
            self.paths.append(path)

    def restored(self, state: SliceState, rotation_index: int) -> LineResult | None:
        """Return a line as it was written."""
        intensity, sigma, measured = self._files[state.run.uid].read_line(rotation_index)
        return LineResult(
            rotation_index=rotation_index,
            key=state.done[rotation_index],
            intensity=intensity,
            sigma=sigma,
            measured=measured,
        )

    def line_done(self, state: SliceState, line: LineResult) -> None:
        """Write a line, and the slice when it is due."""
        raw_file, attempt = line.key
        self._files[state.run.uid].write_line(
            line.rotation_index,
            intensity=line.intensity,
            sigma=line.sigma,
            measured=line.measured,
            raw_file=raw_file,
            attempt=attempt,
            monitor_reference=state.monitor_reference,
            outside=line.outside,
        )
        if len(state.done) % self._every == 0 and not state.is_complete:
            self._write_slice(state)

    def line_marked(self, state: SliceState, rotation_index: int, verdict: Verdict, reason: str) -> None:
        """Note a line that was given up."""
        if verdict is not Verdict.RETAKE and rotation_index not in state.done:
            self._files[state.run.uid].mark_line(rotation_index, reason)

    def closed(self, state: SliceState) -> None:
        """Write the slice and end the file, unless that was done by an earlier process."""
        file = self._files.pop(state.run.uid)
        try:
            if state.fbp is not None:
                self._write_slice_into(file, state)
            if state.maps is not None:
                file.write_maps(state.maps, state.drift_A)
            if state.run.outer_uids and not state.was_finished:
                file.write_interior(**_verdict(state))
            if state.fbp is not None or not file.is_finished:
                file.finish(exit_status=state.exit_status, lines_retaken=len(state.retaken))
            logger.info("run %s: %d lines in %s", state.run.uid[:8], len(state.done), file.path)
        finally:
            file.close()
        if self._on_slice is not None:
            self._on_slice(file.path)

    def close(self) -> None:
        """Close the files of slices that still grow; the next process goes on with them."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _write_slice(self, state: SliceState) -> None:
        self._write_slice_into(self._files[state.run.uid], state)

    @staticmethod
    def _write_slice_into(file: ProcessedFile, state: SliceState) -> None:
        fbp = state.fbp
        if fbp is not None and fbp.n_lines:
            file.write_slice(lambda bins: (fbp.slice(bins), fbp.slice_sigma(bins)), fbp.covered_deg)


class SnapshotSink(SliceSink):
    """Publishes what the page shows.

    Parameters
    ----------
    store:
        Where snapshots lie.
    output_dir:
        Folder of the processed files.
    phases:
        Names of shipped phases whose reflections are marked on the pattern.
    title:
        What the page calls the experiment; the sample's name by default.
    maps:
        What is refined.
    """

    def __init__(
        self,
        store: SnapshotStore,
        output_dir: Path,
        phases: Sequence[str] = (),
        title: str = "",
        maps: MapSettings | None = None,
    ) -> None:
        self._store = store
        self._output_dir = output_dir
        self._phases = tuple(phases)
        self._title = title
        self._maps = maps
        self._trend = Trend(output_dir)
        self._slices_done: set[str] = set()
        self._ticks: dict[tuple[str, str | None], dict[str, npt.NDArray[np.float64]]] = {}
        self._unseen: Path | None = None

    def cell(self, history: CellHistory) -> None:
        """Show the cell."""
        self._store.publish(
            cell_time_s=history.time_s,
            cell_voltage=history.voltage,
            cell_current=history.current,
            pauses=history.pauses,
        )

    def message(self, text: str) -> None:
        """Show a sentence."""
        self._store.publish(message=text)

    def opened(self, state: SliceState) -> None:
        """Show that a slice begins."""
        run = state.run
        self._unseen = None
        self._store.publish(
            run_uid=run.uid,
            title=" · ".join(part for part in (self._title, run.title) if part),
            state_index=run.state_index,
            phase="scanning",
            message="",
            lag_s=float("nan"),
            unit=run.settings.unit,
            phase_ticks=self._phase_ticks(run),
            span_deg=_span_deg(run),
            extent_mm=_extent_mm(run),
            sinogram=None,
            slice_=None,
            chemistry=None,
            **_progress(state),
        )

    def refined(self, state: SliceState, maps: RefinedMaps, is_final: bool) -> None:
        """Show refined maps; the final ones of a slice become its point of the trend."""
        if self._maps is None:
            return
        run = state.run
        chemistry = chemistry_of(
            maps,
            self._maps,
            axis_px=run.axis_px,
            step_mm=run.geometry.step_mm,
            lines_done=len(state.done),
            state_index=run.state_index or 0,
            trend=self._trend.of_series(run.series_uid, self._maps.phases[0].name),
            drift_A=state.drift_A,
            note="" if is_final else "The scan goes on.",
        )
        if is_final:
            self._trend.add(run.series_uid, chemistry, run.state_index or 0)
        self._store.publish(chemistry=chemistry)

    def line_done(self, state: SliceState, line: LineResult) -> None:
        """Show a line, the slice with it, and how long that took."""
        lag_s = time.time() - line.ended_s
        logger.info(
            "run %s: line %d of %d, lag %.2f s",
            state.run.uid[:8], len(state.done), state.run.geometry.shape[0], lag_s,
        )  # fmt: skip
        pattern, sigma = _mean_pattern(line)
        self._store.publish(
            **_progress(state),
            **_picture(state),
            radial=state.radial,
            pattern=pattern,
            pattern_sigma=sigma,
            lag_s=lag_s,
            message="",
        )

    def line_marked(self, state: SliceState, rotation_index: int, verdict: Verdict, reason: str) -> None:
        """Show what became of a line."""
        outcome = "is taken again" if verdict is Verdict.RETAKE else "is left out"
        self._store.publish(message=f"line {rotation_index} {outcome}: {reason}", **_progress(state))

    def closed(self, state: SliceState) -> None:
        """Show that a slice has ended."""
        if state.is_complete:
            self._slices_done.add(state.run.uid)
        if state.was_finished and state.fbp is None:
            self._unseen = processed_path(self._output_dir, state.run)
        self._store.publish(
            phase="done",
            slices_done=len(self._slices_done),
            **_progress(state),
            **_picture(state),
        )

    def show_last_finished(self) -> None:
        """Show the slice of the newest run where an earlier process finished it, from its file."""
        path, self._unseen = self._unseen, None
        if path is None:
            return
        try:
            found = read_processed(path)
        except DataError as error:
            logger.info("nothing to show: %s", error)
            return
        self._store.publish(
            radial=found.radial, slice_=found.intensity, slice_scale=1.0, sinogram=found.sinogram
        )

    def _phase_ticks(self, run: SliceRun) -> dict[str, npt.NDArray[np.float64]]:
        if run.settings.unit != "2th_deg":
            return {}
        key = (run.calibration["poni_sha256"], run.calibration["detector"])
        if key not in self._ticks:
            try:
                self._ticks[key] = _ticks(run, self._phases)
            except XrdctError as error:
                logger.warning("the page shows no phase ticks: %s", error)
                self._ticks[key] = {}
        return self._ticks[key]


def _header(run: SliceRun, maps: MapSettings | None) -> ProcessedHeader:
    settings = run.settings.to_metadata()
    if maps is not None:
        settings["refinement"] = maps.to_metadata()
    if run.outer_uids:
        settings["outer_uids"] = list(run.outer_uids)
    return ProcessedHeader(
        run_uid=run.uid,
        geometry=run.geometry,
        calibration=run.calibration,
        axis_px=run.axis_px,
        settings=settings,
        role=run.role,
        series_uid=run.series_uid,
        state_index=run.state_index,
        title=run.title,
        started_s=run.started_s,
        outer_uids=run.outer_uids,
        phases=() if maps is None else tuple(phase.name for phase in maps.phases),
        n_background=0 if maps is None else maps.background,
    )


def _verdict(state: SliceState) -> dict[str, Any]:
    """Return what the file says of the correction for what lies outside."""
    figures = state.figures
    if figures is None:
        reason = state.uncorrected or "no line was corrected"
        return {"verdict": "uncorrected", "reasons": [reason], "figures": {}}
    return {"verdict": figures.verdict, "reasons": figures.reasons, "figures": asdict(figures)}


def _progress(state: SliceState) -> dict[str, int]:
    n_rotations, _ = state.run.geometry.shape
    return {
        "lines_done": len(state.done),
        "lines_planned": n_rotations,
        "frames_done": state.frames_integrated,
        "frames_planned": state.run.geometry.n_frames,
        "lines_retaken": len(state.retaken),
    }


def _picture(state: SliceState) -> dict[str, object]:
    """Return sinogram and slice as they lie in memory, so that a line copies neither."""
    fbp = state.fbp
    if fbp is None or not fbp.n_lines:
        return {}
    return {
        "sinogram": fbp.sinogram,
        "slice_": fbp.state()["image"],
        "slice_scale": 180.0 / fbp.covered_deg,
    }


def _mean_pattern(line: LineResult) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    measured = line.intensity[line.measured]
    sigma = np.sqrt(np.square(line.sigma[line.measured]).sum(axis=0)) / max(1, len(measured))
    return measured.mean(axis=0), sigma


def _span_deg(run: SliceRun) -> float:
    angles = run.geometry.rotation_deg
    return (angles[-1] - angles[0]) * len(angles) / max(1, len(angles) - 1)


def _extent_mm(run: SliceRun) -> tuple[float, float, float, float]:
    n, step_mm = run.geometry.shape[1], run.geometry.step_mm
    low, high = (-0.5 - run.axis_px) * step_mm, (n - 0.5 - run.axis_px) * step_mm
    return low, high, -high, -low


def _ticks(run: SliceRun, names: Sequence[str]) -> dict[str, npt.NDArray[np.float64]]:
    detector = detector_of(run.calibration)
    limit_deg = float(detector.radial().max())
    ticks = {}
    for name in names:
        reflections = Phase.shipped(name).reflections(detector.wavelength_A, limit_deg)
        ticks[name] = np.array([reflection.two_theta_deg for reflection in reflections])
    return ticks
