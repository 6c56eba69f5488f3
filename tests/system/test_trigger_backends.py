"""The suite of every trigger line, over Channel Access."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ophyd import EpicsSignal
from trigger_rigs import Rig
from trigger_suite import SETTINGS, TriggerSuite, soon

from xrdct_beamline.devices.connection import wait_for_connections
from xrdct_beamline.devices.trigger_backends import make_trigger_line
from xrdct_beamline.devices.trigger_settings import TriggerSettings

pytestmark = pytest.mark.system

PREFIX = "TRIGSUITE:"
SERVER = f"""
from xrdct_beamline.sim.iocs.sample import BlankSample
from xrdct_beamline.sim.iocs.server import SimOptions, serve

serve(SimOptions(prefix={PREFIX!r}), on_ready=lambda: print("ready", flush=True), model=BlankSample())
"""


class IocRig:
    """The simulated server; its handles drive the line."""

    wired = ("ready", "busy", "done")

    def __init__(self, settings: dict[str, Any], *, backend: str) -> None:
        self.high_text = "level 1" if backend == "epics-binary" else r"3\.[23]\d V"
        self._mode = EpicsSignal(f"{PREFIX}SIM:LineMode", name="mode", put_complete=True)
        self.line = make_trigger_line(TriggerSettings(backend=backend, **settings), f"{PREFIX}TRIG:")
        wait_for_connections([self.line], 30)
        self._mode.wait_for_connection(timeout=30)
        self.drive(False)
        soon(lambda: not self.line._logic._fault and not self.line._logic.is_high)
        self.line.stop()

    def drive(self, is_high: bool) -> None:
        self._mode.set(2 if is_high else 1).wait(5)

    def chatter(self) -> None:
        self._mode.set(3).wait(5)

    def seen(self) -> dict[str, int]:
        return {name: int(getattr(self.line, name).get(use_monitor=False)) for name in self.wired}

    def spoil(self) -> bool:
        self._mode.set(4).wait(5)
        return True

    def close(self) -> None:
        self.line.stop()
        self.line.destroy()
        self._mode.destroy()


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield
    process.kill()
    process.communicate()


@pytest.fixture(params=["epics-analog", "epics-binary"])
def make(request: pytest.FixtureRequest, server: None) -> Iterator[Callable[..., Rig]]:
    made: list[IocRig] = []

    def make_rig(**changes: Any) -> IocRig:
        made.append(IocRig({**SETTINGS, **changes}, backend=request.param))
        return made[-1]

    yield make_rig
    for rig in made:
        rig.close()


class TestOverChannelAccess(TriggerSuite):
    def test_chattering_line_triggers_nothing(self, make: Callable[..., Any]) -> None:
        rig = make()
        status = rig.line.trigger()
        rig.chatter()
        soon(lambda: rig.line.glitches.get() >= 10)
        assert not status.done
        rig.drive(True)
        status.wait(10)

    #: A server that dies is the fake signals' case: libca finds a new one at its leisure, and may hang in a
    #: process that lets go of channels meanwhile.
    test_lost_wire_is_an_error_and_may_come_back = None
