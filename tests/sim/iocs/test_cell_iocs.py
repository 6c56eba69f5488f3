"""Cycler, trigger line and the simulation's own handles, driven without a server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from caproto import AlarmSeverity

from xrdct_beamline.sim.beamline_state import BeamlineState, Exposure, Monitors
from xrdct_beamline.sim.cell_sequence import parse_sequence
from xrdct_beamline.sim.electrochemistry import Cell, CellProgramme
from xrdct_beamline.sim.iocs.beam import Beam
from xrdct_beamline.sim.iocs.controls import Controls
from xrdct_beamline.sim.iocs.line_faults import LineFault, LineFaults
from xrdct_beamline.sim.iocs.potentiostat import Potentiostat
from xrdct_beamline.sim.iocs.sample import CellInBeam
from xrdct_beamline.sim.iocs.trigger_line import TriggerLine

#: 0.008 mA changes x by 1 in capacity_per_x_mAh / 0.008 hours.
PROGRAMME = CellProgramme(start_x=0.2, end_x=0.9, pauses_at=(0.4,), pause_s=None, time_scale=1000.0)


class Bench:
    def __init__(self) -> None:
        self.now_s = 1000.0
        self.cell = Cell(PROGRAMME)
        in_beam = CellInBeam(self.cell, self.clock)
        self.state = BeamlineState(
            monitors=Monitors(seed=1),
            transmission=lambda rotation_deg, translation_mm, x: 1.0,
            lithium_content=in_beam.lithium_content,
        )
        common: dict[str, Any] = {"clock": self.clock}
        self.controls = Controls("T:SIM:", state=self.state, cell=self.cell, in_beam=in_beam, **common)
        self.fault = LineFault()
        self.beam = Beam("T:", state=self.state, flux=1e11, **common)
        self.line = TriggerLine(
            "T:TRIG:",
            cell=self.cell,
            seed=1,
            fault=self.fault,
            close_shutter=lambda: self.beam.shutter.write("Closed"),
            **common,
        )
        self.faults = LineFaults("T:SIM:", fault=self.fault)
        self.potentiostat = Potentiostat("T:CELL:", cell=self.cell, seed=1, **common)

    def clock(self) -> float:
        return self.now_s

    @property
    def to_pause_s(self) -> float:
        return 0.2 / PROGRAMME.x_per_lab_s


def run(scenario: Callable[[Bench], Awaitable[None]]) -> None:
    async def prepared() -> None:
        bench = Bench()
        await bench.controls.prepare()
        groups = (bench.controls, bench.line, bench.potentiostat, bench.beam)
        tasks = [asyncio.create_task(group.run()) for group in groups]
        await asyncio.wait_for(scenario(bench), 5)
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(prepared())


async def shown(is_shown: Callable[[], bool]) -> None:
    """Wait until the devices' own rounds have published something."""
    while not is_shown():  # the scenario has a time limit
        await asyncio.sleep(0.002)


def test_programme_runs_pauses_and_goes_on_at_done() -> None:
    async def scenario(bench: Bench) -> None:
        assert bench.controls.time_scale.value == 1000.0
        await bench.controls.cell_run.write("Run")
        bench.now_s += bench.to_pause_s / 2
        await shown(lambda: bench.potentiostat.current.value < -0.007)
        assert bench.potentiostat.current.value == pytest.approx(-0.008, abs=1e-4)
        await shown(lambda: bench.potentiostat.step.value == "discharge")
        await shown(lambda: bench.controls.lithium_content.value == pytest.approx(0.3))
        assert bench.line.level.value < 0.1

        bench.now_s += bench.to_pause_s
        await shown(lambda: bench.potentiostat.step.value == "pause")
        await shown(lambda: bench.line.level.value > 3.0)

        await bench.line.done.write("High")
        bench.now_s += 1.0
        await shown(lambda: bench.potentiostat.step.value == "discharge")
        await shown(lambda: bench.line.level.value < 0.1)

    run(scenario)


def test_done_edges_are_seen_when_the_client_sends_indices() -> None:
    """As libca does; caproto then keeps the number, not the name."""
    seen: list[float] = []

    async def scenario(bench: Bench) -> None:
        bench.cell.done = lambda now_s: bool(seen.append(now_s) or True)  # type: ignore[method-assign]
        for level in (1, 0, 1, 1, 0, 1):
            bench.now_s += 1.0
            await bench.line.done.write(level)

    run(scenario)
    assert seen == [1001.0, 1003.0, 1006.0]


def test_done_that_is_high_already_is_no_edge() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.line.done.write("High")
        await bench.controls.cell_run.write("Run")
        bench.now_s += 2 * bench.to_pause_s
        await bench.line.done.write("High")
        bench.now_s += 1.0
        assert bench.cell.at(bench.now_s).step == "pause"
        await bench.line.done.write("Low")
        await bench.line.done.write("High")
        bench.now_s += 1.0
        assert bench.cell.at(bench.now_s).step == "discharge"

    run(scenario)


def test_binary_input_follows_the_level() -> None:
    async def scenario(bench: Bench) -> None:
        await shown(lambda: bench.line.level.value != 0.0)
        assert bench.line.input.value == "Low"
        await bench.faults.mode.write("Stuck high")
        await shown(lambda: bench.line.input.value == "High")
        assert bench.line.level.value == pytest.approx(3.3, abs=0.1)
        await bench.faults.mode.write("Stuck low")
        await shown(lambda: bench.line.input.value == "Low")

    run(scenario)


def test_gateway_and_line_follow_a_sequence() -> None:
    text = "capacity 1 mAh\nstart x 0.3\nrepeat 2\ndischarge 0.5 mA for 10 min\npause 5 V until done\nend"

    async def scenario(bench: Bench) -> None:
        bench.cell.programme = parse_sequence(text)
        await bench.controls.time_scale.write(10.0)
        await bench.controls.cell_run.write("Run")
        bench.now_s += 30.0
        await shown(lambda: bench.potentiostat.step.value == "discharge")
        await shown(lambda: bench.potentiostat.capacity.value == pytest.approx(0.5 / 12))
        assert bench.potentiostat.current.value == pytest.approx(-0.5, abs=1e-4)
        bench.now_s += 31.0
        await shown(lambda: bench.potentiostat.step.value == "pause")
        await shown(lambda: bench.line.level.value > 4.9)
        await bench.line.done.write("High")
        bench.now_s += 1.0
        await shown(lambda: bench.potentiostat.step.value == "discharge")
        await shown(lambda: bench.line.level.value < 0.1)
        assert bench.potentiostat.capacity.value > 1 / 12

    run(scenario)


def test_line_in_alarm_says_so_until_it_is_mended() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.faults.mode.write("Alarm")
        bench.now_s += 1.0
        await shown(lambda: bench.line.level.alarm.severity == AlarmSeverity.INVALID_ALARM)
        await shown(lambda: bench.line.input.alarm.severity == AlarmSeverity.INVALID_ALARM)
        await bench.faults.mode.write("Cell")
        bench.now_s += 1.0
        await shown(lambda: bench.line.level.alarm.severity == AlarmSeverity.NO_ALARM)
        mended.append(bench.line.input.alarm.severity)

    mended: list[AlarmSeverity] = []
    run(scenario)
    assert mended == [AlarmSeverity.NO_ALARM]


def test_chatter_is_pulses_that_are_gone_at_once() -> None:
    levels: list[float] = []

    async def scenario(bench: Bench) -> None:
        bench.line._show = note(bench.line._show, levels)  # type: ignore[method-assign]
        await bench.faults.mode.write("Chatter")
        await shown(lambda: len(levels) >= 6)

    run(scenario)
    first = levels.index(3.3)
    assert [round(level) for level in levels[first : first + 4]] == [3, 0, 3, 0]


def note(show: Callable[[float], Awaitable[None]], levels: list[float]) -> Any:
    async def shown_and_noted(level_V: float) -> None:
        levels.append(level_V)
        await show(level_V)

    return shown_and_noted


def outputs(bench: Bench) -> list[Any]:
    return [output.value for output in (bench.line.ready, bench.line.busy, bench.line.done)]


async def raise_all(bench: Bench) -> None:
    for output in (bench.line.ready, bench.line.busy, bench.line.done, bench.beam.shutter):
        await output.write("Open" if output is bench.beam.shutter else "High")


def test_outputs_drop_and_the_shutter_closes_when_heartbeats_stop() -> None:
    async def scenario(bench: Bench) -> None:
        await raise_all(bench)
        for beat in (1, 2, 3):
            await bench.line.heartbeat.write(beat)
            bench.now_s += 4.9
            await asyncio.sleep(0.05)
            assert outputs(bench) == ["High"] * 3
            assert bench.line.alive.value == "Alive"
        bench.now_s += 0.2
        await shown(lambda: bench.line.alive.value == "Lost")
        assert outputs(bench) == ["Low"] * 3
        assert bench.beam.shutter_is_open.value == "Closed"
        await bench.line.heartbeat.write(4)
        assert bench.line.alive.value == "Alive"

    run(scenario)


@pytest.mark.parametrize("ending", ["goodbye", "no watch", "never began"])
def test_watchdog_lets_be_who_did_not_ask_for_it(ending: str) -> None:
    async def scenario(bench: Bench) -> None:
        await raise_all(bench)
        if ending != "never began":
            await bench.line.heartbeat.write(1)
        if ending == "goodbye":
            await bench.line.heartbeat.write(0)
        if ending == "no watch":
            await bench.line.watchdog.write(0.0)
        bench.now_s += 1e3
        await asyncio.sleep(0.06)
        assert outputs(bench) == ["High"] * 3
        assert bench.beam.shutter_is_open.value == "Open"

    run(scenario)


def test_stopped_programme_rests() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.controls.cell_run.write("Run")
        bench.now_s += bench.to_pause_s / 2
        await bench.controls.cell_run.write("Stop")
        bench.now_s += bench.to_pause_s
        await shown(lambda: bench.controls.lithium_content.value == pytest.approx(0.3))
        await shown(lambda: bench.potentiostat.step.value == "rest")

    run(scenario)


def test_time_scale_holds_from_the_next_run_and_must_be_positive() -> None:
    async def scenario(bench: Bench) -> None:
        await bench.controls.time_scale.write(0.0)
        assert bench.controls.time_scale.value == 1000.0
        await bench.controls.time_scale.write(10.0)
        assert bench.cell.programme.time_scale == 1000.0
        await bench.controls.cell_run.write("Run")
        assert bench.cell.programme.time_scale == 10.0

    run(scenario)


def test_frozen_frames_depend_on_positions_alone() -> None:
    def exposed(bench: Bench) -> Any:
        return bench.state.frame_state(Exposure(number=0, start_s=bench.now_s, duration_s=0.01))

    async def scenario(bench: Bench) -> None:
        bench.state.shutter.set(True, 0.0)
        await bench.controls.cell_run.write("Run")
        bench.now_s += bench.to_pause_s / 4
        await bench.controls.freeze.write("On")
        first = exposed(bench)
        bench.now_s += bench.to_pause_s / 4
        assert exposed(bench) == first
        assert first.i0 == 1.0
        await bench.controls.freeze.write("Off")
        assert exposed(bench).lithium_content > first.lithium_content
        assert exposed(bench).i0 != 1.0

    run(scenario)


def test_faults_reach_the_beamline() -> None:
    async def scenario(bench: Bench) -> None:
        bench.state.shutter.set(True, 0.0)
        await bench.controls.drop_frame.write(7)
        await bench.controls.detector_hangs.write("On")
        await bench.controls.arm_delay.write(0.5)
        await bench.controls.beam_off.write("On")
        faults = bench.state.faults
        assert (faults.drop_frame, faults.detector_hangs, faults.arm_delay_s) == (7, True, 0.5)
        bench.now_s += 1.0
        await shown(
            lambda: bench.beam.i0.value == bench.beam.ring_current.value == bench.beam.flux.value == 0
        )
        await bench.controls.beam_off.write("Off")
        bench.now_s += 1.0
        await shown(lambda: bench.beam.flux.value > 0)
        assert bench.beam.i0.value == pytest.approx(2e6, rel=0.02)  # 10 ms of 2e8 per second
        assert 199 < bench.beam.ring_current.value <= 200
        faults.drop_frame = -1
        await shown(lambda: bench.controls.drop_frame.value == -1)

    run(scenario)


def test_shutter_reports_where_the_blade_is() -> None:
    async def scenario(bench: Bench) -> None:
        move = asyncio.create_task(bench.beam.shutter.write("Open"))
        await asyncio.sleep(0.001)
        assert bench.beam.shutter_is_open.value == "Closed"
        await move
        assert bench.beam.shutter_is_open.value == "Open"
        assert bench.state.shutter.at(bench.now_s + 1)

    run(scenario)
