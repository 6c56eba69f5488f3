from __future__ import annotations

from xrdct_beamline.display.header import header_html
from xrdct_beamline.display.snapshot import Snapshot


def test_progress_lag_and_pause_are_told():
    html = header_html(
        Snapshot(
            phase="scanning", state_index=1, lines_done=15, lines_planned=60, frames_done=2074,
            frames_planned=3660, lag_s=0.42, lines_retaken=3, slices_done=1,
        )
    )  # fmt: skip
    for told in (
        "<b>2</b>",
        "15 <small>/ 60",
        "width:25.0%",
        "2,074 <small>/ 3,660",
        "<b>0.4 s</b>",
        "<b>3</b>",
    ):
        assert told in html


def test_before_any_data_there_is_a_sentence_and_no_number_out_of_the_air():
    html = header_html(Snapshot())
    assert "Waiting for the first line." in html
    assert "nan" not in html
    assert "/ 0" not in html


def test_what_comes_from_a_run_is_text_and_not_html():
    html = header_html(Snapshot(title="<script>x</script>", message="a < b & c"))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "a &lt; b &amp; c" in html
