"""What is waited for between lines, and what becomes of lines that are begun too late."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from fakes import FakeBeamline

from xrdct_beamline.devices.beam import Beam
from xrdct_beamline.devices.beamline import BeamlineSettings
from xrdct_beamline.devices.line_record import LineValues
from xrdct_beamline.domain.policies import CellRunning
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.plans import conditions
from xrdct_beamline.plans.conditions import Guard, until_time_is_up, while_cell_waits
from xrdct_beamline.plans.slice_scan import slice_scan

GEOMETRY = ScanGeometry.raster(n_translations=5, step_mm=0.01, n_rotations=4, span_deg=80)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "POLL_S", 0.01)


@pytest.fixture
def hardware() -> FakeBeamline:
    return FakeBeamline(BeamlineSettings(minimum_current_mA=10.0, minimum_flux=1e9))


@pytest.fixture
def lines() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def engine(lines: list[dict[str, Any]]) -> Iterator[RunEngine]:
    engine = RunEngine({}, call_returns_result=True)
    engine.subscribe(
        lambda name, d: lines.append(d["data"]) if "line_verdict" in d.get("data", ()) else None, "event"
    )
    yield engine
    if engine.state != "idle":
        engine.halt()


def take(engine: RunEngine, hardware: FakeBeamline, guard: Guard | None = None) -> Any:
    return engine(slice_scan(hardware.beamline, GEOMETRY, directory="/raw", monitor_cell=False, guard=guard))


def during(hardware: FakeBeamline, line: int, act: Callable[[], None], n_frames: int = 5) -> None:
    """Do something within a crossing, of which so many frames come."""

    def spoil(positions_mm: Any) -> int:
        if hardware.crossings != line:
            return len(positions_mm)
        act()
        return n_frames

    hardware.spoil = spoil


def verdicts(lines: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(line["line_rotation_index"], line["line_verdict"]) for line in lines]


ALL = [(i, "accepted") for i in range(4)]


@pytest.mark.parametrize(("signal", "low", "words"), [
    ("current_mA", 3.0, "the ring has 3 mA, 10 mA are needed"),
    ("flux", 1e7, "the beam monitor reads 1e+07 photons/s"),
])  # fmt: skip
def test_a_beam_that_is_lost_within_a_line_costs_that_line_and_no_attempt(
    engine: RunEngine, hardware: FakeBeamline, lines: list[Any], signal: str, low: float, words: str
) -> None:
    beam = getattr(hardware.beamline.beam, signal)
    whole = beam.get()
    during(hardware, 2, lambda: beam.sim_put(low), n_frames=2)
    shutter_while_waiting: list[int] = []

    def bring_back(name: str, doc: dict[str, Any]) -> None:
        if doc["data"].get("line_verdict") == "retake":
            engine.loop.call_later(0.06, beam.sim_put, whole)
            engine.loop.call_later(
                0.05, lambda: shutter_while_waiting.append(hardware.beamline.shutter.state.get())
            )

    engine.subscribe(bring_back, "event")
    engine(slice_scan(hardware.beamline, GEOMETRY, directory="/raw", monitor_cell=False, max_attempts=1))
    assert verdicts(lines) == [ALL[0], (1, "retake"), *ALL[1:]]
    assert words in lines[1]["line_reason"]
    assert lines[2]["line_waited_s"] > 0
    assert f"waited {lines[2]['line_waited_s']:.3g} s: {words}" in lines[2]["line_note"]
    assert shutter_while_waiting == [0]


def test_a_full_disk_is_waited_for_between_lines(
    engine: RunEngine, hardware: FakeBeamline, lines: list[Any]
) -> None:
    answers = iter(["", "", "no room", "no room", "", "", ""])
    take(engine, hardware, Guard(conditions=(lambda: next(answers, ""),)))
    assert verdicts(lines) == ALL
    assert [line["line_note"] for line in lines] == ["", "", "waited 0.02 s: no room", ""]


def test_frames_may_warn(engine: RunEngine, hardware: FakeBeamline, lines: list[Any]) -> None:
    def inspect(values: LineValues) -> str:
        return "too bright" if values.rotation_index == 1 else ""

    take(engine, hardware, Guard(inspect=inspect))
    assert verdicts(lines) == ALL
    assert [line["line_note"] for line in lines] == ["", "too bright", "", ""]


@pytest.mark.parametrize(("policy", "expected"), [
    (CellRunning.MARK, ["accepted", "accepted", "cell_running", "cell_running"]),
    (CellRunning.CLOSE, ["accepted", "accepted", "cell_running", "cell_running"]),
    (CellRunning.IGNORE, ["accepted"] * 4),
])  # fmt: skip
def test_a_cell_that_runs_on(
    engine: RunEngine, hardware: FakeBeamline, lines: list[Any], policy: CellRunning, expected: list[str]
) -> None:
    trigger = hardware.beamline.trigger
    trigger.has_been_low.put(0)
    during(hardware, 2, lambda: trigger.has_been_low.put(1))
    take(engine, hardware, Guard(fates=(while_cell_waits(hardware.beamline, policy),)))
    assert [line["line_verdict"] for line in lines] == expected
    is_closed = policy is CellRunning.CLOSE
    assert hardware.crossings == (2 if is_closed else 4)
    assert [line["line_captured"] for line in lines] == ([5, 5, 0, 0] if is_closed else [5] * 4)
    if policy is not CellRunning.IGNORE:
        assert "the cell ran on before the slice was done" in lines[3]["line_reason"]


def test_lines_that_would_not_be_over_in_time_are_left_out_with_a_reason(
    engine: RunEngine, hardware: FakeBeamline, lines: list[Any]
) -> None:
    def clock() -> float:  # a line takes a second
        return float(hardware.crossings)

    take(engine, hardware, Guard(fates=(until_time_is_up(3.0, clock, line_s=1.0),)))
    assert verdicts(lines) == [*ALL[:3], (3, "bad")]
    assert "the pause of the cell is over" in lines[-1]["line_reason"]
    assert hardware.crossings == 3


def test_a_beam_that_does_not_come_back_does_not_outlast_the_pause(
    engine: RunEngine, hardware: FakeBeamline, lines: list[Any]
) -> None:
    trigger = hardware.beamline.trigger
    trigger.has_been_low.put(0)

    def lose() -> None:
        hardware.beamline.beam.flux.sim_put(0.0)
        engine.loop.call_later(0.05, trigger.has_been_low.put, 1)

    during(hardware, 3, lose)
    take(engine, hardware, Guard(fates=(while_cell_waits(hardware.beamline, CellRunning.CLOSE),)))
    assert verdicts(lines) == [*ALL[:3], (3, "cell_running")]


def test_the_dose_of_each_line_is_recorded(
    engine: RunEngine, hardware: FakeBeamline, lines: list[Any]
) -> None:
    take(engine, hardware)
    for line in lines:
        assert 0 < line["line_open_s"] < 1
        assert line["line_photons"] == pytest.approx(1e11 * line["line_open_s"])
    total_s = sum(line["line_open_s"] for line in lines)
    assert hardware.beamline.shutter.open_s == pytest.approx(total_s)


def test_a_beam_monitor_that_does_not_answer_leaves_the_dose_unknown(
    engine: RunEngine, hardware: FakeBeamline, lines: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    flux = hardware.beamline.beam.flux

    def get(**kwargs: Any) -> float:
        if hardware.crossings == 2:
            raise TimeoutError("gone")
        return 1e11

    monkeypatch.setattr(hardware.beamline.beam, "problem", lambda: "")
    monkeypatch.setattr(flux, "get", get)
    take(engine, hardware)
    assert [line["line_verdict"] for line in lines] == ["accepted"] * 4
    assert np.isnan([line["line_photons"] for line in lines]).tolist() == [False, True, False, False]
    hardware.crossings = 2
    assert "do not answer (gone)" in Beam.problem(hardware.beamline.beam)
