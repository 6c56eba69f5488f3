from __future__ import annotations

import numpy as np
import pytest

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.drift import half_patterns, lattice_drift

RADIAL = np.linspace(2.0, 11.0, 900)
#: 2θ of cubic reflections at a = 8.2 Å, λ = 0.248 Å, from Bragg's law.
H2K2L2 = np.array([3, 11, 12, 16, 27, 32, 48])


def pattern(a_A: float, scale: float = 1.0) -> np.ndarray:
    centres = 2 * np.degrees(np.arcsin(0.248 * np.sqrt(H2K2L2) / 2 / a_A))
    return 3.0 + scale * 100 * np.exp(-0.5 * ((RADIAL[:, None] - centres) / 0.03) ** 2).sum(axis=1)


def mixture(shift_A: float, scale: float = 1.0) -> np.ndarray:
    """A sample whose particles differ by far more than they drift."""
    return sum(pattern(a_A + shift_A, scale) for a_A in (8.10, 8.15, 8.20))


@pytest.mark.parametrize("unit", ["2th_deg", "q_A^-1"])
def test_the_drift_of_a_broad_distribution_is_found_whatever_the_beam_did(unit):
    axis = RADIAL if unit == "2th_deg" else 4 * np.pi * np.sin(np.radians(RADIAL) / 2) / 0.248
    drift_A, _ = lattice_drift(np.stack([mixture(0.0), mixture(1e-3, 1.07)]), None, axis, unit, 8.15)
    assert drift_A == pytest.approx(1e-3, rel=0.03)


def test_the_esd_is_the_scatter():
    rng = np.random.default_rng(3)
    clean = np.stack([mixture(0.0), mixture(0.0)])
    sigma = np.full_like(clean, 2.0)
    found = [lattice_drift(clean + rng.normal(0, sigma), sigma, RADIAL, "2th_deg", 8.15) for _ in range(200)]
    drift_A, esd_A = np.array(found).T
    assert np.std(drift_A) == pytest.approx(esd_A.mean(), rel=0.15)
    assert abs(drift_A.mean()) < 4 * esd_A.mean() / np.sqrt(200)


def test_the_halves_are_those_of_time_not_of_angle():
    sinogram = np.full((4, 2, 3), np.nan, np.float32)
    for value, index in enumerate((2, 0, 3)):  # line 1 was never measured
        sinogram[index] = value
    sinogram[2, 1] = np.nan
    patterns, sigma = half_patterns(sinogram, [2, 0, 1, 3])
    np.testing.assert_allclose(patterns[:, 0], [0.0, 1.5])
    assert sigma is None


def test_the_sigma_of_the_halves_is_that_of_their_means():
    variance = np.full((4, 5, 2), 9.0)
    _, sigma = half_patterns(np.ones((4, 5, 2)), range(4), variance)
    np.testing.assert_allclose(sigma, 3.0 / np.sqrt(10))


def test_what_gives_no_drift_is_refused():
    with pytest.raises(ProcessingError, match="1 lines are measured"):
        half_patterns(np.stack([np.ones((2, 3)), np.full((2, 3), np.nan)]), [0, 1])
    with pytest.raises(ProcessingError, match="over r_mm is not known"):
        lattice_drift(np.ones((2, 900)), None, RADIAL, "r_mm", 8.2)
    with pytest.raises(ProcessingError, match="0 bins"):
        lattice_drift(np.full((2, 900), np.nan), None, RADIAL, "2th_deg", 8.2)
