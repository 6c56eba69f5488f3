import sys
import types

import numpy as np
import pytest

from xrdct_beamline.domain.errors import ConfigurationError, ProcessingError
from xrdct_beamline.processing.cleaning import (
    find_bad_lines,
    find_outliers,
    masked,
    remove_stripes,
    resample_line,
    subtract_air,
)

ANGLES = np.arange(40) * 4.5


def blob_sinogram(n=60):
    t = np.arange(n) - (n - 1) / 2
    theta = np.radians(ANGLES)[:, None]
    at = 9 * np.cos(theta) + 6 * np.sin(theta)
    return (50 * np.exp(-((t - at) ** 2) / 32))[:, :, None] * np.array([1.0, 2.0])


def test_encoder_positions_are_brought_to_the_grid():
    patterns = np.array([[0.0], [10.0], [20.0], [30.0]])
    line, sigma = resample_line(
        np.array([0.5, 1.5, 2.5, 3.5]), patterns, np.array([0.0, 1.0, 2.0, 3.0, 4.0]), np.ones((4, 1))
    )
    np.testing.assert_allclose(line[:, 0], [np.nan, 5, 15, 25, np.nan])
    np.testing.assert_allclose(sigma[1:4, 0], np.sqrt(0.5))


def test_a_backward_line_is_resampled_alike_and_a_gap_stays_a_hole():
    position = np.array([6.0, 5.0, 1.0, 0.0])
    line, _ = resample_line(position, position[:, None] * 10, np.arange(7.0))
    np.testing.assert_allclose(line[:, 0], [0, 10, np.nan, np.nan, np.nan, 50, 60])


def test_positions_that_make_no_line_are_refused():
    with pytest.raises(ProcessingError, match="2 positions were recorded for 3 frames"):
        resample_line(np.arange(2.0), np.ones((3, 1)), np.arange(3.0))
    with pytest.raises(ProcessingError, match="no two of them equal"):
        resample_line(np.array([0.0, 0.0, 1.0]), np.ones((3, 1)), np.arange(3.0))


def test_a_zinger_is_found_and_masked_in_a_copy():
    sinogram = blob_sinogram() + np.random.default_rng(0).normal(size=(40, 60, 2))
    sinogram[12, 30] += 500
    sinogram[3, 3] = np.nan
    cells = find_outliers(sinogram)
    assert cells[12, 30]
    assert cells.sum() < 6
    assert not cells[3, 3]
    cleaned = masked(sinogram, cells)
    assert np.isnan(cleaned[12, 30]).all()
    assert np.isfinite(sinogram[12, 30]).all()
    with pytest.raises(ProcessingError, match="does not fit the sinogram"):
        masked(sinogram, cells[1:])


def test_a_line_with_half_the_beam_is_a_bad_line():
    sinogram = blob_sinogram()
    sinogram[20] *= 0.5
    sinogram[7, :30] = np.nan
    assert 20 in find_bad_lines(sinogram)
    assert find_bad_lines(blob_sinogram()).size == 0


def test_air_is_taken_off_a_full_field_scan_and_refused_for_a_region():
    sinogram = blob_sinogram() + np.array([3.0, 7.0])
    np.testing.assert_allclose(subtract_air(sinogram, ANGLES), blob_sinogram(), atol=0.01)
    with pytest.raises(ProcessingError, match="reaches the edges of this scan"):
        subtract_air(sinogram[:, 22:40], ANGLES)


def test_stripes_go_to_algotom_channel_by_channel(monkeypatch):
    calls = []

    def remove_stripe_based_sorting(sinogram, size=21, dim=1):
        calls.append((sinogram.shape, size))
        return sinogram - 1

    module = types.ModuleType("algotom.prep.removal")
    module.remove_stripe_based_sorting = remove_stripe_based_sorting
    monkeypatch.setitem(sys.modules, "algotom.prep.removal", module)
    sinogram = blob_sinogram().astype(np.float32)
    np.testing.assert_allclose(remove_stripes(sinogram, size=9), sinogram - 1)
    assert calls == [((40, 60), 9)] * 2
    sinogram[1, 1] = np.nan
    with pytest.raises(ProcessingError, match="sinogram with holes"):
        remove_stripes(sinogram)


def test_an_absent_algotom_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "algotom.prep.removal", None)
    with pytest.raises(ConfigurationError, match=r"xrdct-beamline\[cleaning\]"):
        remove_stripes(blob_sinogram())


def test_a_stripe_is_removed_by_the_real_algotom():
    pytest.importorskip("algotom")
    sinogram = blob_sinogram()
    striped = sinogram.copy()
    striped[:, 31] += 8
    cleaned = remove_stripes(striped, size=9)
    assert np.abs(cleaned - sinogram)[:, 31].mean() < 0.5 * 8
