"""The trigger line's state machine, fed with waveforms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrdct_beamline.devices.trigger_logic import TriggerLogic, TriggerSettings, TriggerState
from xrdct_beamline.domain.errors import ConfigurationError, TriggerError

SETTINGS = TriggerSettings(low_V=0.8, high_V=2.0, debounce_s=0.05)


def logic(settings: TriggerSettings = SETTINGS) -> TriggerLogic:
    line = TriggerLogic("the line", settings)
    line.sample(0.0, 0.0, 0.0)
    return line


def armed(settings: TriggerSettings = SETTINGS) -> TriggerLogic:
    line = logic(settings)
    line.arm(1.0)
    return line


def feed(line: TriggerLogic, *samples: tuple[float, float]) -> None:
    for time_s, level_V in samples:
        line.sample(level_V, time_s, time_s + 1000.0)


def test_level_that_stays_high_triggers_after_the_debounce_time() -> None:
    line = armed()
    feed(line, (2.0, 3.3))
    assert line.due_s(2.01) == pytest.approx(0.04)
    assert not line.advance(2.049)
    assert line.advance(2.051)
    assert line.state is TriggerState.TRIGGERED
    assert line.edge_s == 1002.0  # the source's own time of the crossing


def test_glitch_does_not_trigger() -> None:
    line = armed()
    feed(line, (2.0, 3.3), (2.03, 0.1))
    assert not line.advance(3.0)
    assert line.due_s(3.0) is None
    assert line.glitches == 1


def test_chatter_triggers_from_its_last_rise() -> None:
    line = armed()
    feed(line, (2.00, 3.3), (2.01, 0.0), (2.02, 3.3), (2.03, 0.0), (2.04, 3.3))
    assert not line.advance(2.08)
    assert line.advance(2.10)
    assert line.edge_s == 1002.04
    assert line.glitches == 2


def test_pulse_that_is_over_before_anybody_looks_counts_if_it_was_long_enough() -> None:
    line = armed()
    feed(line, (2.0, 3.3), (2.2, 0.0))
    assert line.advance(5.0)
    assert line.edge_s == 1002.0


def test_hysteresis() -> None:
    line = armed()
    feed(line, (2.0, 1.9))
    assert not line.is_high
    feed(line, (2.1, 2.0), (2.12, 0.9))  # sags, but not below the low threshold
    assert line.is_high
    assert line.advance(2.2)
    assert line.edge_s == 1002.1


def test_arming_refuses_a_high_line() -> None:
    line = logic()
    feed(line, (0.5, 3.3))
    with pytest.raises(TriggerError, match=r"the line is high already: 3.30 V after 0.0 s \(high from 2"):
        line.arm(1.0)
    assert line.state is TriggerState.DISARMED


def test_high_line_may_be_allowed_at_arming() -> None:
    line = logic(TriggerSettings(debounce_s=0.05, may_be_high_at_arming=True))
    feed(line, (0.5, 3.3))
    line.arm(1.0)
    assert line.advance(1.06)
    assert line.edge_s == 1000.5


def test_edge_while_disarmed_is_counted_and_not_kept() -> None:
    line = logic()
    feed(line, (0.2, 3.3), (0.4, 0.0))
    line.arm(1.0)
    assert not line.advance(2.0)
    assert line.ignored_edges == 1


def test_first_level_is_no_edge() -> None:
    line = TriggerLogic("the line", SETTINGS)
    feed(line, (0.0, 3.3))
    assert line.ignored_edges == 0


def test_arming_needs_a_level() -> None:
    with pytest.raises(TriggerError, match=r"it has not been read yet: unknown after 0.0 s"):
        TriggerLogic("the line", SETTINGS).arm(0.0)


@pytest.mark.parametrize("level_V", [float("nan"), float("inf")])
def test_invalid_level_is_an_error_not_a_level(level_V: float) -> None:
    line = armed()
    feed(line, (2.0, 3.3), (2.02, level_V))
    assert not line.advance(9.0)
    with pytest.raises(TriggerError, match=r"no valid level, it reads .*: 3\.30 V after 8.0 s"):
        line.check(9.0)
    feed(line, (2.1, 0.0))
    line.check(9.0)


def test_wire_that_floats_is_not_armed() -> None:
    line = TriggerLogic("the line", SETTINGS)
    feed(line, (0.0, 1.4))
    with pytest.raises(TriggerError, match=r"between the thresholds since it was first read: 1\.40 V"):
        line.arm(1.0)
    feed(line, (1.1, 0.7), (1.2, 1.4))  # from now on it is known to be low
    line.arm(1.3)


def test_clock_of_the_source_tells_a_glitch_that_waited_in_a_queue() -> None:
    line = armed()
    line.sample(3.3, 2.0, 1002.000)
    line.sample(0.0, 2.3, 1002.010)  # the busy receiver saw it 0.29 s late
    assert line.state is TriggerState.ARMED
    assert line.glitches == 1


def test_clock_of_the_source_tells_a_pause_that_waited_in_a_queue() -> None:
    line = armed()
    line.sample(3.3, 2.300, 1002.0)
    line.sample(0.0, 2.301, 1002.2)
    assert line.advance(2.301)
    assert line.edge_s == 1002.0


def polled() -> TriggerLogic:
    line = TriggerLogic("the line", SETTINGS, is_polled=True)
    line.sample(0.0, 0.99, 0.99)
    line.arm(1.0)
    return line


def test_polled_level_is_known_only_when_it_is_read() -> None:
    line = polled()
    feed(line, (2.00, 3.3), (2.04, 3.3))
    assert line.due_s(2.04) is None
    assert not line.advance(2.5)  # time alone says nothing about a wire that nobody looks at
    feed(line, (2.06, 3.3))
    assert line.advance(2.06)
    assert line.edge_s == 1002.0


def test_polled_glitch_lasts_as_long_as_it_was_seen() -> None:
    line = polled()
    feed(line, (2.00, 3.3), (2.04, 3.3), (2.08, 0.0))
    assert not line.advance(2.08)
    assert line.glitches == 1


@pytest.mark.parametrize("fails", [False, True])
def test_gap_in_the_readings_starts_the_debounce_time_anew(fails: bool) -> None:
    line = polled()
    feed(line, (2.00, 3.3))
    if fails:
        line.missed()
    second_s = 2.03 if fails else 2.06
    feed(line, (second_s, 3.3))
    assert not line.advance(second_s)
    feed(line, (second_s + 0.03, 3.3), (second_s + 0.06, 3.3))
    assert line.advance(second_s + 0.06)


def test_release_takes_an_edge_to_arm_again() -> None:
    line = armed()
    feed(line, (2.0, 3.3))
    assert line.advance(2.1)
    line.release()
    assert line.state is TriggerState.DISARMED
    feed(line, (3.0, 0.0))
    line.arm(4.0)
    assert line.edge_s is None
    assert not line.advance(5.0)


def test_timeout_says_all_one_needs() -> None:
    line = armed()
    feed(line, (1.5, 0.3))
    message = str(line.timed_out(61.0))
    for part in ("the line", "0.30 V", "60.0 s", "high from 2, low below 0.8 V"):
        assert part in message


@pytest.mark.parametrize("wrong", [{"low_V": 2.0, "high_V": 2.0}, {"debounce_s": -0.1}])
def test_impossible_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        TriggerSettings(**wrong)


levels = st.lists(st.floats(min_value=-1.0, max_value=5.0), max_size=60)


@given(levels)
def test_noise_below_the_high_threshold_never_triggers(noise: list[float]) -> None:
    line = armed()
    for i, level_V in enumerate(noise):
        line.sample(min(level_V, 1.99), 2.0 + 0.1 * i, 0.0)
        assert not line.advance(2.05 + 0.1 * i)


@given(levels, st.floats(min_value=0.001, max_value=0.049))
def test_pulses_shorter_than_the_debounce_time_never_trigger(noise: list[float], width_s: float) -> None:
    line = armed()
    for i, level_V in enumerate(noise):
        line.sample(level_V, 2.0 + i, 0.0)
        line.sample(0.0, 2.0 + i + width_s, 0.0)
        assert not line.advance(2.9 + i)
