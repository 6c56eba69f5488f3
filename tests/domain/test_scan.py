"""Which frame is which: the one place that all layers ask."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrdct_beamline.domain.documents import Verdict
from xrdct_beamline.domain.errors import GeometryError
from xrdct_beamline.domain.scan import LINE_ORDERS, ScanGeometry, missing_lines

rasters = st.builds(
    ScanGeometry.raster,
    n_translations=st.integers(1, 9),
    step_mm=st.floats(1e-4, 1.0),
    n_rotations=st.integers(1, 23),
    span_deg=st.sampled_from([90.0, 180.0, 360.0]),
    zigzag=st.booleans(),
    order=st.sampled_from(sorted(LINE_ORDERS)),
)


@given(rasters)
def test_frames_and_cells_are_a_bijection(geometry):
    cells = [geometry.cell(f) for f in range(geometry.n_frames)]
    n_rotations, n_translations = geometry.shape
    assert set(cells) == {(r, t) for r in range(n_rotations) for t in range(n_translations)}
    assert [geometry.frame(r, t) for r, t in cells] == list(range(geometry.n_frames))


@given(rasters)
def test_line_translations_agree_with_cells(geometry):
    n_translations = geometry.shape[1]
    for line, r in enumerate(geometry.line_order):
        from_cells = [geometry.cell(line * n_translations + k) for k in range(n_translations)]
        assert from_cells == [(r, t) for t in geometry.line_translations(r)]


@given(rasters)
def test_metadata_round_trip_through_json(geometry):
    assert ScanGeometry.from_metadata(json.loads(json.dumps(geometry.to_metadata()))) == geometry


@given(st.sampled_from(sorted(LINE_ORDERS)), st.integers(1, 400))
def test_every_order_is_a_permutation_of_the_same_angles(order, n):
    assert sorted(LINE_ORDERS[order](n)) == list(range(n))


def test_a_small_zigzag_by_hand():
    geometry = ScanGeometry.raster(n_translations=3, step_mm=0.02, n_rotations=2)
    assert [geometry.cell(f) for f in range(6)] == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]
    assert geometry.translation_mm == pytest.approx((-0.02, 0.0, 0.02))
    assert geometry.rotation_deg == (0.0, 90.0)  # the end of the span is not measured twice


def test_interlaced_lines_halve_the_largest_gap_and_keep_the_zigzag():
    geometry = ScanGeometry.raster(n_translations=2, step_mm=1.0, n_rotations=8, order="interlaced")
    assert geometry.line_order == (0, 4, 2, 6, 1, 5, 3, 7)
    assert geometry.cell(2) == (4, 1)  # the second line runs backwards, whichever angle it is at
    assert not geometry.runs_backwards(2)


def test_golden_lines_cover_the_half_turn_early():
    first = sorted(LINE_ORDERS["golden"](360)[:13])
    gaps = [b - a for a, b in zip(first, [*first[1:], first[0] + 360], strict=True)]
    assert max(gaps) <= 2.7 * min(gaps)  # three distances, in golden ratios (Steinhaus)


def test_a_single_translation_has_no_step():
    assert math.isnan(ScanGeometry.raster(n_translations=1, step_mm=1.0, n_rotations=2).step_mm)


def test_missing_lines_keep_the_order_of_acquisition():
    geometry = ScanGeometry.raster(n_translations=2, step_mm=1.0, n_rotations=8, order="interlaced")
    assert missing_lines(geometry, dict.fromkeys((4, 0, 5), Verdict.ACCEPTED)) == [2, 6, 1, 3, 7]
    verdicts = {4: "accepted", 0: "retake", 5: "bad"}
    assert missing_lines(geometry, verdicts) == [0, 2, 6, 1, 5, 3, 7]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_translations": 0}, "n_translations is 0"),
        ({"n_rotations": 2.5}, "n_rotations is 2.5"),
        ({"step_mm": 0.0}, "step_mm is 0"),
        ({"step_mm": math.nan}, "step_mm is nan"),
        ({"span_deg": 400.0}, "span_deg is 400"),
        ({"order": "random"}, "'random' is unknown; use one of"),
    ],
)
def test_a_bad_raster_is_refused_with_its_value(change, words):
    with pytest.raises(GeometryError, match=words):
        ScanGeometry.raster(**{"n_translations": 3, "step_mm": 1.0, "n_rotations": 2, **change})


def test_axes_must_ascend_and_lines_be_complete():
    axes = {"translation_mm": (0.0, 1.0), "rotation_deg": (0.0, 90.0), "line_order": (0, 1)}
    with pytest.raises(GeometryError, match="translation_mm must ascend"):
        ScanGeometry(**{**axes, "translation_mm": (1.0, 1.0)})
    with pytest.raises(GeometryError, match="each of the 2 rotation indices once"):
        ScanGeometry(**{**axes, "line_order": (0, 0)})
    with pytest.raises(GeometryError, match="rotation_deg is empty"):
        ScanGeometry(**{**axes, "rotation_deg": ()})


def test_cells_outside_of_the_raster_are_refused():
    geometry = ScanGeometry.raster(n_translations=3, step_mm=1.0, n_rotations=2)
    with pytest.raises(GeometryError, match="frame 6 is outside of the scan's 6 frames"):
        geometry.cell(6)
    with pytest.raises(GeometryError, match=r"cell \(2, 0\)"):
        geometry.frame(2, 0)


def test_metadata_of_another_software_is_refused():
    with pytest.raises(GeometryError, match="lacks 'translation_mm'"):
        ScanGeometry.from_metadata({"shape": [3, 2]})
