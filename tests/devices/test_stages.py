from __future__ import annotations

import pytest
from fakes import arrive, fake_stage

from xrdct_beamline.devices.stages import Stage
from xrdct_beamline.domain.errors import MoveFailed


@pytest.fixture
def stage() -> Stage:
    return fake_stage("x")


def hold(stage: Stage) -> None:
    """Have the stage accept moves and not move."""
    stage.user_setpoint.sim_set_putter(lambda value, **kwargs: stage.motor_done_move.sim_put(0))


def test_move(stage: Stage) -> None:
    stage.set(2.5).wait(1)
    assert stage.position == 2.5


@pytest.mark.parametrize("target", [-10.01, 10.01])
def test_limits_are_named(stage: Stage, target: float) -> None:
    with pytest.raises(MoveFailed, match=f"x cannot go to {target} mm: its soft limits are -10 and 10 mm"):
        stage.set(target)
    assert stage.user_setpoint.get() == 0


def test_equal_limits_are_none(stage: Stage) -> None:
    stage.low_limit_travel.sim_put(0.0)
    stage.high_limit_travel.sim_put(0.0)
    stage.check_value(1e3)


@pytest.mark.parametrize("mode", ["Stop", "Pause"])
def test_stage_that_is_held_is_not_commanded(stage: Stage, mode: str) -> None:
    stage.run_mode.sim_put(mode)
    with pytest.raises(MoveFailed, match=rf"SPMG is {mode}; set it to Go"):
        stage.set(1.0)


def test_stage_that_stops_short_fails(stage: Stage) -> None:
    stage.user_setpoint.sim_set_putter(lambda value, **kwargs: arrive(stage, value, at=0.9 * value))
    with pytest.raises(
        MoveFailed, match=r"x was sent to 2 mm and is at 1.8 \(tolerance 0.001\).*0.2 mm away"
    ):
        stage.set(2.0).wait(1)


@pytest.mark.parametrize(("error", "is_accepted"), [(0.9e-3, True), (1.1e-3, False)])
def test_tolerance(stage: Stage, error: float, is_accepted: bool) -> None:
    stage.user_setpoint.sim_set_putter(lambda value, **kwargs: arrive(stage, value, at=value + error))
    status = stage.set(2.0)
    assert (status.exception(timeout=1) is None) is is_accepted


def test_stage_that_stands_there_is_left_alone(stage: Stage) -> None:
    stage.set(2.0).wait(1)
    stage.user_setpoint.sim_set_putter(lambda value, **kwargs: pytest.fail("must not be written"))
    stage.set(2.0).wait(1)


def test_fault_of_the_driver_is_named(stage: Stage) -> None:
    stage.motor_state.sim_put(1 << 9)
    with pytest.raises(MoveFailed, match="driver problem"):
        stage.set(2.0).wait(1)


def test_stage_that_never_arrives_is_stopped(stage: Stage) -> None:
    hold(stage)
    with pytest.raises(MoveFailed, match=r"did not arrive within 0.1 s and was stopped"):
        stage.set(2.0, timeout=0.1).wait(2)
    assert stage.motor_stop.get() == 1


def test_time_of_a_move(stage: Stage) -> None:
    assert stage.travel_time_s(10.0) == pytest.approx(10.0 / 5.0 + 2 * 0.1)


def test_server_that_goes_away_fails_the_move(stage: Stage) -> None:
    hold(stage)
    move = stage.set(2.0)
    stage.user_readback._run_subs(sub_type="meta", connected=False)
    with pytest.raises(MoveFailed, match="server went away in mid-move"):
        move.wait(1)
    arrive(stage, 2.0)  # back again, the record calls the move finished
    assert not move.success


def test_stop_of_an_operator_is_no_success(stage: Stage) -> None:
    hold(stage)
    move = stage.set(2.0)
    stage.stop()
    with pytest.raises(MoveFailed, match="the record ended the move"):
        move.wait(1)


def test_pause_of_the_engine_counts_as_done_and_is_noticed_by_is_at(stage: Stage) -> None:
    hold(stage)
    move = stage.set(2.0)
    stage.stop(success=True)
    move.wait(1)
    assert not stage.is_at(2.0)


def test_velocity_is_verified(stage: Stage) -> None:
    stage.prepare(1.5).wait(1)
    assert stage.velocity.get() == 1.5
    stage.velocity.get = lambda **kwargs: 1.0
    with pytest.raises(MoveFailed, match=r"given a velocity of 3 mm/s and took 1;"):
        stage._verify_velocity(3.0)


def test_unstage_restores_the_velocity(stage: Stage) -> None:
    stage.stage()
    stage.prepare(0.1).wait(1)
    stage.unstage()
    assert stage.velocity.get() == 5.0
