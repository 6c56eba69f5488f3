from __future__ import annotations

import numpy as np
import pytest

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.peak_profile import Profile, tch
from xrdct_beamline.processing.strain import sample_widths, strain_and_size, strain_of_width

INSTRUMENT = Profile(u=0.002, v=-1e-4, w=4e-4, x=0.004, y=0.01)
TWO_THETA = np.array([3.0, 5.7, 6.9, 9.8, 12.3])
WAVELENGTH_A = 0.248


def widths(strain, size_A):
    theta = np.radians(TWO_THETA) / 2
    extra = 4 * strain * np.tan(theta) + WAVELENGTH_A / size_A / np.cos(theta)
    gauss, lorentz = INSTRUMENT.widths(TWO_THETA)
    return tch(gauss, lorentz + np.degrees(extra))[0]


def test_strain_of_a_refined_width():
    strain, esd = strain_of_width([np.degrees(4e-3), np.nan], [np.degrees(4e-4), np.nan])
    assert strain[0] == pytest.approx(1e-3)
    assert esd[0] == pytest.approx(1e-4)
    assert np.isnan(strain[1])
    assert np.isnan(strain_of_width(0.1)[1])


def test_the_instrument_is_taken_off():
    instrument_only = INSTRUMENT.fwhm(TWO_THETA)
    assert sample_widths(instrument_only, TWO_THETA, INSTRUMENT) == pytest.approx(0, abs=1e-9)
    assert sample_widths(instrument_only - 0.01, TWO_THETA, INSTRUMENT) == pytest.approx(0, abs=1e-9)
    gauss, lorentz = INSTRUMENT.widths(TWO_THETA)
    wider = tch(gauss, lorentz + 0.02)[0]
    assert sample_widths(wider, TWO_THETA, INSTRUMENT) == pytest.approx(0.02, abs=1e-9)


@pytest.mark.parametrize(("strain", "size_A"), [(1e-3, 800.0), (2e-3, np.inf), (0.0, 500.0), (0.0, np.inf)])
def test_strain_and_size_are_told_apart(strain, size_A):
    found = strain_and_size(widths(strain, size_A), TWO_THETA, INSTRUMENT, WAVELENGTH_A)
    assert found.strain == pytest.approx(strain, abs=1e-8)
    if np.isinf(size_A):
        assert found.size_A > 1e6
    else:
        assert found.size_A == pytest.approx(size_A, rel=1e-4)


def test_esds_are_the_scatter():
    rng = np.random.default_rng(7)
    esd = np.full(TWO_THETA.size, 2e-4)
    true = widths(1.5e-3, 600.0)
    found = [
        strain_and_size(
            true + esd * rng.normal(size=true.size), TWO_THETA, INSTRUMENT, WAVELENGTH_A, fwhm_esd_deg=esd
        )
        for _ in range(150)
    ]
    for value, told in (("strain", "strain_esd"), ("size_A", "size_esd_A")):
        scatter = np.std([getattr(f, value) for f in found])
        assert np.median([getattr(f, told) for f in found]) == pytest.approx(scatter, rel=0.25)


def test_too_little_is_refused():
    with pytest.raises(ProcessingError, match="at least two"):
        strain_and_size([0.03], [3.0], INSTRUMENT, WAVELENGTH_A)
    with pytest.raises(ProcessingError, match="no number"):
        strain_and_size([0.03, np.nan], [3.0, 4.0], INSTRUMENT, WAVELENGTH_A)
    with pytest.raises(ProcessingError, match="must be positive"):
        strain_and_size([0.03, 0.03], [3.0, 4.0], INSTRUMENT, WAVELENGTH_A, fwhm_esd_deg=[0.0, 1.0])
