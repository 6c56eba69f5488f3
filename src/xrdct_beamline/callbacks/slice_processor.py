"""From the documents of a run to its slice, a line at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from event_model import DocumentRouter

from xrdct_beamline.domain.documents import LINES, Role, Verdict
from xrdct_beamline.domain.errors import ProcessingError, XrdctError
from xrdct_beamline.domain.frames import FrameSource
from xrdct_beamline.processing.integration import Integrator
from xrdct_beamline.processing.reconstruction import IncrementalFBP
from xrdct_beamline.processing.sinogram import DEAD_MONITOR_SHARE, normalise_by_monitor

from .line_event import LineEvent
from .line_integrator import LineIntegrator, LocalIntegrator
from .region_of_interest import OuterScanSource, RegionOfInterest
from .settings import ProcessingSettings
from .slice_state import Float32Array, LineResult, SliceRun, SliceSink, SliceState

__all__ = ["SLICE_ROLES", "ProcessingSettings", "SliceProcessor"]

logger = logging.getLogger(__name__)

#: Slices whose first run is known to those that resume it; one that is forgotten is found by its file.
RUNS_REMEMBERED = 16

#: Roles whose runs give a slice.
SLICE_ROLES = frozenset({Role.BROAD, Role.COARSE, Role.ROI, Role.VOLUME})


class SliceProcessor(DocumentRouter):
    """Integrates, places and reconstructs each accepted line, and tells a sink.

    Documents may come from a RunEngine, a journal or a catalog, and those of other runs may lie
    between them. The same line twice changes nothing; a line taken anew replaces the old one.
    A line that cannot be processed is marked, never raised. A run that never ended is closed
    when the next slice begins: the beamline has one owner, so it ends no more. A run that resumes
    another goes on with that one's slice, whether that has ended or was killed.

    Parameters
    ----------
    frame_source:
        Reads the raw files.
    sink:
        Is told of each line and each slice; what it raises goes to the caller.
    settings:
        How it is done.
    outer_scans:
        Where the scans around a region of interest are found; without, regions are not corrected.
    make_integrator:
        Stands in for `Integrator` in tests.
    integrator:
        Who integrates the lines; by default this process, from ``frame_source``.
    """

    def __init__(
        self,
        frame_source: FrameSource,
        sink: SliceSink,
        settings: ProcessingSettings | None = None,
        *,
        outer_scans: OuterScanSource | None = None,
        make_integrator: Callable[..., Any] = Integrator,
        integrator: LineIntegrator | None = None,
    ) -> None:
        super().__init__()
        self._integrator = integrator or LocalIntegrator(frame_source, make_integrator)
        self._sink = sink
        self._settings = settings or ProcessingSettings()
        self._regions = RegionOfInterest(outer_scans)
        self._slices: dict[str, SliceState] = {}
        self._line_streams: dict[str, str] = {}
        self._slice_of: dict[str, str] = {}  # the run with which the slice of a run began
        self._first_runs: dict[str, SliceRun] = {}
        self._references: dict[str, float] = {}

    def start(self, doc: Mapping[str, Any]) -> None:
        """Begin a slice, if the run gives one, or go on with the one that it resumes."""
        if str(doc.get("xrdct", {}).get("role", "")) not in SLICE_ROLES:
            return
        run = self._regions.with_outer_scans(SliceRun.from_start(doc, self._settings))
        run = self._slice_begun_by(run)
        if run.uid in self._slices:
            return
        try:
            self.close()
        except Exception:  # what an earlier run left behind must not cost this one
            logger.exception("an abandoned slice could not be closed")
        state = SliceState(run=run, make_radial=lambda: self._integrator.radial(run))
        state.monitor_reference = self._settings.monitor_reference or self._references.get(run.series_uid)
        self._sink.opened(state)
        self._integrator.begin(state)
        if run.series_uid and state.monitor_reference:
            self._references[run.series_uid] = state.monitor_reference
        self._slices[run.uid] = state

    def _slice_begun_by(self, run: SliceRun) -> SliceRun:
        """Return the first run of the slice to which a run belongs: itself, unless it resumes another."""
        first = run
        if run.resumes:
            first_uid = self._slice_of.get(run.resumes, run.resumes)
            first = self._first_runs.get(first_uid) or replace(run, uid=first_uid, resumes="")
            if first.geometry != run.geometry:
                logger.error("run %s has another geometry than %s; it is not merged", run.uid, first_uid)
                first = run
        self._slice_of[run.uid] = first.uid
        while len(self._first_runs) >= RUNS_REMEMBERED and first.uid not in self._first_runs:
            forgotten = next(iter(self._first_runs))
            del self._first_runs[forgotten]
            self._slice_of = {run: uid for run, uid in self._slice_of.items() if uid != forgotten}
        return self._first_runs.setdefault(first.uid, first)

    def descriptor(self, doc: Mapping[str, Any]) -> None:
        """Remember which events are lines of a slice."""
        slice_uid = self._slice_of.get(doc["run_start"])
        if doc["name"] == LINES and slice_uid in self._slices:
            self._line_streams[doc["uid"]] = slice_uid

    def event(self, doc: Mapping[str, Any]) -> None:
        """Process a line, or note what became of its attempt."""
        run_uid = self._line_streams.get(doc["descriptor"])
        if run_uid is None:
            return
        state = self._slices[run_uid]
        try:
            line = LineEvent.from_data(doc["data"], state.run.geometry)
        except XrdctError as error:
            logger.error("run %s: %s", run_uid[:8], error)
            return
        if line.verdict is Verdict.ACCEPTED:
            self._accept(state, line)
        else:
            self._mark(state, line, line.verdict, line.reason or "no reason given")

    def stop(self, doc: Mapping[str, Any]) -> None:
        """End a slice."""
        state = self._slices.get(self._slice_of.get(doc["run_start"], ""))
        if state is not None:
            state.exit_status = str(doc["exit_status"])
            self._close(state)

    def close(self) -> None:
        """End the slices whose runs never ended; for a replay, when nothing more can come."""
        for state in list(self._slices.values()):
            logger.warning("run %s never ended; its slice is closed as it is", state.run.uid[:8])
            state.exit_status = "abandoned"
            self._close(state)

    def _accept(self, state: SliceState, line: LineEvent) -> None:
        index = line.rotation_index
        if state.done.get(index) == (line.raw_file, line.attempt):
            return
        try:
            result = self._regions.freed(state, self._integrate(state, line))
            self._add_to_slice(state, result)
        except XrdctError as error:
            logger.error("run %s, line %d: %s", state.run.uid[:8], index, error)
            self._mark(state, line, Verdict.BAD, str(error))
        except Exception as error:  # one line must not end the processing of those that follow
            logger.exception("run %s, line %d failed", state.run.uid[:8], index)
            self._mark(state, line, Verdict.BAD, f"{type(error).__name__}: {error}")
        else:
            state.place(result)
            self._sink.line_done(state, result)

    def _mark(self, state: SliceState, line: LineEvent, verdict: Verdict, reason: str) -> None:
        index = line.rotation_index
        if verdict is Verdict.RETAKE:
            state.retaken.add((index, line.attempt))
        elif index not in state.done:
            state.marked[index] = reason
        self._sink.line_marked(state, index, verdict, reason)

    def _integrate(self, state: SliceState, line: LineEvent) -> LineResult:
        run, index = state.run, line.rotation_index
        line.check_direction(run.geometry)
        places = run.geometry.line_translations(index)
        patterns = self._integrator.patterns(run, line.raw_file, len(places))
        intensity, sigma = _placed(patterns, places, line)
        monitor = np.empty(len(places))
        monitor[places] = line.i0
        _drop_dark_frames(state, intensity, monitor, index)
        normalised, scaled_sigma = normalise_by_monitor(
            intensity, monitor, reference=state.monitor_reference, sigma=sigma
        )
        return LineResult(
            rotation_index=index,
            key=(line.raw_file, line.attempt),
            intensity=cast("Float32Array", normalised),
            sigma=cast("Float32Array", scaled_sigma),
            measured=np.isfinite(normalised).any(axis=1),
            ended_s=line.ended_s,
        )

    def _add_to_slice(self, state: SliceState, line: LineResult) -> None:
        if state.run.series_uid and state.monitor_reference:
            self._references[state.run.series_uid] = state.monitor_reference
        fbp = self._reconstruction(state)
        if fbp is not None:
            fbp.add(state.run.geometry.rotation_deg[line.rotation_index], line.freed, line.sigma)

    def _reconstruction(self, state: SliceState) -> IncrementalFBP | None:
        """Return the slice with all lines done so far, those of an earlier process included."""
        if state.fbp is not None or state.no_slice:
            return state.fbp
        geometry = state.run.geometry
        n_rotations, n_translations = geometry.shape
        try:
            fbp = IncrementalFBP(
                n_translations, len(state.radial), n_rotations, state.run.axis_px, geometry.rotation_deg
            )
        except ProcessingError as error:
            logger.warning("run %s gives patterns but no slice: %s", state.run.uid[:8], error)
            state.no_slice = str(error)
            return None
        for index in sorted(state.done):
            line = self._sink.restored(state, index)
            if line is not None:
                fbp.add(geometry.rotation_deg[index], self._regions.freed(state, line).freed, line.sigma)
        state.fbp = fbp
        return fbp

    def _close(self, state: SliceState) -> None:
        del self._slices[state.run.uid]
        self._line_streams = {d: run for d, run in self._line_streams.items() if run != state.run.uid}
        try:
            if state.done and not state.was_finished:
                self._reconstruction(state)
            self._regions.conclude(state)
        finally:
            self._sink.closed(state)


def _placed(
    patterns: tuple[npt.NDArray[Any], npt.NDArray[Any]], places: npt.NDArray[np.intp], line: LineEvent
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return patterns ``(frame, bin)`` and their sigma in the order of the translations."""
    n_frames, n_bins = patterns[0].shape
    if n_frames > len(places):
        raise ProcessingError(
            f"{line.raw_file} holds more than the {len(places)} frames of a line; "
            "which of them belong to it is unknown"
        )
    if n_frames < len(places):
        logger.warning(
            "%s holds %d of %d frames; the rest is not measured", line.raw_file, n_frames, len(places)
        )
    placed = np.full((2, len(places), n_bins), np.nan, dtype=np.float32)
    placed[:, places[:n_frames]] = patterns
    return placed[0], placed[1]


def _drop_dark_frames(
    state: SliceState, intensity: npt.NDArray[np.float32], monitor: npt.NDArray[np.float64], index: int
) -> None:
    """Blank the frames of a line that had no beam, and settle what a whole beam is."""
    measured = np.isfinite(intensity).any(axis=1)
    if state.monitor_reference is None and (monitor[measured] > 0).any():
        state.monitor_reference = float(np.nanmedian(monitor[measured]))
    reference = state.monitor_reference
    if reference is None or not reference > 0:
        raise ProcessingError(f"the beam monitor reads nothing in line {index}; is it connected?")
    dark = measured & ~(monitor > DEAD_MONITOR_SHARE * reference)
    if dark.all():
        raise ProcessingError(
            f"no frame of line {index} had beam: I0 is below {DEAD_MONITOR_SHARE:g} of {reference:g} counts"
        )
    if dark.any():
        logger.warning(
            "line %d: %d frames without beam are left out (translations %s)",
            index, dark.sum(), np.flatnonzero(dark)[:8].tolist(),
        )  # fmt: skip
        intensity[dark] = np.nan
