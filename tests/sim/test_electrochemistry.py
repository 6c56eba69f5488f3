"""The voltage curve, the lattice map, and a cycler on an explicit clock."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.sim.electrochemistry import (
    LMO_LATTICE,
    Cell,
    CellProgramme,
    LatticeMap,
    cell_state,
    lattice_parameters,
    open_circuit_voltage,
)

#: 0.01 mA through 0.02 mAh per unit of x: x moves by 0.5 in an hour, by 0.1 in 720 s.
HAND = CellProgramme(
    start_x=0.2,
    end_x=0.9,
    pauses_at=(0.3, 0.5),
    pause_s=100.0,
    current_mA=0.01,
    capacity_per_x_mAh=0.02,
    overpotential_V=0.05,
    relaxation_s=60.0,
)
CLOSED = dataclasses.replace(HAND, pause_s=None)


@pytest.mark.parametrize(
    ("y", "volts"),
    [
        (0.17, 4.311),
        (0.20, 4.177),
        (0.30, 4.118),
        (0.50, 4.104),
        (0.60, 4.043),
        (0.95, 3.920),
        (0.998, 2.794),
    ],
)
def test_voltage_curve_has_the_tabulated_values(y, volts):
    assert open_circuit_voltage(y) == pytest.approx(volts, abs=6e-4)


def test_voltage_curve_stays_finite_outside_of_its_range():
    assert open_circuit_voltage([0.0, 1.0]) == pytest.approx(open_circuit_voltage([0.17, 0.998]))


def test_voltage_falls_with_lithium():
    assert np.all(np.diff(open_circuit_voltage(np.linspace(0.17, 0.998, 500))) < 0)


def test_solid_solution_has_one_phase_between_the_break_points():
    (phase,) = lattice_parameters(0.10)
    assert (phase.a_A, phase.lithium, phase.fraction) == pytest.approx((8.053, 0.10, 1.0))


def test_two_phase_range_follows_the_lever_rule():
    poor, rich = lattice_parameters(0.20 + 0.25 * 0.38)
    assert (poor.a_A, poor.lithium, poor.fraction) == pytest.approx((8.076, 0.20, 0.75))
    assert (rich.a_A, rich.lithium, rich.fraction) == pytest.approx((8.145, 0.58, 0.25))


@given(st.floats(0.0, 1.0))
def test_phases_hold_the_lithium_that_was_put_in(x):
    phases = lattice_parameters(x)
    assert sum(p.fraction for p in phases) == pytest.approx(1.0)
    assert sum(p.fraction * p.lithium for p in phases) == pytest.approx(x, abs=1e-9)


@pytest.mark.parametrize("x", [-0.01, 1.01, math.nan])
def test_impossible_content_is_refused(x):
    with pytest.raises(ConfigurationError, match="takes 0 to 1"):
        lattice_parameters(x)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": (0.0, 0.5, 1.0)}, "as many lattice parameters"),
        ({"x": (0.1, 1.0), "a_A": (8.0, 8.2), "two_phase": (False,)}, "reach from x = 0"),
        ({"a_A": (8.03, 8.02, 8.145, 8.183, 8.205, 8.245)}, "ascend"),
    ],
)
def test_lattice_map_is_checked(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        dataclasses.replace(LMO_LATTICE, **changes)


def test_another_lattice_map_is_taken():
    straight = LatticeMap(x=(0.0, 1.0), a_A=(8.0, 8.2), two_phase=(False,))
    assert lattice_parameters(0.5, straight)[0].a_A == pytest.approx(8.1)


@pytest.mark.parametrize(
    ("elapsed_s", "step", "x", "pause"),
    [
        (-1.0, "rest", 0.2, -1),
        (0.0, "discharge", 0.2, -1),
        (360.0, "discharge", 0.25, -1),
        (720.0, "pause", 0.3, 0),
        (819.9, "pause", 0.3, 0),
        (820.0, "discharge", 0.3, -1),
        (820.0 + 720.0, "discharge", 0.4, -1),
        (820.0 + 1440.0, "pause", 0.5, 1),
        (820.0 + 1440.0 + 100.0 + 2880.0, "end", 0.9, -1),
        (1e9, "end", 0.9, -1),
    ],
)
def test_open_loop_programme_runs_by_the_clock(elapsed_s, step, x, pause):
    state = cell_state(HAND, elapsed_s)
    assert (state.step, state.pause_index) == (step, pause)
    assert state.lithium_content == pytest.approx(x, abs=1e-12)
    assert state.capacity_mAh == pytest.approx((x - 0.2) * 0.02, abs=1e-12)
    assert state.current_mA == (-0.01 if step == "discharge" else 0.0)
    assert state.trigger_level_V == (3.3 if step == "pause" else 0.0)


@given(st.floats(720.0001, 819.999))
def test_content_stands_exactly_still_in_a_pause(elapsed_s):
    assert cell_state(HAND, elapsed_s).lithium_content == 0.3


def test_voltage_relaxes_to_equilibrium_in_a_pause_and_falls_back_after_it():
    equilibrium = float(open_circuit_voltage(0.3))
    built_up = 0.05 * (1 - math.exp(-720.0 / 60.0))
    assert cell_state(HAND, 720.0).voltage_V == pytest.approx(equilibrium - built_up)
    assert cell_state(HAND, 780.0).voltage_V == pytest.approx(equilibrium - built_up * math.exp(-1))
    later = cell_state(HAND, 880.0)  # 60 s under current again, after 100 s of rest
    remaining = built_up * math.exp(-100.0 / 60.0)
    lost = 0.05 + (remaining - 0.05) * math.exp(-1)
    assert later.voltage_V == pytest.approx(float(open_circuit_voltage(later.lithium_content)) - lost)


def test_time_scale_compresses_the_current_but_not_the_pauses():
    fast = dataclasses.replace(HAND, time_scale=10.0)
    assert cell_state(fast, 71.9).step == "discharge"
    assert cell_state(fast, 72.0).step == "pause"
    assert cell_state(fast, 171.9).step == "pause"
    assert cell_state(fast, 172.1).step == "discharge"
    assert cell_state(fast, 78.0).voltage_V == pytest.approx(cell_state(HAND, 780.0).voltage_V, abs=1e-6)


def test_discharge_ends_at_the_cut_off():
    programme = CellProgramme(pauses_at=(0.5, 0.9999), pause_s=1.0, time_scale=1e4)
    end = cell_state(programme, 1e6)
    assert end.step == "end"
    assert float(open_circuit_voltage(end.lithium_content)) - 0.030 == pytest.approx(3.0, abs=1e-3)
    assert all(cell_state(programme, t).pause_index != 1 for t in np.linspace(0, 5, 500))


def test_charge_runs_the_other_way():
    charge = dataclasses.replace(HAND, start_x=0.9, end_x=0.2, pauses_at=(0.5,))
    state = cell_state(charge, 720.0)
    assert (state.step, state.current_mA) == ("charge", 0.01)
    assert state.lithium_content == pytest.approx(0.8)
    assert state.voltage_V > float(open_circuit_voltage(0.8))


def test_closed_loop_waits_for_done():
    cell = Cell(CLOSED)
    cell.start(1000.0)
    assert not cell.done(1100.0)  # under current: nothing to end
    assert cell.at(1720.0 + 1e6).step == "pause"
    assert cell.done(3000.0)
    assert cell.at(2999.0).step == "pause"
    assert cell.at(3000.0).step == "discharge"
    assert cell.at(3000.0 + 1440.0).lithium_content == 0.5
    assert not Cell(HAND).done(0.0)


def test_open_loop_does_not_listen_to_done():
    cell = Cell(HAND)
    cell.start(0.0)
    assert not cell.done(750.0)
    assert cell.at(751.0).step == "pause"


def test_stopping_leaves_the_content_and_relaxes():
    cell = Cell(HAND)
    assert cell.at(5.0).step == "rest"
    cell.start(10.0)
    assert cell.is_running
    cell.stop(370.0)
    state = cell.at(1e6)
    assert (state.step, state.current_mA) == ("rest", 0.0)
    assert state.lithium_content == pytest.approx(0.25)
    assert state.voltage_V == pytest.approx(float(open_circuit_voltage(0.25)), abs=1e-9)
    assert cell.at(190.0).step == "discharge"  # the past stays as it was
    cell.start(2e6)
    assert cell.at(2e6).lithium_content == 0.2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"current_mA": 0.0}, "current_mA"),
        ({"pause_s": -1.0}, "pause_s"),
        ({"pauses_at": (0.5, 0.3)}, "must follow"),
        ({"pauses_at": (0.3, 0.3)}, "must follow"),
        ({"pauses_at": (0.95,)}, "must follow"),
        ({"end_x": 1.2}, "takes 0 to 1"),
        ({"end_x": 0.2, "pauses_at": ()}, "starts and ends"),
    ],
)
def test_programme_is_checked(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        dataclasses.replace(HAND, **changes)


@given(st.lists(st.floats(0.0, 6000.0), min_size=2, max_size=20))
def test_content_never_falls_in_a_discharge(times):
    contents = [cell_state(HAND, t).lithium_content for t in sorted(times)]
    assert contents == sorted(contents)
