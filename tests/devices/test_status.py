from __future__ import annotations

import pytest
from ophyd import Signal
from ophyd.status import Status

from xrdct_beamline.devices._status import combine, finished, settle, then, until
from xrdct_beamline.domain.errors import DeviceError, LineFailed


def test_combination_of_none_is_done() -> None:
    assert combine([]).success


def test_combination_is_done_with_the_last() -> None:
    parts = [Status(), Status(), Status()]
    whole = combine(parts)
    for part in parts:
        assert not whole.done
        settle(part)
    assert whole.success


def test_combination_fails_with_the_first_failure_and_only_once() -> None:
    parts = [Status(), Status(), Status()]
    whole = combine(parts)
    settle(parts[1], LineFailed("first"))
    assert str(whole.exception(timeout=0)) == "first"
    settle(parts[0], LineFailed("second"))
    settle(parts[2])
    assert str(whole.exception(timeout=0)) == "first"


def test_second_step_begins_after_the_first() -> None:
    first, second, calls = Status(), Status(), []

    def follow() -> Status:
        calls.append(1)
        return second

    both = then(first, follow)
    assert calls == []
    settle(first)
    assert calls == [1]
    assert not both.done
    settle(second)
    assert both.success


def test_second_step_is_left_out_after_a_failure() -> None:
    first = Status()
    both = then(first, lambda: pytest.fail("must not be called"))
    settle(first, LineFailed("no"))
    assert str(both.exception(timeout=0)) == "no"


def test_refusal_of_the_second_step_is_seen() -> None:
    def refuse() -> Status:
        raise LineFailed("refused")

    assert str(then(finished(), refuse).exception(timeout=0)) == "refused"


def test_value_that_is_there_already() -> None:
    signal = Signal(name="s")
    signal.put(1)
    reached = until(signal, 1, 1.0, lambda: DeviceError("late"))
    reached.wait(1)
    assert reached.success


def test_value_that_comes() -> None:
    signal = Signal(name="s", value=0)
    reached = until(signal, 1, 1.0, lambda: DeviceError("late"))
    assert not reached.done
    signal.put(1)
    reached.wait(1)


def test_value_that_does_not_come_is_explained() -> None:
    signal = Signal(name="s", value=0)
    with pytest.raises(DeviceError, match="still 0"):
        until(signal, 1, 0.02, lambda: DeviceError(f"still {signal.get()}")).wait(1)


def test_status_settles_once() -> None:
    status = Status()
    settle(status)
    settle(status, LineFailed("too late"))
    assert status.success
