"""Parallax taken off each line: patterns no longer leak between voxels."""

from __future__ import annotations

import numpy as np
import pytest

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.processing.interior import Outer
from xrdct_beamline.processing.parallax import mean_depth_px
from xrdct_beamline.processing.parallax_lines import ParallaxLines
from xrdct_beamline.processing.reconstruction import OutputField, reconstruct

DISTANCE_MM, STEP_MM, N, CENTRE_DEG, SIGMA_DEG = 544.0, 0.020, 61, 9.8, 0.02
TWO_THETA = np.linspace(9.6, 10.0, 81)
GEOMETRY = ScanGeometry.raster(N, STEP_MM, 120)
AXIS_PX = (N - 1) / 2


def shifted(depth_mm):
    """Pattern of a voxel beyond the axis, by the triangle that it makes with the detector."""
    tangent = np.tan(np.radians(CENTRE_DEG)) * (1 - depth_mm / DISTANCE_MM)
    return np.exp(-((TWO_THETA - np.degrees(np.arctan(tangent))) ** 2) / (2 * SIGMA_DEG**2))


@pytest.fixture(scope="module")
def scan():
    """Blobs all over a slice of 1.2 mm, with parallax, and as it were with every voxel at its mean depth."""
    rng = np.random.default_rng(4)
    radius, azimuth = 24 * np.sqrt(rng.random(40)), 2 * np.pi * rng.random(40)
    x, y = radius * np.cos(azimuth), radius * np.sin(azimuth)
    t = np.arange(N) - AXIS_PX
    measured = np.zeros((120, N, TWO_THETA.size))
    ideal = np.zeros_like(measured)
    mean = mean_depth_px(GEOMETRY.rotation_deg, OutputField.native(N, AXIS_PX))
    slope = mean[30, 31] - mean[30, 30]
    for k, theta in enumerate(np.radians(GEOMETRY.rotation_deg)):
        for x_px, y_px in zip(x, y, strict=True):
            profile = np.exp(-((t - x_px * np.cos(theta) - y_px * np.sin(theta)) ** 2) / (2 * 1.5**2))
            depth_mm = STEP_MM * (y_px * np.cos(theta) - x_px * np.sin(theta))
            measured[k] += profile[:, None] * shifted(depth_mm)
            ideal[k] += profile[:, None] * shifted(STEP_MM * slope * x_px)
    return measured.astype(np.float32), ideal.astype(np.float32)


def test_lines_become_those_of_voxels_at_their_mean_depths(scan):
    measured, ideal = scan
    image = reconstruct(measured, GEOMETRY.rotation_deg, AXIS_PX)
    lines = ParallaxLines(
        [Outer(image, GEOMETRY, AXIS_PX)], np.array(GEOMETRY.translation_mm), TWO_THETA, DISTANCE_MM
    )
    corrected = measured - np.stack([lines.line(angle) for angle in GEOMETRY.rotation_deg])
    before, after = (np.std(sinogram - ideal) for sinogram in (measured, corrected))
    assert after < 0.3 * before  # what is left is of second order
    true = reconstruct(ideal, GEOMETRY.rotation_deg, AXIS_PX)
    leak, left = (
        np.std(reconstruct(s, GEOMETRY.rotation_deg, AXIS_PX) - true) for s in (measured, corrected)
    )
    assert left < 0.35 * leak


def test_nested_slices_are_taken_by_their_rings(scan):
    measured, _ = scan
    inner = ScanGeometry.raster(21, STEP_MM, 120)
    image = reconstruct(measured, GEOMETRY.rotation_deg, AXIS_PX)
    whole = Outer(image, GEOMETRY, AXIS_PX)
    part = Outer(image[20:41, 20:41], inner, 10.0)
    translation_mm = np.array(inner.translation_mm)
    one = ParallaxLines([whole], translation_mm, TWO_THETA, DISTANCE_MM).line(33.0)
    two = ParallaxLines([whole, part], translation_mm, TWO_THETA, DISTANCE_MM).line(33.0)
    np.testing.assert_allclose(two, one, atol=0.06 * np.abs(one).max())


def test_what_does_not_fit_is_refused(scan):
    image = np.zeros((N, N, TWO_THETA.size), np.float32)
    outer, translation_mm = Outer(image, GEOMETRY, AXIS_PX), np.array(GEOMETRY.translation_mm)
    with pytest.raises(ProcessingError, match="do not fit 7 angles"):
        ParallaxLines([outer], translation_mm, TWO_THETA[:7], DISTANCE_MM)
    with pytest.raises(ProcessingError, match="must be positive"):
        ParallaxLines([outer], translation_mm, TWO_THETA, 0.0)
    with pytest.raises(ProcessingError, match="widest to the narrowest"):
        ParallaxLines([outer, outer], translation_mm, TWO_THETA, DISTANCE_MM)


def test_what_the_surroundings_do_in_second_order_is_known():
    """An even ring around the axis: the first order cancels on the central ray, the second does not."""
    y, x = np.mgrid[:N, :N] - AXIS_PX
    ring = (np.hypot(x, y) > 15) & (np.hypot(x, y) < 25)
    mean_px = mean_depth_px(GEOMETRY.rotation_deg, OutputField.native(N, AXIS_PX))
    image = (ring[..., None] * shifted(0.0)).astype(np.float32)
    outer = Outer(image, GEOMETRY, AXIS_PX)
    centre = np.array([0.0])
    found = ParallaxLines([outer], centre, TWO_THETA, DISTANCE_MM, order=2).line(90.0)[0]
    column = np.flatnonzero(ring[30]) - 30.0  # at 90° the depth is −x
    excess = (STEP_MM * (-column - mean_px[30, 30 + column.astype(int)])) ** 2
    variance = (STEP_MM * column) ** 2 * 0.5 - (STEP_MM * mean_px[30, 30 + column.astype(int)]) ** 2
    response = np.degrees(0.5 * np.sin(2 * np.radians(CENTRE_DEG))) / DISTANCE_MM
    slope2 = np.gradient(np.gradient(shifted(0.0), TWO_THETA), TWO_THETA)
    expected = 0.5 * response**2 * (excess - variance).sum() * slope2
    assert np.abs(found - expected).max() < 0.15 * np.abs(expected).max()
    with pytest.raises(ProcessingError, match="order 3"):
        ParallaxLines([outer], centre, TWO_THETA, DISTANCE_MM, order=3)
