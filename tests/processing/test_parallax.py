import numpy as np
import pytest

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.parallax import correct_map, correct_slice, mean_depth_px
from xrdct_beamline.processing.reconstruction import OutputField, reconstruct

DISTANCE_MM, WAVELENGTH_A, A, STEP_MM = 544.0, 0.248, 8.2, 0.015
TWO_THETA = np.linspace(9.60, 9.95, 141)  # around 440


def ring_deg(depth_mm):
    """Where 440 of a crystal beyond the axis falls, by the triangle it makes with the detector."""
    two_theta = 2 * np.arcsin(WAVELENGTH_A * np.sqrt(32) / (2 * A))
    radius_mm = (DISTANCE_MM - depth_mm) * np.tan(two_theta)
    return np.degrees(np.arctan(radius_mm / DISTANCE_MM))


def lattice_A(pattern):
    position = (pattern @ TWO_THETA) / pattern.sum()
    return WAVELENGTH_A * np.sqrt(32) / (2 * np.sin(np.radians(position) / 2))


@pytest.fixture(scope="module")
def row_of_crystals():
    """Crystals across the slice along x, each at its own depth in every line."""
    n, angles = 31, np.arange(60) * 3.0
    t = np.arange(n) - 15.0
    sinogram = np.zeros((60, n, TWO_THETA.size))
    crystals = [(x, y) for x in (-10, -5, 0, 5, 10) for y in (-5, 5)]
    for line, theta in zip(sinogram, np.radians(angles), strict=True):
        for x, y in crystals:
            profile = np.exp(-((t - x * np.cos(theta) - y * np.sin(theta)) ** 2) / 2)
            depth_mm = STEP_MM * (y * np.cos(theta) - x * np.sin(theta))
            line += profile[:, None] * np.exp(-((TWO_THETA - ring_deg(depth_mm)) ** 2) / (2 * 0.02**2))
    return crystals, angles, reconstruct(sinogram.astype(np.float32), angles, 15.0)


def tilt_A(image, crystals):
    values = [
        lattice_A(image[15 - y - 1 : 15 - y + 2, 15 + x - 1 : 15 + x + 2].sum((0, 1))) for x, y in crystals
    ]
    return np.ptp(values)


def test_parallax_tilts_the_lattice_parameter_and_is_taken_off(row_of_crystals):
    crystals, angles, image = row_of_crystals
    field = OutputField.native(31, 15.0)
    depth_mm = STEP_MM * mean_depth_px(angles, field)
    assert tilt_A(image, crystals) > 2.5e-3  # ±1.4e-3 Å across 300 µm
    corrected = correct_slice(image, TWO_THETA, depth_mm, DISTANCE_MM)
    assert tilt_A(corrected, crystals) < 2e-4


def test_a_map_is_corrected_to_first_order(row_of_crystals):
    crystals, angles, image = row_of_crystals
    depth_mm = STEP_MM * mean_depth_px(angles, OutputField.native(31, 15.0))
    values = np.array(
        [
            correct_map(
                lattice_A(image[14 - y : 17 - y, 14 + x : 17 + x].sum((0, 1))),
                depth_mm[15 - y, 15 + x],
                DISTANCE_MM,
                9.78,
            )
            for x, y in crystals
        ]
    )
    assert np.ptp(values) < 2e-4
    np.testing.assert_allclose(values, A, atol=2e-4)


def test_the_mean_depth_over_a_half_turn_is_minus_two_over_pi_of_x():
    depth = mean_depth_px(np.arange(180.0), OutputField.native(21, 10.0))
    np.testing.assert_allclose(depth[10], -2 / np.pi * (np.arange(21) - 10), rtol=0.01, atol=1e-9)
    np.testing.assert_allclose(mean_depth_px(np.arange(360.0), OutputField.native(21, 10.0)), 0, atol=1e-9)


def test_what_does_not_fit_is_refused():
    image = np.zeros((4, 4, 5), np.float32)
    with pytest.raises(ProcessingError, match="distance to the detector is 0 mm"):
        correct_map(np.ones((4, 4)), np.zeros((4, 4)), 0.0)
    with pytest.raises(ProcessingError, match="needs 5 angles"):
        correct_slice(image, np.arange(4.0), np.zeros((4, 4)), 500.0)
