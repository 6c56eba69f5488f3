from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import nested_scans
import numpy as np
import pytest
from builders import Attempt, rings_frame, slice_documents, tiny_calibration
from nested_scans import SCANS, line_frames, mean_in_disc, true_share_in_disc

from xrdct_beamline.callbacks.region_of_interest import MeasuredScan
from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.callbacks.slice_processor import SliceProcessor
from xrdct_beamline.callbacks.slice_state import LineResult, SliceRun, SliceSink, SliceState
from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.processing.integration import Integrator

SETTINGS = ProcessingSettings(bins=20, estimator="mean", threads=1)
OUTER = (Role.BROAD, Role.COARSE)


class Frames:
    """Frames of the nested scans; the raw file's name says role, rotation and beam."""

    def frames(self, raw_file: str):
        role, rotation, beam = raw_file.split("/")
        yield from line_frames(role, int(rotation), float(beam))


class Recorder(SliceSink):
    def __init__(self) -> None:
        self.states: dict[str, SliceState] = {}
        self.lines: dict[str, dict[int, LineResult]] = {}

    def opened(self, state: SliceState) -> None:
        self.states[state.run.role] = state
        self.lines[state.run.role] = {}

    def line_done(self, state: SliceState, line: LineResult) -> None:
        self.lines[state.run.role][line.rotation_index] = line


class Processed:
    """The scans that a recorder has seen, as the processed files would give them."""

    def __init__(self, recorder: Recorder, found: Sequence[str] = OUTER) -> None:
        self.recorder = recorder
        self.found = found
        self.spoil = lambda scan: scan

    def find(self, run: SliceRun) -> Sequence[str]:
        return [role for role in self.found if role != run.role and role in self.recorder.states]

    def load(self, run_uid: str) -> MeasuredScan:
        state = self.recorder.states[run_uid]
        lines = self.recorder.lines[run_uid]
        sinogram = np.stack([lines[r].intensity for r in range(len(lines))])
        scan = MeasuredScan(
            run_uid=run_uid, geometry=state.run.geometry, axis_px=state.run.axis_px, sinogram=sinogram,
            radial=state.radial, monitor_reference=state.monitor_reference or 0.0,
        )  # fmt: skip
        return self.spoil(scan)


@functools.cache
def integrator() -> Integrator:
    detector = DetectorGeometry.from_metadata(tiny_calibration())
    return Integrator(detector, **SETTINGS.integrator_arguments())


def measure(
    recorder: Recorder, source: Processed | None, roles: Sequence[str], beams: dict | None = None
) -> None:
    processor = SliceProcessor(
        Frames(), recorder, SETTINGS, outer_scans=source, make_integrator=lambda *_, **__: integrator()
    )
    for role in roles:
        beam = (beams or {}).get(role, 1.0)
        tried = [
            Attempt(rotation_index=r, raw_file=f"{role}/{r}/{beam}", i0=1000.0 * beam)
            for r in SCANS[Role(role)].line_order
        ]
        for name, doc in slice_documents(SCANS[Role(role)], tried, role=role):
            processor(name, doc)


@pytest.fixture(scope="module")
def measured() -> Recorder:
    recorder = Recorder()
    measure(recorder, Processed(recorder), [*OUTER, Role.ROI], {Role.COARSE: 2.0})
    return recorder


def scale_of_a_voxel() -> float:
    """Sum of the pattern of one voxel of the region, per share of spinel."""
    pattern = integrator()(rings_frame(nested_scans.COUNTS_PER_MM)).intensity
    return float(np.nansum(pattern)) * SCANS[Role.ROI].step_mm


def test_each_line_of_a_region_is_freed_of_its_surroundings(measured: Recorder) -> None:
    state, lines = measured.states[Role.ROI], measured.lines[Role.ROI]
    assert state.fbp is not None
    truth = true_share_in_disc() * scale_of_a_voxel()
    assert mean_in_disc(state.fbp.slice(), Role.ROI) == pytest.approx(truth, rel=0.1)  # rays are few
    for index, line in lines.items():
        assert line.outside is not None
        np.testing.assert_allclose(
            state.fbp.sinogram[index], line.intensity - line.outside, rtol=1e-5, atol=1e-3
        )


def test_the_measured_lines_stay_as_they_are(measured: Recorder) -> None:
    plain = Recorder()
    measure(plain, None, [Role.ROI])
    for index, line in plain.lines[Role.ROI].items():
        assert line.outside is None
        np.testing.assert_array_equal(line.intensity, measured.lines[Role.ROI][index].intensity)
    fbp = plain.states[Role.ROI].fbp
    assert fbp is not None
    assert mean_in_disc(fbp.slice(), Role.ROI) > 1.3 * true_share_in_disc() * scale_of_a_voxel()


def test_the_verdict_comes_with_the_end_of_the_scan(measured: Recorder) -> None:
    figures = measured.states[Role.ROI].figures
    assert figures is not None
    assert figures.verdict == "good", figures.reasons
    assert [f.slope for f in figures.chords] == pytest.approx([1.0, 1.0], abs=0.05)
    assert measured.states[Role.BROAD].figures is None
    coarse = measured.states[Role.COARSE].figures  # it is narrower than the sample, and freed as well
    assert coarse is not None
    assert len(coarse.chords) == 1


def test_a_mis_scaled_outer_scan_turns_the_verdict_bad(
    measured: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    recorder.states, recorder.lines = dict(measured.states), dict(measured.lines)
    source = Processed(recorder)
    source.spoil = lambda scan: replace(scan, monitor_reference=scan.monitor_reference / 1.15)
    measure(recorder, source, [Role.ROI])
    figures = recorder.states[Role.ROI].figures
    assert figures is not None
    assert figures.verdict == "bad"
    assert "check exposure" in caplog.text


def test_without_outer_scans_a_region_goes_on_uncorrected_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder()
    measure(recorder, Processed(recorder), [Role.ROI])
    assert recorder.states[Role.ROI].is_complete
    assert recorder.states[Role.ROI].interior is None
    assert "what lies outside of the region stays in its slice" in caplog.text


def test_a_folder_that_cannot_be_looked_through_does_not_cost_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = Recorder()
    source = Processed(recorder)
    source.find = lambda run: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    measure(recorder, source, [Role.ROI])
    assert recorder.states[Role.ROI].is_complete
    assert "could not be looked for" in caplog.text


@pytest.mark.parametrize("trouble", ["other bins", "unreadable"])
def test_an_outer_scan_that_cannot_be_used_is_told_once(
    trouble: str, measured: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    def spoil(scan: MeasuredScan) -> MeasuredScan:
        if trouble == "unreadable":
            raise DataError("the outer scan is unreadable")
        return replace(scan, radial=scan.radial + 0.1)

    recorder = Recorder()
    recorder.states, recorder.lines = dict(measured.states), dict(measured.lines)
    source = Processed(recorder)
    source.spoil = spoil
    measure(recorder, source, [Role.ROI])
    state = recorder.states[Role.ROI]
    assert state.is_complete
    assert trouble in state.uncorrected
    assert sum("is not corrected for what lies outside" in r.message for r in caplog.records) == 1
