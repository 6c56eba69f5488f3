from __future__ import annotations

import numpy as np
import pytest

from xrdct_beamline.display.figures import MAX_POINTS, CellFigures, MapFigure, PatternFigures
from xrdct_beamline.display.snapshot import Snapshot

EXTENT = (-0.6, 0.6, -0.6, 0.6)


@pytest.fixture
def picture() -> MapFigure:
    return MapFigure(name="slice", x_label="x (mm)", y_label="y (mm)", width_px=280, height_px=280)


def test_a_square_picture_has_square_pixels_in_millimetres(picture):
    picture.show(np.eye(5, dtype=np.float32), EXTENT)
    x, y = picture.figure.x_range, picture.figure.y_range
    assert (x.start, x.end, y.start, y.end) == EXTENT
    assert picture.source.data["dw"] == picture.source.data["dh"] == [1.2]
    assert picture.figure.frame_width == picture.figure.frame_height


def test_the_unmeasured_has_a_colour_that_the_scale_lacks(picture):
    assert picture.mapper.nan_color not in picture.mapper.palette


def test_new_data_leave_a_zoom_alone_and_a_new_extent_does_not(picture):
    picture.show(np.eye(5), EXTENT)
    picture.figure.x_range.start = 0.2
    picture.show(np.eye(5), EXTENT)
    assert picture.figure.x_range.start == 0.2
    picture.show(np.eye(5), (-0.3, 0.3, -0.3, 0.3))
    assert picture.figure.x_range.start == -0.3


def test_without_an_image_the_picture_says_that_it_waits(picture):
    picture.show(None, EXTENT)
    assert picture._wait.visible
    picture.show(np.eye(3), EXTENT)
    assert not picture._wait.visible


def test_time_runs_from_the_first_sample_in_a_unit_that_suits_it():
    cell = CellFigures(height_px=100)
    time_s = 1.7e9 + np.arange(0.0, 7200.0, 60.0)
    cell.show(
        Snapshot(
            cell_time_s=time_s,
            cell_voltage=np.linspace(4.2, 3.4, 120),
            cell_current=np.full(120, -0.5),
            pauses=[(1.7e9 + 600, 1.7e9 + 1200), (1.7e9 + 6000, None)],
        )
    )
    assert cell.current.xaxis.axis_label == "time (min)"
    np.testing.assert_allclose(cell.source.data["time"], np.arange(120.0))
    assert cell.pauses.data == {"x0": [10.0, 100.0], "x1": [20.0, 119.0]}


@pytest.mark.parametrize(
    ("current_mA", "shown", "label"),
    [(-0.5, -0.5, "current (mA)"), (-0.008, -8.0, "current (µA)"), (0, 0, "current (mA)")],
)
def test_the_current_is_shown_in_a_unit_that_suits_it(current_mA, shown, label):
    cell = CellFigures(height_px=100)
    cell.show(
        Snapshot(
            cell_time_s=np.arange(2.0), cell_voltage=np.ones(2), cell_current=np.array([0.0, current_mA])
        )
    )
    assert cell.current.yaxis.axis_label == label
    assert cell.source.data["current"][1] == pytest.approx(shown)


def test_a_week_of_samples_is_thinned_and_keeps_the_newest():
    n = 600_000
    cell = CellFigures(height_px=100)
    cell.show(Snapshot(cell_time_s=np.arange(n), cell_voltage=np.arange(n), cell_current=np.zeros(n)))
    assert MAX_POINTS / 2 < len(cell.source.data["time"]) <= MAX_POINTS
    assert cell.source.data["voltage"][-1] == n - 1


def test_reflections_stand_in_a_row_per_phase_under_the_pattern():
    figures = PatternFigures(height_px=100, ticks_height_px=80)
    radial = np.linspace(1, 10, 50)
    figures.show(
        Snapshot(
            radial=radial,
            pattern=radial**2,
            pattern_sigma=radial,
            phase_ticks={"LiMn2O4": np.array([2.99, 5.72]), "Al": np.array([6.08])},
        )
    )
    assert figures.ticks.y_range.factors == ["Al", "LiMn₂O₄"]  # the first phase on top
    assert figures.tick_source.data["x"] == [2.99, 5.72, 6.08]
    np.testing.assert_allclose(figures.source.data["high"] - figures.source.data["low"], 2 * radial)
    assert figures.ticks.x_range is figures.pattern.x_range
    figures.choose([(2.9, 3.1), (5.6, 5.8)])
    assert figures.chosen.data == {"x0": [2.9, 5.6], "x1": [3.1, 5.8]}
