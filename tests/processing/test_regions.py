from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtri

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.reconstruction import IncrementalFBP
from xrdct_beamline.processing.regions import blur_fwhm_px, region_patterns, transfer_matrix

N, AXIS, BINS = 33, 15.6, 3
ANGLES = np.arange(36) * 5.0


def sinogram_of_noise(seed=0):
    rng = np.random.default_rng(seed)
    sinogram = rng.normal(2.0, 1.0, (ANGLES.size, N, BINS)).astype(np.float32)
    return sinogram, rng.uniform(0.5, 1.5, sinogram.shape).astype(np.float32)


def random_labels(seed, shape=(N, N)):
    blocks = np.random.default_rng(seed).integers(0, 5, (7, 7))
    return np.kron(blocks, np.ones((5, 5), int))[: shape[0], : shape[1]].astype(np.int32)


def incremental(sinogram, sigma):
    fbp = IncrementalFBP(N, BINS, ANGLES.size, AXIS, ANGLES)
    for index in np.flatnonzero(np.isfinite(sinogram).any(axis=(1, 2))):
        fbp.add(float(ANGLES[index]), sinogram[index], sigma[index])
    return fbp


def test_regions_are_those_of_the_slice_holes_and_lost_lines_included():
    sinogram, sigma = sinogram_of_noise()
    sinogram[4] = np.nan
    sinogram[9, 5:8] = np.nan
    sinogram[12, :, 1] = np.nan
    sigma[np.isnan(sinogram)] = np.nan
    labels = random_labels(3)
    labels[labels == 2] = 0
    found = region_patterns(sinogram, labels, rotation_deg=ANGLES, axis_px=AXIS, sigma=sigma)
    fbp = incremental(sinogram, sigma)
    assert found.label.tolist() == [1, 3, 4]
    for i, label in enumerate(found.label):
        total, total_sigma = fbp.region(labels == label)
        n = (labels == label).sum()
        assert found.n_pixels[i] == n
        assert found.intensity[i] == pytest.approx(total / n, rel=2e-5, abs=2e-5)
        assert found.sigma[i] == pytest.approx(total_sigma / n, rel=1e-5)


@pytest.mark.parametrize("blur_px", [None, 1.2])
def test_means_of_a_slice_that_is_given_are_the_same(blur_px):
    sinogram, sigma = sinogram_of_noise(8)
    labels = random_labels(1)
    arguments = {"rotation_deg": ANGLES, "axis_px": AXIS, "sigma": sigma, "blur_px": blur_px}
    image = incremental(sinogram, sigma).slice()
    own = region_patterns(sinogram, labels, **arguments)
    given = region_patterns(np.ones_like(sinogram), labels, image=image, **arguments)
    assert given.intensity == pytest.approx(own.intensity, abs=1e-5)
    assert given.sigma == pytest.approx(own.sigma)
    with pytest.raises(ProcessingError, match="the slice has shape"):
        region_patterns(sinogram, labels, image=image[1:], **arguments)


def test_correlations_tell_how_far_the_regions_scatter_together():
    labels = np.zeros((N, N), np.int32)
    labels[12:18, 8:12], labels[12:18, 12:16], labels[24:28, 20:26] = 1, 2, 3
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(ANGLES.size, N, 4000)).astype(np.float32)
    drawn = region_patterns(noise, labels, rotation_deg=ANGLES, axis_px=AXIS)
    one = region_patterns(
        noise[:, :, :1], labels, rotation_deg=ANGLES, axis_px=AXIS, sigma=np.ones((ANGLES.size, N, 1))
    )
    assert np.corrcoef(drawn.intensity) == pytest.approx(one.correlation, abs=0.06)
    assert drawn.intensity.std(axis=1) == pytest.approx(one.sigma[:, 0], rel=0.05)
    assert one.correlation[0, 1] < -0.1
    assert np.allclose(np.diag(one.correlation), 1)
    assert drawn.sigma is None
    assert drawn.correlation is None


@given(seed=st.integers(0, 20), blur=st.floats(0, 2.5))
def test_the_blur_moves_signal_and_makes_none(seed, blur):
    labels = np.pad(random_labels(seed, (20, 20)), 12)
    matrix = transfer_matrix(labels, blur)
    inner = matrix[:-1]
    assert (matrix >= 0).all()
    assert inner.sum(axis=1) == pytest.approx(1.0, abs=2e-3)  # the outside ends where it hardly counts


RADII = (12.0, 9.0, 6.0, 3.0)
TRUE = np.array([[4.0, 1.0], [3.0, 2.0], [2.0, 3.0], [1.0, 4.0]])
NORMAL = ndtri((np.arange(100) + 0.5) / 100)  # quantiles of a normal distribution
PARTICLE_ANGLES = np.arange(61) * 180.0 / 61


def particle(beam_offsets):
    """Return sinogram and shells of a round particle whose rays are averaged over a beam."""
    t0 = 3.3 * np.cos(np.radians(PARTICLE_ANGLES)) - 2.6 * np.sin(np.radians(PARTICLE_ANGLES))
    sinogram = np.zeros((61, 61, 2))
    for offset in beam_offsets:
        t = np.arange(61) - 30.0 + offset - t0[:, None]
        before = np.zeros(2)
        for radius, value in zip(RADII, TRUE, strict=True):
            chord = 2 * np.sqrt(np.maximum(radius**2 - t**2, 0))
            sinogram += chord[..., None] * (value - before) / len(beam_offsets)
            before = value
    rows, columns = np.indices((61, 61))
    radius = np.hypot(columns - 30.0 - 3.3, 30.0 - rows + 2.6)
    labels = sum((radius <= r).astype(np.int32) for r in RADII)
    return sinogram, labels


@pytest.mark.parametrize(
    ("beam_fwhm", "offsets", "filter_name"),
    [
        (0.0, [0.0], "ramp"),
        (0.68, (np.arange(15) - 7) / 15, "ramp"),
        (1.5, NORMAL * 1.5 / 2.3548, "ramp"),
        (1.0, NORMAL / 2.3548, "shepp-logan"),
        (1.0, NORMAL / 2.3548, "cosine"),
        (1.0, NORMAL / 2.3548, "hann"),
    ],
)
def test_shells_are_unmixed_and_the_noise_pays(beam_fwhm, offsets, filter_name):
    sinogram, labels = particle(offsets)
    arguments = {"rotation_deg": PARTICLE_ANGLES, "axis_px": 30.0, "filter_name": filter_name}
    sigma = np.ones_like(sinogram)
    mixed = region_patterns(sinogram, labels, sigma=sigma, **arguments)
    blur_px = blur_fwhm_px(beam_fwhm, filter_name)
    unmixed = region_patterns(sinogram, labels, sigma=sigma, blur_px=blur_px, **arguments)
    mixed_error, error = (np.abs(found.intensity - TRUE).max() for found in (mixed, unmixed))
    assert error < 0.06
    assert error < 0.25 * mixed_error
    price = unmixed.sigma[:, 0] / mixed.sigma[:, 0]
    assert (price > 1.0).all()
    assert (price < 3.0).all()


def test_shells_thinner_than_the_blur_are_refused():
    sinogram, labels = particle([0.0])
    fine = np.where(labels > 0, np.indices(labels.shape)[1] + 1, 0)
    with pytest.raises(ProcessingError, match="fewer or thicker shells"):
        region_patterns(sinogram, fine, rotation_deg=PARTICLE_ANGLES, axis_px=30.0, blur_px=3.0)


def test_what_does_not_fit_is_refused():
    sinogram, sigma = sinogram_of_noise()
    labels = random_labels(0)
    with pytest.raises(ProcessingError, match="labels have shape"):
        region_patterns(sinogram, labels[1:], rotation_deg=ANGLES, axis_px=AXIS)
    with pytest.raises(ProcessingError, match="does not fit 35 angles"):
        region_patterns(sinogram, labels, rotation_deg=ANGLES[1:], axis_px=AXIS)
    with pytest.raises(ProcessingError, match="sigma has shape"):
        region_patterns(sinogram, labels, rotation_deg=ANGLES, axis_px=AXIS, sigma=sigma[1:])
    with pytest.raises(ProcessingError, match="holds no region"):
        region_patterns(sinogram, 0 * labels, rotation_deg=ANGLES, axis_px=AXIS)
    with pytest.raises(ProcessingError, match="nothing that was measured"):
        region_patterns(sinogram * np.nan, labels, rotation_deg=ANGLES, axis_px=AXIS)
    with pytest.raises(ProcessingError, match="cannot be negative"):
        transfer_matrix(labels, -1.0)
    with pytest.raises(ProcessingError, match="cannot be negative"):
        blur_fwhm_px(-1.0)
