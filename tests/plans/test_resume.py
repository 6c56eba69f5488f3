"""The rest of a slice is taken as its first run would have taken it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from builders import tiny_calibration
from fakes import FakeBeamline

from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.registration import SampleOffset
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.plans.resume import repeat_line, resume_slice
from xrdct_beamline.plans.slice_scan import slice_scan

GEOMETRY = ScanGeometry.raster(n_translations=5, step_mm=0.01, n_rotations=8, span_deg=80, order="interlaced")


@pytest.fixture
def hardware() -> FakeBeamline:
    return FakeBeamline()


@pytest.fixture
def documents() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def engine(documents: list[Any]) -> Iterator[RunEngine]:
    engine = RunEngine({}, call_returns_result=True)
    engine.subscribe(lambda name, document: documents.append((name, document)))
    yield engine
    if engine.state != "idle":
        engine.halt()


def starts(documents: list[Any]) -> list[dict[str, Any]]:
    return [d for name, d in documents if name == "start"]


def lines(documents: list[Any]) -> list[dict[str, Any]]:
    return [d["data"] for name, d in documents if name == "event" and "line_verdict" in d["data"]]


def first_run(engine: RunEngine, hardware: FakeBeamline, documents: list[Any]) -> dict[str, Any]:
    hardware.beamline.translation.velocity.sim_put(4.0)
    plan = slice_scan(
        hardware.beamline,
        GEOMETRY,
        exposure_s=0.02,
        period_s=0.03,
        directory="/raw",
        calibration=tiny_calibration(),
        role=Role.COARSE,
        series_uid="s",
        state_index=3,
        lines=[0, 4, 2],
        max_attempts=2,
        monitor_cell=False,
    )
    engine(plan)
    return starts(documents)[0]


def test_the_rest_is_taken_in_the_same_geometry(
    engine: RunEngine, hardware: FakeBeamline, documents: Any
) -> None:
    start = first_run(engine, hardware, documents)
    directions = {e["line_rotation_index"]: e["line_position_mm"] for e in lines(documents)}
    hardware.beamline.translation.velocity.sim_put(0.3)  # as a kill in a line leaves it
    engine(resume_slice(hardware.beamline, start, [7, 2, 6], monitor_cell=False))

    again = starts(documents)[1]
    assert again["xrdct"] == {**start["xrdct"], "resumes": start["uid"]}
    assert again["plan_args"] == start["plan_args"]
    assert again["plan_args"]["travel_mm_s"] == 4.0
    assert hardware.beamline.translation.velocity.get() == 4.0
    taken = lines(documents)[3:]
    assert [e["line_rotation_index"] for e in taken] == [2, 6, 7]
    np.testing.assert_allclose(taken[0]["line_position_mm"], directions[2])


def test_an_offset_moves_the_stages_and_not_the_record(
    engine: RunEngine, hardware: FakeBeamline, documents: Any
) -> None:
    start = first_run(engine, hardware, documents)
    middles: list[float] = []
    hardware.spoil = lambda positions_mm: middles.append(float(positions_mm.mean())) or len(positions_mm)
    offset = SampleOffset(axis_mm=0.5, x_mm=0.1)
    engine(resume_slice(hardware.beamline, start, [0, 6], offset=offset, monitor_cell=False))
    assert middles == pytest.approx([0.6, 0.5 + 0.1 * np.cos(np.radians(60))])
    for event in lines(documents)[3:]:
        assert np.mean(event["line_position_mm"]) == pytest.approx(0.0, abs=1e-9)
    assert starts(documents)[1]["xrdct"]["offset"]["axis_mm"] == 0.5


def test_a_repeated_line_belongs_to_no_slice(
    engine: RunEngine, hardware: FakeBeamline, documents: Any
) -> None:
    start = first_run(engine, hardware, documents)
    engine(repeat_line(hardware.beamline, start, 4, monitor_cell=False))
    again = starts(documents)[1]["xrdct"]
    assert again["role"] == "point"
    assert "resumes" not in again
    assert [e["line_rotation_index"] for e in lines(documents)[3:]] == [4]


def test_nothing_to_resume(engine: RunEngine, hardware: FakeBeamline, documents: Any) -> None:
    start = first_run(engine, hardware, documents)
    with pytest.raises(ConfigurationError, match="lacks no line"):
        engine(resume_slice(hardware.beamline, start, []))
    with pytest.raises(ConfigurationError, match="is no slice"):
        engine(resume_slice(hardware.beamline, {"uid": "series", "xrdct": {"role": "series"}}, [0]))
