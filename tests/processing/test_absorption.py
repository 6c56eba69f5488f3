"""The truth integrates every depth of a disc with its own way in and out."""

import numpy as np
import pytest

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.absorption import correct_absorption, transmission
from xrdct_beamline.processing.reconstruction import reconstruct

MU_PER_MM, RADIUS_MM, STEP_MM, N = 0.281, 0.5, 0.02, 65  # an electrode of LiMn2O4 at 50 keV
T_MM = (np.arange(N) - N // 2) * STEP_MM
ANGLES = np.arange(90) * 2.0


def way_out_mm(x, y, two_theta, azimuth):
    """How far it is from (x, y) to the edge of a tall cylinder, diffracted from the beam along y."""
    along, aside = np.cos(two_theta), np.sin(two_theta) * np.cos(azimuth)
    level = np.hypot(along, aside)
    b = (x * aside + y * along) / level
    return (np.sqrt(np.maximum(b**2 + RADIUS_MM**2 - x**2 - y**2, 0)) - b) / level


def rays(two_theta_deg):
    """Diffracted intensity and transmission of the rays of a disc of unit density."""
    half = np.sqrt(np.maximum(RADIUS_MM**2 - T_MM**2, 0))
    depth = (np.arange(200) + 0.5) / 100 - 1
    y = half[:, None] * depth
    x = np.broadcast_to(T_MM[:, None], y.shape)
    ways = [way_out_mm(x, y, np.radians(two_theta_deg), a) for a in np.arange(12) * np.pi / 6]
    weakened = np.exp(-MU_PER_MM * (y + half[:, None])) * np.exp(-MU_PER_MM * np.array(ways)).mean(axis=0)
    return weakened.mean(axis=1) * 2 * half / STEP_MM, np.exp(-2 * MU_PER_MM * half)


def scale_map(profile):
    """Slice of a disc, relative to its true density."""
    sinogram = np.broadcast_to(profile, (ANGLES.size, N)).astype(np.float32)
    return reconstruct(sinogram, ANGLES, N // 2)


def mean_within(image, inner_mm, outer_mm):
    row, column = np.mgrid[:N, :N] - N // 2
    radius_mm = STEP_MM * np.hypot(row, column)
    return float(image[(radius_mm >= inner_mm) & (radius_mm < outer_mm)].mean())


@pytest.mark.parametrize(("two_theta_deg", "error"), [(4.0, 0.0005), (8.0, 0.001), (16.0, 0.003)])
def test_a_factor_per_ray_flattens_the_scale_of_a_uniform_electrode(two_theta_deg, error, record_property):
    weakened, part = rays(two_theta_deg)
    flat = scale_map(rays(0.0)[0] / part)  # the disc alone, sampled alike
    raw, (corrected, _) = scale_map(weakened), correct_absorption(weakened[:, None], part)
    corrected = scale_map(corrected[:, 0])
    centre, rim = (0.0, 0.15), (0.3, 0.42)
    for name, where in (("centre", centre), ("rim", rim)):
        record_property(f"{name}, uncorrected", mean_within(raw, *where) / mean_within(flat, *where))
        record_property(f"{name}, corrected", mean_within(corrected, *where) / mean_within(flat, *where))
        assert mean_within(corrected, *where) == pytest.approx(mean_within(flat, *where), rel=error)
    assert mean_within(raw, *centre) < 0.72 * mean_within(flat, *centre)
    assert mean_within(raw, *rim) / mean_within(flat, *rim) > 1.1 * mean_within(raw, *centre)


def test_the_sigma_is_scaled_and_a_dark_diode_makes_a_hole():
    part = transmission(np.array([100.0, 100.0, 0.0]), np.array([40.0, 0.0, 30.0]), open_ratio=0.8)
    np.testing.assert_allclose(part, [0.5, np.nan, np.nan])
    intensity, sigma = correct_absorption(np.ones((3, 2)), part, sigma=np.full((3, 2), 0.1))
    np.testing.assert_allclose(intensity, [[2, 2], [np.nan] * 2, [np.nan] * 2])
    np.testing.assert_allclose(sigma[0], 0.2)


def test_what_cannot_be_is_refused():
    with pytest.raises(ProcessingError, match=r"i0 has shape \(3,\), i1 \(2,\)"):
        transmission(np.ones(3), np.ones(2), open_ratio=1.0)
    with pytest.raises(ProcessingError, match="without sample is 0"):
        transmission(np.ones(3), np.ones(3), open_ratio=0.0)
    with pytest.raises(ProcessingError, match="no ray reached the diode"):
        transmission(np.ones(3), np.zeros(3), open_ratio=1.0)
    with pytest.raises(ProcessingError, match=r"need \(4,\)"):
        correct_absorption(np.ones((4, 2)), np.ones(3))
