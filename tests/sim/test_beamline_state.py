"""Moves, pulses, gates and exposures against hand-worked numbers and invariants."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.sim.beamline_state import (
    Axis,
    BeamlineState,
    Exposure,
    ExposureSeries,
    Monitors,
    Switch,
    Trajectory,
    pulse_times,
)

# 0.5 s ramps to 2 mm/s cover 0.5 mm each; 3 mm in between take 1.5 s.
TRAPEZOID = Trajectory(start=1.0, end=5.0, started_s=100.0, velocity=2.0, ramp_s=0.5)


@pytest.mark.parametrize(
    ("elapsed_s", "position"),
    [
        (-1, 1.0),
        (0, 1.0),
        (0.25, 1.125),
        (0.5, 1.5),
        (1.0, 2.5),
        (2.0, 4.5),
        (2.25, 4.875),
        (2.5, 5.0),
        (9, 5.0),
    ],
)
def test_trapezoid_positions(elapsed_s: float, position: float) -> None:
    assert TRAPEZOID.position(100.0 + elapsed_s) == pytest.approx(position, abs=1e-12)
    assert TRAPEZOID.finished_s == 102.5


def test_short_move_is_a_triangle_at_the_same_acceleration() -> None:
    # acceleration 4 mm/s²: half of 0.18 mm takes sqrt(2 · 0.09 / 4) = 0.2121 s
    move = Trajectory(start=0.0, end=-0.18, started_s=0.0, velocity=2.0, ramp_s=0.5)
    assert move.finished_s == pytest.approx(2 * math.sqrt(0.045), abs=1e-12)
    assert move.position(move.finished_s / 2) == pytest.approx(-0.09, abs=1e-12)
    assert move.position(move.finished_s) == -0.18


def test_instant_ramp_is_a_straight_line() -> None:
    move = Trajectory(start=0.0, end=1.0, started_s=0.0, velocity=4.0)
    assert move.position(0.125) == 0.5
    assert move.crossing_s(0.25) == 0.0625


@given(
    start=st.floats(-10, 10),
    travel=st.floats(1e-4, 20),
    sign=st.sampled_from([-1, 1]),
    velocity=st.floats(0.01, 20),
    ramp_s=st.floats(0, 2),
    part=st.floats(0, 1),
)
def test_axis_is_at_a_point_when_it_crosses_it(
    start: float, travel: float, sign: int, velocity: float, ramp_s: float, part: float
) -> None:
    move = Trajectory(start=start, end=start + sign * travel, started_s=0.0, velocity=velocity, ramp_s=ramp_s)
    point = start + part * (move.end - start)
    time_s = move.crossing_s(point)
    assert time_s is not None
    assert 0 <= time_s <= move.finished_s + 1e-12
    assert move.position(time_s) == pytest.approx(point, abs=1e-6)


def test_no_crossing_beyond_the_move_or_after_a_stop() -> None:
    assert TRAPEZOID.crossing_s(0.99) is None
    assert TRAPEZOID.crossing_s(5.01) is None
    stopped = TRAPEZOID.stopped(101.0)
    assert stopped.crossing_s(2.4) == pytest.approx(100.95)
    assert stopped.crossing_s(2.6) is None
    assert stopped.position(200.0) == stopped.position(101.0) == pytest.approx(2.5)
    assert stopped.finished_s == 101.0


def test_move_without_travel_is_over_at_once() -> None:
    move = Trajectory(start=3.0, end=3.0, started_s=7.0, velocity=1.0, ramp_s=0.2)
    assert move.finished_s == 7.0
    assert move.position(7.0) == 3.0
    assert move.crossing_s(3.0) is None


@pytest.mark.parametrize(("velocity", "ramp_s"), [(0.0, 0.1), (-1.0, 0.1), (1.0, -0.1), (math.nan, 0.1)])
def test_impossible_moves_are_refused(velocity: float, ramp_s: float) -> None:
    with pytest.raises(ConfigurationError, match="positive velocity"):
        Trajectory(start=0, end=1, started_s=0, velocity=velocity, ramp_s=ramp_s)


def test_pulses_are_equidistant_in_time_at_constant_velocity() -> None:
    pulses = pulse_times(TRAPEZOID, start=2.0, step=0.5, count=3)
    assert [k for k, _ in pulses] == [0, 1, 2]
    assert [t for _, t in pulses] == pytest.approx([100.75, 101.0, 101.25])


def test_pulses_need_the_direction_of_the_step() -> None:
    assert pulse_times(TRAPEZOID, start=4.0, step=-0.5, count=3) == []
    back = Trajectory(start=5.0, end=1.0, started_s=0.0, velocity=2.0)
    assert [t for _, t in pulse_times(back, start=4.0, step=-0.5, count=3)] == pytest.approx([0.5, 0.75, 1.0])


def test_pulses_end_with_the_move_and_go_on_with_the_next() -> None:
    first = pulse_times(TRAPEZOID, start=4.0, step=0.5, count=5)
    assert [k for k, _ in first] == [0, 1, 2]  # 4.0, 4.5 and 5.0
    onwards = Trajectory(start=5.0, end=7.0, started_s=200.0, velocity=1.0)
    assert pulse_times(onwards, start=4.0, step=0.5, count=5, first=3) == [(3, 200.5), (4, 201.0)]


def test_point_that_was_passed_before_the_move_holds_up_all_others() -> None:
    assert pulse_times(TRAPEZOID, start=0.5, step=1.0, count=4) == []


def test_axis_remembers_where_it_was() -> None:
    axis = Axis(1.0)
    axis.move(3.0, 10.0, velocity=1.0, ramp_s=0.0)
    axis.stop(10.5)
    axis.move(0.0, 20.0, velocity=1.0, ramp_s=0.0)
    assert [axis.position(t) for t in (0.0, 10.25, 15.0, 20.5, 99.0)] == [1.0, 1.25, 1.5, 1.0, 0.0]
    assert not axis.is_moving(15.0)
    assert axis.is_moving(20.5)


def test_new_move_starts_where_the_old_one_was_cut() -> None:
    axis = Axis()
    axis.move(10.0, 0.0, velocity=1.0, ramp_s=0.0)
    move = axis.move(0.0, 4.0, velocity=2.0, ramp_s=0.0)
    assert (move.start, move.finished_s) == (4.0, 6.0)
    assert axis.position(3.0) == 3.0


def test_switch_fraction_counts_what_was_on() -> None:
    shutter = Switch()
    shutter.set(True, 10.0)
    shutter.set(False, 12.0)
    assert shutter.fraction(0.0, 9.0) == 0.0
    assert shutter.fraction(10.5, 11.5) == 1.0
    assert shutter.fraction(9.0, 13.0) == pytest.approx(0.5)
    assert [shutter.at(t) for t in (9.9, 11.0, 12.1)] == [False, True, False]


def test_pulse_before_the_readout_is_over_is_lost() -> None:
    series = ExposureSeries(n_images=9, exposure_s=0.010, readout_s=0.00095, armed_s=0.0)
    assert series.pulse(1.0) == Exposure(number=0, start_s=1.0, duration_s=0.010)
    assert series.pulse(1.0109) is None
    again = series.pulse(1.01095)
    assert again is not None
    assert again.number == 1  # lost pulses are counted nowhere
    assert again.middle_s == pytest.approx(1.01595)


def test_pulses_before_arming_and_after_the_last_image_are_lost() -> None:
    series = ExposureSeries(n_images=1, exposure_s=0.01, readout_s=0.001)
    assert series.pulse(1.0) is None
    series.armed_s = 2.0
    assert series.pulse(1.9) is None
    assert series.pulse(2.0) is not None
    assert series.is_full
    assert series.pulse(3.0) is None


def test_detector_misses_the_pulse_it_is_told_to_miss() -> None:
    series = ExposureSeries(n_images=9, exposure_s=0.01, readout_s=0.001, armed_s=0.0, missed=2)
    taken = [series.pulse(t) for t in (1.0, 2.0, 3.0, 4.0)]
    assert [e.start_s if e else None for e in taken] == [1.0, 2.0, None, 4.0]


def test_gate_of_the_pulse_can_be_the_exposure() -> None:
    series = ExposureSeries(n_images=9, exposure_s=0.01, readout_s=0.001, armed_s=0.0)
    exposure = series.pulse(1.0, 0.5)
    assert exposure is not None
    assert exposure.end_s == 1.5
    assert series.pulse(1.5) is None


def test_free_running_period_is_stretched_to_exposure_and_readout() -> None:
    series = ExposureSeries(n_images=3, exposure_s=0.010, readout_s=0.001, armed_s=0.0)
    assert series.free_running(5.0, 0.010, 2).start_s == pytest.approx(5.022)
    assert series.free_running(5.0, 0.100, 2).start_s == pytest.approx(5.2)
    assert series.is_full


def state(**kwargs: object) -> BeamlineState:
    return BeamlineState(
        monitors=Monitors(seed=3, rate=1e8, steady=True),
        transmission=lambda rotation_deg, translation_mm, x: 0.25,
        lithium_content=lambda time_s: 0.5 + time_s / 1000,
        **kwargs,  # type: ignore[arg-type]
    )


def test_gate_reports_mid_gate_position_and_counts() -> None:
    beamline = state()
    beamline.shutter.set(True, 0.0)
    beamline.translation.move(2.0, 0.0, velocity=1.0, ramp_s=0.0)
    gate = beamline.gate(1.0, 0.01)
    assert gate.position_mm == pytest.approx(1.005, abs=1e-12)
    assert gate.time_s == 1.005
    assert gate.i0 == pytest.approx(1e6, rel=0.005)  # 5 sigma
    assert gate.i1 == pytest.approx(0.25e6, rel=0.01)
    assert beamline.gate(1.0, 0.01) == gate


def test_nothing_is_counted_without_beam() -> None:
    beamline = state()
    assert beamline.gate(1.0, 0.01).i0 == 0  # shutter closed
    beamline.shutter.set(True, 2.0)
    beamline.beam.set(False, 3.0)
    assert beamline.beam_fraction(2.5, 3.5) == pytest.approx(0.5)
    assert beamline.frame_state(Exposure(number=0, start_s=4.0, duration_s=0.1)).i0 == 0


def test_frame_state_is_taken_at_mid_exposure() -> None:
    beamline = state()
    beamline.shutter.set(True, 0.0)
    beamline.translation.move(10.0, 0.0, velocity=1.0, ramp_s=0.0)
    beamline.rotation.move(90.0, 0.0, velocity=10.0, ramp_s=0.0)
    frame = beamline.frame_state(Exposure(number=7, start_s=2.0, duration_s=0.2))
    assert frame.translation_mm == pytest.approx(2.1)
    assert frame.rotation_deg == pytest.approx(21.0)
    assert frame.lithium_content == pytest.approx(0.5021)
    assert (frame.exposure_s, frame.i0) == (0.2, 1.0)


def test_beam_drifts_by_a_per_cent_and_averages_to_one() -> None:
    monitors = Monitors(seed=1)
    values = [monitors.intensity(t * Monitors.DRIFT_S / 100) for t in range(100)]
    assert sum(values) / 100 == pytest.approx(1.0, abs=1e-9)
    assert max(values) == pytest.approx(1 + Monitors.DRIFT, abs=1e-4)
