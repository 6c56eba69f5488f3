"""What the person at the console is told."""

from __future__ import annotations

from xrdct_beamline.callbacks.console import LineTable
from xrdct_beamline.domain.documents import LINES
from xrdct_beamline.domain.scan import ScanGeometry


def told(verdicts, n_rotations=20, stop=None, note=""):
    said = []
    table = LineTable(said.append)
    geometry = ScanGeometry.raster(n_translations=3, step_mm=1.0, n_rotations=n_rotations)
    table(
        "start",
        {"uid": "0123456789", "xrdct": {"role": "roi", "state_index": 1, "geometry": geometry.to_metadata()}},
    )
    table("descriptor", {"uid": "d", "name": LINES, "run_start": "0123456789"})
    table("descriptor", {"uid": "other", "name": "primary", "run_start": "0123456789"})
    for n, (verdict, reason) in enumerate(verdicts):
        data = {
            "line_verdict": verdict,
            "line_reason": reason,
            "line_rotation_index": n,
            "line_rotation_deg": 9.0 * n,
            "line_attempt": 0,
            "line_note": note,
        }
        table("event", {"descriptor": "d", "data": data})
    table("event", {"descriptor": "other", "data": {}})
    table("stop", stop or {"run_start": "0123456789", "exit_status": "success"})
    return said


def test_each_tenth_of_a_slice_is_told_once():
    assert told([("accepted", "")] * 20) == [
        "slice 01234567, pause 2: 3 x 20 points",
        *(f"slice 01234567, pause 2: {n} of 20 lines" for n in range(2, 21, 2)),
    ]


def test_a_retake_is_told_with_its_reason_and_does_not_count():
    said = told([("retake", "59 of 61 frames")])
    assert said[1] == "slice 01234567, pause 2: line 0 at 0.00 deg, attempt 1: 59 of 61 frames -> retake"
    assert said[2] == "slice 01234567, pause 2: ended after 0 of 20 lines (success)"


def test_what_a_line_warns_of_is_told():
    said = told([("accepted", "")], note="waited 3 s: the ring has 2 mA")
    assert said[1] == "slice 01234567, pause 2: line 0: waited 3 s: the ring has 2 mA"


def test_why_a_slice_ended_early_is_told():
    stop = {"run_start": "0123456789", "exit_status": "abort", "reason": "beam dump"}
    assert told([("accepted", "")], stop=stop)[-1].endswith("ended after 1 of 20 lines (beam dump)")


def test_the_series_around_the_slices_is_silent():
    said = []
    LineTable(said.append)("start", {"uid": "0", "xrdct": {"role": "series"}})
    assert said == []
