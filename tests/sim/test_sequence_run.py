"""A cycler at work: cut-offs, pauses, relaxation, fade and faults, against arithmetic done by hand."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from xrdct_beamline.sim.cell_sequence import parse_sequence
from xrdct_beamline.sim.cell_state import CellState
from xrdct_beamline.sim.electrochemistry import Cell
from xrdct_beamline.sim.sequence_run import SequenceRun
from xrdct_beamline.sim.voltage_curves import graphite_voltage, open_circuit_voltage
from xrdct_beamline.startup.simulation import read_sequence

#: 0.742 mAh move x by one; 1 mA loses 50 mV after some minutes.
HEAD = "capacity 0.550564 mAh\nstart x 0.3\nresistance 50 ohm\nrelaxation 60 s\n"
HEAD_PER_X = 0.550564 / 0.742


def begin(text: str, time_scale: float = 1.0, head: str = HEAD) -> SequenceRun:
    return parse_sequence(head + text, time_scale=time_scale).begin()


def ends(run: SequenceRun, until_s: float, step_s: float = 1.0) -> list[CellState]:
    """Return the first state of each step."""
    states = [run.at(float(t)) for t in np.arange(0.0, until_s, step_s)]
    keys = [(s.step, s.pause_index, s.current_mA != 0) for s in states]
    return [state for i, state in enumerate(states) if i == 0 or keys[i] != keys[i - 1]]


def test_constant_current_moves_the_content_by_its_charge() -> None:
    run = begin("discharge 0.1 mA until 0.05 mAh")
    state = run.at(900.0)
    assert state.step == "discharge"
    assert state.current_mA == -0.1
    assert state.capacity_mAh == pytest.approx(0.025)
    assert state.lithium_content == pytest.approx(0.3 + 0.025 / HEAD_PER_X)
    loss_V = 0.005 * (1 - math.exp(-900 / 60))
    assert state.voltage_V == pytest.approx(float(open_circuit_voltage(state.lithium_content)) - loss_V)
    assert run.at(1799.9).step == "discharge"
    assert run.at(1800.1).step == "end"


@pytest.mark.parametrize(
    ("line", "limit_V", "sign"),
    [("discharge 0.1 mA until 3.95 V", 3.95, 1), ("charge 0.1 mA until 4.2 V", 4.2, -1)],
)
def test_cut_off_is_met_under_current(line: str, limit_V: float, sign: int) -> None:
    run = begin(line)
    end_s = next(t for t in np.arange(0.0, 40000.0, 5.0) if run.at(float(t)).step == "end")
    inside, outside = run.at(end_s - 10.0), run.at(float(end_s))
    assert sign * (inside.voltage_V - limit_V) > 0
    assert inside.voltage_V == pytest.approx(limit_V, abs=2e-3)
    assert sign * (outside.voltage_V - limit_V) == pytest.approx(0.0, abs=6e-3)


def test_voltage_beyond_the_cut_off_ends_the_step_at_once() -> None:
    run = begin("discharge 0.1 mA until 4.3 V\nrest 10 s")
    assert run.at(0.0).step == "rest"


def test_electrode_that_is_full_ends_a_step_that_nothing_else_does() -> None:
    run = begin("discharge 1 mA until 1.0 V")
    assert run.at(1e9).step == "end"
    assert run.at(1e9).lithium_content == pytest.approx(0.998)


def test_held_voltage_stays_and_its_current_dies_away() -> None:
    run = begin("charge 0.2 mA until 4.15 V\nhold 4.15 V until 0.02 mA")
    start_s = next(t for t in np.arange(0.0, 4e4, 2.0) if run.at(float(t)).step == "hold")
    held = [run.at(float(t)) for t in np.arange(start_s, start_s + 2e4, 2.0)]
    held = [state for state in held if state.step == "hold"]
    assert {round(state.voltage_V, 6) for state in held} == {4.15}
    currents = [state.current_mA for state in held]
    assert currents == sorted(currents, reverse=True)
    assert currents[0] <= 0.2
    assert currents[-1] == pytest.approx(0.02, rel=0.1)
    # the charge that was counted is the lithium that left
    passed = held[-1].capacity_mAh - held[0].capacity_mAh
    moved = (held[0].lithium_content - held[-1].lithium_content) * HEAD_PER_X
    assert passed == pytest.approx(moved, rel=0.01)


def test_held_voltage_obeys_the_law_of_the_overpotential() -> None:
    """τ dη/dt = R·I − η, differentiated numerically."""
    run = begin("charge 0.2 mA until 4.15 V\nhold 4.15 V until 0.02 mA")
    start_s = next(float(t) for t in np.arange(0.0, 4e4, 2.0) if run.at(float(t)).step == "hold")
    for t in start_s + np.array([20.0, 60.0, 120.0]):
        etas = [float(open_circuit_voltage(run.at(t + dt).lithium_content)) - 4.15 for dt in (-5.0, 0.0, 5.0)]
        slope = (etas[2] - etas[0]) / 10.0
        current_mA = -run.at(t).current_mA  # positive discharges
        assert 60.0 * slope == pytest.approx(50e-3 * current_mA - etas[1], abs=3e-4)


def test_hold_for_a_time_goes_on_when_nothing_flows() -> None:
    run = begin("hold 4.118 V for 40 h")
    late = run.at(40 * 3600 - 1.0)
    assert late.step == "hold"
    assert abs(late.current_mA) < 0.01 * abs(run.at(1.0).current_mA)
    assert run.at(40 * 3600 + 1.0).step == "end"


def test_pause_relaxes_and_waits_for_done() -> None:
    run = begin("discharge 1 mA for 10 min\npause 3.3 V until done\nrest 1 min")
    first = run.at(600.0)
    assert (first.step, first.trigger_level_V, first.pause_index, first.current_mA) == ("pause", 3.3, 0, 0.0)
    rest_V = float(open_circuit_voltage(first.lithium_content))
    assert rest_V - first.voltage_V == pytest.approx(0.05, rel=1e-3)
    assert rest_V - run.at(660.0).voltage_V == pytest.approx(0.05 / math.e, rel=1e-3)
    assert run.at(1e6).step == "pause"
    assert run.at(1e6).lithium_content == first.lithium_content
    assert not run.done(300.0)  # the past is past
    assert run.done(2e6)
    assert not run.done(2e6 + 1)
    assert run.at(2e6 + 30).step == "rest"
    assert run.at(1.9e6).step == "pause"
    assert run.at(2e6 + 30).trigger_level_V == 0.0


def test_pause_of_a_given_length_does_not_listen() -> None:
    run = begin("pause 3.3 V for 60 s")
    assert not run.done(10.0)
    assert run.at(59.9).step == "pause"
    assert run.at(60.1).step == "end"


def test_time_scale_compresses_all_but_the_pauses() -> None:
    run = begin("discharge 1 mA for 10 min\npause 3.3 V for 60 s\nrest 10 min", time_scale=10.0)
    assert [round(t, 1) for t in (60.0, 120.0, 180.0)] == [
        round(t, 1) for t in (boundary(run, "pause"), boundary(run, "rest"), boundary(run, "end"))
    ]


def boundary(run: SequenceRun, step: str) -> float:
    return next(float(t) for t in np.arange(0.0, 400.0, 0.25) if run.at(float(t)).step == step)


def test_loops_repeat_and_capacity_counts_from_the_change_of_direction() -> None:
    run = begin("repeat 2\ncharge 0.1 mA for 5 min\npause 3.3 V for 10 s\ndischarge 0.1 mA for 5 min\nend")
    steps = ends(run, 1300.0)
    assert [s.step for s in steps] == ["charge", "pause", "discharge", "charge", "pause", "discharge", "end"]
    assert [s.pause_index for s in steps if s.step == "pause"] == [0, 1]
    pause, discharge = steps[1], steps[2]
    assert pause.capacity_mAh == pytest.approx(0.1 * 300 / 3600, rel=0.01)
    assert discharge.capacity_mAh == pytest.approx(0.0, abs=1e-4)


def test_each_cycle_moves_more_of_a_cell_that_fades() -> None:
    head = HEAD + "fade 10 % per cycle\n"
    run = begin("repeat 3\ncharge 0.1 mA for 5 min\ndischarge 0.1 mA for 5 min\nend", head=head)
    turns = [run.at(600.0 * n).lithium_content - run.at(600.0 * n + 300.0).lithium_content for n in range(3)]
    assert turns[1] / turns[0] == pytest.approx(1 / 0.9, rel=1e-6)
    assert turns[2] / turns[0] == pytest.approx(1 / 0.81, rel=1e-6)


def test_leak_moves_the_content_and_no_charge_is_counted() -> None:
    run = begin("rest 10 h", head=HEAD + "leak 10 uA\n")
    state = run.at(36000.0 - 1)
    assert state.lithium_content == pytest.approx(0.3 + 0.1 / HEAD_PER_X, rel=1e-3)
    assert state.capacity_mAh == 0.0
    assert state.current_mA == 0.0


PAUSES = "repeat 3\nrest 10 s\npause 3.3 V until done\nend"


def levels(fault: str) -> list[tuple[str, float]]:
    run = begin(PAUSES, head=HEAD + fault)
    seen = []
    for t in range(600):
        state = run.at(float(t))
        seen.append((state.step, state.trigger_level_V))
        if t % 100 == 99:
            run.done(float(t))
    return [seen[0], *(b for a, b in itertools.pairwise(seen) if a != b)]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("", [0.0, 3.3, 0.0, 3.3, 0.0, 3.3, 0.0]),
        ("fault pause 2 silent\n", [0.0, 3.3, 0.0, 0.0, 0.0, 3.3, 0.0]),
        ("fault pause 1 stuck\n", [0.0, 3.3, 3.3, 3.3, 0.0, 3.3, 0.0]),
    ],
)
def test_faults_of_the_line(fault: str, expected: list[float]) -> None:
    assert [level for _, level in levels(fault)] == expected


def test_cycler_that_goes_on_without_done() -> None:
    run = begin(PAUSES, head=HEAD + "fault pause 1 resumes after 20 s\n")
    assert run.at(29.0).step == "pause"
    assert run.at(31.0).step == "rest"
    assert run.at(1e6).pause_index == 1


def test_open_circuit_interrupts_the_current_for_good() -> None:
    run = begin(
        "discharge 1 mA for 10 min\nrest 5 s\npause 3.3 V until done",
        head=HEAD + "fault open circuit after 5 min\n",
    )
    assert run.at(299.0).current_mA == -1.0
    state = run.at(301.0)
    assert (state.step, state.current_mA) == ("open circuit", 0.0)
    assert run.at(1e6).step == "open circuit"
    assert run.at(1e6).voltage_V == pytest.approx(float(open_circuit_voltage(state.lithium_content)))


def test_state_does_not_depend_on_when_it_is_asked_for() -> None:
    text = "repeat 3\ncharge 0.2 mA until 4.15 V\nhold 4.15 V until 0.05 mA\ndischarge 0.2 mA for 20 min\nend"
    often, once = begin(text), begin(text)
    for t in range(0, 9000, 7):
        often.at(float(t))
    assert often.at(9000.0) == once.at(9000.0)


def test_cell_runs_a_sequence_and_rests_when_it_is_stopped() -> None:
    cell = Cell(parse_sequence(HEAD + "discharge 1 mA for 10 min\npause 3.3 V until done"))
    assert cell.at(0.0).step == "rest"
    cell.start(1000.0)
    assert cell.at(1300.0).step == "discharge"
    assert cell.at(1601.0).step == "pause"
    assert cell.done(1700.0)
    assert cell.at(1701.0).step == "end"
    cell.start(2000.0)
    cell.stop(2300.0)
    state = cell.at(1e7)
    assert (state.step, state.current_mA) == ("rest", 0.0)
    assert state.voltage_V == pytest.approx(float(open_circuit_voltage(state.lithium_content)))
    assert not cell.done(2400.0)


def test_graphite_falls_as_it_fills() -> None:
    y = np.linspace(0.01, 0.98, 300)
    assert np.all(np.diff(graphite_voltage(y)) < 1e-4)
    # 0.194 + 0.0347 + 0.0045 + 0.035 + 0 - 0.0993 + 0.022 - 0.011 + 0.0155, term by term
    assert float(graphite_voltage(0.5)) == pytest.approx(0.1954, abs=1e-4)


def test_published_micro_cell() -> None:
    """C-rates, capacity and voltages of the paper: 4 µA to 4.2 V, 8 µA to 3 V, five pauses."""
    run = read_sequence(Path("package:finegan2020.cell"), time_scale=1000.0).begin()
    states, pauses = [], set()
    t = 0.0
    while (state := run.at(t)).step != "end":
        states.append(state)
        if state.step == "pause":
            pauses.add(state.pause_index)
            run.done(t)
        t += 0.02
    assert pauses == {0, 1, 2, 3, 4}
    by_step = {step: [s for s in states if s.step == step] for step in ("charge", "discharge")}
    assert {round(s.current_mA * 1e3, 2) for s in by_step["charge"]} == {3.97}
    assert {round(s.current_mA * 1e3, 2) for s in by_step["discharge"]} == {-7.94}
    assert max(s.voltage_V for s in states) == pytest.approx(4.2, abs=2e-3)
    assert min(s.voltage_V for s in states) == pytest.approx(3.0, abs=0.3)
    assert by_step["charge"][-1].capacity_mAh == pytest.approx(0.0143, rel=0.01)


def test_published_pouch_cell_has_its_rate_corrected() -> None:
    sequence = read_sequence(Path("package:finegan2020-pouch.cell"))
    run = sequence.begin()
    formation = [run.at(60.0 * n) for n in range(40)]
    assert {s.current_mA for s in formation} == {4.5}  # C/10
    cycling = next(s for n in range(4000) if abs((s := run.at(60.0 * n)).current_mA) > 5)
    assert cycling.current_mA == 11.25  # C/4 of 45 mAh; the paper prints 1.12 mA
