from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
from fakes import fake

from xrdct_beamline.devices.watchdog import Heartbeat, Watchdog
from xrdct_beamline.domain.errors import ConfigurationError


@pytest.fixture
def watchdog() -> Watchdog:
    watchdog = fake(Watchdog, name="watchdog")
    watchdog.limit_s.sim_put(1.0)
    return watchdog


@pytest.fixture
def beats(watchdog: Watchdog) -> list[int]:
    seen: list[int] = []
    watchdog.heartbeat.subscribe(lambda value, **kwargs: seen.append(value), run=False)
    return seen


@pytest.fixture
def heartbeat(watchdog: Watchdog) -> Iterator[Heartbeat]:
    heartbeat = Heartbeat(watchdog, 0.01)
    yield heartbeat
    heartbeat.stop()


def test_each_beat_is_a_new_number_and_the_last_says_goodbye(heartbeat: Heartbeat, beats: list[int]) -> None:
    heartbeat.start()
    assert beats == [1]  # at once
    while len(beats) < 5:
        time.sleep(0.005)
    heartbeat.stop()
    assert beats == [*range(1, len(beats)), 0]
    heartbeat.stop()  # nothing more to say
    assert beats[-1] == 0


def test_beats_that_nobody_takes_are_left_out(
    heartbeat: Heartbeat, watchdog: Watchdog, beats: list[int]
) -> None:
    heartbeat.start()
    watchdog.heartbeat._metadata["connected"] = False
    time.sleep(0.05)
    lost = len(beats)
    time.sleep(0.05)
    assert len(beats) == lost
    watchdog.heartbeat._metadata["connected"] = True
    while len(beats) == lost:
        time.sleep(0.005)


def test_impatient_watchdog_is_refused(watchdog: Watchdog, beats: list[int]) -> None:
    watchdog.limit_s.sim_put(2.0)
    with pytest.raises(ConfigurationError, match=r"heartbeat_s of the trigger is 1 s .* 2 s.* use 0.4 s"):
        Heartbeat(watchdog, 1.0).start()
    assert beats == []


def test_watchdog_that_is_off_takes_any_heartbeat(watchdog: Watchdog, beats: list[int]) -> None:
    watchdog.limit_s.sim_put(0.0)
    heartbeat = Heartbeat(watchdog, 100.0)
    heartbeat.start()
    heartbeat.stop()
    assert beats == [1, 0]  # not refused: it beat once, and said goodbye


def test_what_the_watchdog_did_is_logged(
    heartbeat: Heartbeat, watchdog: Watchdog, caplog: pytest.LogCaptureFixture
) -> None:
    heartbeat.start()
    with caplog.at_level(logging.WARNING):
        watchdog.alive.sim_put("Lost")
    assert "dropped the trigger line's outputs and closed the shutter: no heartbeat for 1 s" in caplog.text
