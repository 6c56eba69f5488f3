from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from fakes import FakeBeamline

from xrdct_beamline.devices.beam import ShutterState
from xrdct_beamline.domain.errors import ConfigurationError, TriggerError
from xrdct_beamline.plans.operando import ask, check_loop, operando


@pytest.fixture
def hardware() -> FakeBeamline:
    hardware = FakeBeamline()
    hardware.beamline.trigger.level.sim_put(0.0)
    hardware.beamline.cell.sample_time_s.sim_put(1.0)
    return hardware


@pytest.fixture
def documents() -> list[tuple[str, dict[str, Any]]]:
    return []


@pytest.fixture
def engine(documents: list[tuple[str, dict[str, Any]]]) -> Iterator[RunEngine]:
    engine = RunEngine({}, call_returns_result=True)
    engine.subscribe(lambda name, document: documents.append((name, document)))
    yield engine
    if engine.state != "idle":
        engine.halt()


class Cycler:
    """Pauses when somebody is ready, and goes on at DONE."""

    def __init__(self, hardware: FakeBeamline) -> None:
        trigger = hardware.beamline.trigger
        self._level = trigger.level
        self.log: list[str] = []
        for output in (trigger.ready, trigger.busy, trigger.done):
            output.subscribe(self._hear, run=False)

    def _hear(self, *, value: int, obj: Any, **kwargs: Any) -> None:
        self.log.append(f"{obj.attr_name} {value}")
        level_V = {"ready 1": 3.3, "done 1": 0.0}.get(self.log[-1])
        if level_V is not None:
            threading.Timer(0.02, lambda: self._level.sim_put(level_V)).start()


def scan_with(seen: list[tuple[int, str]]) -> Callable[[int, str], Any]:
    @bpp.run_decorator(md={"is_slice": True})
    def run() -> Any:
        yield from bps.null()

    def scan(index: int, uid: str) -> Any:
        seen.append((index, uid))
        yield from run()

    return scan


def test_series(engine: RunEngine, hardware: FakeBeamline, documents: list[Any]) -> None:
    cycler, seen = Cycler(hardware), []
    result = engine(operando(hardware.beamline, scan_with(seen), 2, timeout_s=2.0, md={"sample": "s"}))

    uid = result.plan_result
    assert seen == [(0, uid), (1, uid)]
    starts = [d for name, d in documents if name == "start"]
    assert starts[0]["xrdct"] == {"schema": 1, "role": "series"}
    assert (starts[0]["uid"], starts[0]["sample"]) == (uid, "s")
    assert [s.get("is_slice") for s in starts] == [None, True, True]
    streams = {d["uid"]: d["name"] for name, d in documents if name == "descriptor"}
    edges = [d for name, d in documents if name == "event" and streams[d["descriptor"]] == "trigger"]
    assert len(edges) == 2
    assert all(edge["data"]["trigger_edge_s"] > 1e9 for edge in edges)
    stops = [d for name, d in documents if name == "stop"]
    assert [s["run_start"] for s in stops] == [starts[1]["uid"], starts[2]["uid"], uid]
    turn = ["ready 1", "ready 0", "busy 1", "busy 0", "done 1", "done 0"]
    assert cycler.log[:12] == 2 * turn


def test_cell_is_recorded_throughout(engine: RunEngine, hardware: FakeBeamline, documents: list[Any]) -> None:
    cell = hardware.beamline.cell

    def sample(index: int, uid: str) -> Any:
        cell.voltage.sim_put(4.0 - index)
        cell.sample_time_s.sim_put(10.0 + index)
        yield from bps.null()

    Cycler(hardware)
    engine(operando(hardware.beamline, sample, 2, timeout_s=2.0))
    events = [d["data"] for name, d in documents if name == "event" and "cell_voltage" in d["data"]]
    assert [e["cell_voltage"] for e in events][-2:] == [4.0, 3.0]


def test_missing_pause(engine: RunEngine, hardware: FakeBeamline, documents: list[Any]) -> None:
    with pytest.raises(TriggerError, match="did not rise"):
        engine(operando(hardware.beamline, scan_with([]), 1, timeout_s=0.05))
    [stop] = [d for name, d in documents if name == "stop"]
    assert stop["exit_status"] == "fail"
    assert "did not rise" in stop["reason"]
    assert hardware.beamline.trigger.ready.get() == 0


def test_line_that_is_high_already(engine: RunEngine, hardware: FakeBeamline) -> None:
    hardware.beamline.trigger.level.sim_put(3.3)
    with pytest.raises(TriggerError, match="high already"):
        engine(operando(hardware.beamline, scan_with([]), 1, timeout_s=1.0))


def test_failing_scan_leaves_the_lines_safe(engine: RunEngine, hardware: FakeBeamline) -> None:
    def fail(index: int, uid: str) -> Any:
        yield from bps.null()
        raise ValueError("no such scan")

    cycler = Cycler(hardware)
    with pytest.raises(ValueError, match="no such scan"):
        engine(operando(hardware.beamline, fail, 1, timeout_s=2.0))
    trigger = hardware.beamline.trigger
    assert (trigger.ready.get(), trigger.busy.get(), trigger.done.get()) == (0, 0, 0)
    assert "done 1" not in cycler.log  # the cell is not sent on without its slice


def test_dose_and_time_of_each_state_are_recorded(
    engine: RunEngine, hardware: FakeBeamline, documents: list[Any]
) -> None:
    def scan(index: int, uid: str) -> Any:
        yield from bps.mv(hardware.beamline.shutter, ShutterState.OPEN)
        yield from bps.sleep(0.05 * (index + 1))
        yield from bps.mv(hardware.beamline.shutter, ShutterState.CLOSED)

    Cycler(hardware)
    engine(operando(hardware.beamline, scan, 2, timeout_s=2.0))
    states = [d["data"] for name, d in documents if name == "event" and "state_index" in d["data"]]
    assert [state["state_index"] for state in states] == [0, 1]
    assert 0.05 <= states[0]["state_open_s"] < states[1]["state_open_s"] < 1.0
    for state in states:
        assert state["state_photons"] == pytest.approx(1e11 * state["state_open_s"])
        assert state["state_ended_s"] >= state["state_edge_s"]
        assert not state["state_cell_ran_on"]


def test_a_plan_between_pauses_and_an_early_end(engine: RunEngine, hardware: FakeBeamline) -> None:
    Cycler(hardware)
    seen: list[Any] = []

    def between(index: int, uid: str) -> Any:
        seen.append((yield from ask(lambda: f"answer {index}", timeout_s=1.0, otherwise="none")))

    scanned: list[tuple[int, str]] = []
    plan = operando(
        hardware.beamline,
        scan_with(scanned),
        5,
        timeout_s=2.0,
        between=between,
        until=lambda: len(scanned) == 3,
    )
    engine(plan)
    assert [index for index, _ in scanned] == [0, 1, 2]
    assert seen == ["answer 0", "answer 1"]


@pytest.mark.parametrize("question", [lambda: time.sleep(1.0), lambda: 1 / 0], ids=["slow", "failing"])
def test_a_question_is_not_waited_for_longer_than_allowed(
    engine: RunEngine, question: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    began_s = time.monotonic()
    answer = engine(ask(question, timeout_s=0.05, otherwise=7)).plan_result
    assert answer == 7
    assert time.monotonic() - began_s < 0.9
    assert "going on with 7" in caplog.text


@pytest.mark.parametrize(
    ("n_pauses", "settings", "message"),
    [
        (0, {"done_pulse": True, "pause_s": None, "scan_s": None}, "n_pauses is 0"),
        (1, {"done_pulse": False, "pause_s": None, "scan_s": None}, "waits a fixed time: say how long"),
        (1, {"done_pulse": True, "pause_s": 600.0, "scan_s": None}, "without scan_s"),
        (1, {"done_pulse": False, "pause_s": 600.0, "scan_s": 601.0}, "about 601 s and the cell waits 600 s"),
    ],
)
def test_loop_that_cannot_work(n_pauses: int, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_loop(n_pauses, **settings)


def test_open_loop_that_fits() -> None:
    check_loop(3, done_pulse=False, pause_s=600.0, scan_s=599.0)
