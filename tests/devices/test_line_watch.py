"""What is known of a line in flight, step by step."""

from __future__ import annotations

import pytest

from xrdct_beamline.devices.line_watch import AcquisitionMode, LineLimits, LineProgress, LineRequest

LIMITS = LineLimits(arm_s=10.0, stall_s=0.5, close_s=5.0, margin_s=10.0)


def progress(mode: AcquisitionMode = AcquisitionMode.FLY) -> LineProgress:
    request = LineRequest(
        n_frames=100, exposure_s=0.01, period_s=0.02, directory="/raw", file_name="a", mode=mode
    )
    return LineProgress(request=request, limits=LIMITS, kicked_off_s=0.0)


def started(mode: AcquisitionMode = AcquisitionMode.FLY) -> LineProgress:
    line = progress(mode)
    line.note_capturing(True, 0.1)
    line.note_acquiring(True, 0.1)
    line.note_armed(True)
    line.expect_completion(1.0)
    return line


def test_line_is_ready_when_the_file_is_open_and_the_detector_armed() -> None:
    line = progress()
    line.note_armed(True)
    assert not line.is_ready
    line.note_capturing(True, 0.1)
    assert line.is_ready
    assert not line.is_over


def test_step_mode_needs_no_arming() -> None:
    line = progress(AcquisitionMode.STEP)
    line.note_capturing(True, 0.1)
    assert line.is_ready


@pytest.mark.parametrize(("opens", "missing"), [(False, "capturing"), (True, "armed")])
def test_kickoff_that_takes_too_long(opens: bool, missing: str) -> None:
    line = progress()
    if opens:
        line.note_capturing(True, 1.0)
    assert line.problem(9.9) == ""
    assert line.due_s(9.0) == pytest.approx(1.0, abs=0.01)
    assert line.problem(10.1) == f"it was not {missing} 10 s after the kickoff"


def test_line_is_over_when_the_file_is_closed_and_the_detector_idle() -> None:
    line = started()
    line.note_captured(100, 3.0)
    line.note_capturing(False, 3.0)
    assert not line.is_over
    line.note_acquiring(False, 3.1)
    assert line.is_over
    assert line.problem(3.2) == ""


def test_count_from_the_line_before_is_not_believed() -> None:
    line = progress()
    line.note_captured(100, 0.05)
    assert line.captured == 0


def test_count_never_falls() -> None:
    line = started()
    line.note_captured(100, 3.0)
    line.note_captured(90, 3.1)  # a monitor that was under way
    assert line.captured == 100


def test_file_that_is_closed_early() -> None:
    line = started()
    line.note_captured(40, 1.9)
    line.note_capturing(False, 2.0)
    assert line.problem(2.0) == "the file was closed early"


def test_stall_is_noticed_once_frames_have_come() -> None:
    line = started()
    assert line.problem(5.0) == ""  # the stage is still on its way
    line.note_captured(40, 5.0)
    assert line.problem(5.4) == ""
    assert line.due_s(5.4) == pytest.approx(0.1, abs=0.01)
    assert line.problem(5.6) == "no frame came for 0.60 s"


def test_patience_grows_with_the_period() -> None:
    request = LineRequest(n_frames=100, exposure_s=1.0, period_s=2.0, directory="/raw", file_name="a")
    line = LineProgress(request=request, limits=LIMITS, kicked_off_s=0.0)
    line.note_capturing(True, 0.1)
    line.note_armed(True)
    line.expect_completion(1.0)
    line.note_captured(1, 3.0)
    assert line.problem(8.9) == ""
    assert line.problem(9.1) == "no frame came for 6.10 s"


def test_line_without_any_frame_ends_too() -> None:
    line = started()
    assert line.problem(1.0 + 2.0 + 10.0 - 0.1) == ""
    assert "long over" in line.problem(1.0 + 2.0 + 10.0 + 0.1)


def test_nothing_times_out_before_somebody_waits() -> None:
    line = progress()
    line.note_capturing(True, 0.1)
    line.note_armed(True)
    assert line.problem(1e6) == ""


def test_file_that_does_not_close() -> None:
    line = started()
    line.note_captured(100, 3.0)
    assert line.problem(7.9) == ""
    assert "not closed 5.1 s later" in line.problem(8.1)


def test_step_mode_waits_for_the_last_frame_only() -> None:
    line = started(AcquisitionMode.STEP)
    assert "no frame came" in line.problem(1.6)


def test_first_reason_stays() -> None:
    line = started()
    line.give_up("it was interrupted")
    line.give_up("its server went away")
    assert line.problem(1.1) == "it was interrupted"
