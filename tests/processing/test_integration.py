"""The integrator against sorts, hand-worked rings and the real calibrant."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.errors import CalibrationError, ProcessingError
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.processing._reduce import Reducer, load_kernels
from xrdct_beamline.processing.integration import ESTIMATORS, Integrator

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
PLAIN = {"solid_angle": False, "polarisation": None, "unbiased": False}
GENTLE = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def detector() -> DetectorGeometry:
    return DetectorGeometry(poni_text=PONI)


@pytest.fixture(scope="module")
def plain(detector: DetectorGeometry) -> Integrator:
    return Integrator(detector, bins=150, threads=2, **PLAIN)


def rings_of(detector: DetectorGeometry, bins: int) -> np.ndarray:
    """Ring of each pixel by the definition, -1 where masked."""
    r = detector.radial()
    ring = np.floor((r - r.min()) / (r.max() - r.min()) * bins).astype(int)
    ring[r == r.max()] = bins - 1
    return np.where(detector.mask, -1, ring)


def sorted_trim(frame, ring, bins, lower, upper, norm=None):
    """Trimmed mean per ring by sorting its corrected values; equal values leave pro rata."""
    norm = np.ones(frame.shape) if norm is None else norm
    result = np.full(bins, np.nan)
    valid = (ring >= 0) & np.isfinite(frame) & (frame >= 0)
    for r in range(bins):
        counts, norms = frame[valid & (ring == r)].astype(float), norm[valid & (ring == r)]
        n = len(counts)
        if n == 0:
            continue
        _, place, shared = np.unique(counts / norms, return_inverse=True, return_counts=True)
        until = np.cumsum(shared)
        first, last = np.floor(lower * n), n - np.floor(upper * n)
        kept = np.clip(np.minimum(until, last) - np.maximum(until - shared, first), 0, None) / shared
        result[r] = (kept[place] * counts).sum() / (kept[place] * norms).sum()
    return result


FRAMES = {
    "poisson 0.3": lambda rng, shape: rng.poisson(0.3, shape),
    "poisson 20": lambda rng, shape: rng.poisson(20, shape).astype(np.uint16),
    "poisson 70": lambda rng, shape: rng.poisson(70, shape),
    "poisson 500": lambda rng, shape: rng.poisson(500, shape).astype(np.uint32),
    "few large": lambda rng, shape: np.where(rng.random(shape) < 0.02, 10**6, rng.poisson(3, shape)),
    "extreme": lambda rng, shape: rng.integers(-(2**31), 2**31 - 1, shape),
    "beyond int32": lambda rng, shape: rng.integers(0, 2**40, shape),
    "float32": lambda rng, shape: rng.random(shape, dtype=np.float32),
    "float64": lambda rng, shape: rng.lognormal(0, 3, shape),
    "floats with nan": lambda rng, shape: np.where(rng.random(shape) < 0.3, np.nan, rng.random(shape)),
}


@pytest.mark.parametrize("kind", sorted(FRAMES))
def test_the_trimmed_mean_is_that_of_a_sort(detector: DetectorGeometry, plain: Integrator, kind: str) -> None:
    frame = FRAMES[kind](np.random.default_rng(5), detector.shape)
    expected = sorted_trim(frame, rings_of(detector, 150), 150, 0.05, 0.05)
    np.testing.assert_allclose(plain(frame).intensity, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["poisson 0.3", "poisson 20", "poisson 70", "few large", "float32"])
def test_with_corrections_it_stays_within_1e3_of_a_sort(detector: DetectorGeometry, kind: str) -> None:
    frame = FRAMES[kind](np.random.default_rng(6), detector.shape)
    norm = detector.solid_angle() * detector.polarisation(0.99)
    integrator = Integrator(detector, bins=150, unbiased=False)
    expected = sorted_trim(frame, rings_of(detector, 150), 150, 0.05, 0.05, norm)
    full = integrator(frame).n_pixels > 200
    np.testing.assert_allclose(integrator(frame).intensity[full], expected[full], rtol=1e-3)


@GENTLE
@given(lower=st.floats(0, 0.49), upper=st.floats(0, 0.49), rate=st.floats(0.01, 300), seed=st.integers(0, 99))
def test_any_trim_of_any_rate_is_that_of_a_sort(detector, lower, upper, rate, seed) -> None:
    frame = np.random.default_rng(seed).poisson(rate, detector.shape)
    integrator = Integrator(detector, bins=20, lower=lower, upper=upper, **PLAIN)
    expected = sorted_trim(frame, rings_of(detector, 20), 20, lower, upper)
    np.testing.assert_allclose(integrator(frame).intensity, expected, rtol=1e-6, atol=1e-12)


@functools.cache
def of_thirty_bins(estimator: str) -> Integrator:
    return Integrator(DetectorGeometry(poni_text=PONI), bins=30, estimator=estimator, **PLAIN)


@GENTLE
@given(seed=st.integers(0, 99), estimator=st.sampled_from(["mean", "trimmed_mean", "median", "sigma_clip"]))
def test_where_on_its_ring_a_count_lies_does_not_matter(detector, seed, estimator) -> None:
    rng = np.random.default_rng(seed)
    integrator = of_thirty_bins(estimator)
    frame = rng.poisson(rng.uniform(0.1, 100), detector.shape)
    ring = rings_of(detector, 30).ravel()
    order, shuffled = np.argsort(ring, kind="stable"), rng.permutation(ring.size)
    shuffled = shuffled[np.argsort(ring[shuffled], kind="stable")]
    other = np.empty(ring.size, frame.dtype)
    other[order] = frame.ravel()[shuffled]
    a, b = integrator(frame), integrator(other.reshape(frame.shape))
    np.testing.assert_allclose(a.intensity, b.intensity, rtol=1e-12)
    assert np.array_equal(a.n_pixels, b.n_pixels)


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
@pytest.mark.parametrize("level", [0, 7, 4000])
def test_a_constant_frame_is_its_constant(detector: DetectorGeometry, estimator: str, level: int) -> None:
    integrator = Integrator(detector, bins=50, estimator=estimator, **PLAIN)
    pattern = integrator(np.full(detector.shape, level, np.int32))
    np.testing.assert_allclose(pattern.intensity, level)
    assert np.all(pattern.sigma > 0)


def test_corrections_flatten_a_frame_that_is_shaped_by_them(detector: DetectorGeometry) -> None:
    flat = np.random.default_rng(0).uniform(0.9, 1.1, detector.shape)
    shape = detector.solid_angle() * detector.polarisation(0.9) * flat
    integrator = Integrator(detector, bins=60, polarisation=0.9, flat=flat)
    frame = 3e6 * shape + 100.0
    np.testing.assert_allclose(
        Integrator(detector, bins=60, polarisation=0.9, flat=flat, dark=np.full(detector.shape, 100.0))(
            frame
        ).intensity,
        3e6,
        rtol=1e-5,
    )
    assert not np.allclose(integrator(frame).intensity, 3e6, rtol=1e-5)


def test_negative_flags_masks_and_unsigned_flags_never_enter(detector: DetectorGeometry) -> None:
    mask = np.zeros(detector.shape, bool)
    mask[:, 100:110] = True
    masked = DetectorGeometry(poni_text=PONI, user_mask=mask)
    integrator = Integrator(masked, bins=40, **PLAIN)
    frame = np.full(masked.shape, 9, np.int32)
    frame[mask] = 10**6
    for row, flag in enumerate((-1, -2, -30, -60)):
        frame[row] = flag
    pattern = integrator(frame)
    np.testing.assert_allclose(pattern.intensity, 9)
    ring = rings_of(masked, 40)
    assert pattern.n_pixels.sum() == np.count_nonzero((ring >= 0) & (frame >= 0))
    unsigned = frame.astype(np.uint32)
    assert np.array_equal(integrator(unsigned).n_pixels, pattern.n_pixels)
    assert integrator(np.full(masked.shape, 2**16 - 1, np.uint16)).n_pixels.sum() == 0


def test_counts_beyond_the_counter_are_kept(detector: DetectorGeometry) -> None:
    frame = np.zeros(detector.shape, np.int32)
    frame[50, 60] = 1_140_729
    pattern = Integrator(detector, bins=50, estimator="mean", **PLAIN)(frame)
    assert np.nansum(pattern.intensity * pattern.n_pixels) == pytest.approx(1_140_729)


def test_a_ring_without_a_valid_pixel_is_nan_and_told_of_once(detector: DetectorGeometry, caplog) -> None:
    integrator = Integrator(detector, bins=30, **PLAIN)
    frame = np.ones(detector.shape)
    frame[rings_of(detector, 30) == 4] = np.nan
    pattern = integrator(frame)
    integrator(frame)
    assert [r.getMessage()[:41] for r in caplog.records] == ["1 of 30 rings have no valid pixel in this"]
    assert list(np.flatnonzero(np.isnan(pattern.intensity))) == [4]
    assert pattern.n_pixels[4] == 0
    nothing = integrator(np.full(detector.shape, -1))
    assert np.isnan(nothing.intensity).all()
    assert np.isnan(nothing.sigma).all()
    assert nothing.n_pixels.sum() == 0


def test_rings_of_one_pixel_hold_their_pixel(detector: DetectorGeometry) -> None:
    bins = 94_000
    integrator = Integrator(detector, bins=bins, **PLAIN)
    frame = np.random.default_rng(2).poisson(3, detector.shape)
    ring = rings_of(detector, bins)
    pattern = integrator(frame)
    once = np.flatnonzero(np.bincount(ring[ring >= 0], minlength=bins) == 1)
    of_ring = np.zeros(bins, int)
    of_ring[ring[ring >= 0]] = frame[ring >= 0]
    assert len(once) > 1000
    assert np.array_equal(pattern.intensity[once], of_ring[once])


def test_bins_cover_the_detector_whatever_the_mask(detector: DetectorGeometry) -> None:
    r = detector.radial("q_A^-1")
    mask = np.ones(detector.shape, bool)
    mask[80:100, 80:100] = False
    masked = DetectorGeometry(poni_text=PONI, user_mask=mask)
    integrator = Integrator(masked, bins=10, unit="q_A^-1", **PLAIN)
    width = (r.max() - r.min()) / 10
    np.testing.assert_allclose(integrator.radial, r.min() + (np.arange(10) + 0.5) * width)
    ranged = Integrator(masked, bins=10, radial_range=(1.0, 2.0), **PLAIN)
    np.testing.assert_allclose(ranged.radial, 1.05 + 0.1 * np.arange(10))


def test_many_frames_are_each_as_alone_and_an_unreadable_one_is_nan(detector: DetectorGeometry) -> None:
    rng = np.random.default_rng(3)
    frames = [rng.poisson(rate, detector.shape).astype(np.int32) for rate in (0.5, 5, 50, 500)]
    integrator = Integrator(detector, bins=70, threads=2)
    intensity, sigma = integrator.many(iter([*frames[:2], None, lambda: frames[2], frames[3]]))
    assert intensity.shape == sigma.shape == (5, 70)
    assert np.isnan(intensity[2]).all()
    for row, frame in zip((0, 1, 3, 4), frames, strict=True):
        pattern = integrator(frame)
        np.testing.assert_allclose(intensity[row], pattern.intensity, rtol=1e-12)
        np.testing.assert_allclose(sigma[row], pattern.sigma, rtol=1e-12)
    assert np.isnan(integrator.many([lambda: None])[0]).all()
    assert integrator.many([])[0].shape == (0, 70)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_number_of_threads_changes_nothing(detector: DetectorGeometry, threads: int) -> None:
    for rate in (2, 200):
        frame = np.random.default_rng(4).poisson(rate, detector.shape)
        one = Integrator(detector, bins=70, threads=1)(frame)
        several = Integrator(detector, bins=70, threads=threads)(frame)
        np.testing.assert_allclose(several.intensity, one.intensity, rtol=1e-12)


def test_the_monitor_divides_intensity_and_sigma(plain: Integrator, detector: DetectorGeometry) -> None:
    frame = np.random.default_rng(7).poisson(40, detector.shape)
    one, four = plain(frame), plain(frame, monitor=4.0)
    np.testing.assert_allclose(four.intensity * 4, one.intensity)
    np.testing.assert_allclose(four.sigma * 4, one.sigma)


def test_what_cannot_be_used_is_refused_with_value_and_remedy(detector: DetectorGeometry) -> None:
    with pytest.raises(TypeError, match="quant_min"):
        Integrator(detector, quant_min=5)
    for arguments, message in (
        ({"estimator": "average"}, r"estimator 'average' is unknown.*trimmed_mean"),
        ({"lower": 0.5, "upper": 0.6}, r"lower \+ upper is 1\.1"),
        ({"lower": -0.1}, "lower is -0.1"),
        ({"lower": 5}, "lower is 5"),
        ({"bins": 0}, "bins is 0"),
        ({"bins": 10**6}, "1000000 bins are more than"),
        ({"radial_range": (3.0, 2.0)}, "radial_range"),
        ({"engine": "gpu9"}, "engine 'gpu9'"),
        ({"threads": 0}, "threads is 0"),
        ({"dark": np.zeros((2, 2))}, r"dark has shape \(2, 2\)"),
        ({"flat": np.full(detector.shape, "a")}, "flat has dtype"),
    ):
        with pytest.raises(ProcessingError, match=message):
            Integrator(detector, **arguments)
    with pytest.raises(CalibrationError, match="unit 'd_A'"):
        Integrator(detector, unit="d_A")


def test_frames_that_cannot_be_used_are_refused(plain: Integrator, detector: DetectorGeometry) -> None:
    with pytest.raises(ProcessingError, match=r"shape \(3, 4\).*\(195, 487\)"):
        plain(np.zeros((3, 4)))
    for dtype in (complex, "U3", object, bool):
        with pytest.raises(ProcessingError, match="dtype"):
            plain(np.zeros(detector.shape, dtype))
    with pytest.raises(ProcessingError, match=r"beyond 3\.4e38"):
        plain(np.full(detector.shape, 1e300))
    with pytest.raises(ProcessingError, match="no pixel of the frame is a finite number"):
        plain(np.full(detector.shape, np.nan))
    for monitor in (0.0, -1.0, np.nan):
        with pytest.raises(ProcessingError, match="monitor is"):
            plain(np.zeros(detector.shape, np.int32), monitor=monitor)


@pytest.fixture(scope="module")
def ceria(shared_data: Path) -> tuple[DetectorGeometry, np.ndarray]:
    import fabio

    folder = shared_data / "ceo2_cdte2m"
    geometry = DetectorGeometry.from_poni(folder / "CeO2.poni", folder / "mask.edf", "Pilatus CdTe 2M")
    return geometry, fabio.open(str(folder / "CeO2.cbf")).data


def test_ceria_has_its_lattice_parameter(ceria) -> None:
    geometry, frame = ceria
    pattern = Integrator(geometry)(frame)
    wanted = {(1, 1, 1), (2, 0, 0), (2, 2, 0), (3, 1, 1), (3, 3, 1), (4, 2, 2)}
    found = []
    for line in Phase.shipped("CeO2").reflections(geometry.wavelength_A, 12.0):
        if line.hkl in wanted:
            near = np.abs(pattern.radial - line.two_theta_deg) < 0.15
            x, y = pattern.radial[near], pattern.intensity[near]
            start = (y.max() - y.min(), line.two_theta_deg, 0.015, y.min(), 0.0)
            (_, centre, *_), _ = curve_fit(_peak, x, y, start)
            d_A = geometry.wavelength_A / (2 * np.sin(np.radians(centre) / 2))
            found.append(d_A * np.sqrt(sum(i * i for i in line.hkl)))
    assert len(found) == 6
    assert np.median(found) == pytest.approx(5.4110, rel=2e-4)


def _peak(x, height, centre, width, level, slope):
    return height * np.exp(-0.5 * ((x - centre) / width) ** 2) + level + slope * (x - centre)


@pytest.mark.slow
def test_ceria_is_trimmed_as_by_a_sort(ceria) -> None:
    geometry, frame = ceria
    ring = rings_of(geometry, 1000)
    pattern = Integrator(geometry, **PLAIN)(frame)
    np.testing.assert_allclose(pattern.intensity, sorted_trim(frame, ring, 1000, 0.05, 0.05), rtol=1e-6)
    norm = geometry.solid_angle() * geometry.polarisation(0.99)
    pattern = Integrator(geometry, unbiased=False)(frame)
    np.testing.assert_allclose(pattern.intensity, sorted_trim(frame, ring, 1000, 0.05, 0.05, norm), rtol=1e-3)


def test_the_small_frames_that_load_the_kernels_take_every_way(monkeypatch):
    taken = []
    for way in ("_by_tables", "_by_offset_tables", "_by_rings"):
        whole = getattr(Reducer, way)

        def record(self, *arguments, whole=whole, way=way):
            result = whole(self, *arguments)
            if result is not False:
                taken.append(way)
            return result

        monkeypatch.setattr(Reducer, way, record)
    load_kernels()
    assert taken == ["_by_tables", "_by_offset_tables", "_by_rings"]
