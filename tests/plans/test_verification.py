from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrdct_beamline.domain.documents import Verdict
from xrdct_beamline.plans.verification import LineEvidence, padded, reason_to_reject, verdict_on

GRID = np.array([0.0, 0.01, 0.02, 0.03])
GOOD = LineEvidence(
    planned=4,
    pulses=4,
    exposed=4,
    captured=4,
    dropped=0,
    write_error="",
    position_mm=GRID,
    i0=np.full(4, 1e6),
    i1=np.full(4, 5e5),
)


def test_good_line() -> None:
    assert reason_to_reject(GOOD, GRID) == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"problem": "the stage stalled"}, "the stage stalled"),
        ({"pulses": 3}, "3 pulses sent, 4 planned"),
        ({"exposed": 3}, "3 frames exposed, 4 planned"),
        ({"captured": 3}, "3 frames captured, 4 planned"),
        ({"captured": 5}, "5 frames captured, 4 planned"),
        ({"pulses": 3, "captured": 3}, "3 pulses sent, 3 frames captured, 4 planned"),
        ({"position_mm": GRID[:3]}, "3 positions captured, 4 planned"),
        ({"i0": np.full(3, 1e6)}, "3 monitor counts captured, 4 planned"),
        ({"i1": np.full(2, 1e6)}, "2 monitor counts captured, 4 planned"),
        ({"write_error": "disk full"}, "the file writer reports 'disk full'"),
        ({"dropped": 2}, "2 frames dropped by the file writer"),
        ({"position_mm": np.array([0, 0.01, np.nan, 0.03])}, "a captured position is not a number"),
        ({"i1": np.array([1.0, np.nan, 1.0, 1.0])}, "a monitor reading is not a number"),
        ({"i0": np.zeros(4)}, "no beam in 4 of 4 frames (upstream monitor ≤ 0)"),
        ({"i0": np.array([1e6, 1e6, 9e4, 1e6])}, "no beam in 1 of 4 frames (upstream monitor ≤ 1e+05)"),
    ],
)
def test_rejected(changes: dict[str, Any], reason: str) -> None:
    assert reason_to_reject(replace(GOOD, **changes), GRID) == reason


def test_half_a_step_is_the_limit() -> None:
    at_the_limit = replace(GOOD, position_mm=GRID + np.array([0, 0.00499, 0, -0.00499]))
    assert reason_to_reject(at_the_limit, GRID) == ""
    beyond = replace(GOOD, position_mm=GRID + np.array([0, 0.0051, 0, 0]))
    assert reason_to_reject(beyond, GRID) == "frame 1 was taken 5.1 µm off its position, 5 µm are allowed"


def test_line_taken_in_the_wrong_direction() -> None:
    assert "off its position" in reason_to_reject(replace(GOOD, position_mm=GRID[::-1]), GRID)


def test_single_frame_has_no_step() -> None:
    one = LineEvidence(
        planned=1,
        pulses=1,
        exposed=None,
        captured=1,
        dropped=0,
        write_error="",
        position_mm=np.array([0.3]),
        i0=np.ones(1),
        i1=np.ones(1),
    )
    assert reason_to_reject(one, np.array([0.0])) == ""


def test_detector_that_does_not_count_a_series() -> None:
    assert reason_to_reject(replace(GOOD, exposed=None), GRID) == ""


def test_beamstop_diode_that_counts_nothing_at_all() -> None:
    reason = reason_to_reject(replace(GOOD, i1=np.zeros(4)), GRID)
    assert reason == "the beamstop diode counted nothing in 4 frames"
    assert reason_to_reject(replace(GOOD, i1=np.array([0.0, 0.0, 0.0, 1.0])), GRID) == ""


def test_dark_current_of_the_monitor() -> None:
    dark = replace(GOOD, i0=np.full(4, 300.0))
    assert (
        reason_to_reject(dark, GRID, minimum_i0=500.0) == "no beam in 4 of 4 frames (upstream monitor ≤ 500)"
    )


@pytest.mark.parametrize(
    ("reason", "failures", "was_interrupted", "verdict"),
    [
        ("", 0, False, Verdict.ACCEPTED),
        ("", 2, False, Verdict.ACCEPTED),
        ("short", 0, False, Verdict.RETAKE),
        ("short", 1, False, Verdict.RETAKE),
        ("short", 2, False, Verdict.BAD),
        ("paused", 2, True, Verdict.RETAKE),
    ],
)
def test_verdict(reason: str, failures: int, was_interrupted: bool, verdict: Verdict) -> None:
    assert verdict_on(reason, failures=failures, max_attempts=3, was_interrupted=was_interrupted) is verdict


@given(st.lists(st.floats(allow_nan=False), max_size=9), st.integers(0, 9))
def test_padding_keeps_values_and_marks_the_rest(values: list[float], length: int) -> None:
    array = padded(np.array(values), length)
    assert len(array) == length
    kept = min(len(values), length)
    assert list(array[:kept]) == values[:kept]
    assert np.all(np.isnan(array[kept:]))
