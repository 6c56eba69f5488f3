from __future__ import annotations

import time
import weakref

import pytest
from fakes import fake
from ophyd.utils.epics_pvs import AlarmSeverity

from xrdct_beamline.devices import trigger_line
from xrdct_beamline.devices.epics_trigger import EpicsTriggerLine
from xrdct_beamline.devices.trigger_line import TriggerLine, _make_safe
from xrdct_beamline.devices.trigger_logic import TriggerSettings, TriggerState
from xrdct_beamline.domain.errors import TriggerError


@pytest.fixture
def line() -> TriggerLine:
    line = fake(EpicsTriggerLine, name="trigger", settings=TriggerSettings(debounce_s=0.02))
    line.level.sim_put(0.0)
    return line


def outputs(line: TriggerLine) -> tuple[int, int, int]:
    return line.ready.get(), line.busy.get(), line.done.get()


def test_trigger_is_done_with_a_debounced_level(line: TriggerLine) -> None:
    status = line.trigger()
    assert outputs(line) == (1, 0, 0)
    line.level.sim_put(3.3, timestamp=1234.5)
    assert not status.done
    status.wait(1)
    assert line.edge_s.get() == 1234.5
    assert line.waited_s.get() >= 0.02
    assert line.state is TriggerState.TRIGGERED
    assert line.read()["trigger_level"]["value"] == 3.3


def test_glitch_is_not_a_trigger(line: TriggerLine) -> None:
    status = line.trigger()
    line.level.sim_put(3.3)
    line.level.sim_put(0.0)
    time.sleep(0.05)
    assert not status.done
    assert line.glitches.get() == 1
    line.stop()


def test_high_line_is_refused_and_ready_stays_low(line: TriggerLine) -> None:
    line.level.sim_put(3.3)
    with pytest.raises(TriggerError, match="high already"):
        line.trigger()
    assert outputs(line) == (0, 0, 0)
    assert line.ignored.get() == 1


def test_waiting_goes_on_if_asked_twice(line: TriggerLine) -> None:
    assert line.trigger() is line.trigger()
    line.stop()


def test_timeout(line: TriggerLine) -> None:
    line.timeout_s.put(0.02)
    with pytest.raises(TriggerError, match=r"trigger \(trigger_level\) did not rise: 0.00 V after 0.0 s"):
        line.trigger().wait(1)
    assert line.ready.get() == 0


def test_alarm_is_an_error(line: TriggerLine) -> None:
    status = line.trigger()
    line.level.alarm_severity = AlarmSeverity.INVALID
    line.level.sim_put(3.3)
    with pytest.raises(TriggerError, match="alarm severity is INVALID"):
        status.wait(1)
    assert line.ready.get() == 0


def test_disconnection_is_an_error(line: TriggerLine) -> None:
    status = line.trigger()
    line.level._run_subs(sub_type="meta", connected=False)
    with pytest.raises(TriggerError, match="server went away"):
        status.wait(1)


@pytest.mark.parametrize("end", [TriggerLine.stop, TriggerLine.unstage])
def test_outputs_are_safe_at_the_end(line: TriggerLine, end: object) -> None:
    status = line.trigger()
    line.busy.put(1)
    line.done.put(1)
    end(line)
    assert outputs(line) == (0, 0, 0)
    assert isinstance(status.exception(timeout=1), TriggerError)


def test_outputs_are_safe_at_the_end_of_the_process(line: TriggerLine) -> None:
    line.own()
    line.busy.put(1)
    _make_safe(weakref.ref(line))
    assert outputs(line) == (0, 0, 0)


def test_pause_of_the_engine_leaves_it_waiting(line: TriggerLine) -> None:
    status = line.trigger()
    line.stop(success=True)
    assert outputs(line) == (1, 0, 0)
    line.level.sim_put(3.3)
    status.wait(1)


def test_release_waits_for_a_low_level(line: TriggerLine) -> None:
    status = line.trigger()
    line.level.sim_put(3.3)
    status.wait(1)
    released = line.set("released")
    assert not released.done
    line.level.sim_put(0.0)
    released.wait(1)
    assert line.state is TriggerState.DISARMED


def test_fall_that_is_still_in_a_queue_is_looked_up(
    line: TriggerLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = line.trigger()
    line.level.sim_put(3.3, timestamp=1000.0)
    monkeypatch.setattr(line.level, "get", lambda **kwargs: 0.0)  # what the server says
    time.sleep(0.1)
    assert not status.done
    line.level.sim_put(0.0, timestamp=1000.01)  # the update that was on its way
    assert not status.done
    assert line.glitches.get() == 1
    line.stop()


def test_updates_that_never_arrive_are_an_error(line: TriggerLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trigger_line, "UPDATE_PATIENCE_S", 0.05)
    status = line.trigger()
    line.level.sim_put(3.3)
    monkeypatch.setattr(line.level, "get", lambda **kwargs: 0.0)
    with pytest.raises(TriggerError, match=r"no valid level, its updates do not arrive: 3\.30 V"):
        status.wait(2)


@pytest.mark.parametrize("tolerated", [False, True])
def test_minor_alarm_is_an_error_unless_told_otherwise(tolerated: bool) -> None:
    settings = TriggerSettings(debounce_s=0.02, tolerate_minor_alarm=tolerated)
    line = fake(EpicsTriggerLine, name="trigger", settings=settings)
    line.level.sim_put(0.0)
    status = line.trigger()
    line.level.alarm_severity = AlarmSeverity.MINOR
    line.level.sim_put(3.3)
    error = status.exception(timeout=2)
    assert (error is None) == tolerated
    assert tolerated or "alarm severity is MINOR" in str(error)
    line.stop()


def test_ready_that_could_not_be_dropped_is_dropped_when_its_server_is_back(
    line: TriggerLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.trigger()
    line.ready._metadata["connected"] = False
    line.level._run_subs(sub_type="meta", connected=False)
    assert line.ready.get() == 1
    line.ready._metadata["connected"] = True
    line.ready._run_subs(sub_type="meta", connected=True)
    assert line.ready.get() == 0
    line.ready.put(1)  # by somebody else, whom a reconnection must not disturb
    line.ready._run_subs(sub_type="meta", connected=True)
    assert line.ready.get() == 1


def test_short_low_between_two_pauses_counts(line: TriggerLine) -> None:
    status = line.trigger()
    line.level.sim_put(3.3)
    status.wait(1)
    line.level.sim_put(0.0)
    line.level.sim_put(3.3)  # the next pause, before anybody has released the line
    line.set("released").wait(1)
    with pytest.raises(TriggerError, match="high already"):
        line.trigger()


def test_line_that_stays_high_is_named(line: TriggerLine) -> None:
    status = line.trigger()
    line.level.sim_put(3.3)
    status.wait(1)
    line.release_timeout_s.put(0.02)
    with pytest.raises(TriggerError, match=r"still high 0.02 s after it was released: 3.30 V after"):
        line.set("released").wait(1)
