"""Rays, counting statistics, and what makes a frame repeat."""

from __future__ import annotations

import math
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from skimage.transform import iradon

from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.sim.detector import SimulatedDetector, demo_poni
from xrdct_beamline.sim.diffraction import Artefacts, FrameRenderer
from xrdct_beamline.sim.electrode import Disc, Electrode, Particle, make_electrode, rasterise
from xrdct_beamline.sim.rendering import draw_counts, frame_key, poisson

PLACE = (30.0, 0.06, 0.5, 0.01)


@pytest.fixture(scope="module")
def detector() -> SimulatedDetector:
    return SimulatedDetector.from_poni(demo_poni(), seed=3)


@pytest.fixture(scope="module")
def electrode() -> Electrode:
    return make_electrode(1, pixel_mm=0.002)


@pytest.fixture(scope="module")
def renderer(electrode, detector) -> FrameRenderer:
    return FrameRenderer(electrode, detector, seed=5)


@pytest.fixture(scope="module")
def ideal(electrode, detector) -> FrameRenderer:
    return FrameRenderer(electrode, detector, seed=5, artefacts=Artefacts.none())


@pytest.fixture(scope="module")
def circle(detector) -> FrameRenderer:
    """One round particle of radius 0.15 mm at x = 0.1, y = -0.05 mm."""
    particle = Particle(x_mm=0.1, y_mm=-0.05, radius_mm=0.15)
    return FrameRenderer(rasterise([particle], disc=Disc()), detector, artefacts=Artefacts.none())


def test_same_arguments_give_the_same_frame_whoever_renders_it(renderer, electrode, detector):
    twin = FrameRenderer(electrode, detector, seed=5)
    twin.frame(10.0, 0.1, 0.9, 0.02)
    assert np.array_equal(renderer.frame(*PLACE), twin.frame(*PLACE))


def test_order_and_threads_do_not_matter(renderer):
    places = [(r, t, x, 0.01) for r in (0.0, 77.0) for t in (-0.2, 0.1) for x in (0.3, 0.8)]
    alone = {place: renderer.frame(*place) for place in places}
    shuffled = random.Random(1).sample(places * 3, len(places) * 3)
    with ThreadPoolExecutor(2) as pool:
        for place, frame in zip(shuffled, pool.map(lambda p: renderer.frame(*p), shuffled), strict=True):
            assert np.array_equal(frame, alone[place])


@pytest.mark.parametrize(
    "changed",
    [
        (30.001, 0.06, 0.5, 0.01),
        (30.0, 0.060002, 0.5, 0.01),
        (30.0, 0.06, 0.500002, 0.01),
        (30.0, 0.06, 0.5, 0.011),
    ],
)
def test_any_argument_makes_another_frame(renderer, changed):
    assert not np.array_equal(renderer.frame(*PLACE), renderer.frame(*changed))


def test_another_seed_makes_another_frame(renderer, electrode, detector):
    assert not np.array_equal(
        renderer.frame(*PLACE), FrameRenderer(electrode, detector, seed=6).frame(*PLACE)
    )


@pytest.mark.parametrize(
    "same",
    [
        (30.00004, 0.06, 0.5, 0.01),
        (30.0, 0.0600004, 0.5, 0.01),
        (30.0, 0.06, 0.5000004, 0.01),
        (390.0, 0.06, 0.5, 0.01),
        (-330.0, 0.06, 0.5, 0.01),
    ],
)
def test_readback_jitter_and_full_turns_make_the_same_frame(renderer, same):
    assert np.array_equal(renderer.frame(*PLACE), renderer.frame(*same))


def test_gaps_and_bad_pixels_carry_their_flags(renderer, detector):
    frame = renderer.frame(*PLACE)
    assert frame.dtype == np.int32
    assert frame.shape == (619, 487)
    assert np.array_equal(frame == -1, detector.gap_mask)
    assert np.array_equal(frame == -2, detector.bad_mask)
    assert frame.min() == -2
    assert 50 < detector.bad_mask.sum() < 400


def test_mean_of_many_frames_is_the_expectation(ideal):
    exposures = [0.5 + 1e-6 * k for k in range(40)]  # other noise, the same mean to 1e-4
    total = sum(ideal.frame(30.0, 0.06, 0.5, e).astype(np.int64) for e in exposures)
    mean = ideal.expected(30.0, 0.06, 0.5, sum(exposures))
    used = np.isfinite(mean) & (mean > 3)
    pull = (total[used] - mean[used]) / np.sqrt(mean[used])
    assert used.sum() > 100_000
    assert abs(pull.mean()) < 5 / math.sqrt(used.sum())
    assert pull.std() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("mean", [0.02, 0.3, 3.0, 11.9, 12.1, 60.0, 4000.0])
def test_counts_follow_poissons_law(mean):
    n = 10_000
    draws = np.array([poisson(mean, np.uint64(7), k) for k in range(n)])
    assert draws.mean() == pytest.approx(mean, abs=5 * math.sqrt(mean / n))
    assert draws.var() == pytest.approx(mean, rel=5 * math.sqrt((2 + 1 / mean) / n))
    low, high = stats.poisson.ppf([0.02, 0.98], mean)
    classes = np.unique(np.linspace(low, high, 12).astype(int))
    cumulative = stats.poisson.cdf(classes, mean)
    expected = n * np.diff(np.concatenate([[0.0], cumulative, [1.0]]))
    seen = np.histogram(draws, np.concatenate([[-1], classes, [10**9]]) + 0.5)[0]
    keep = expected > 5
    chi2 = ((seen - expected) ** 2 / np.where(keep, expected, 1.0))[keep].sum()
    assert chi2 < stats.chi2.ppf(1 - 1e-5, keep.sum())


def test_neighbouring_pixels_and_frames_are_independent(ideal):
    first, second = (ideal.frame(30.0, 0.06, 0.5, e).astype(float) for e in (0.01, 0.010001))
    mean = ideal.expected(30.0, 0.06, 0.5, 0.01)
    a, b = (np.nan_to_num((f - mean) / np.sqrt(mean)) for f in (first, second))
    n = a.size
    for shifted in (b, np.roll(a, 1, 1), np.roll(a, 1, 0), np.roll(a, 64, 1)):
        assert abs((a * shifted).mean()) < 6 / math.sqrt(n)


def test_pixels_without_factor_keep_their_value():
    frame = np.array([-1, 0, -2], np.int32)
    factor, place = np.array([0.0, 1.0, 0.0], np.float32), np.array([0.5, 0.5, 0.5], np.float32)
    draw_counts(np.array([1e3, 1e3], np.float32), place, factor, np.uint64(1), frame)
    assert frame.tolist()[::2] == [-1, -2]
    assert 800 < frame[1] < 1200


def test_key_depends_on_values_and_their_order():
    assert frame_key(1, 2, 0.5) == frame_key(1, 2, 0.5)
    assert len({frame_key(1, 2, 0.5), frame_key(2, 1, 0.5), frame_key(1, 2, 0.25), frame_key(1, 2)}) == 4
    assert frame_key(-0.0) == frame_key(0.0)


@settings(max_examples=40, deadline=None)
@given(st.floats(-720.0, 720.0), st.floats(-0.2, 0.2))
def test_ray_sum_of_a_circle_is_its_chord(circle, rotation_deg, translation_mm):
    theta = math.radians(rotation_deg)
    offset_mm = translation_mm - (0.1 * math.cos(theta) - 0.05 * math.sin(theta))
    chord_um = 2e3 * math.sqrt(max(0.15**2 - offset_mm**2, 0.0))
    ray = circle.ray(rotation_deg, translation_mm, 0.2)
    near_the_edge = abs(abs(offset_mm) - 0.15) < 0.002
    assert ray.spinel.sum() == pytest.approx(0.95 * chord_um, abs=60.0 if near_the_edge else 5.0)


@pytest.mark.parametrize("rotation_deg", [0.0, 30.0, 90.0, 135.0, 251.0])
def test_off_centre_blob_appears_at_its_t(circle, rotation_deg):
    translations = ScanGeometry.raster(n_translations=121, step_mm=0.01).translation_mm
    sums = np.array([circle.ray(rotation_deg, t, 0.2).spinel.sum() for t in translations])
    theta = math.radians(rotation_deg)
    expected_mm = 0.1 * math.cos(theta) - 0.05 * math.sin(theta)
    assert (sums * translations).sum() / sums.sum() == pytest.approx(
        expected_mm, abs=1.5e-3
    )  # pixels of 1 µm


def test_blob_is_nearer_to_the_detector_where_the_beam_runs_towards_it(circle):
    depth_mm = np.linspace(-0.6, 0.6, 9)
    for rotation_deg in (0.0, 90.0, 200.0):
        theta = math.radians(rotation_deg)
        t_mm = 0.1 * math.cos(theta) - 0.05 * math.sin(theta)
        along = circle.ray(rotation_deg, t_mm, 0.2).spinel.sum(axis=1)
        expected_mm = -0.1 * math.sin(theta) - 0.05 * math.cos(theta)
        assert (along * depth_mm).sum() / along.sum() == pytest.approx(expected_mm, abs=1e-3)


def test_rays_sample_and_do_not_average(detector):
    """A particle of 6 µm between two rays of a 20 µm raster is seen by neither."""
    grain = Particle(x_mm=0.01, y_mm=0.0, radius_mm=0.003)
    renderer = FrameRenderer(
        rasterise([grain], disc=Disc(), pixel_mm=0.002), detector, artefacts=Artefacts.none()
    )
    assert [renderer.ray(0.0, t, 0.2).spinel.sum() > 0 for t in (0.0, 0.01, 0.02)] == [False, True, False]


def test_projection_sums_are_the_same_at_every_angle(renderer):
    """On a raster finer than the particles: what is there is there from every side."""
    translations = np.arange(-0.6, 0.6, 0.01) + 0.005
    sums = [sum(renderer.ray(r, t, 0.2).spinel.sum() for t in translations) for r in (0.0, 45.0, 110.0)]
    assert sums == pytest.approx([sums[0]] * 3, rel=0.01)


def test_demo_raster_brings_the_phantom_back_the_right_way_round(renderer, electrode):
    """61 rays that sample every 20 µm at 60 angles, reconstructed by scikit-image."""
    geometry = ScanGeometry.raster(n_translations=61, step_mm=0.02, n_rotations=60)
    sinogram = np.array(
        [
            [renderer.ray(r, t, 0.2).spinel.sum() for t in geometry.translation_mm]
            for r in geometry.rotation_deg
        ]
    )
    image = iradon(sinogram.T, theta=geometry.rotation_deg, circle=True)
    truth = electrode.density_map(0.02, 61)
    place = np.arange(61) - 30.0
    disc = np.hypot(place[:, None], place) <= 30.0
    assert np.corrcoef(image[disc], truth[disc])[0, 1] > 0.95
    assert np.corrcoef(image[:, ::-1][disc], truth[disc])[0, 1] < 0.7


def test_spots_stay_with_their_ray_at_another_state_of_charge(electrode, detector):
    spotty = Artefacts(spots_per_mm=40.0, spot_share=3e-3, zingers_per_s=0.0, hot_pixels=False, flat_rms=0.0)
    renderer = FrameRenderer(electrode, detector, seed=5, artefacts=spotty)

    def strong(x: float, rotation_deg: float = 30.0) -> np.ndarray:
        frame = renderer.frame(rotation_deg, 0.06, x, 0.01)
        return np.argwhere(frame > 300)

    here, charged, elsewhere = strong(0.85), strong(0.30), strong(0.85, 33.0)
    assert len(here) > 10

    def share_near(others: np.ndarray, reach_px: float) -> float:
        apart = np.hypot(*(here[:, None] - others[None]).transpose(2, 0, 1)).min(axis=1)
        return float((apart < reach_px).mean())

    assert share_near(charged, 12.0) > 0.9
    assert share_near(elsewhere, 12.0) < 0.7


def test_hot_pixels_and_zingers_come_without_beam(renderer, detector):
    dark = renderer.frame(30.0, 0.06, 0.5, 1.0, i0=0.0)
    indices, rates = detector.hot_pixels
    assert len(indices) > 3
    assert dark.ravel()[indices] == pytest.approx(rates, rel=0.5)
    elsewhere = dark.copy().ravel()
    elsewhere[indices] = 0
    assert 50 < (elsewhere > 0).sum() < 400  # a hundred zingers of one to three pixels


def test_flat_field_residue_is_the_same_in_every_frame(renderer, ideal):
    with_residue, without = renderer.expected(*PLACE), ideal.expected(*PLACE)
    ratio = (with_residue / without)[np.isfinite(without)]
    assert ratio.std() == pytest.approx(0.03, abs=0.002)
    assert ratio.mean() == pytest.approx(1.0, abs=1e-3)
