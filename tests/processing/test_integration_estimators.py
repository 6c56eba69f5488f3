"""What each estimator makes of Poisson counts, clean and contaminated."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.integration import Integrator

PONI = """\
Detector: Pilatus100k
Distance: 0.1
Poni1: 0.017
Poni2: 0.02
Rot1: 0.01
Rot2: 0.0
Rot3: 0.0
Wavelength: 2.48e-11
"""
RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1000.0)
N_FRAMES = 12  # of 95 000 pixels: a million and more


@pytest.fixture(scope="module")
def detector() -> DetectorGeometry:
    return DetectorGeometry(poni_text=PONI)


@functools.cache
def integrator(estimator: str, unbiased: bool = True, bins: int = 40, **other) -> Integrator:
    return Integrator(
        DetectorGeometry(poni_text=PONI), bins=bins, estimator=estimator, unbiased=unbiased,
        solid_angle=False, polarisation=None, threads=2, **other,
    )  # fmt: skip


def clean(rate: float, seed: int = 0, n: int = N_FRAMES) -> np.ndarray:
    return np.random.default_rng(seed).poisson(rate, (n, 195, 487)).astype(np.int32)


def contaminated(rate: float, seed: int = 0, flat: float = 0.0, least_spot: float = 0.0) -> np.ndarray:
    """Add 1 % zingers and 2 % spots; let the detector's response scatter by ``flat``."""
    rng = np.random.default_rng(seed)
    frames = rng.poisson(rate * np.clip(rng.normal(1, flat, (195, 487)), 0.5, 1.5), (N_FRAMES, 195, 487))
    zingers, spots = rng.random(frames.shape) < 0.01, rng.random(frames.shape) < 0.02
    frames[zingers] += int(max(20, np.ceil(10 * np.sqrt(rate))))
    brightness = np.maximum(10 * rate * (1 + rng.exponential(1, spots.sum())), least_spot)
    frames[spots] += np.maximum(rng.poisson(brightness), int(least_spot))
    return frames.astype(np.int32)


def ratio(maker: Integrator, frames: np.ndarray, rate: float) -> float:
    """Mean over pixels of the estimate, relative to the true rate."""
    intensity, _ = maker.many(frames)
    weight = np.nan_to_num(maker(frames[0]).n_pixels)
    return float(np.average(np.nan_to_num(intensity.mean(axis=0)), weights=weight) / rate)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("estimator", ["trimmed_mean", "poisson_clip", "sigma_clip", "mean"])
def test_clean_frames_give_the_true_rate(estimator: str, rate: float) -> None:
    assert ratio(integrator(estimator), clean(rate), rate) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("rate", [3.0, 10.0, 100.0, 1000.0])
def test_the_median_gives_the_true_rate_from_three_counts_up(rate: float) -> None:
    assert ratio(integrator("median"), clean(rate), rate) == pytest.approx(1, abs=0.01)


def test_the_plain_trimmed_mean_is_as_biased_as_it_is_known_to_be() -> None:
    plain = integrator("trimmed_mean", unbiased=False)
    assert ratio(plain, clean(0.3), 0.3) == pytest.approx(0.775, abs=0.01)
    assert ratio(plain, clean(1.0), 1.0) == pytest.approx(0.918, abs=0.01)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("flat", [0.0, 0.035])
def test_the_poisson_clip_withstands_zingers_and_spots(rate: float, flat: float) -> None:
    frames = contaminated(rate, flat=flat)
    assert ratio(integrator("poisson_clip"), frames, rate) == pytest.approx(1, abs=0.02)
    assert ratio(integrator("mean"), frames, rate) > 1.2


@pytest.mark.parametrize("bins", [40, 400, 2000])
@pytest.mark.parametrize("times", [10, 20, 50])
def test_spots_of_a_few_counts_are_seen_through_on_rings_of_any_size(bins: int, times: int) -> None:
    rng = np.random.default_rng(0)
    frames = rng.poisson(0.1, (N_FRAMES, 195, 487)).astype(np.int32)
    spots = rng.random(frames.shape) < 0.02
    mean = frames.mean()
    frames[spots] += rng.poisson(times * 0.1, spots.sum()).astype(np.int32)
    assert ratio(integrator("poisson_clip", bins=bins), frames, mean) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("least_spot", [2.0, 3.0])
def test_spots_that_are_not_poisson_are_cut_and_no_more(least_spot: float) -> None:
    for bins in (40, 400):
        frames = contaminated(0.1, least_spot=least_spot)
        assert ratio(integrator("poisson_clip", bins=bins), frames, 0.1) == pytest.approx(1, abs=0.02)


def test_small_rings_are_not_biased_either() -> None:
    for estimator in ("trimmed_mean", "poisson_clip", "sigma_clip", "median"):
        small = integrator(estimator, bins=2000)
        for rate in (0.1, 1.0, 10.0):
            frames = clean(rate, n=4)
            few = small(frames[0]).n_pixels < 100
            assert few.sum() > 1000
            intensity, _ = small.many(frames)
            weights = np.broadcast_to(small(frames[0]).n_pixels, intensity.shape)[:, few]
            mean, _ = integrator("mean", bins=2000).many(frames)
            expected = np.average(np.nan_to_num(mean[:, few]), weights=weights)
            assert np.average(np.nan_to_num(intensity[:, few]), weights=weights) == pytest.approx(
                expected, rel=0.01
            )


@pytest.mark.parametrize(
    ("estimator", "rate"),
    [
        ("mean", 0.2), ("trimmed_mean", 0.5), ("trimmed_mean", 20.0), ("trimmed_mean", 200.0),
        ("median", 8.0), ("median", 200.0), ("sigma_clip", 2.0), ("poisson_clip", 0.2),
        ("poisson_clip", 200.0), ("azimuthal_bin_trim", 5.0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("unbiased", [True, False])
def test_sigma_is_the_scatter_of_repeated_frames(estimator: str, rate: float, unbiased: bool) -> None:
    if estimator == "median" and not unbiased:
        pytest.skip("the plain median is a whole count, and its scatter mostly that of rounding")
    intensity, sigma = integrator(estimator, unbiased).many(clean(rate, n=60))
    scatter = np.nanmean(intensity.var(axis=0, ddof=1) / (sigma**2).mean(axis=0))
    assert np.sqrt(scatter) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("estimator", ["trimmed_mean", "poisson_clip"])
def test_the_sum_of_frames_is_the_sum_of_patterns_at_low_counts(estimator: str) -> None:
    maker = integrator(estimator)
    a, b = clean(0.2, seed=1), clean(0.35, seed=2)
    both, apart = maker.many(a + b)[0].mean(), maker.many(a)[0].mean() + maker.many(b)[0].mean()
    assert both == pytest.approx(apart, rel=0.01)


def test_where_an_estimator_cannot_work_it_is_flagged() -> None:
    for estimator, low, high in (("trimmed_mean", 0.05, 0.3), ("median", 2.0, 5.0)):
        maker = integrator(estimator)
        large = maker(clean(low)[0]).n_pixels > 200
        assert maker.with_quality(clean(low)[0])[1].flagged[large].all()
        assert not maker.with_quality(clean(high)[0])[1].flagged[large].any()
    assert not integrator("trimmed_mean", unbiased=False).with_quality(clean(0.01)[0])[1].flagged.any()


def test_quality_tells_spots_from_counting_noise() -> None:
    maker = integrator("trimmed_mean")
    pattern, quality = maker.with_quality(clean(5.0)[0])
    large = pattern.n_pixels > 500
    np.testing.assert_allclose(quality.removed_fraction[large], 0.1, atol=0.004)
    np.testing.assert_allclose(quality.dispersion[large], 1, atol=0.25)
    spotty = integrator("poisson_clip").with_quality(contaminated(5.0)[0])[1]
    assert np.all(spotty.dispersion[large] > 5)
    np.testing.assert_allclose(spotty.removed_fraction[large], 0.03, atol=0.02)


def test_azimuthal_bins_without_a_pixel_do_not_count_as_zero(detector: DetectorGeometry) -> None:
    frame = np.full(detector.shape, 6, np.int32)
    frame[::2] = -1
    for unbiased in (True, False):
        pattern = integrator("azimuthal_bin_trim", unbiased, azimuthal_bins=4096)(frame)
        filled = pattern.n_pixels > 0
        np.testing.assert_allclose(pattern.intensity[filled], 6, rtol=0.02 if unbiased else 1e-12)
    plain = integrator("azimuthal_bin_trim", False, lower=0.0, upper=0.0)
    noisy = clean(4.0)[0]
    np.testing.assert_allclose(plain(noisy).intensity, integrator("mean", False)(noisy).intensity)


def test_a_bright_sector_is_trimmed_by_azimuthal_bins(detector: DetectorGeometry) -> None:
    frame = clean(50.0)[0]
    sector = np.abs(detector.azimuth_rad() - 1.0) < 0.03
    frame[sector] += 5000
    maker = integrator("azimuthal_bin_trim", azimuthal_bins=180)
    full = (maker(frame).n_pixels > 1500) & (np.arange(40) < 15)
    assert full.sum() > 3
    np.testing.assert_allclose(maker(frame).intensity[full], 50, rtol=0.03)


@pytest.mark.parametrize("estimator", ["mean", "trimmed_mean", "median", "sigma_clip"])
def test_pyfai_agrees(detector: DetectorGeometry, estimator: str) -> None:
    native = Integrator(detector, bins=100, estimator=estimator, unbiased=False)
    reference = Integrator(detector, bins=100, estimator=estimator, unbiased=False, engine="pyfai")
    frame = clean(400.0)[0]
    large = native(frame).n_pixels > 200
    np.testing.assert_allclose(reference(frame).intensity[large], native(frame).intensity[large], rtol=3e-3)
    assert np.nanmedian(np.abs(native.disagreement(frame))) < 1e-3
    assert reference.many([frame, None])[0].shape == (2, 100)


def test_pyfais_trimmed_mean_is_put_right_too(detector: DetectorGeometry) -> None:
    reference = Integrator(detector, bins=40, solid_angle=False, polarisation=None, engine="pyfai")
    assert ratio(reference, clean(1.0, n=3), 1.0) == pytest.approx(1, abs=0.01)


def test_pyfai_is_not_asked_for_what_it_does_not_have(detector: DetectorGeometry) -> None:
    with pytest.raises(ProcessingError, match="no estimator like 'poisson_clip'"):
        Integrator(detector, estimator="poisson_clip", engine="pyfai")
    with pytest.raises(ProcessingError, match="unbiased=False"):
        Integrator(detector, estimator="median", engine="pyfai")
