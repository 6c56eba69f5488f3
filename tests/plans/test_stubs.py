from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky.preprocessors import rewindable_wrapper
from bluesky.utils import FailedStatus, RunEngineInterrupted
from fakes import FakeBeamline, fake_stage
from ophyd import Device
from ophyd.status import Status

from xrdct_beamline.domain.errors import LineFailed, MoveFailed
from xrdct_beamline.plans.stubs import cause, drain, make_safe, verify_at, wait_until_done


class Slow(Device):
    """Something that a test finishes by hand."""

    status: Status

    def set(self, value: Any) -> Status:
        self.status = Status()
        return self.status


@pytest.fixture
def engine() -> Iterator[RunEngine]:
    engine = RunEngine({}, call_returns_result=True)
    yield engine
    if engine.state != "idle":
        engine.halt()


def test_wait_outlasts_a_pause(engine: RunEngine) -> None:
    slow, waited = Slow(name="slow"), []

    def plan() -> Any:
        status = yield from bps.abs_set(slow, 1, group="g")
        threading.Timer(0.05, engine.request_pause).start()
        yield from wait_until_done([status], "g")
        waited.append(status.done)

    def not_rewindable() -> Any:
        yield from bps.checkpoint()
        yield from rewindable_wrapper(plan(), False)

    with pytest.raises(RunEngineInterrupted):
        engine(not_rewindable())
    threading.Timer(0.1, slow.status.set_finished).start()
    engine.resume()
    assert waited == [True]


def test_wait_raises_what_went_wrong(engine: RunEngine) -> None:
    slow = Slow(name="slow")

    def plan() -> Any:
        status = yield from bps.abs_set(slow, 1, group="g")
        threading.Timer(0.02, status.set_exception, [LineFailed("short")]).start()
        try:
            yield from wait_until_done([status], "g")
        except (FailedStatus, LineFailed) as error:
            return str(cause(error))

    assert engine(plan()).plan_result == "short"


def test_drained_failures_do_not_come_back(engine: RunEngine) -> None:
    slow, slower = Slow(name="slow"), Slow(name="slower")

    def plan() -> Any:
        statuses = [(yield from bps.abs_set(slow, 1)), (yield from bps.abs_set(slower, 1))]
        statuses[0].set_exception(LineFailed("first"))
        threading.Timer(0.05, statuses[1].set_exception, [LineFailed("second")]).start()
        yield from drain(statuses)
        yield from bps.sleep(0.05)  # would be thrown here
        return "undisturbed"

    assert engine(plan()).plan_result == "undisturbed"


def test_stage_elsewhere(engine: RunEngine) -> None:
    stage = fake_stage("x")
    engine(verify_at(stage, 0.0))
    with pytest.raises(MoveFailed, match=r"x is at 0 mm instead of 1 \(tolerance 0.001\)"):
        engine(verify_at(stage, 1.0))


def test_one_failure_does_not_keep_others_from_being_safe(engine: RunEngine) -> None:
    hardware = FakeBeamline()
    beamline = hardware.beamline
    beamline.compare.active.sim_put(1)

    def refuse(state: Any) -> Any:
        raise LineFailed("stuck")

    beamline.shutter.set = refuse
    engine(make_safe(beamline))
    assert beamline.compare.active.get() == 0
