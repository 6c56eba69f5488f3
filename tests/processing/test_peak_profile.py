"""Peak shapes against closed forms and plain integrals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import voigt_profile

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.peak_profile import Profile, pseudo_voigt, tch


def test_pure_widths_come_back():
    assert tch(0.03, 0.0) == pytest.approx((0.03, 0.0))
    fwhm, eta = tch(0.0, 0.02)
    assert (fwhm, eta) == pytest.approx((0.02, 1.0), abs=1e-5)


def test_pseudo_voigt_stays_near_the_voigt_function():
    delta = np.linspace(-0.2, 0.2, 401)
    voigt = voigt_profile(delta, 0.03 / np.sqrt(8 * np.log(2)), 0.01)
    ours = pseudo_voigt(delta, *tch(0.03, 0.02))
    assert np.max(np.abs(ours - voigt)) < 0.015 * voigt.max()


def test_letters_make_the_widths():
    profile = Profile(u=0.4, v=-0.01, w=1e-3, x=0.002, y=0.1, z=0.003)
    gauss, lorentz = profile.widths(10.0)
    tan, cos = np.tan(np.radians(5.0)), np.cos(np.radians(5.0))
    assert gauss**2 == pytest.approx(0.4 * tan**2 - 0.01 * tan + 1e-3)
    assert lorentz == pytest.approx(0.002 / cos + 0.1 * tan + 0.003)


@pytest.mark.parametrize("asymmetry", [{}, {"axial": 0.02}, {"sensor_depth_deg": 0.1}])
def test_area_is_one_whatever_the_asymmetry(asymmetry):
    delta = np.linspace(-20, 20, 200_001)
    shape = Profile(w=1e-3, **asymmetry).shape(delta, 10.0)
    assert np.trapezoid(shape, delta) == pytest.approx(1.0, abs=1e-6)


def test_sensor_depth_convolves_with_an_exponential():
    profile = Profile(w=1e-3, z=0.004, sensor_depth_deg=0.06)
    mean = 0.06 * np.sin(np.radians(20.0)) * np.cos(np.radians(20.0)) ** 2
    step = mean / 400
    t = np.arange(0.5 * step, 20 * mean, step)
    delta = np.linspace(-0.1, 0.2, 61)
    direct = (
        pseudo_voigt(delta[:, None] - (t - mean), *tch(*profile.widths(20.0)))
        @ np.exp(-t / mean)
        * step
        / mean
    )
    assert profile.shape(delta, 20.0) == pytest.approx(direct, rel=1e-4, abs=1e-4 * direct.max())


def test_axial_divergence_convolves_with_the_kernel_of_finger_cox_and_jephcoat():
    """Their equation in 2φ, midpoint sums, square-root spacing towards the singularity at 2θ."""
    ratio, two_theta = 0.02, 12.0
    cos = np.cos(np.radians(two_theta))
    lowest = np.degrees(np.arccos(cos * np.sqrt((2 * ratio) ** 2 + 1)))
    s = (np.arange(20_000) + 0.5) / 20_000
    phi = two_theta - (two_theta - lowest) * s**2
    h = np.sqrt((np.cos(np.radians(phi)) / cos) ** 2 - 1)
    kernel = np.maximum(2 * ratio - h, 0) / (h * np.cos(np.radians(phi))) * s
    delta = np.linspace(-0.6, 0.2, 81)
    profile = Profile(w=1e-3, axial=ratio)
    direct = pseudo_voigt(delta[:, None] - (phi - two_theta), *tch(*profile.widths(two_theta))) @ kernel
    direct /= kernel.sum()
    assert profile.shape(delta, two_theta) == pytest.approx(direct, abs=2e-3 * direct.max())


def test_axial_tail_turns_round_beyond_ninety_degrees():
    delta = np.linspace(-2, 2, 4001)
    below, above = (Profile(w=1e-3, axial=0.05).shape(delta, angle) for angle in (30.0, 150.0))
    assert np.sum(below * delta) < 0 < np.sum(above * delta)
    assert below == pytest.approx(above[::-1], rel=1e-9)


def test_profiles_without_width_are_refused():
    with pytest.raises(ProcessingError, match="no positive width"):
        Profile(w=-1e-3).shape(0.0, 5.0)
    with pytest.raises(ProcessingError, match="axial"):
        Profile(axial=-0.1)
    with pytest.raises(ProcessingError, match="give a number"):
        Profile(u=float("nan"))
