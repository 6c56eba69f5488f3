import numpy as np
import pytest

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.alignment import (
    channel_mean,
    find_axis,
    from_centre_of_mass,
    from_mirror,
    from_sharpness,
    is_within_field,
)

BLOBS = [(20.0, 10.0, 5.0, 1.0), (-25.0, 15.0, 6.0, 0.6), (5.0, -30.0, 3.0, 1.5)]


def blob_sinogram(angles, n=120, axis_px=61.7):
    t = np.arange(n) - axis_px
    theta = np.radians(np.asarray(angles))[:, None]
    return sum(
        a * np.sqrt(2 * np.pi) * s * np.exp(-((t - x * np.cos(theta) - y * np.sin(theta)) ** 2) / (2 * s * s))
        for x, y, s, a in BLOBS
    )


@pytest.mark.parametrize(
    "angles",
    [np.arange(90) * 2.0, np.linspace(0, 180, 91), np.arange(180) * 2.0, 7.0 + np.arange(90) * 2.0],
    ids=["half turn", "with its end", "whole turn", "from 7 degrees"],
)
def test_both_estimators_find_the_axis(angles):
    profiles = blob_sinogram(angles)
    assert is_within_field(profiles)
    assert from_mirror(profiles, angles).axis_px == pytest.approx(61.7, abs=0.03)
    assert from_centre_of_mass(profiles, angles).axis_px == pytest.approx(61.7, abs=0.03)
    assert from_sharpness(profiles, angles, near_px=62.5).axis_px == pytest.approx(61.7, abs=0.15)


def test_the_axis_of_noisy_channels_in_shuffled_order_with_a_bad_line():
    rng = np.random.default_rng(2)
    angles = np.arange(90) * 2.0
    channels = rng.poisson(blob_sinogram(angles)[:, :, None] * np.array([2.0, 5.0, 1.0])).astype(float)
    channels[11] = np.nan
    order = rng.permutation(90)
    estimate = find_axis(channels[order], angles[order])
    assert estimate.agrees
    assert estimate.axis_px == pytest.approx(61.7, abs=0.1)
    assert estimate.uncertainty_px < 0.15


def test_a_narrow_sample_in_a_wide_empty_field():
    angles = np.arange(90) * 2.0
    assert from_mirror(blob_sinogram(angles, 400, 261.7), angles).axis_px == pytest.approx(261.7, abs=0.05)


def test_a_sample_wider_than_the_field_gets_its_axis_from_the_sharpness():
    angles = np.arange(90) * 2.0
    profiles = blob_sinogram(angles)[:, 30:95] + 20.0
    assert not is_within_field(profiles)
    estimate = find_axis(profiles, angles)
    assert estimate.axis_px == pytest.approx(31.7, abs=0.3)


def test_a_part_of_a_half_turn_is_left_to_the_other_estimators():
    angles = np.arange(60) * 2.0
    estimate = find_axis(blob_sinogram(angles), angles)
    assert estimate.axis_px == pytest.approx(61.7, abs=0.1)
    assert estimate.agrees


def test_interlaced_lines_of_a_scan_that_was_cut_short():
    angles = np.arange(90) * 2.0
    done = np.concatenate([np.arange(s, 90, 4) for s in (0, 2)])
    estimate = find_axis(blob_sinogram(angles)[done], angles[done])
    assert estimate.axis_px == pytest.approx(61.7, abs=0.1)
    assert estimate.agrees


def test_a_wide_sample_over_a_part_of_a_half_turn_leaves_one_estimator():
    angles = np.arange(60) * 2.0
    assert not find_axis(blob_sinogram(angles)[:, 30:95] + 20.0, angles).agrees


def test_estimators_that_disagree_say_so():
    angles = np.arange(90) * 2.0
    profiles = blob_sinogram(angles)
    profiles[-6:] = np.roll(profiles[-6:], 2, axis=1)  # a stage that slipped towards the end
    estimate = find_axis(profiles, angles)
    assert not estimate.agrees
    assert estimate.uncertainty_px > 0.4


def test_real_tomography_of_a_tooth(shared_data):
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "tooth" / "tooth.h5") as file:
        group = file["exchange"]
        white, dark = group["data_white"][:].mean(0), group["data_dark"][:].mean(0)
        absorption = -np.log((group["data"][:] - dark) / (white - dark))
        angles = group["theta"][:]
    for row in range(absorption.shape[1]):
        profiles, ascending = channel_mean(absorption[:, row], angles)
        assert 295.5 < from_mirror(profiles, ascending).axis_px < 296.0
        assert 295.5 < from_centre_of_mass(profiles, ascending).axis_px < 296.0
        assert find_axis(absorption[:, row], angles).agrees


def test_data_without_an_axis_are_refused():
    with pytest.raises(ProcessingError, match="do not reach half a turn"):
        from_mirror(np.ones((20, 30)), np.arange(20) * 3.0)
    with pytest.raises(ProcessingError, match="at least 8 of each"):
        find_axis(np.ones((5, 30)), np.arange(5) * 36.0)
    with pytest.raises(ProcessingError, match="does not fit 19 angles"):
        find_axis(np.ones((20, 30)), np.arange(19) * 9.0)
