from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from builders import (
    TINY_SHAPE,
    Attempt,
    phantom_image,
    phantom_line,
    rings_frame,
    series_documents,
    slice_documents,
    tiny_calibration,
)

from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.callbacks.slice_processor import SliceProcessor
from xrdct_beamline.callbacks.slice_state import LineResult, SliceSink, SliceState
from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.documents import Verdict
from xrdct_beamline.domain.errors import CalibrationError, ConfigurationError, DataError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.processing.integration import Integrator

SETTINGS = ProcessingSettings(bins=20, estimator="mean", threads=1)
GEOMETRY = ScanGeometry.raster(n_translations=5, step_mm=0.01, n_rotations=4)


class MemoryFrames:
    """Frames by raw file; counts how often each was read."""

    def __init__(self, lines: dict[str, np.ndarray] | None = None) -> None:
        self.lines = lines or {}
        self.reads: list[str] = []

    def frames(self, raw_file: str) -> Iterator[np.ndarray | None]:
        self.reads.append(raw_file)
        if raw_file not in self.lines:
            raise DataError(f"raw file {raw_file} is not there")
        yield from self.lines[raw_file]


class Recorder(SliceSink):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.states: list[SliceState] = []
        self.lines: list[LineResult] = []
        self.marks: list[tuple[int, Verdict, str]] = []
        self.closings: list[tuple[str, bool, str]] = []

    def opened(self, state: SliceState) -> None:
        self.states.append(state)

    def line_done(self, state: SliceState, line: LineResult) -> None:
        self.lines.append(line)

    def line_marked(self, state: SliceState, rotation_index: int, verdict: Verdict, reason: str) -> None:
        self.marks.append((rotation_index, verdict, reason))

    def closed(self, state: SliceState) -> None:
        self.closings.append((state.run.uid, state.is_complete, state.exit_status))

    @property
    def state(self) -> SliceState:
        return self.states[-1]

    @property
    def sinogram(self) -> np.ndarray:
        assert self.state.fbp is not None
        return self.state.fbp.sinogram


def attempts(geometry: ScanGeometry = GEOMETRY) -> list[Attempt]:
    return [Attempt(rotation_index=r, raw_file=f"/raw/{r}.h5") for r in geometry.line_order]


def line_frames(rotation_index: int, geometry: ScanGeometry = GEOMETRY) -> np.ndarray:
    """Frames whose brightness says where they belong: 100 (r + 1) + 10 t."""
    places = geometry.line_translations(rotation_index)
    return np.array([rings_frame(100 * (rotation_index + 1) + 10 * t) for t in places])


def all_frames() -> MemoryFrames:
    return MemoryFrames({f"/raw/{r}.h5": line_frames(r) for r in range(4)})


@functools.cache
def integrator(**arguments: object) -> Integrator:
    """The tiny detector's integrator; making one takes longer than a test."""
    return Integrator(DetectorGeometry.from_metadata(tiny_calibration()), **arguments)


def run(documents: Iterable, frames: MemoryFrames, settings: ProcessingSettings = SETTINGS) -> Recorder:
    sink = Recorder()
    processor = SliceProcessor(
        frames, sink, settings, make_integrator=lambda _, **arguments: integrator(**arguments)
    )
    for name, doc in documents:
        processor(name, doc)
    return sink


def pattern(frame: np.ndarray) -> np.ndarray:
    return integrator(**SETTINGS.integrator_arguments())(frame).intensity


def test_each_frame_becomes_the_pattern_of_its_own_cell() -> None:
    sink = run(slice_documents(GEOMETRY, attempts()), all_frames())
    for rotation in range(4):
        for translation in range(5):
            expected = pattern(rings_frame(100 * (rotation + 1) + 10 * translation))
            np.testing.assert_allclose(sink.sinogram[rotation, translation], expected, rtol=1e-6)
    assert sink.state.frames_integrated == 20
    assert sink.closings == [(sink.state.run.uid, True, "success")]


@pytest.mark.parametrize("order", ["sequential", "interlaced", "golden"])
@pytest.mark.parametrize("zigzag", [True, False])
def test_asymmetric_phantom_comes_back_the_right_way_round(order: str, zigzag: bool) -> None:
    geometry = ScanGeometry.raster(15, 0.0135, 16, order=order, zigzag=zigzag)
    frames = MemoryFrames({f"/raw/{r}.h5": phantom_line(geometry, r) for r in range(16)})
    sink = run(slice_documents(geometry, attempts(geometry)), frames)
    assert sink.state.fbp is not None
    image = np.nansum(sink.state.fbp.slice(), axis=-1)
    truth = phantom_image(geometry)

    def likeness(candidate: np.ndarray) -> float:
        return float(np.corrcoef(candidate.ravel(), truth.ravel())[0, 1])

    turned = [np.rot90(image, k) for k in (1, 2, 3)]
    mirrored = [np.rot90(image[:, ::-1], k) for k in range(4)]
    assert likeness(image) > 0.98
    assert max(likeness(other) for other in turned + mirrored) < 0.6


@pytest.mark.parametrize("order", ["interlaced", "golden"])
def test_the_order_of_lines_does_not_matter(order: str) -> None:
    plain = ScanGeometry.raster(5, 0.01, 4, zigzag=False)
    other = ScanGeometry.raster(5, 0.01, 4, zigzag=False, order=order)
    one = run(slice_documents(plain, attempts(plain)), all_unzigzagged())
    two = run(slice_documents(other, attempts(other)), all_unzigzagged())
    np.testing.assert_array_equal(one.sinogram, two.sinogram)


def all_unzigzagged() -> MemoryFrames:
    plain = ScanGeometry.raster(5, 0.01, 4, zigzag=False)
    return MemoryFrames({f"/raw/{r}.h5": line_frames(r, plain) for r in range(4)})


def test_the_same_line_twice_changes_nothing() -> None:
    documents = list(slice_documents(GEOMETRY, attempts()))
    twice = [d for d in documents for _ in range(2 if d[0] == "event" else 1)]
    frames = all_frames()
    sink = run(twice, frames)
    once = run(documents, all_frames())
    assert len(frames.reads) == 4
    assert len(sink.lines) == 4
    np.testing.assert_array_equal(sink.sinogram, once.sinogram)


def test_documents_from_a_journal_give_the_same() -> None:
    documents = list(slice_documents(GEOMETRY, attempts()))
    for name, doc in documents:
        if name == "event":
            doc["data"] = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in doc["data"].items()}
    plain = [(name, json.loads(json.dumps(doc))) for name, doc in documents]
    np.testing.assert_array_equal(
        run(plain, all_frames()).sinogram, run(slice_documents(GEOMETRY, attempts()), all_frames()).sinogram
    )


def test_a_line_taken_anew_replaces_the_old_one() -> None:
    frames = all_frames()
    frames.lines["/raw/again.h5"] = line_frames(3)
    again = Attempt(rotation_index=1, raw_file="/raw/again.h5")
    sink = run(slice_documents(GEOMETRY, [*attempts(), again]), frames)
    expected = [pattern(frame) for frame in line_frames(3)]
    np.testing.assert_allclose(sink.sinogram[1][GEOMETRY.line_translations(1)], expected, rtol=1e-6)
    assert sink.state.done[1] == ("/raw/again.h5", 0)


def test_only_accepted_attempts_are_read() -> None:
    frames = all_frames()
    tried = [
        Attempt(rotation_index=0, raw_file="/raw/short.h5", verdict=Verdict.RETAKE, reason="4 of 5 frames"),
        Attempt(rotation_index=0, raw_file="/raw/0.h5", attempt=1),
        Attempt(rotation_index=1, raw_file="/raw/1.h5"),
        Attempt(rotation_index=2, raw_file="/raw/late.h5", verdict=Verdict.BAD, reason="3 of 5 frames"),
    ]
    sink = run(slice_documents(GEOMETRY, tried), frames)
    assert frames.reads == ["/raw/0.h5", "/raw/1.h5"]
    assert sink.state.retaken == {(0, 0)}
    assert sink.state.marked == {2: "3 of 5 frames"}
    assert [mark[:2] for mark in sink.marks] == [(0, Verdict.RETAKE), (2, Verdict.BAD)]
    assert not sink.state.measured[2].any()
    assert np.isnan(sink.sinogram[2:]).all()
    assert sink.closings[0][1] is False


def test_a_line_whose_file_is_gone_is_marked_and_the_next_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    frames = all_frames()
    del frames.lines["/raw/1.h5"]
    sink = run(slice_documents(GEOMETRY, attempts()), frames)
    assert set(sink.state.done) == {0, 2, 3}
    assert "raw file /raw/1.h5 is not there" in sink.state.marked[1]
    assert "line 1" in caplog.text


def test_whatever_goes_wrong_in_a_line_stays_in_it(caplog: pytest.LogCaptureFixture) -> None:
    frames = all_frames()
    frames.lines["/raw/2.h5"] = np.zeros((5, 3, 3), dtype=np.int32)  # another detector's
    frames.lines["/raw/3.h5"] = ["no", "frame"]  # type: ignore[assignment]
    sink = run(slice_documents(GEOMETRY, attempts()), frames)
    assert set(sink.state.done) == {0, 1}
    assert set(sink.state.marked) == {2, 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"line_rotation_index": 4}, "line 4 is not among the scan's 4 rotations"),
        ({"line_verdict": "perhaps"}, "perhaps"),
        ({"line_i0": np.ones(3)}, "3 values of line_i0"),
        ({"line_raw_file": None, "line_ended_s": None}, "cannot be used"),
    ],
)
def test_an_event_that_makes_no_sense_is_left_out(
    change: dict, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    documents = copy.deepcopy(list(slice_documents(GEOMETRY, attempts())))
    events = [doc for name, doc in documents if name == "event"]
    events[0]["data"].update(change)
    sink = run(documents, all_frames())
    assert len(sink.state.done) == 3
    assert message in caplog.text


def test_a_line_captured_in_the_wrong_direction_is_not_mirrored_into_the_slice() -> None:
    documents = list(slice_documents(GEOMETRY, attempts()))
    events = [doc for name, doc in documents if name == "event"]
    events[1]["data"]["line_position_mm"] = events[1]["data"]["line_position_mm"][::-1].copy()
    sink = run(documents, all_frames())
    assert "check the sign of the translation stage" in sink.state.marked[1]
    assert set(sink.state.done) == {0, 2, 3}


def test_a_missing_frame_is_a_hole_and_a_short_file_leaves_its_end_unmeasured() -> None:
    frames = all_frames()
    frames.lines["/raw/0.h5"] = [f if i != 2 else None for i, f in enumerate(line_frames(0))]  # type: ignore[assignment]
    frames.lines["/raw/1.h5"] = line_frames(1)[:3]
    sink = run(slice_documents(GEOMETRY, attempts()), frames)
    assert sink.state.measured[0].tolist() == [True, True, False, True, True]
    assert sink.state.measured[1].tolist() == [False, False, True, True, True]  # it ran backwards
    assert np.isnan(sink.sinogram[0, 2]).all()
    assert sink.state.fbp is not None
    assert np.isfinite(sink.state.fbp.slice()[..., np.isfinite(sink.sinogram[2, 0])]).all()


def test_more_frames_than_planned_belong_to_nobody() -> None:
    frames = all_frames()
    frames.lines["/raw/0.h5"] = np.concatenate([line_frames(0), line_frames(0)])
    sink = run(slice_documents(GEOMETRY, attempts()), frames)
    assert "more than the 5 frames" in sink.state.marked[0]


def test_intensities_follow_the_beam_monitor_frame_by_frame() -> None:
    beam = np.array([1.0, 0.5, 1.0, 2.0, 1.0])
    frames = all_frames()
    frames.lines["/raw/0.h5"] = np.array(
        [np.rint(f * b) for f, b in zip(line_frames(0), beam, strict=True)], dtype=np.int32
    )
    tried = attempts()
    tried[0] = Attempt(rotation_index=0, raw_file="/raw/0.h5", i0=1000.0 * beam)
    sink = run(slice_documents(GEOMETRY, tried), frames)
    steady = run(slice_documents(GEOMETRY, attempts()), all_frames())
    assert sink.state.monitor_reference == 1000.0
    np.testing.assert_allclose(sink.sinogram, steady.sinogram, rtol=0.03, atol=1.0)


def test_frames_without_beam_are_holes_and_a_line_without_beam_is_marked() -> None:
    tried = attempts()
    tried[1] = Attempt(
        rotation_index=1, raw_file="/raw/1.h5", i0=np.array([1000.0, 0.0, np.nan, 5.0, 1000.0])
    )
    tried[2] = Attempt(rotation_index=2, raw_file="/raw/2.h5", i0=0.0)
    sink = run(slice_documents(GEOMETRY, tried), all_frames())
    assert sink.state.measured[1].tolist() == [True, False, False, False, True]
    assert "no frame of line 2 had beam" in sink.state.marked[2]


def test_a_series_shares_the_reference_of_its_first_line() -> None:
    frames = all_frames()
    weak = [Attempt(rotation_index=r, raw_file=f"/raw/{r}.h5", i0=500.0) for r in range(4)]
    documents = [
        *slice_documents(GEOMETRY, attempts(), series_uid="s", state_index=0),
        *slice_documents(GEOMETRY, weak, series_uid="s", state_index=1),
        *slice_documents(GEOMETRY, weak, series_uid="other", state_index=0),
    ]
    sink = run(documents, frames)
    assert [state.monitor_reference for state in sink.states] == [1000.0, 1000.0, 500.0]
    first, second, third = (state.fbp.sinogram for state in sink.states if state.fbp is not None)
    np.testing.assert_allclose(second, 2 * first, rtol=1e-6)
    np.testing.assert_array_equal(third, first)


def test_documents_of_other_runs_may_lie_between() -> None:
    slice_docs = list(slice_documents(GEOMETRY, attempts()))
    cell_docs = list(series_documents([(float(i), 4.0, -0.1, "rest") for i in range(len(slice_docs))]))
    between = [doc for pair in zip(slice_docs, cell_docs, strict=False) for doc in pair]
    sink = run(between, all_frames())
    assert len(sink.states) == 1
    assert len(sink.state.done) == 4


def test_a_run_that_never_ended_is_closed_when_the_next_slice_begins() -> None:
    aborted = slice_documents(GEOMETRY, attempts()[:2], uid="aborted", with_stop=False)
    sink = run([*aborted, *slice_documents(GEOMETRY, attempts(), uid="next")], all_frames())
    assert sink.closings == [("aborted", False, "abandoned"), ("next", True, "success")]


def test_late_documents_of_a_closed_run_are_ignored() -> None:
    documents = list(slice_documents(GEOMETRY, attempts()))
    event = next(d for d in documents if d[0] == "event")
    sink = run([*documents, event], all_frames())
    assert len(sink.lines) == 4


def test_event_pages_are_events_too() -> None:
    from event_model import pack_event_page

    documents = list(slice_documents(GEOMETRY, attempts()))
    events = [doc for name, doc in documents if name == "event"]
    others = [d for d in documents if d[0] != "event"]
    sink = run([*others[:-1], ("event_page", pack_event_page(*events)), others[-1]], all_frames())
    assert sink.state.frames_integrated == 20


def test_a_calibration_that_was_altered_is_refused_and_the_next_run_is_not_affected() -> None:
    calibration = {**tiny_calibration(), "poni_sha256": "0" * 64}
    sink = Recorder()
    processor = SliceProcessor(all_frames(), sink, SETTINGS)
    documents = list(slice_documents(GEOMETRY, attempts(), calibration=calibration))  # type: ignore[arg-type]
    processor(*documents[0])
    with pytest.raises(CalibrationError):
        sink.state.radial  # noqa: B018
    for name, doc in slice_documents(GEOMETRY, attempts()):
        processor(name, doc)
    assert len(sink.state.done) == 4


def test_a_run_without_geometry_is_refused_in_words() -> None:
    [(name, doc), *_] = slice_documents(GEOMETRY, [])
    del doc["xrdct"]["geometry"]
    with pytest.raises(DataError, match="has no geometry"):
        SliceProcessor(MemoryFrames(), Recorder(), SETTINGS)(name, doc)


def test_a_scan_too_small_for_a_slice_still_gives_patterns() -> None:
    geometry = ScanGeometry.raster(5, 0.01, 1)
    sink = run(slice_documents(geometry, attempts(geometry)), all_frames())
    assert len(sink.lines) == 1
    assert sink.state.fbp is None
    assert sink.state.no_slice


def test_trimmed_mean_is_the_default_and_ignores_a_hot_pixel() -> None:
    assert ProcessingSettings().estimator == "trimmed_mean"
    frames = all_frames()
    hot = line_frames(0).copy()
    hot[:, 20, 35] = 1_000_000
    frames.lines["/raw/0.h5"] = hot
    settings = ProcessingSettings(bins=10, threads=1)
    sink = run(slice_documents(GEOMETRY, attempts()), frames, settings)
    clean = run(slice_documents(GEOMETRY, attempts()), all_frames(), settings)
    np.testing.assert_allclose(sink.sinogram[0], clean.sinogram[0], rtol=0.1, atol=1.0)


@pytest.mark.parametrize("values", [{"monitor_reference": 0.0}, {"monitor_reference": -1.0}])
def test_settings_that_cannot_be_are_refused(values: dict) -> None:
    with pytest.raises(ConfigurationError):
        ProcessingSettings(**values)


def test_frames_have_the_shape_of_the_tiny_detector() -> None:
    assert rings_frame(1.0).shape == TINY_SHAPE == DetectorGeometry.from_metadata(tiny_calibration()).shape
