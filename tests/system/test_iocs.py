"""The simulated beamline in a process of its own, seen through Channel Access."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import epics
import h5py
import hdf5plugin
import numpy as np
import pytest
from caproto.sync.client import read, write

from xrdct_beamline.sim.beamline_state import FrameState
from xrdct_beamline.sim.electrochemistry import CellProgramme
from xrdct_beamline.sim.iocs.sample import make_sample
from xrdct_beamline.sim.iocs.server import SimOptions, list_pvs

pytestmark = pytest.mark.system

PREFIX = "TESTIOC:"
SHAPE = (64, 48)
EXPOSURE_S, PERIOD_S, STEP_MM, N = 0.010, 0.0112, 0.01, 20
VELOCITY = STEP_MM / PERIOD_S
assert hdf5plugin.FILTERS  # registered: h5py decodes with it

SERVER = f"""
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.sim.electrochemistry import CellProgramme
from xrdct_beamline.sim.iocs.sample import BlankSample
from xrdct_beamline.sim.iocs.server import SimOptions, serve

programme = CellProgramme(start_x=0.2, end_x=0.9, pauses_at=(0.3, 0.6), pause_s=None, time_scale=3600)
try:
    serve(
        SimOptions(prefix={PREFIX!r}, programme=programme),
        on_ready=lambda: print("ready", flush=True),
        model=BlankSample({SHAPE!r}),
    )
except ConfigurationError as error:
    raise SystemExit(f"refused: {{error}}")
print("closed", flush=True)
"""


def start_server(port: int | None = None, program: str = SERVER) -> subprocess.Popen[str]:
    environment = dict(os.environ)
    if port is not None:
        environment["EPICS_CA_SERVER_PORT"] = str(port)
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end_server(server: subprocess.Popen[str]) -> tuple[str, str]:
    server.send_signal(signal.SIGTERM)
    return server.communicate(timeout=10)


@contextlib.contextmanager
def ready_server(program: str = SERVER) -> Iterator[subprocess.Popen[str]]:
    process = start_server(program=program)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    with ready_server() as process:
        yield process


@pytest.fixture
def pv(server: subprocess.Popen[str]) -> Callable[[str], epics.PV]:
    def connect(name: str) -> epics.PV:
        channel = epics.get_pv(PREFIX + name)
        assert channel.wait_for_connection(5), f"{name} does not answer"
        return channel

    return connect


class Client:
    """Short words for what a test does with process variables."""

    def __init__(self, pv: Callable[[str], epics.PV]) -> None:
        self.pv = pv

    def put(self, name: str, value: Any, timeout_s: float = 10) -> None:
        assert self.pv(name).put(value, wait=True, timeout=timeout_s) == 1, name

    def get(self, name: str) -> Any:
        return self.pv(name).get(use_monitor=False)

    def text(self, name: str) -> str:
        return str(self.pv(name).get(use_monitor=False, as_string=True))

    def until(self, name: str, value: Any, timeout_s: float = 10) -> None:
        end = time.monotonic() + timeout_s
        while self.get(name) != value:
            assert time.monotonic() < end, f"{name} is {self.get(name)}, not {value}, after {timeout_s} s"
            time.sleep(0.002)


@pytest.fixture
def client(pv: Callable[[str], epics.PV]) -> Client:
    return Client(pv)


def arm_line(client: Client, folder: Path, *, n: int = N, start_mm: float = 0.0) -> None:
    """Get all ready for a line of n frames whose mid-exposure grid starts at ``start_mm``."""
    client.put("m1.VELO", 20.0)
    client.put("m1", start_mm - 0.1)
    client.put("m1.VELO", VELOCITY)
    for name, value in {
        "SHUTTER:OPEN": "Open",
        "PIL:cam1:TriggerMode": "Mult. Trigger",
        "PIL:cam1:NumImages": n,
        "PIL:cam1:AcquireTime": EXPOSURE_S,
        "PIL:HDF1:EnableCallbacks": "Enable",
        "PIL:HDF1:FileWriteMode": "Stream",
        "PIL:HDF1:FilePath": str(folder),
        "PIL:HDF1:FileName": "line",
        "PIL:HDF1:NumCapture": n,
        "m2": 30.0,
        "PANDA:PCOMP1:START": start_mm - VELOCITY * EXPOSURE_S / 2,
        "PANDA:PCOMP1:STEP": STEP_MM,
        "PANDA:PCOMP1:PULSES": n,
        "PANDA:PCAP:ARM": 1,
    }.items():
        client.put(name, value)
    client.pv("PIL:HDF1:Capture").put(1)
    client.pv("PIL:cam1:Acquire").put(1)
    client.until("PIL:cam1:Armed", 1)
    client.put("PANDA:PCOMP1:ENABLE", "ONE")


def test_motor_completes_its_put_on_the_setpoint(client: Client) -> None:
    client.put("m1.VELO", 20.0)
    client.put("m1", 0.0)
    begin = time.monotonic()
    client.put("m1", 2.0)
    assert 0.1 < time.monotonic() - begin < 1.0
    assert client.get("m1.RBV") == 2.0
    assert client.get("m1.DMOV") == 1


def test_move_without_travel_takes_milliseconds(client: Client) -> None:
    client.put("m2", 5.0)
    durations = []
    for _ in range(20):
        begin = time.perf_counter()
        client.put("m2", 5.0)
        durations.append(time.perf_counter() - begin)
    assert np.median(durations) < 0.02  # 40 ms with Nagle's algorithm on


def test_limits_refuse_and_say_so(client: Client) -> None:
    client.put("m3", 1.0)
    client.put("m3", 11.0)
    assert client.get("m3.LVIO") == 1
    assert client.get("m3") == 1.0
    assert client.pv("m3").get_ctrlvars()["upper_ctrl_limit"] == 10.0


def test_stop_in_mid_move(client: Client) -> None:
    client.put("m1", 0.0)
    client.put("m1.VELO", 5.0)
    client.pv("m1").put(10.0)
    client.until("m1.MOVN", 1)
    time.sleep(0.2)
    client.put("m1.STOP", 1)
    client.until("m1.DMOV", 1)
    assert 0.0 < client.get("m1.RBV") < 9.0
    assert client.get("m1") == client.get("m1.RBV")


def test_triggered_line_is_a_closed_file_of_mid_exposure_frames(client: Client, tmp_path: Path) -> None:
    arm_line(client, tmp_path)
    assert client.get("PIL:HDF1:Capture_RBV") == 1
    client.put("m1", N * STEP_MM + 0.1)
    client.until("PANDA:PCOMP1:ACTIVE", 0)
    client.until("PIL:cam1:Acquire_RBV", 0)
    client.until("PIL:HDF1:Capture_RBV", 0)
    assert client.get("PIL:cam1:NumImagesCounter_RBV") == client.get("PIL:HDF1:NumCaptured_RBV") == N
    assert client.get("PANDA:PCOMP1:PRODUCED") == client.get("PANDA:PCAP:NUM_CAPTURED") == N
    grid = STEP_MM * np.arange(N)
    np.testing.assert_allclose(client.get("PANDA:PCAP:POSITION"), grid, atol=1e-9)
    assert (client.get("PANDA:PCAP:I0") > 1e6).all()
    with h5py.File(client.text("PIL:HDF1:FullFileName_RBV"), "r") as file:
        frames = file["/entry/data/data"][()]
        numbers = file["/entry/instrument/NDAttributes/NDArrayUniqueId"][()]
    assert frames.shape == (N, *SHAPE)
    np.testing.assert_allclose(frames[:, 0, 0] / 1e6, grid, atol=1e-6)
    np.testing.assert_allclose(frames[:, 0, 1] / 1e6, 30.0)
    assert (frames[:, 5, 5] > 0).all()
    assert np.diff(numbers).tolist() == [1] * (N - 1)


def test_too_early_pulses_are_lost(client: Client, tmp_path: Path) -> None:
    arm_line(client, tmp_path, start_mm=1.0)
    client.put("m1.VELO", VELOCITY * 1.05)  # 10.67 ms: less than exposure and readout
    client.put("m1", 1.0 + N * STEP_MM + 0.1)
    client.until("PANDA:PCOMP1:ACTIVE", 0)
    assert client.get("PANDA:PCOMP1:PRODUCED") == N
    client.until("PIL:cam1:NumImagesCounter_RBV", N // 2)
    assert client.get("PIL:cam1:Acquire_RBV") == 1  # it waits on for the others
    client.put("PIL:cam1:Acquire", 0)
    client.put("PIL:HDF1:Capture", 0)
    client.until("PIL:HDF1:Capture_RBV", 0)
    assert client.get("PIL:HDF1:NumCaptured_RBV") == N // 2


def test_dropped_frame_is_dropped_once(client: Client, tmp_path: Path) -> None:
    client.put("SIM:DropFrame", 3)
    arm_line(client, tmp_path, start_mm=2.0)
    client.put("m1", 2.0 + N * STEP_MM + 0.1)
    client.until("PANDA:PCOMP1:ACTIVE", 0)
    client.until("PIL:cam1:NumImagesCounter_RBV", N - 1)
    client.put("PIL:cam1:Acquire", 0)
    client.put("PIL:HDF1:Capture", 0)
    client.until("SIM:DropFrame", -1)
    with h5py.File(client.text("PIL:HDF1:FullFileName_RBV"), "r") as file:
        captured = file["/entry/data/data"][:, 0, 0] / 1e6
    np.testing.assert_allclose(captured, np.delete(2.0 + STEP_MM * np.arange(N), 3), atol=1e-6)


def test_beam_off_is_seen_by_every_monitor(client: Client) -> None:
    client.put("SHUTTER:OPEN", "Open")
    client.put("SIM:BeamOff", 1)
    for name in ("SR:CURRENT", "BEAM:FLUX", "I0", "I1"):
        client.until(name, 0.0, 3)
    client.put("SIM:BeamOff", 0)
    end = time.monotonic() + 3
    while not client.get("I0") > 0:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_cell_pauses_until_done(client: Client) -> None:
    client.put("SIM:CellRun", 1)
    client.until("CELL:Step_RBV", "discharge", 3)
    client.until("CELL:Step_RBV", "pause", 20)
    end = time.monotonic() + 2
    while client.get("TRIG:LEVEL") < 2.0:
        assert time.monotonic() < end
        time.sleep(0.01)
    client.until("SIM:LithiumContent_RBV", pytest.approx(0.3), 2)
    client.put("TRIG:DONE", 1)
    client.put("TRIG:DONE", 0)
    client.until("CELL:Step_RBV", "discharge", 3)
    assert client.get("CELL:Current_RBV") < 0
    assert abs(client.get("CELL:SampleTime_RBV") - time.time()) < 5
    client.put("SIM:CellRun", 0)
    client.until("CELL:Step_RBV", "rest", 3)


#: What pyepics calls the channel types.
PYEPICS = {
    "ENUM": "time_enum",
    "DOUBLE": "time_double",
    "LONG": "time_long",
    "INT": "time_short",
    "CHAR": "time_char",
    "STRING": "time_string",
}


def test_every_listed_variable_is_served_with_its_type(server: subprocess.Popen[str]) -> None:
    listed = {name: kind for name, kind, _ in list_pvs(SimOptions(prefix=PREFIX))}
    channels = {name: epics.PV(name) for name in listed}
    missing = [name for name, channel in channels.items() if not channel.wait_for_connection(5)]
    assert missing == []
    assert {name: channel.type for name, channel in channels.items()} == {
        name: PYEPICS[kind] for name, kind in listed.items()
    }


def test_busy_port_is_refused_with_its_number(server: subprocess.Popen[str]) -> None:
    second = start_server()
    out, err = second.communicate(timeout=30)
    assert second.returncode == 1
    assert "ready" not in out
    assert f"port {os.environ['EPICS_CA_SERVER_PORT']} on 127.0.0.1 is in use" in err
    assert "EPICS_CA_SERVER_PORT to a free port" in err


def test_searches_that_another_process_takes_are_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as Channel Access servers do
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        _, err = start_server(port).communicate(timeout=30)
    assert f"port {port} on 127.0.0.1 is in use" in err


@pytest.fixture
def private_port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A port for a further server; caproto's client, unlike libca, reads it at every call."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    monkeypatch.setenv("EPICS_CA_SERVER_PORT", str(port))
    return port


def start_free_running(folder: Path, n_images: int, n_capture: int) -> None:
    """Start a series of images that need no trigger, with caproto's client (enums come as text)."""
    for name, value in {
        "SHUTTER:OPEN": "Open",
        "PIL:cam1:ImageMode": "Multiple",
        "PIL:cam1:NumImages": n_images,
        "PIL:HDF1:EnableCallbacks": "Enable",
        "PIL:HDF1:FileWriteMode": "Stream",
        "PIL:HDF1:FilePath": str(folder),
        "PIL:HDF1:FileName": "line",
        "PIL:HDF1:NumCapture": n_capture,
    }.items():
        write(PREFIX + name, value, notify=True, repeater=False)
    write(PREFIX + "PIL:HDF1:Capture", 1, repeater=False)
    until("PIL:HDF1:Capture_RBV", lambda value: value == b"Capture")
    write(PREFIX + "PIL:cam1:Acquire", 1, repeater=False)


def until(name: str, is_reached: Callable[[Any], bool], timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while not is_reached(read(PREFIX + name, repeater=False).data[0]):
        assert time.monotonic() < end, name
        time.sleep(0.02)


def test_sigterm_closes_the_raw_file_and_exits_cleanly(tmp_path: Path, private_port: int) -> None:
    with ready_server() as server:
        start_free_running(tmp_path, 1000, 1000)
        until("PIL:HDF1:NumCaptured_RBV", lambda value: value > 5)
        out, err = end_server(server)
    assert server.returncode == 0, err
    assert out == "closed\n"
    assert err == ""
    with h5py.File(tmp_path / "line_000000.h5", "r") as file:
        assert 5 < file["/entry/data/data"].shape[0] < 1000
        assert file["/entry/data/data"][0].shape == SHAPE


def test_frozen_frame_is_what_the_renderer_makes_of_its_state(tmp_path: Path, private_port: int) -> None:
    program = (
        "from xrdct_beamline.sim.iocs.server import SimOptions, serve\n"
        f"serve(SimOptions(prefix={PREFIX!r}, seed=5, freeze=True), lambda: print('ready', flush=True))"
    )
    with ready_server(program) as server:
        write(PREFIX + "m1", 0.123, notify=True, repeater=False)
        write(PREFIX + "m2", 20.0, notify=True, repeater=False)
        start_free_running(tmp_path, 2, 2)
        until("PIL:HDF1:Capture_RBV", lambda value: value == b"Done")
        _, err = end_server(server)
    assert err == ""
    state = FrameState(
        rotation_deg=20.0,
        translation_mm=0.123,
        lithium_content=CellProgramme().start_x,
        exposure_s=EXPOSURE_S,
        i0=1.0,
    )
    expected = make_sample(SimOptions(seed=5)).frame(state)
    assert expected.max() > 0
    with h5py.File(tmp_path / "line_000000.h5", "r") as file:
        for frame in file["/entry/data/data"]:
            np.testing.assert_array_equal(frame, expected)
