"""A slice on devices that obey at once: documents, verdicts, order, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from fakes import FakeBeamline

from xrdct_beamline.devices.beamline import BeamlineSettings
from xrdct_beamline.domain.documents import LINE_KEYS, Role
from xrdct_beamline.domain.errors import ConfigurationError, GeometryError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.plans.slice_scan import slice_scan

GEOMETRY = ScanGeometry.raster(n_translations=5, step_mm=0.01, n_rotations=3, span_deg=90)


class Recorder:
    def __init__(self) -> None:
        self.documents: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        self.documents.append((name, document))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [document for kind, document in self.documents if kind == name]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [event["data"] for event in self.of("event") if "line_verdict" in event["data"]]


@pytest.fixture
def hardware() -> FakeBeamline:
    return FakeBeamline()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def engine(recorder: Recorder) -> Iterator[RunEngine]:
    engine = RunEngine({}, call_returns_result=True)
    engine.subscribe(recorder)
    yield engine
    if engine.state != "idle":
        engine.halt()


def take(engine: RunEngine, hardware: FakeBeamline, geometry: ScanGeometry = GEOMETRY, **kwargs: Any) -> Any:
    arguments = {"directory": "/raw", "monitor_cell": False, **kwargs}
    return engine(slice_scan(hardware.beamline, geometry, **arguments))


def verdicts(recorder: Recorder) -> list[tuple[int, int, str]]:
    return [(e["line_rotation_index"], e["line_attempt"], e["line_verdict"]) for e in recorder.lines]


ACCEPTED = [(0, 0, "accepted"), (1, 0, "accepted"), (2, 0, "accepted")]


def test_documents(engine: RunEngine, hardware: FakeBeamline, recorder: Recorder) -> None:
    result = take(engine, hardware, role=Role.COARSE, series_uid="abc", state_index=2, md={"sample": "s"})

    [start] = recorder.of("start")
    assert result.plan_result == start["uid"]
    assert start["xrdct"] == {
        "schema": 1,
        "role": "coarse",
        "geometry": GEOMETRY.to_metadata(),
        "exposure_s": 0.010,
        "period_s": 0.0112,
        "series_uid": "abc",
        "state_index": 2,
    }
    assert (start["sample"], start["plan_name"], start["num_points"]) == ("s", "slice_scan", 15)
    assert {d["name"] for d in recorder.of("descriptor")} == {"primary", "lines", "baseline"}
    assert verdicts(recorder) == ACCEPTED
    assert all(set(event) == set(LINE_KEYS) for event in recorder.lines)
    assert [e["line_raw_file"] for e in recorder.lines] == [
        f"/raw/{start['uid'][:8]}_{r:04d}_00.h5" for r in range(3)
    ]


def test_file_is_announced_before_its_line(
    engine: RunEngine, hardware: FakeBeamline, recorder: Recorder
) -> None:
    take(engine, hardware)
    kinds = [
        "line" if kind == "event" else kind
        for kind, document in recorder.documents
        if kind in ("stream_resource", "stream_datum") or "line_verdict" in document.get("data", ())
    ]
    assert kinds == ["stream_resource", "stream_datum", "line"] * 3


def test_zigzag_positions(engine: RunEngine, hardware: FakeBeamline, recorder: Recorder) -> None:
    take(engine, hardware)
    grid_mm = np.array(GEOMETRY.translation_mm)
    for event, expected_mm in zip(recorder.lines, (grid_mm, grid_mm[::-1], grid_mm), strict=True):
        np.testing.assert_allclose(event["line_position_mm"], expected_mm, atol=1e-12)
    assert [e["line_rotation_deg"] for e in recorder.lines] == [0.0, 30.0, 60.0]


def test_signs_map_the_stages_to_the_sample(engine: RunEngine, recorder: Recorder) -> None:
    hardware = FakeBeamline(BeamlineSettings(rotation_sign=-1, translation_sign=-1))
    turned: list[float] = []
    hardware.beamline.rotation.user_setpoint.subscribe(
        lambda *, value, **kwargs: turned.append(value), run=False
    )
    steps: list[float] = []
    hardware.spoil = lambda positions_mm: steps.append(positions_mm[1] - positions_mm[0]) or len(positions_mm)
    take(engine, hardware)
    assert turned == [-30.0, -60.0]
    np.testing.assert_allclose(steps, [-0.01, 0.01, -0.01])
    np.testing.assert_allclose(recorder.lines[0]["line_position_mm"], GEOMETRY.translation_mm, atol=1e-12)
    assert [e["line_rotation_deg"] for e in recorder.lines] == [0.0, 30.0, 60.0]


def test_line_order_and_choice(engine: RunEngine, hardware: FakeBeamline, recorder: Recorder) -> None:
    geometry = ScanGeometry.raster(
        n_translations=5, step_mm=0.01, n_rotations=8, span_deg=80, order="interlaced"
    )
    take(engine, hardware, geometry, lines=[7, 0, 2])
    assert [r for r, _, _ in verdicts(recorder)] == [0, 2, 7]


def test_short_line_is_retaken_into_a_new_file(
    engine: RunEngine, hardware: FakeBeamline, recorder: Recorder
) -> None:
    hardware.spoil = lambda positions_mm: 4 if hardware.crossings == 2 else 5
    take(engine, hardware)
    assert verdicts(recorder) == [ACCEPTED[0], (1, 0, "retake"), (1, 1, "accepted"), ACCEPTED[2]]
    assert [e["line_first_frame"] for e in recorder.lines] == [0, 5, 9, 14]
    assert [d["seq_nums"]["start"] for d in recorder.of("stream_datum")] == [1, 6, 10, 15]
    assert recorder.lines[1]["line_captured"] == 4
    assert len({e["line_raw_file"] for e in recorder.lines}) == 4


def test_line_is_given_up_after_its_attempts(
    engine: RunEngine, hardware: FakeBeamline, recorder: Recorder
) -> None:
    hardware.spoil = lambda positions_mm: 0 if hardware.crossings <= 2 else 5
    result = take(engine, hardware, max_attempts=2)
    assert verdicts(recorder) == [(0, 0, "retake"), (0, 1, "bad"), *ACCEPTED[1:]]
    assert recorder.lines[0]["line_raw_file"] == ""
    assert len(recorder.of("stream_datum")) == 2
    assert result.exit_status == "success"


def test_misplaced_frames_are_noticed(engine: RunEngine, hardware: FakeBeamline, recorder: Recorder) -> None:
    def shift(positions_mm: np.ndarray) -> int:
        if hardware.crossings == 1:
            hardware.beamline.compare.position_mm.sim_put(positions_mm + 0.006)
        return len(positions_mm)

    hardware.spoil = shift
    take(engine, hardware)
    assert verdicts(recorder)[:2] == [(0, 0, "retake"), (0, 1, "accepted")]
    assert "6 µm off its position, 5 µm are allowed" in recorder.lines[0]["line_reason"]


def test_dark_line_is_noticed(engine: RunEngine, hardware: FakeBeamline, recorder: Recorder) -> None:
    def darken(positions_mm: np.ndarray) -> int:
        if hardware.crossings == 1:
            hardware.beamline.compare.i0.sim_put(np.zeros(5))
        return len(positions_mm)

    hardware.spoil = darken
    take(engine, hardware)
    assert recorder.lines[0]["line_reason"] == "no beam in 5 of 5 frames (upstream monitor ≤ 0)"


def test_shutter_is_open_during_lines_only(engine: RunEngine, hardware: FakeBeamline) -> None:
    changes: list[int] = []
    hardware.beamline.shutter.state.subscribe(lambda *, value, **kwargs: changes.append(value), run=False)
    take(engine, hardware)
    assert hardware.shutter_was_open == [True, True, True]
    opened = [value for i, value in enumerate(changes) if not i or value != changes[i - 1]]
    assert opened in ([0, 1, 0, 1, 0, 1, 0], [1, 0, 1, 0, 1, 0])


def test_error_of_a_program_ends_the_scan_safely(
    engine: RunEngine, hardware: FakeBeamline, recorder: Recorder
) -> None:
    def fail(name: str, document: dict[str, Any]) -> None:
        raise ValueError("a subscriber's mistake")

    engine.subscribe(fail, "stream_datum")
    with pytest.raises(ValueError, match="mistake"):
        take(engine, hardware)
    assert hardware.beamline.shutter.state.get() == 0
    assert hardware.beamline.compare.active.get() == 0
    assert hardware.beamline.translation.velocity.get() == 5.0
    assert recorder.of("stop")[0]["exit_status"] == "fail"


def test_step_mode(engine: RunEngine, hardware: FakeBeamline, recorder: Recorder) -> None:
    take(engine, hardware, mode="step")
    assert verdicts(recorder) == ACCEPTED
    assert hardware.crossings == 0
    np.testing.assert_allclose(recorder.lines[1]["line_position_mm"], GEOMETRY.translation_mm[::-1])
    assert list(recorder.lines[0]["line_i0"]) == [1e6] * 5


def test_waits_for_beam(engine: RunEngine, recorder: Recorder) -> None:
    hardware = FakeBeamline(BeamlineSettings(minimum_current_mA=10.0))
    current = hardware.beamline.beam.current_mA
    current.sim_put(3.0)

    def bring_back(name: str, document: dict[str, Any]) -> None:
        engine.loop.call_later(0.1, current.sim_put, 200.0)

    engine.subscribe(bring_back, "start")
    take(engine, hardware, lines=[0])
    assert verdicts(recorder) == ACCEPTED[:1]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"period_s": 0.0105}, ConfigurationError, "10.5 ms is too short"),
        ({"mode": "jump"}, ConfigurationError, "mode 'jump' is unknown; use 'fly' or 'step'"),
        ({"directory": "raw"}, ConfigurationError, "'raw' is relative"),
        ({"max_attempts": 0}, ConfigurationError, "max_attempts is 0"),
        ({"lines": []}, GeometryError, "got none at all"),
        ({"lines": [1, 3, -1]}, GeometryError, r"0 to 2, got \[-1, 3\]"),
    ],
)
def test_refused(
    engine: RunEngine,
    hardware: FakeBeamline,
    recorder: Recorder,
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        take(engine, hardware, **changes)
    assert recorder.documents == []


@pytest.mark.parametrize(
    ("geometry", "error", "message"),
    [
        (ScanGeometry.raster(n_translations=4097, step_mm=1e-4, n_rotations=1), GeometryError, "4097 frames"),
        (
            ScanGeometry.raster(n_translations=5, step_mm=0.01, n_rotations=1, centre_mm=9.99),
            ConfigurationError,
            r"translation from 9\.\d+ to 10\.0\d+ mm.*-10 and 10 mm",
        ),
        (
            ScanGeometry.raster(n_translations=5, step_mm=0.01, n_rotations=2, start_deg=300.0),
            ConfigurationError,
            r"rotation from 300 to 390 mm.*-360 and 360",
        ),
    ],
)
def test_scan_that_does_not_fit(
    engine: RunEngine, hardware: FakeBeamline, geometry: ScanGeometry, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        take(engine, hardware, geometry)
    assert hardware.crossings == 0
