import numpy as np
import pytest

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.jitter import inspect_lines

ANGLES = np.arange(90) * 2.0
ZIGZAG = np.arange(90) % 2 == 1


def blob_sinogram(shift_px=0.0):
    t = np.arange(100) - 47.3 - np.broadcast_to(shift_px, ANGLES.shape)[:, None]
    theta = np.radians(ANGLES)[:, None]
    return sum(
        a * np.exp(-((t - x * np.cos(theta) - y * np.sin(theta)) ** 2) / (2 * s * s))
        for x, y, s, a in [(18.0, 7.0, 3.0, 1.0), (-20.0, 12.0, 5.0, 0.6), (5.0, -24.0, 2.5, 1.5)]
    )


def test_still_lines_are_found_still():
    fit = inspect_lines(blob_sinogram(), ANGLES, ZIGZAG)
    assert fit.jitter_px < 0.02
    assert abs(fit.backlash_px) < 0.02
    assert fit.findings == ()
    assert np.isnan(fit.shift_px[[0, -1]]).all()


@pytest.mark.parametrize("backlash_px", [0.5, -0.3])
def test_a_backlash_between_the_directions_is_measured(backlash_px):
    shift = np.where(ZIGZAG, 0.0, backlash_px)
    fit = inspect_lines(blob_sinogram(shift), ANGLES, ZIGZAG)
    assert fit.backlash_px == pytest.approx(backlash_px, abs=0.03)
    assert "backlash" in fit.findings[0]


def test_jitter_is_measured_and_not_erased():
    shift = 0.3 * np.random.default_rng(0).normal(size=90)
    sinogram = blob_sinogram(shift)
    before = sinogram.copy()
    fit = inspect_lines(sinogram, ANGLES, ZIGZAG)
    assert fit.jitter_px == pytest.approx(0.3, rel=0.3)
    np.testing.assert_array_equal(sinogram, before)


def test_a_zigzag_recorded_the_wrong_way_round_is_told():
    sinogram = blob_sinogram()
    sinogram[ZIGZAG] = sinogram[ZIGZAG, ::-1]
    fit = inspect_lines(sinogram, ANGLES, ZIGZAG)
    assert fit.is_reversed
    assert "wrong way round" in fit.findings[0]


def test_lines_are_matched_with_their_directions_in_any_order():
    order = np.random.default_rng(1).permutation(90)
    shift = np.where(ZIGZAG, 0.0, 0.5)
    fit = inspect_lines(blob_sinogram(shift)[order], ANGLES[order], ZIGZAG[order])
    assert fit.backlash_px == pytest.approx(0.5, abs=0.03)


def test_directions_must_fit_the_lines():
    with pytest.raises(ProcessingError, match="3 directions were given for 90 lines"):
        inspect_lines(blob_sinogram(), ANGLES, [True, False, True])
