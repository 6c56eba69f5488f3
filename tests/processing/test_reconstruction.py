import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.scan import LINE_ORDERS
from xrdct_beamline.processing import _backprojection
from xrdct_beamline.processing._angles import angle_weights
from xrdct_beamline.processing.reconstruction import IncrementalFBP, OutputField, reconstruct

N_TRANSLATIONS, N_ROTATIONS, N_BINS, AXIS_PX = 24, 30, 5, 11.3
ANGLES = np.arange(N_ROTATIONS) * 180.0 / N_ROTATIONS


def blob_sinogram(blobs, angles, n_translations, axis_px):
    """Line integrals of Gaussians (x, y, sigma, amplitude), written down by hand."""
    t = np.arange(n_translations) - axis_px
    theta = np.radians(np.asarray(angles))[:, None]
    return sum(
        a * np.sqrt(2 * np.pi) * s * np.exp(-((t - x * np.cos(theta) - y * np.sin(theta)) ** 2) / (2 * s * s))
        for x, y, s, a in blobs
    )


def blob_image(blobs, n, axis_px):
    row, column = np.mgrid[:n, :n]
    x, y = column - axis_px, axis_px - row
    return sum(a * np.exp(-((x - bx) ** 2 + (y - by) ** 2) / (2 * s * s)) for bx, by, s, a in blobs)


@pytest.fixture
def lines():
    return np.random.default_rng(3).random((N_ROTATIONS, N_TRANSLATIONS, N_BINS)).astype(np.float32)


def new_fbp(**kwargs):
    return IncrementalFBP(N_TRANSLATIONS, N_BINS, N_ROTATIONS, AXIS_PX, **{"rotation_deg": ANGLES, **kwargs})


def filled_fbp(lines, order=range(N_ROTATIONS), sigma=None, **kwargs):
    fbp = new_fbp(**kwargs)
    for r in order:
        fbp.add(ANGLES[r], lines[r], None if sigma is None else sigma[r])
    return fbp


def test_gaussians_come_back_in_place_and_in_absolute_scale(shared_data):
    reference = np.load(shared_data / "tomopy_reference" / "gridrec_blobs.npz")
    axis_px, truth = float(reference["axis_px"]), reference["truth"]
    image = reconstruct(reference["sinogram"], np.degrees(reference["angle_rad"]), axis_px)
    n = truth.shape[0]
    row, column = np.mgrid[:n, :n]
    inside = np.hypot(column - axis_px, axis_px - row) < 60
    slope, offset = np.polyfit(truth[inside], image[inside], 1)
    assert slope == pytest.approx(1.0, abs=5e-4)
    assert abs(offset) < 1e-4
    assert np.sqrt(np.mean((image - truth)[inside] ** 2)) < 2e-4


@pytest.mark.parametrize("axis_px", [20.0, 23.25])
def test_asymmetric_blob_is_the_right_way_round(axis_px):
    blobs = [(8.0, 3.0, 2.0, 1.0), (-4.0, 9.0, 2.0, 0.5)]
    angles = np.arange(60) * 3.0
    image = reconstruct(blob_sinogram(blobs, angles, 44, axis_px), angles, axis_px)
    np.testing.assert_allclose(image, blob_image(blobs, 44, axis_px), atol=0.02)
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert (column, row) == (round(axis_px + 8), round(axis_px - 3))


def test_every_pixel_is_computed(lines):
    image = reconstruct(lines, ANGLES, AXIS_PX)
    assert image.shape == (N_TRANSLATIONS, N_TRANSLATIONS, N_BINS)
    assert np.isfinite(image).all()
    assert (np.abs(image).max(axis=2) > 0).all()


@pytest.mark.parametrize("order", [*LINE_ORDERS, "shuffled"])
def test_incremental_equals_batch_in_any_order(lines, order):
    batch = reconstruct(lines, ANGLES, AXIS_PX)
    rows = (
        LINE_ORDERS[order](N_ROTATIONS)
        if order in LINE_ORDERS
        else np.random.default_rng(7).permutation(N_ROTATIONS)
    )
    fbp = filled_fbp(lines, rows)
    np.testing.assert_allclose(fbp.slice(), batch, atol=1e-6 * np.abs(batch).max())
    assert fbp.covered_deg == pytest.approx(180.0)


def test_incremental_without_planned_angles_weighs_lines_alike(lines):
    batch = reconstruct(lines, ANGLES, AXIS_PX)
    np.testing.assert_allclose(filled_fbp(lines, rotation_deg=None).slice(), batch, atol=1e-5)


@given(seed=st.integers(0, 99), factor=st.floats(-3, 3))
@settings(max_examples=10, deadline=None)
def test_reconstruction_is_linear(seed, factor):
    first, second = np.random.default_rng(seed).normal(size=(2, 9, 8, 2)).astype(np.float32)
    angles = np.arange(9) * 20.0
    joint = reconstruct(first + np.float32(factor) * second, angles, 3.5)
    separate = reconstruct(first, angles, 3.5) + factor * reconstruct(second, angles, 3.5)
    np.testing.assert_allclose(joint, separate, atol=1e-5)


@given(x=st.floats(-4, 4), y=st.floats(-4, 4), width=st.floats(1.2, 2.5))
@settings(max_examples=10, deadline=None)
def test_the_mass_of_every_line_is_the_mass_of_the_slice(x, y, width):
    sinogram = blob_sinogram([(x, y, width, 1.0)], ANGLES, 35, 17.2)
    mass = sinogram.sum(axis=1)
    np.testing.assert_allclose(mass, mass[0], rtol=1e-4)
    image = reconstruct(sinogram, ANGLES, 17.2)
    row, column = np.mgrid[:35, :35] - 17.2
    assert image[np.hypot(row, column) < 13].sum() == pytest.approx(mass[0], rel=0.02)


def test_the_same_line_again_changes_nothing(lines):
    fbp = filled_fbp(lines)
    before = fbp.slice()
    fbp.add(ANGLES[4], lines[4])
    np.testing.assert_array_equal(fbp.slice(), before)


def test_another_line_at_the_same_angle_replaces(lines):
    fbp = filled_fbp(np.concatenate([lines[1:2], lines[1:]]))
    fbp.add(ANGLES[0], lines[0])
    expected = filled_fbp(lines)
    np.testing.assert_allclose(fbp.slice(), expected.slice(), atol=1e-6)
    np.testing.assert_array_equal(fbp.sinogram, lines)
    assert fbp.n_lines == N_ROTATIONS


def test_a_retaken_line_may_lie_at_a_slightly_different_angle(lines):
    fbp = new_fbp()
    fbp.add(ANGLES[3] + 0.3, lines[2])
    fbp.add(ANGLES[3], lines[3])
    alone = new_fbp()
    alone.add(ANGLES[3], lines[3])
    np.testing.assert_allclose(fbp.slice(), alone.slice(), atol=1e-5)


def test_a_part_of_the_lines_is_scaled_to_the_half_turn():
    blobs = [(0.0, 0.0, 3.0, 1.0)]  # looks the same from everywhere
    sinogram = blob_sinogram(blobs, ANGLES, N_TRANSLATIONS, AXIS_PX)[:, :, None]
    fbp = IncrementalFBP(N_TRANSLATIONS, 1, N_ROTATIONS, AXIS_PX, ANGLES)
    for r in range(0, N_ROTATIONS, 3):
        fbp.add(ANGLES[r], sinogram[r])
    assert fbp.covered_deg == pytest.approx(60.0)
    centre = fbp.slice()[10:13, 10:13, 0]
    np.testing.assert_allclose(centre, blob_image(blobs, N_TRANSLATIONS, AXIS_PX)[10:13, 10:13], rtol=0.01)


def test_bins_are_chosen_before_anything_is_copied(lines):
    fbp = filled_fbp(lines, sigma=np.sqrt(lines))
    np.testing.assert_array_equal(fbp.slice(slice(1, 3)), fbp.slice()[:, :, 1:3])
    np.testing.assert_array_equal(fbp.slice([4, 0]), fbp.slice()[:, :, [4, 0]])
    np.testing.assert_array_equal(fbp.slice_sigma(slice(2, 3)), fbp.slice_sigma()[:, :, 2:3])


def test_a_whole_slice_is_a_view_and_a_partial_one_a_copy(lines):
    fbp = filled_fbp(lines, range(N_ROTATIONS - 1))
    assert not np.shares_memory(fbp.slice(), fbp.state()["image"])
    fbp.add(ANGLES[-1], lines[-1])
    assert np.shares_memory(fbp.slice(slice(1, 3)), fbp.state()["image"])
    with pytest.raises(ValueError, match="read-only"):
        fbp.slice()[0] = 0.0


@pytest.mark.parametrize("with_sigma", [False, True])
def test_adding_a_line_takes_no_room_for_a_filtered_line(with_sigma):
    n, n_bins, angles = 48, 6000, [0.0, 45.0, 90.0, 135.0]
    line = np.ones((n, n_bins), np.float32)
    narrow = IncrementalFBP(n, 1, 4, 23.5, angles)  # kernels and filter are made before
    narrow.add(0.0, line[:, :1].copy(), line[:, :1].copy())
    fbp = IncrementalFBP(n, n_bins, 4, 23.5, angles)
    filtered_bytes = 4 * 130 * n_bins  # half a step apart, over the diagonal
    tracemalloc.start()
    for angle in (0.0, 45.0, 90.0, 0.0):
        fbp.add(angle, line, line if with_sigma else None)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if with_sigma:  # what is kept of the sigma comes with the first line
        peak_bytes -= fbp.variance.nbytes + fbp.state()["image_variance"].nbytes
    assert peak_bytes < 0.75 * filtered_bytes


def test_holes_stay_in_the_sinogram_and_are_filled_for_the_transform(lines):
    straight = np.linspace(1, 2, N_TRANSLATIONS, dtype=np.float32)[:, None] * np.ones(N_BINS, np.float32)
    holed = straight.copy()
    holed[7:9] = np.nan
    fbp, whole = new_fbp(), new_fbp()
    fbp.add(0.0, holed)
    whole.add(0.0, straight)
    np.testing.assert_allclose(fbp.slice(), whole.slice(), atol=1e-6)
    assert np.isnan(fbp.sinogram[0, 7:9]).all()


def test_a_bin_that_was_never_measured_is_nan(lines):
    lines[:, :, 2] = np.nan
    for image in (filled_fbp(lines).slice(), reconstruct(lines, ANGLES, AXIS_PX)):
        assert np.isnan(image[:, :, 2]).all()
        assert np.isfinite(image[:, :, [0, 1, 3, 4]]).all()


@pytest.mark.parametrize("with_slice", [True, False])
@pytest.mark.parametrize("with_sigma", [True, False])
def test_a_restart_in_the_middle_ends_alike(lines, with_slice, with_sigma):
    sigma = np.sqrt(lines) if with_sigma else None
    undisturbed = filled_fbp(lines, sigma=sigma)
    fbp = filled_fbp(lines, range(13), sigma=sigma)
    fbp = IncrementalFBP.from_state({k: v.copy() for k, v in fbp.state(with_slice=with_slice).items()})
    for r in range(13, N_ROTATIONS):
        fbp.add(ANGLES[r], lines[r], None if sigma is None else sigma[r])
    np.testing.assert_array_equal(fbp.sinogram, undisturbed.sinogram)
    np.testing.assert_allclose(fbp.slice(), undisturbed.slice(), atol=1e-6)
    if with_sigma:
        np.testing.assert_allclose(fbp.slice_sigma(), undisturbed.slice_sigma(), rtol=1e-4)


def test_an_output_field_is_a_finer_or_shifted_look_at_the_same_object():
    blobs = [(5.0, -2.0, 3.0, 1.0)]
    sinogram = blob_sinogram(blobs, ANGLES, N_TRANSLATIONS, AXIS_PX)[:, :, None]
    field = OutputField(shape=(9, 11), x_px=2.5, y_px=0.0, pixel_px=0.5)
    fbp = IncrementalFBP(N_TRANSLATIONS, 1, N_ROTATIONS, AXIS_PX, ANGLES, field=field)
    for angle, line in zip(ANGLES, sinogram, strict=True):
        fbp.add(angle, line)
    row, column = np.mgrid[:9, :11]
    x, y = 2.5 + 0.5 * column, -0.5 * row
    truth = np.exp(-((x - 5) ** 2 + (y + 2) ** 2) / 18)
    np.testing.assert_allclose(fbp.slice()[:, :, 0], truth, atol=0.02)


def test_pulls_of_voxels_and_of_region_sums_have_unit_spread():
    rng = np.random.default_rng(5)
    n, n_angles, repeats = 21, 30, 300  # each channel is one repeat of the experiment
    angles = np.arange(n_angles) * 6.0
    counts = 20 + 40 * blob_sinogram([(2.0, 1.0, 4.0, 1.0)], angles, n, 10.0)
    noisy = rng.poisson(counts[:, :, None], size=(n_angles, n, repeats)).astype(np.float32)
    sigma = np.sqrt(np.broadcast_to(counts[:, :, None], noisy.shape))
    fbp = IncrementalFBP(n, repeats, n_angles, 10.0, angles)
    for angle, line, error in zip(angles, noisy, sigma, strict=True):
        fbp.add(angle, line, error)
    truth = reconstruct(counts, angles, 10.0)[:, :, None]
    pulls = (fbp.slice() - truth) / fbp.slice_sigma()
    row, column = np.mgrid[:n, :n]
    disc = np.hypot(column - 10, row - 10)
    assert 0.95 < pulls[disc < 9].std() < 1.05
    for radius in (1.5, 4.0):
        region = (disc < radius).astype(float)
        total, error = fbp.region(region)
        assert 0.9 < ((total - (region[:, :, None] * truth).sum((0, 1))) / error).std() < 1.1
        naive = np.sqrt((region[:, :, None] * fbp.slice_sigma() ** 2).sum((0, 1)))
        assert error.mean() < 0.9 * naive.mean()  # the noise of neighbours is anti-correlated


def test_filters_trade_sharpness_for_noise(lines):
    spread = {
        name: filled_fbp(lines, filter_name=name).slice().std()
        for name in ("ramp", "shepp-logan", "cosine", "hann")
    }
    assert list(spread) == sorted(spread, key=spread.__getitem__, reverse=True)


def test_weights_of_a_half_turn_of_a_turn_and_of_gaps():
    np.testing.assert_allclose(angle_weights(ANGLES), np.pi / N_ROTATIONS)
    np.testing.assert_allclose(angle_weights(np.arange(8) * 45.0), np.pi / 8)
    np.testing.assert_allclose(
        np.degrees(angle_weights([0, 10, 30, 60, 90, 120, 150])), [20, 15, 25, 30, 30, 30, 30]
    )
    np.testing.assert_allclose(np.degrees(angle_weights([0, 60, 120, 180])), [30, 60, 60, 30])


def test_a_wedge_is_not_stretched_over_the_half_turn():
    weights = np.degrees(angle_weights(np.arange(10) * 3.0))
    assert weights.sum() == pytest.approx(9 * 3.0 + 9.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_translations": 0}, "0 translations cannot be reconstructed"),
        ({"n_rotations": 1}, "at least 1 bin and 2 rotations"),
        ({"axis_px": 24.0}, "outside of the field of 24"),
        ({"rotation_deg": ANGLES[:-1]}, "29 angles were given for 30 rotations"),
        ({"rotation_deg": np.where(ANGLES == 12.0, 6.0, ANGLES)}, "rotations 1 and 2 have the same angle 6"),
        ({"filter_name": "hamming"}, "filter 'hamming' is unknown; use one of ramp"),
    ],
)
def test_an_impossible_scan_is_refused(change, words):
    arguments = {
        "n_translations": N_TRANSLATIONS,
        "n_bins": N_BINS,
        "n_rotations": N_ROTATIONS,
        "axis_px": AXIS_PX,
        "rotation_deg": None,
    }
    with pytest.raises(ProcessingError, match=words):
        IncrementalFBP(**{**arguments, **change})


def test_a_line_that_does_not_fit_is_refused(lines):
    fbp = new_fbp()
    with pytest.raises(ProcessingError, match=r"has shape \(24, 4\), the scan needs \(24, 5\)"):
        fbp.add(0.0, lines[0, :, :4])
    with pytest.raises(ProcessingError, match="is NaN in every cell"):
        fbp.add(0.0, np.full_like(lines[0], np.nan))
    with pytest.raises(ProcessingError, match=r"3° was not planned; the nearest one is 0°|6°"):
        fbp.add(3.0, lines[0])
    with pytest.raises(ProcessingError, match="no line came with a sigma"):
        fbp.slice_sigma()
    fbp.add(0.0, lines[0])
    with pytest.raises(ProcessingError, match="with a sigma, unlike the lines before"):
        fbp.add(6.0, lines[1], lines[1])


def test_a_sinogram_that_does_not_fit_is_refused(lines):
    with pytest.raises(ProcessingError, match="does not fit 29 angles"):
        reconstruct(lines, ANGLES[:-1], AXIS_PX)
    with pytest.raises(ProcessingError, match="1 rotation angle cannot be reconstructed"):
        reconstruct(lines[:1], ANGLES[:1], AXIS_PX)
    with pytest.raises(ProcessingError, match=r"\(30, 0, 5\) .* is empty"):
        reconstruct(lines[:, :0], ANGLES, 0.0)
    with pytest.raises(ProcessingError, match="axis at 24 px is outside of the field of 24 translations"):
        reconstruct(lines, ANGLES, 24.0)
    with pytest.raises(ProcessingError, match="rotations 0 and 2 have the same angle 0°"):
        reconstruct(lines, np.where(ANGLES == 12.0, 0.0, ANGLES), AXIS_PX)
    lines[3] = np.nan
    with pytest.raises(ProcessingError, match="1 of 30 lines are NaN in every cell, the first at 18°"):
        reconstruct(lines, ANGLES, AXIS_PX)


def test_one_line_more_than_planned_is_refused():
    fbp = IncrementalFBP(4, 1, 2, 1.5)
    fbp.add(0.0, np.ones((4, 1)))
    fbp.add(90.0, np.ones((4, 1)))
    with pytest.raises(ProcessingError, match="all 2 rotations have a line already; 45° is one more"):
        fbp.add(45.0, np.ones((4, 1)))


def test_warm_up_compiles_every_kernel():
    def compiled():
        kernels = {n: k for n, k in vars(_backprojection).items() if hasattr(k, "signatures")}
        return {name: len(kernel.signatures) for name, kernel in kernels.items()}

    IncrementalFBP.warm_up()
    ready = compiled()
    fbp = IncrementalFBP(6, 3, 2, 2.5)
    line = np.ones((6, 3), np.float32)
    line[2] = np.nan
    fbp.add(10.0, line, line)
    fbp.region(np.ones((6, 6)))
    assert compiled() == ready
    assert ready


def test_some_rows_and_bins_are_those_of_the_whole_slice():
    fbp = IncrementalFBP(6, 3, 4, 2.5)
    rng = np.random.default_rng(5)
    for angle in (0.0, 45.0, 90.0):
        line = rng.random((6, 3)).astype(np.float32)
        fbp.add(angle, line, 0.1 * line)
    rows = slice(1, 4)
    np.testing.assert_array_equal(fbp.slice([0, 2], rows), fbp.slice()[rows][..., [0, 2]])
    np.testing.assert_array_equal(fbp.slice_sigma(slice(1, 3), rows), fbp.slice_sigma()[rows, :, 1:3])
