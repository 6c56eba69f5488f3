"""What every trigger line does, whichever wire it is on."""

from __future__ import annotations

import re
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from trigger_rigs import Rig

from xrdct_beamline.devices.trigger_line import TriggerLine, _make_safe
from xrdct_beamline.devices.trigger_logic import TriggerState
from xrdct_beamline.domain.errors import TriggerError

PATIENCE_S = 10.0
SETTINGS = {"debounce_s": 0.1}

#: Line and wire, what is wrong, level, time waited, thresholds, glitches, what to do.
ERROR = re.compile(
    r"^trigger \(.+\) .+: (level \d|-?\d+\.\d\d V|unknown) after \d+\.\d s "
    r"\(high from [\d.]+, low below [\d.]+( V)?, \d+ glitches\); .{10,}"
)


def soon(is_so: Callable[[], Any]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.005)


def error_of(status: Any) -> str:
    error = status.exception(timeout=PATIENCE_S)
    assert isinstance(error, TriggerError)
    assert ERROR.match(str(error)), str(error)
    return str(error)


def all_low(rig: Rig) -> bool:
    outputs = (rig.line.ready, rig.line.busy, rig.line.done)
    return not any(output.get() for output in outputs) and not any(rig.seen().values())


class TriggerSuite:
    """Inherited by a class whose module has a fixture ``make`` of rigs."""

    @pytest.fixture
    def rig(self, make: Callable[..., Rig]) -> Rig:
        return make()

    def test_pause_triggers_and_its_time_is_kept(self, rig: Rig) -> None:
        began_s = time.time()
        status = rig.line.trigger()
        soon(lambda: rig.line.ready.get() == 1 and rig.seen().get("ready", 1) == 1)
        assert not status.done
        rig.drive(True)
        status.wait(PATIENCE_S)
        now_s = time.time()
        assert rig.line.state is TriggerState.TRIGGERED
        assert began_s - 0.1 <= rig.line.edge_s.get() <= now_s - 0.9 * SETTINGS["debounce_s"]
        assert SETTINGS["debounce_s"] <= rig.line.waited_s.get() <= now_s - began_s + 0.1
        assert rig.line.ready.get() == 1  # the plan's to drop, when BUSY rises

    def test_glitch_does_not_trigger(self, rig: Rig) -> None:
        status = rig.line.trigger()
        rig.drive(True)
        time.sleep(0.005)
        rig.drive(False)
        time.sleep(0.2)
        assert not status.done
        assert rig.line.state is TriggerState.ARMED

    def test_line_that_is_high_already_is_refused(self, rig: Rig) -> None:
        rig.drive(True)
        soon(lambda: rig.line._logic.is_high)
        with pytest.raises(TriggerError, match=rf"is high already: {rig.high_text} after 0\.0 s") as raised:
            rig.line.trigger()
        assert ERROR.match(str(raised.value))
        assert all_low(rig)
        assert rig.line.ignored.get() == 1

    def test_line_that_is_high_already_counts_if_told_so(self, make: Callable[..., Rig]) -> None:
        rig = make(may_be_high_at_arming=True)
        rig.drive(True)
        soon(lambda: rig.line._logic.is_high)
        status = rig.line.trigger()
        status.wait(PATIENCE_S)
        assert status.success

    def test_pause_that_does_not_come_times_out(self, rig: Rig) -> None:
        rig.line.timeout_s.put(0.1)
        assert "did not rise" in error_of(rig.line.trigger())
        soon(lambda: all_low(rig))
        assert rig.line.state is TriggerState.DISARMED

    def test_lost_wire_is_an_error_and_may_come_back(self, rig: Rig) -> None:
        status = rig.line.trigger()
        rig.lose()
        assert "has no valid level" in error_of(status)
        with pytest.raises(TriggerError, match="no valid level"):
            rig.line.trigger()
        rig.find_again()
        soon(lambda: not rig.line._logic._fault)
        soon(lambda: all_low(rig))
        status = rig.line.trigger()
        rig.drive(True)
        status.wait(PATIENCE_S)

    def test_unbelievable_level_is_an_error_not_a_level(self, rig: Rig) -> None:
        status = rig.line.trigger()
        if not rig.spoil():
            rig.line.stop()
            return  # a modem-control line always has a level
        assert "has no valid level" in error_of(status)
        soon(lambda: all_low(rig))

    @pytest.mark.parametrize("end", [TriggerLine.stop, TriggerLine.unstage])
    def test_outputs_are_low_at_the_end(self, rig: Rig, end: Callable[[TriggerLine], object]) -> None:
        status = rig.line.trigger()
        for output in (rig.line.busy, rig.line.done):
            output.set(1).wait(PATIENCE_S)
        soon(lambda: set(rig.seen().values()) <= {1})
        end(rig.line)
        soon(lambda: all_low(rig))
        assert "was stopped while it waited" in error_of(status)

    def test_outputs_are_low_at_the_end_of_the_process(self, rig: Rig) -> None:
        rig.line.busy.set(1).wait(PATIENCE_S)
        _make_safe(weakref.ref(rig.line))
        assert rig.line.busy.get() == 1  # another process's: this one has only looked
        rig.line.own()
        soon(lambda: all_low(rig))
        rig.line.busy.set(1).wait(PATIENCE_S)
        _make_safe(weakref.ref(rig.line))
        soon(lambda: all_low(rig))

    def test_outputs_that_somebody_left_high_drop_at_staging(self, rig: Rig) -> None:
        rig.line.busy.set(1).wait(PATIENCE_S)
        rig.line.stage()
        soon(lambda: all_low(rig))
        assert rig.line.busy.get() == 0
        rig.line.unstage()

    def test_operators_pause_leaves_it_waiting(self, rig: Rig) -> None:
        status = rig.line.trigger()
        rig.line.stop(success=True)
        assert rig.line.trigger() is status
        rig.drive(True)
        status.wait(PATIENCE_S)

    def test_next_pause_takes_an_edge_of_its_own(self, rig: Rig) -> None:
        status = rig.line.trigger()
        rig.drive(True)
        status.wait(PATIENCE_S)
        first_s = rig.line.edge_s.get()
        released = rig.line.set("released")
        assert not released.done
        rig.drive(False)
        released.wait(PATIENCE_S)
        status = rig.line.trigger()
        time.sleep(0.15)
        assert not status.done
        rig.drive(True)
        status.wait(PATIENCE_S)
        assert rig.line.edge_s.get() > first_s

    def test_line_that_stays_high_is_named(self, rig: Rig) -> None:
        status = rig.line.trigger()
        rig.drive(True)
        status.wait(PATIENCE_S)
        rig.line.release_timeout_s.put(0.05)
        text = error_of(rig.line.set("released"))
        assert re.search(rf"is still high 0\.05 s after it was released: {rig.high_text}", text)
