from __future__ import annotations

import pytest

from xrdct_beamline.callbacks.alert_watch import AlertKind, AlertWatch

START = {
    "uid": "aaaaaaaa-1",
    "time": 1000.0,
    "sample_name": "cell 7",
    "xrdct": {"role": "roi", "geometry": {"n": 1}, "state_index": 2},
}


class Lines:
    """Feeds the documents of one run."""

    def __init__(self, since_s=0.0, **xrdct):
        self.alerts = []
        self.watch = AlertWatch(self.alerts.append, stalled_s=60.0, min_free_GB=10.0, since_s=since_s)
        self.watch("start", {**START, "xrdct": {**START["xrdct"], **xrdct}})
        self.watch("descriptor", {"uid": "d", "name": "lines", "run_start": START["uid"]})

    def line(self, time_s, verdict="accepted", reason=""):
        data = {"line_verdict": verdict, "line_reason": reason, "line_rotation_index": 5}
        self.watch("event", {"descriptor": "d", "time": time_s, "data": data})

    def stop(self, status, reason=""):
        doc = {"run_start": START["uid"], "time": 1100.0, "exit_status": status, "reason": reason}
        self.watch("stop", doc)

    def kinds(self):
        return [alert.kind for alert in self.alerts]


def test_a_run_without_lines_for_too_long_is_told_once_until_it_moves():
    run = Lines()
    run.watch.check(1060.0)
    assert run.alerts == []
    run.watch.check(1061.0)
    run.watch.check(1100.0)
    assert run.kinds() == [AlertKind.STALLED]
    assert "run aaaaaaaa, cell 7, roi, pause 3: no line for 61 s (the limit is 60 s)" in run.alerts[0].text
    run.line(1110.0)
    run.watch.check(1171.0)
    assert run.kinds() == [AlertKind.STALLED] * 2


def test_a_run_that_plans_no_lines_or_has_ended_does_not_stall():
    series = Lines(geometry=None)
    series.watch.check(9999.0)
    ended = Lines()
    ended.stop("success")
    ended.watch.check(9999.0)
    assert series.alerts == ended.alerts == []


def test_a_line_given_up_and_a_run_that_fails_are_told_with_their_reasons():
    run = Lines()
    run.line(1001.0, "retake", "one frame short")
    run.line(1002.0, "bad", "3 of 61 frames missing")
    run.stop("fail", "the trigger line TRIG stayed low")
    assert run.kinds() == [AlertKind.LINE_BAD, AlertKind.ENDED]
    assert "line 5 was given up: 3 of 61 frames missing" in run.alerts[0].text
    assert "the trigger line TRIG stayed low" in run.alerts[1].text


def test_the_deadline_is_told_once():
    run = Lines(deadline_s=1030.0)
    run.watch.check(1030.0)
    run.watch.check(1042.0)
    run.watch.check(1050.0)
    assert run.kinds() == [AlertKind.DEADLINE]
    assert "12 s past" in run.alerts[0].text


@pytest.mark.parametrize(("free", "n"), [([20.0, 9.0, 8.0], 1), ([9.0, 11.0, 9.0], 2), ([10.0], 0)])
def test_a_disk_that_runs_low_is_told_each_time_it_does(free, n):
    run = Lines()
    for GB in free:
        run.watch.check(1000.0, GB)
    assert run.kinds() == [AlertKind.DISK] * n


def test_history_that_is_read_again_wakes_nobody():
    run = Lines(since_s=5000.0)
    run.line(1001.0, "bad", "old")
    run.watch.check(5059.0)
    assert run.alerts == []
    run.watch.check(5061.0)
    assert run.kinds() == [AlertKind.STALLED]


def test_a_run_that_never_ended_is_forgotten_when_the_next_one_begins():
    run = Lines()
    run.watch("start", {**START, "uid": "bbbbbbbb-2", "time": 1050.0})
    run.watch.check(1100.0)
    assert run.alerts == []
