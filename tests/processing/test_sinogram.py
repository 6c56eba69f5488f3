import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.sinogram import (
    empty_sinogram,
    fill_holes,
    measured_mask,
    normalise_by_monitor,
    place_line,
    without_bad_lines,
)


def test_a_line_lands_in_its_cells_and_the_last_write_wins():
    sinogram = empty_sinogram(3, 4, 2)
    place_line(sinogram, 1, [3, 2, 1, 0], np.arange(8.0).reshape(4, 2))
    place_line(sinogram, 1, [2], np.array([[70.0, 71.0]]))
    np.testing.assert_array_equal(sinogram[1], [[6, 7], [4, 5], [70, 71], [0, 1]])
    assert measured_mask(sinogram).sum() == 4
    assert np.isnan(sinogram[0]).all()


@given(seed=st.integers(0, 99), repeats=st.integers(1, 3))
def test_placing_again_in_any_order_changes_nothing(seed, repeats):
    rng = np.random.default_rng(seed)
    lines = rng.normal(size=(4, 5, 3))
    expected = empty_sinogram(4, 5, 3)
    expected[...] = lines
    sinogram = empty_sinogram(4, 5, 3)
    for row in rng.permutation(np.repeat(np.arange(4), repeats)):
        frames = rng.permutation(5)
        place_line(sinogram, row, frames, lines[row, frames])
    np.testing.assert_array_equal(sinogram, expected)


@pytest.mark.parametrize(
    ("row", "places", "shape", "words"),
    [
        (3, [0], (1, 2), "outside of the sinogram's 3 rows"),
        (0, [0, 4], (2, 2), "outside of the sinogram's 4 columns"),
        (0, [0, 1], (2, 3), r"needs patterns of shape \(2, 2\), got \(2, 3\)"),
    ],
)
def test_a_line_that_does_not_fit_is_refused(row, places, shape, words):
    with pytest.raises(ProcessingError, match=words):
        place_line(empty_sinogram(3, 4, 2), row, places, np.ones(shape))


def test_monitor_normalisation_keeps_the_scale_of_counts():
    normalised, sigma = normalise_by_monitor(
        np.array([[10.0], [30.0]]), np.array([50.0, 150.0]), sigma=np.array([[1.0], [3.0]])
    )
    np.testing.assert_allclose(normalised, [[20.0], [20.0]])
    np.testing.assert_allclose(sigma, [[2.0], [2.0]])


def test_lines_share_a_reference():
    normalised, _ = normalise_by_monitor(np.array([[10.0]]), np.array([50.0]), reference=100.0)
    np.testing.assert_allclose(normalised, [[20.0]])


@pytest.mark.parametrize("reading", [0.0, np.nan, -1.0, 0.5])
def test_a_dead_monitor_is_refused_with_its_frames(reading):
    monitor = np.full(6, 100.0)
    monitor[[2, 4]] = reading
    with pytest.raises(ProcessingError, match=r"2 frames \(2, 4\)"):
        normalise_by_monitor(np.ones((6, 3)), monitor, reference=100.0)


def test_a_dead_monitor_is_refused_with_its_lines():
    monitor = np.full((4, 6), 100.0)
    monitor[3, 1] = 0.0
    with pytest.raises(ProcessingError, match=r"1 line \(3\)"):
        normalise_by_monitor(np.ones((4, 6, 2)), monitor)


def test_an_absent_monitor_is_refused():
    with pytest.raises(ProcessingError, match="is the monitor connected"):
        normalise_by_monitor(np.ones((2, 3)), np.full(2, np.nan))
    with pytest.raises(ProcessingError, match="one reading per frame"):
        normalise_by_monitor(np.ones((2, 3)), np.ones(3))


def test_a_frame_that_was_not_measured_needs_no_monitor():
    intensity = np.array([[1.0], [np.nan]])
    normalised, _ = normalise_by_monitor(intensity, np.array([2.0, np.nan]))
    np.testing.assert_array_equal(normalised, [[1.0], [np.nan]])


def test_holes_are_filled_linearly_and_only_in_the_copy():
    nan = np.nan
    projection = np.array([[nan, 1, nan], [2, nan, nan], [nan, nan, nan], [8, 7, nan], [nan, 9, nan]])
    filled = fill_holes(projection)
    np.testing.assert_allclose(filled, [[2, 1, 0], [2, 3, 0], [5, 5, 0], [8, 7, 0], [8, 9, 0]])
    assert np.isnan(projection).sum() == 10


def test_bad_lines_are_left_out_with_their_angles():
    sinogram = np.ones((3, 4, 2))
    sinogram[1] = np.nan
    sinogram[2, 0] = np.nan
    kept, angles = without_bad_lines(sinogram, [0.0, 60.0, 120.0])
    assert kept.shape == (2, 4, 2)
    np.testing.assert_array_equal(angles, [0.0, 120.0])
