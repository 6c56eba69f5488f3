"""Trigger outputs and fast shutter after a session that ended well, badly, or not at all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from caproto.sync.client import read, write

from xrdct_beamline.startup.configuration import package_file

pytestmark = pytest.mark.system

PREFIX = "SAFE:"
WATCHDOG_S = 1.5
OUTPUTS = ("TRIG:READY", "TRIG:BUSY", "TRIG:DONE", "SHUTTER:OPEN_RBV")
SERVER = f"""
from xrdct_beamline.sim.iocs.sample import BlankSample
from xrdct_beamline.sim.iocs.server import SimOptions, serve

serve(SimOptions(prefix={PREFIX!r}), on_ready=lambda: print("ready", flush=True), model=BlankSample())
"""


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Child:
    """A process that says when it is ready, and takes orders."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._said() == "ready\n"

    def _said(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def order(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        assert self._said() == "done\n"

    def end(self) -> int:
        """Let it come to its end; return its exit code."""
        self.process.communicate(timeout=20)
        return self.process.returncode

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """A server of its own port; its address goes to the sessions by the environment."""
    before = dict(os.environ)
    os.environ.update(EPICS_CA_SERVER_PORT=free_port(), EPICS_CA_REPEATER_PORT=free_port())
    try:
        child = Child("-c", SERVER)
        yield
        child.kill()
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def session(server: None, tmp_path: Path) -> Iterator[Child]:
    write(f"{PREFIX}TRIG:WATCHDOG", WATCHDOG_S, notify=True, repeater=False)  # a test may have changed it
    config = tmp_path / "beamline.toml"
    config.write_text(
        f"""
[beamline]
name = "safe"
prefix = "{PREFIX}"
[paths]
data = "data"
[calibration]
poni = "{package_file("demo.poni")}"
[catalog]
enabled = false
[devices.trigger_settings]
heartbeat_s = 0.25
"""
    )
    child = Child(str(Path(__file__).parent / "session_driver.py"), str(config))
    yield child
    child.kill()


def values() -> list[int]:
    return [int(read(PREFIX + name, repeater=False, force_int_enums=True).data[0]) for name in OUTPUTS]


def wait_for(is_so: Callable[[], bool], limit_s: float) -> float:
    """Return the seconds that it took."""
    began_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - began_s < limit_s, values()
        time.sleep(0.05)
    return time.monotonic() - began_s


def alive() -> str:
    return str(read(f"{PREFIX}TRIG:ALIVE", repeater=False).data[0], "ascii")


def test_frozen_or_killed_session_leaves_its_lines_safe(session: Child) -> None:
    session.order("up")
    time.sleep(1.5 * WATCHDOG_S)  # the heartbeats hold the lines up
    assert values() == [1, 1, 1, 1]

    session.process.send_signal(signal.SIGSTOP)
    wait_for(lambda: values() == [0, 0, 0, 0], WATCHDOG_S + 5)
    assert alive() == "Lost"
    session.process.send_signal(signal.SIGCONT)
    wait_for(lambda: alive() == "Alive", 5)
    assert values() == [0, 0, 0, 0]  # nothing comes up by itself

    session.order("up")
    session.process.send_signal(signal.SIGKILL)
    wait_for(lambda: values() == [0, 0, 0, 0], WATCHDOG_S + 5)


def test_session_that_ends_leaves_its_lines_safe_without_a_watchdog(session: Child) -> None:
    write(f"{PREFIX}TRIG:WATCHDOG", 1e6, notify=True, repeater=False)
    session.order("up")
    session.order("close")
    wait_for(lambda: values() == [0, 0, 0, 0], 2)
    assert alive() == "Idle"

    session.order("up")  # by hand, after the session
    assert session.end() == 0
    wait_for(lambda: values()[:3] == [0, 0, 0], 2)
