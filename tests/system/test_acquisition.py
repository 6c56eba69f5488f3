"""Plans and devices against the simulated beamline in a process of its own."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky.utils import RunEngineInterrupted
from ophyd import EpicsSignal

from xrdct_beamline.devices.beamline import Beamline, BeamlineSettings, build_beamline
from xrdct_beamline.devices.connection import declared_pvs, wait_for_connections
from xrdct_beamline.devices.line_watch import LineLimits
from xrdct_beamline.domain.documents import CELL_KEYS, IMAGE, LINE_KEYS
from xrdct_beamline.domain.errors import ConfigurationError, ConnectionFailed, MoveFailed, TriggerError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.plans.operando import operando
from xrdct_beamline.plans.slice_scan import slice_scan
from xrdct_beamline.sim.iocs.server import SimOptions, list_pvs

pytestmark = pytest.mark.system

PREFIX = "ACQ:"
SHAPE = (32, 24)
GEOMETRY = ScanGeometry.raster(n_translations=21, step_mm=0.01, n_rotations=3, span_deg=9)
TEXT, NUMBERS = {"ENUM", "CHAR", "STRING"}, {"DOUBLE", "FLOAT", "LONG", "INT", "ENUM"}
assert hdf5plugin.FILTERS  # registered: h5py decodes with it

SERVER = f"""
from xrdct_beamline.sim.electrochemistry import CellProgramme
from xrdct_beamline.sim.iocs.sample import BlankSample
from xrdct_beamline.sim.iocs.server import SimOptions, serve

programme = CellProgramme(start_x=0.2, end_x=0.9, pauses_at=(0.3, 0.6), pause_s=None, time_scale=1500)
serve(
    SimOptions(prefix={PREFIX!r}, programme=programme),
    on_ready=lambda: print("ready", flush=True),
    model=BlankSample({SHAPE!r}),
)
"""


class Server:
    """The simulated beamline, which tests may kill and start again."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()
        self.process = None


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    if server.process is not None:
        server.kill()


@pytest.fixture(scope="module")
def made(server: Server) -> Beamline:
    return build_beamline(PREFIX, BeamlineSettings(line_limits=LineLimits(stall_s=0.5)))


class Faults:
    def __init__(self) -> None:
        self.drop_frame = EpicsSignal(f"{PREFIX}SIM:DropFrame", name="drop_frame", put_complete=True)
        self.cell_run = EpicsSignal(f"{PREFIX}SIM:CellRun", name="cell_run", put_complete=True)


@pytest.fixture(scope="module")
def sim(server: Server) -> Faults:
    return Faults()


@pytest.fixture
def beamline(server: Server, made: Beamline) -> Beamline:
    if server.process is None:
        server.start()
    wait_for_connections(made.devices, 30)
    return made


class Recorder:
    """The documents of a plan, in order."""

    def __init__(self) -> None:
        self.documents: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        self.documents.append((name, document))

    def of(self, name: str) -> list[dict[str, Any]]:
        return [document for kind, document in self.documents if kind == name]

    def events(self, stream: str) -> list[dict[str, Any]]:
        uids = {d["uid"] for d in self.of("descriptor") if d["name"] == stream}
        return [event for event in self.of("event") if event["descriptor"] in uids]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [event["data"] for event in self.events("lines")]

    @property
    def verdicts(self) -> list[tuple[int, int, str]]:
        return [(e["line_rotation_index"], e["line_attempt"], e["line_verdict"]) for e in self.lines]


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


@pytest.fixture
def when_captured(made: Beamline) -> Iterator[Callable[[int, Callable[[], Any]], None]]:
    """Do something once, in the background, when so many frames are in a file."""
    subscriptions: list[int] = []
    signal = made.detector.file.num_captured

    def arrange(count: int, act: Callable[[], Any]) -> None:
        has_acted: list[bool] = []

        def look(*, value: int, **kwargs: Any) -> None:
            if value >= count and not has_acted:
                has_acted.append(True)
                in_background(act)

        subscriptions.append(signal.subscribe(look, run=False))

    yield arrange
    for subscription in subscriptions:
        signal.unsubscribe(subscription)


ACCEPTED = [(r, 0, "accepted") for r in range(3)]


def frames_of(path: str) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file["/entry/data/data"])


def check_frames(event: dict[str, Any]) -> None:
    """Compare what the frames say of themselves, see BlankSample, with what the event says."""
    frames = frames_of(event["line_raw_file"])
    assert frames.shape == (event["line_captured"], *SHAPE)
    translation_mm = frames[:, 0, 0] / 1e6
    rotation_deg = frames[:, 0, 1] / 1e6
    np.testing.assert_allclose(translation_mm, event["line_position_mm"], atol=2e-6)
    np.testing.assert_allclose(rotation_deg, event["line_rotation_deg"], atol=1e-3)


def soon(is_so: Callable[[], bool]) -> None:
    """Wait for what was commanded without waiting."""
    end_s = time.monotonic() + 2
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def in_background(act: Callable[[], Any]) -> None:
    threading.Thread(target=act, daemon=True).start()


def test_each_declared_variable_is_served(made: Beamline) -> None:
    served = {name: kind for name, kind, _ in list_pvs(SimOptions(prefix=PREFIX))}
    declared = declared_pvs(made.devices)
    assert len(declared) > 100
    assert {name.removesuffix(".VAL") for name in declared} - set(served) == set()
    for name, declaration in declared.items():
        kinds = TEXT if declaration.as_string or name.endswith(".EGU") else NUMBERS
        assert served[name.removesuffix(".VAL")] in kinds, name


def test_zigzag_scan(beamline: Beamline, engine: RunEngine, recorder: Recorder, tmp_path: Path) -> None:
    result = engine(slice_scan(beamline, GEOMETRY, directory=tmp_path / "raw", md={"sample": "blank"}))

    assert result.exit_status == "success"
    assert recorder.verdicts == ACCEPTED
    for event in recorder.lines:
        assert set(event) == set(LINE_KEYS)
        grid_mm = np.asarray(GEOMETRY.translation_mm)[
            GEOMETRY.line_translations(event["line_rotation_index"])
        ]
        np.testing.assert_allclose(event["line_position_mm"], grid_mm, atol=1e-6)
        assert np.all(event["line_i0"] > 1e5)
        assert event["line_rotation_deg"] == GEOMETRY.rotation_deg[event["line_rotation_index"]]
        check_frames(event)
    check_stream(recorder)
    [start] = recorder.of("start")
    assert ScanGeometry.from_metadata(start["xrdct"]["geometry"]) == GEOMETRY
    assert start["sample"] == "blank"
    assert len(recorder.events("baseline")) == 2
    assert set(recorder.events("cell")[0]["data"]) == set(CELL_KEYS)
    soon(lambda: beamline.shutter.state.get() == 0)
    soon(lambda: beamline.translation.velocity.get() == 5.0)


def check_stream(recorder: Recorder) -> None:
    """Check that datum, file and lines event agree, one after another, without a gap."""
    resources, data = recorder.of("stream_resource"), recorder.of("stream_datum")
    events = [event for event in recorder.lines if event["line_captured"]]
    assert len(resources) == len(data) == len(events)
    next_frame = 0
    for resource, datum, event in zip(resources, data, events, strict=True):
        assert resource["uri"] == f"file://localhost{event['line_raw_file']}"
        assert resource["data_key"] == IMAGE
        assert resource["parameters"] == {
            "dataset": "/entry/data/data",
            "chunk_shape": (1, *SHAPE),
            "swmr": False,
        }
        assert datum["stream_resource"] == resource["uid"]
        assert datum["indices"] == {"start": 0, "stop": event["line_captured"]}
        assert event["line_first_frame"] == next_frame == datum["seq_nums"]["start"] - 1
        next_frame += event["line_captured"]


def test_line_with_a_lost_frame_is_retaken(
    beamline: Beamline, engine: RunEngine, recorder: Recorder, sim: Faults, tmp_path: Path
) -> None:
    sim.drop_frame.set(7).wait(5)
    engine(slice_scan(beamline, GEOMETRY, directory=tmp_path))

    assert recorder.verdicts == [(0, 0, "retake"), (0, 1, "accepted"), *ACCEPTED[1:]]
    short, again = recorder.lines[:2]
    assert (short["line_acquired"], short["line_captured"]) == (21, 20)
    assert "20 of 21 frames" in short["line_reason"]
    assert short["line_raw_file"] != again["line_raw_file"]
    assert len(frames_of(short["line_raw_file"])) == 20
    check_frames(again)
    check_stream(recorder)


def test_line_that_never_works_is_marked_bad(
    beamline: Beamline, engine: RunEngine, recorder: Recorder, sim: Faults, tmp_path: Path
) -> None:
    def drop_again(name: str, document: dict[str, Any]) -> None:
        if document["data"].get("line_verdict") == "retake":
            in_background(lambda: sim.drop_frame.put(3))

    sim.drop_frame.set(3).wait(5)
    engine.subscribe(drop_again, "event")
    result = engine(slice_scan(beamline, GEOMETRY, directory=tmp_path, max_attempts=2))

    assert result.exit_status == "success"
    assert recorder.verdicts == [(0, 0, "retake"), (0, 1, "bad"), *ACCEPTED[1:]]
    check_stream(recorder)


def test_deferred_pause_costs_nothing(
    beamline: Beamline, engine: RunEngine, recorder: Recorder, when_captured: Any, tmp_path: Path
) -> None:
    when_captured(3, lambda: engine.request_pause(defer=True))
    with pytest.raises(RunEngineInterrupted):
        engine(slice_scan(beamline, GEOMETRY, directory=tmp_path))
    assert recorder.verdicts == ACCEPTED[:1]
    assert beamline.shutter.state.get() == 0
    engine.resume()

    assert recorder.verdicts == ACCEPTED
    check_stream(recorder)


def test_hard_pause_costs_its_line(
    beamline: Beamline, engine: RunEngine, recorder: Recorder, when_captured: Any, tmp_path: Path
) -> None:
    when_captured(3, engine.request_pause)
    with pytest.raises(RunEngineInterrupted):
        engine(slice_scan(beamline, GEOMETRY, directory=tmp_path, max_attempts=1))
    soon(lambda: beamline.shutter.state.get(use_monitor=False) == 0)
    soon(lambda: not beamline.detector.cam.acquiring.get(use_monitor=False))
    result = engine.resume()

    assert result.exit_status == "success"
    assert recorder.verdicts == [(0, 0, "retake"), (0, 1, "accepted"), *ACCEPTED[1:]]
    assert "interrupted" in recorder.lines[0]["line_reason"]
    for event in recorder.lines:
        assert event["line_verdict"] == "retake" or event["line_captured"] == 21
    check_stream(recorder)


def test_suspension_within_a_line_is_waited_for(
    beamline: Beamline, engine: RunEngine, recorder: Recorder, when_captured: Any, tmp_path: Path
) -> None:
    resumed_s: list[float] = []

    async def until_beam_is_back() -> None:
        await asyncio.sleep(1.0)
        resumed_s.append(time.time())

    when_captured(3, lambda: engine.request_suspend(until_beam_is_back))
    engine(slice_scan(beamline, GEOMETRY, directory=tmp_path))

    assert recorder.verdicts == [(0, 0, "retake"), (0, 1, "accepted"), *ACCEPTED[1:]]
    assert recorder.lines[1]["line_started_s"] > resumed_s[0]
    check_stream(recorder)


def test_abort_leaves_everything_safe(
    beamline: Beamline, engine: RunEngine, recorder: Recorder, when_captured: Any, tmp_path: Path
) -> None:
    when_captured(3, engine.request_pause)
    with pytest.raises(RunEngineInterrupted):
        engine(slice_scan(beamline, GEOMETRY, directory=tmp_path))
    engine.abort("enough")

    [stop] = recorder.of("stop")
    assert stop["exit_status"] == "abort"
    assert beamline.shutter.state.get(use_monitor=False) == 0
    assert not beamline.compare.capturing.get(use_monitor=False)
    assert not beamline.detector.file.capturing.get(use_monitor=False)
    soon(lambda: beamline.translation.velocity.get(use_monitor=False) == 5.0)


def test_halt_leaves_everything_safe(
    beamline: Beamline, engine: RunEngine, when_captured: Any, tmp_path: Path
) -> None:
    when_captured(3, engine.request_pause)
    with pytest.raises(RunEngineInterrupted):
        engine(slice_scan(beamline, GEOMETRY, directory=tmp_path))
    engine.halt()

    soon(lambda: beamline.shutter.state.get(use_monitor=False) == 0)
    soon(lambda: not beamline.compare.capturing.get(use_monitor=False))
    soon(lambda: not beamline.detector.file.capturing.get(use_monitor=False))
    soon(lambda: beamline.translation.velocity.get(use_monitor=False) == 5.0)


def test_step_mode(beamline: Beamline, engine: RunEngine, recorder: Recorder, tmp_path: Path) -> None:
    geometry = ScanGeometry.raster(n_translations=4, step_mm=0.01, n_rotations=2, span_deg=6)
    engine(slice_scan(beamline, geometry, directory=tmp_path, mode="step"))

    assert recorder.verdicts == ACCEPTED[:2], recorder.lines
    for event in recorder.lines:
        assert event["line_acquired"] == event["line_captured"] == 4
        assert np.all(event["line_i0"] > 1e5)
        check_frames(event)
    check_stream(recorder)


def test_lines_may_be_chosen(
    beamline: Beamline, engine: RunEngine, recorder: Recorder, tmp_path: Path
) -> None:
    engine(slice_scan(beamline, GEOMETRY, directory=tmp_path, lines=[2], resumes="a-uid", monitor_cell=False))
    assert recorder.verdicts == [(2, 0, "accepted")]
    assert recorder.of("start")[0]["xrdct"]["resumes"] == "a-uid"
    assert recorder.events("cell") == []


def test_scan_outside_of_the_limits_is_refused(beamline: Beamline, engine: RunEngine, tmp_path: Path) -> None:
    geometry = ScanGeometry.raster(n_translations=11, step_mm=1.0, n_rotations=2, centre_mm=20.0)
    with pytest.raises(ConfigurationError, match=r"translation from .* to 2\d\.\d+ mm.*-25 and 25 mm"):
        engine(slice_scan(beamline, geometry, directory=tmp_path, period_s=0.1))


def test_velocity_that_the_stage_does_not_take(
    beamline: Beamline, engine: RunEngine, recorder: Recorder, tmp_path: Path
) -> None:
    geometry = ScanGeometry.raster(n_translations=11, step_mm=0.3, n_rotations=1)
    engine(slice_scan(beamline, geometry, directory=tmp_path, max_attempts=1))
    assert recorder.verdicts == [(0, 0, "bad")]
    assert "26.7857 mm/s and took 20" in recorder.lines[0]["line_reason"]


def test_stage_verifies_its_moves(beamline: Beamline) -> None:
    stage = beamline.translation
    stage.set(0.0).wait(20)
    with pytest.raises(MoveFailed, match="soft limits are -25 and 25 mm"):
        stage.set(26.0)
    move = stage.set(3.0)
    time.sleep(0.1)
    stage.motor_stop.put(1)  # somebody presses Stop on a screen: the record calls that finished
    with pytest.raises(MoveFailed, match=r"sent to 3 mm.*finished .* mm away"):
        move.wait(10)
    stage.set(0.0).wait(20)


def test_line_is_retaken_after_the_server_died(
    server: Server,
    beamline: Beamline,
    engine: RunEngine,
    recorder: Recorder,
    when_captured: Any,
    tmp_path: Path,
) -> None:
    def restart() -> None:
        server.kill()
        server.start()

    when_captured(3, restart)
    engine(slice_scan(beamline, GEOMETRY, directory=tmp_path))

    assert recorder.verdicts == [(0, 0, "retake"), (0, 1, "accepted"), *ACCEPTED[1:]]
    assert "server went away" in recorder.lines[0]["line_reason"]
    check_frames(recorder.lines[1])


def test_dead_server_is_named(
    server: Server,
    beamline: Beamline,
    engine: RunEngine,
    recorder: Recorder,
    when_captured: Any,
    tmp_path: Path,
) -> None:
    when_captured(3, server.kill)
    with pytest.raises(ConnectionFailed, match=f"{PREFIX}PIL:cam1:Acquire") as raised:
        engine(slice_scan(beamline, GEOMETRY, directory=tmp_path, reconnect_timeout_s=1.0))
    assert all(name in str(raised.value) for name in (f"{PREFIX}m1.VAL", f"{PREFIX}PANDA:PCAP:ARM"))
    [stop] = recorder.of("stop")
    assert stop["exit_status"] == "fail"
    assert f"{PREFIX}m1.RBV" in stop["reason"]


def test_operando(
    beamline: Beamline, engine: RunEngine, recorder: Recorder, sim: Faults, tmp_path: Path
) -> None:
    changes: list[tuple[str, int]] = []

    def note(*, value: int, obj: Any, **kwargs: Any) -> None:
        # ophyd also tells of what it writes, from the writer's thread and out of turn
        is_of_server = threading.current_thread().name == "monitor"
        if is_of_server and dict(changes).get(obj.attr_name, 0) != value:
            changes.append((obj.attr_name, value))

    outputs = (beamline.trigger.ready, beamline.trigger.busy, beamline.trigger.done)
    for output in outputs:
        output.subscribe(note, run=False)

    def scan(state_index: int, series_uid: str) -> Any:
        return (
            yield from slice_scan(
                beamline, GEOMETRY, directory=tmp_path, state_index=state_index, series_uid=series_uid
            )
        )

    def plan() -> Any:
        yield from bps.mv(sim.cell_run, 0)
        yield from bps.mv(sim.cell_run, 1)
        return (yield from operando(beamline, scan, 2, timeout_s=30))

    result = engine(plan())

    series, first, second = recorder.of("start")
    assert series["xrdct"]["role"] == "series"
    assert result.plan_result == series["uid"]
    assert [s["xrdct"]["state_index"] for s in (first, second)] == [0, 1]
    assert {s["xrdct"]["series_uid"] for s in (first, second)} == {series["uid"]}
    assert [r for r, _, verdict in recorder.verdicts if verdict == "accepted"] == [0, 1, 2, 0, 1, 2]
    edges = recorder.events("trigger")
    assert len(edges) == 2
    for edge, start in zip(edges, (first, second), strict=True):
        assert start["time"] - 2 < edge["data"]["trigger_edge_s"] < start["time"]
        assert edge["data"]["trigger_level"] > 2.0
    steps = {event["data"]["cell_step"] for event in recorder.events("cell")}
    assert {"pause", "discharge"} <= steps
    cycle = [("ready", 1), ("ready", 0), ("busy", 1), ("busy", 0), ("done", 1), ("done", 0)]
    soon(lambda: len(changes) >= 12)
    assert changes == 2 * cycle
    assert [output.get(use_monitor=False) for output in outputs] == [0, 0, 0]


def test_missing_pause_times_out(
    beamline: Beamline, engine: RunEngine, recorder: Recorder, sim: Faults
) -> None:
    sim.cell_run.set(0).wait(5)
    soon(lambda: beamline.trigger.level.get() < 0.5)
    with pytest.raises(TriggerError, match=r"trigger \(ACQ:TRIG:LEVEL\) did not rise: .* V after .* s"):
        engine(operando(beamline, lambda index, uid: bps.null(), 1, timeout_s=0.5))
    assert recorder.of("stop")[0]["exit_status"] == "fail"
    assert beamline.trigger.ready.get(use_monitor=False) == 0
