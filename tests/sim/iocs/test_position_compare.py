"""Position compare and capture, driven without a server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from xrdct_beamline.sim.beamline_state import BeamlineState, Monitors
from xrdct_beamline.sim.iocs.position_compare import PositionCompare

GATE_S = 0.001


class Bench:
    def __init__(self) -> None:
        self.state = BeamlineState(
            monitors=Monitors(steady=True),
            transmission=lambda rotation_deg, translation_mm, x: 0.5,
            lithium_content=lambda t: 0.5,
        )
        self.state.shutter.set(True, 0.0)
        self.pulses: list[tuple[float, float]] = []
        self.compare = PositionCompare(
            "T:PANDA:",
            state=self.state,
            clock=time.monotonic,
            gate_s=lambda: GATE_S,
            on_pulse=lambda time_s, width_s: self.pulses.append((time_s, width_s)),
        )

    async def arm(self, start: float, step: float, n: int) -> None:
        for channel, value in (
            (self.compare.start, start),
            (self.compare.step, step),
            (self.compare.pulses, n),
            (self.compare.arm, "1"),
            (self.compare.enable, "ONE"),
        ):
            await channel.write(value)

    def move(self, end: float, velocity: float = 10.0) -> None:
        self.compare.follow(self.state.translation.move(end, time.monotonic(), velocity=velocity, ramp_s=0.0))

    def stop(self) -> None:
        self.compare.follow(self.state.translation.stop(time.monotonic()))


def run(scenario: Callable[[Bench], Awaitable[None]]) -> Bench:
    async def prepared() -> Bench:
        bench = Bench()
        loop = asyncio.create_task(bench.compare.run())
        await asyncio.wait_for(scenario(bench), 5)
        loop.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loop
        return bench

    return asyncio.run(prepared())


async def until_over(bench: Bench) -> None:
    while bench.compare.active.value == "1":
        await asyncio.sleep(0.001)


def test_pulses_and_captured_values_of_a_line() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.arm(0.1, 0.1, 5)
        assert bench.compare.active.value == "1"
        bench.move(1.0)
        await until_over(bench)

    bench = run(scenario)
    compare = bench.compare
    assert compare.produced.value == compare.num_captured.value == 5
    times = np.array([t for t, _ in bench.pulses])
    np.testing.assert_allclose(np.diff(times), 0.01, atol=1e-9)
    # mid-gate: half a millisecond at 10 mm/s beyond the crossing
    np.testing.assert_allclose(compare.position.value, 0.1 + 0.1 * np.arange(5) + 0.005, atol=1e-9)
    np.testing.assert_allclose(compare.i0.value, 2e8 * GATE_S, rtol=0.02)
    np.testing.assert_allclose(compare.i1.value, 1e8 * GATE_S, rtol=0.02)
    assert abs(compare.timestamp.value[0] - time.time()) < 5


def test_width_of_the_pulse_sets_the_gate() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.compare.width.write(0.004)
        await bench.arm(0.1, 0.1, 1)
        bench.move(1.0)
        await until_over(bench)

    bench = run(scenario)
    assert bench.pulses[0][1] == 0.004
    assert bench.compare.position.value == pytest.approx([0.12])


def test_only_the_direction_of_the_step_counts() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.arm(0.1, -0.1, 2)
        bench.move(0.5)
        await asyncio.sleep(0.06)
        assert bench.pulses == []
        bench.move(-0.5)
        await until_over(bench)

    bench = run(scenario)
    np.testing.assert_allclose(bench.compare.position.value, [0.095, -0.005], atol=1e-9)


def test_stop_ends_the_pulses_and_the_next_move_goes_on() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.arm(0.1, 0.1, 6)
        bench.move(1.0, velocity=2.0)
        await asyncio.sleep(0.12)
        bench.stop()
        await asyncio.sleep(0.05)
        sent = len(bench.pulses)
        assert 1 <= sent < 6
        bench.move(1.0, velocity=2.0)
        await until_over(bench)

    bench = run(scenario)
    assert bench.compare.produced.value == 6
    np.testing.assert_allclose(bench.compare.position.value, 0.101 + 0.1 * np.arange(6), atol=0.0011)


def test_disabled_comparator_is_silent() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.arm(0.1, 0.1, 5)
        bench.move(1.0, velocity=2.0)
        await asyncio.sleep(0.12)
        await bench.compare.enable.write("ZERO")
        await until_over(bench)
        sent = len(bench.pulses)
        await asyncio.sleep(0.1)
        assert len(bench.pulses) == sent < 5

    run(scenario)


def test_capture_needs_arming_and_arming_empties() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.arm(0.1, 0.1, 2)
        bench.move(0.5)
        await until_over(bench)
        assert bench.compare.num_captured.value == 2
        await bench.compare.disarm.write("1")
        assert bench.compare.capturing.value == "0"
        await bench.compare.start.write(0.6)
        await bench.compare.enable.write("ONE")
        bench.move(1.0)
        await until_over(bench)
        assert bench.compare.produced.value == 2
        assert bench.compare.num_captured.value == 2  # the first line's
        await bench.compare.arm.write("1")
        assert bench.compare.num_captured.value == 0
        assert len(bench.compare.position.value) == 0

    run(scenario)


def test_monitors_show_the_last_gate() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.arm(0.1, 0.1, 3)
        bench.move(0.5)
        await until_over(bench)

    bench = run(scenario)
    assert bench.state.last_gate is not None
    assert bench.state.last_gate.i0 == bench.compare.i0.value[-1]
