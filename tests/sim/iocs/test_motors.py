"""The motor record, driven without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from caproto import AlarmSeverity

from xrdct_beamline.sim.beamline_state import Axis, Trajectory
from xrdct_beamline.sim.iocs.motors import Motor, StageLimits

LIMITS = StageLimits(name="test", unit="mm", low=-5, high=5, velocity=10, velocity_max=20, ramp_s=0.0)


class Bench:
    def __init__(self) -> None:
        self.axis = Axis()
        self.moves: list[Trajectory] = []
        self.motor = Motor(
            "T:m1", limits=LIMITS, clock=time.monotonic, axis=self.axis, on_move=self.moves.append
        )
        self.fields = self.motor.setpoint.field_inst

    async def put(self, value: float) -> None:
        await self.motor.setpoint.write(value)

    @property
    def readback(self) -> float:
        return float(self.fields.user_readback_value.value)


def run(scenario: Any) -> Bench:
    async def prepared() -> Bench:
        bench = Bench()
        await bench.motor.prepare()
        await scenario(bench)
        return bench

    coroutine: Coroutine[Any, Any, Bench] = prepared()
    return asyncio.run(coroutine)


def test_put_completes_when_the_stage_stands_on_its_setpoint() -> None:
    async def scenario(bench: Bench) -> None:
        begin = time.monotonic()
        await bench.put(1.0)
        assert 0.1 <= time.monotonic() - begin < 1.0

    bench = run(scenario)
    assert bench.readback == bench.motor.setpoint.value == 1.0
    assert bench.fields.done_moving_to_value.value == 1
    assert len(bench.moves) == 1


def test_done_and_readback_follow_the_move() -> None:
    async def scenario(bench: Bench) -> None:
        move = asyncio.create_task(bench.put(4.0))
        await asyncio.sleep(0.1)
        assert bench.motor.setpoint.value == 4.0  # at once, as in the record
        assert bench.fields.done_moving_to_value.value == 0
        assert bench.fields.motor_is_moving.value == 1
        assert bench.fields.direction_of_travel.value == 1
        assert 0.0 < bench.readback < 4.0
        await move
        assert bench.fields.motor_is_moving.value == 0

    run(scenario)


@pytest.mark.parametrize("target", [5.001, -6.0])
def test_soft_limits_refuse(target: float) -> None:
    async def scenario(bench: Bench) -> None:
        await bench.put(target)
        assert bench.fields.limit_violation.value == 1
        assert bench.motor.setpoint.alarm.severity == AlarmSeverity.MAJOR_ALARM
        assert bench.motor.setpoint.value == bench.readback == 0.0
        assert bench.moves == []
        await bench.put(0.1)
        assert bench.fields.limit_violation.value == 0
        assert bench.motor.setpoint.alarm.severity == AlarmSeverity.NO_ALARM

    run(scenario)


def test_changed_limits_are_the_control_limits() -> None:
    async def scenario(bench: Bench) -> None:
        assert bench.motor.setpoint.upper_ctrl_limit == 5
        await bench.fields.user_high_limit.write(0.5)
        assert bench.motor.setpoint.upper_ctrl_limit == 0.5
        await bench.put(0.6)
        assert bench.fields.limit_violation.value == 1

    run(scenario)


def test_stop_leaves_the_stage_where_it_is() -> None:
    async def scenario(bench: Bench) -> None:
        move = asyncio.create_task(bench.put(4.0))
        await asyncio.sleep(0.1)
        await bench.fields.stop.write(1)
        await asyncio.wait_for(move, 1.0)
        assert 0.5 < bench.readback < 4.0
        assert bench.readback == bench.motor.setpoint.value == bench.axis.position(time.monotonic())
        assert bench.fields.done_moving_to_value.value == 1
        assert bench.fields.stop.value == 0

    bench = run(scenario)
    assert len(bench.moves) == 2  # the move, and the same cut short


def test_new_setpoint_in_mid_move_replaces_the_old() -> None:
    async def scenario(bench: Bench) -> None:
        first = asyncio.create_task(bench.put(4.0))
        await asyncio.sleep(0.05)
        await bench.put(-0.5)
        await first
        assert bench.readback == -0.5

    run(scenario)


def test_pause_and_go_reach_the_setpoint() -> None:
    async def scenario(bench: Bench) -> None:
        move = asyncio.create_task(bench.put(3.0))
        await asyncio.sleep(0.03)
        await bench.fields.stop_pause_move_go.write("Pause")
        assert bench.fields.done_moving_to_value.value == 0
        held = bench.axis.position(time.monotonic())
        await asyncio.sleep(0.03)
        assert bench.axis.position(time.monotonic()) == held < 3.0
        await bench.fields.stop_pause_move_go.write("Go")
        await move
        assert bench.readback == 3.0

    run(scenario)


def test_velocity_is_clipped_to_its_maximum() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.fields.velocity.write(1000.0)
        assert bench.fields.velocity.value == 20.0

    run(scenario)


def test_move_without_travel_toggles_done_within_milliseconds() -> None:
    async def scenario(bench: Bench) -> None:
        begin = time.monotonic()
        for _ in range(10):
            await bench.put(0.0)
        assert (time.monotonic() - begin) / 10 < 0.03

    assert len(run(scenario).moves) == 10
