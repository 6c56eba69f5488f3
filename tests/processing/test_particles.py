from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.particles import (
    depth_below_surface,
    depth_shells,
    foreground,
    measure,
    regions_of,
    segment,
)


def discs(shape, *centres_and_radii):
    rows, columns = np.indices(shape)
    image = np.zeros(shape)
    for row, column, radius in centres_and_radii:
        image[np.hypot(rows - row, columns - column) <= radius] = 1.0
    return image


label_maps = arrays(np.int32, (12, 15), elements=st.integers(0, 4))


def test_touching_discs_are_told_apart_and_numbered_from_the_top():
    image = discs((60, 60), (40, 20, 9), (40, 36, 9), (12, 30, 7))
    labels = segment(image + 0.05 * np.random.default_rng(1).normal(size=image.shape))
    assert labels.max() == 3
    assert labels[12, 30] == 1
    assert {labels[40, 20], labels[40, 36]} == {2, 3}
    areas = np.bincount(labels.ravel())[1:]
    assert areas == pytest.approx([np.pi * 49, np.pi * 81, np.pi * 81], rel=0.08)


def test_a_disc_with_a_rough_edge_stays_one_particle():
    image = discs((40, 40), (20, 20, 12))
    noise = np.random.default_rng(2).normal(size=image.shape)
    assert segment(image + 0.15 * noise).max() == 1


def test_nan_and_unmeasured_pixels_are_background_and_do_not_set_the_threshold():
    image = discs((40, 40), (20, 20, 10))
    image[:5] = 1e9
    measured = np.ones(image.shape, bool)
    measured[:5] = False
    image[20, 20] = np.nan
    labels = segment(image, measured=measured)
    assert labels.max() == 1
    assert labels[20, 20] == 0
    assert not labels[:5].any()
    assert labels[20, 24] == 1


def test_the_hole_of_an_unmeasured_pixel_is_not_filled_but_a_dark_one_is():
    image = discs((40, 40), (20, 20, 10))
    image[20, 20] = 0.0
    assert segment(image, smoothing_px=0.0)[20, 20] == 1


def test_a_given_threshold_counts_and_a_map_without_contrast_has_no_particle():
    image = discs((30, 30), (15, 15, 8)) * 3 + 1
    assert segment(image, threshold=5.0).max() == 0
    assert segment(image, threshold=2.0).max() == 1
    assert segment(np.ones((20, 20))).max() == 0
    assert segment(np.full((20, 20), np.nan)).max() == 0
    assert segment(np.ones((20, 20)), threshold=0.5, smoothing_px=0).max() == 1


def test_small_pieces_are_background_and_small_parts_join_their_neighbour():
    image = discs((50, 50), (20, 20, 10), (40, 40, 1.2))
    labels = segment(image, min_size_px=20, smoothing_px=0.0)
    assert labels.max() == 1
    assert labels[40, 40] == 0
    appendage = discs((50, 50), (20, 20, 10), (20, 34, 3.5))
    assert segment(appendage, min_size_px=5, smoothing_px=0.0).max() == 2
    joined = segment(appendage, min_size_px=80, smoothing_px=0.0)
    assert joined.max() == 1
    assert joined[20, 34] == 1


def test_a_clump_of_small_parts_is_one_particle():
    pair = discs((30, 40), (15, 12, 5), (15, 22, 5.5))
    assert segment(pair, min_size_px=20, smoothing_px=0.0).max() == 2
    clump = segment(pair, min_size_px=120, smoothing_px=0.0)
    assert clump.max() == 1
    assert ((clump > 0) == (pair > 0)).all()


@pytest.mark.parametrize("options", [{"min_size_px": 0}, {"smoothing_px": -1.0}, {"neck_px": 0.0}])
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(ProcessingError, match="particles need"):
        segment(np.eye(8), **options)


def test_what_is_no_map_is_refused():
    with pytest.raises(ProcessingError, match=r"map \(y, x\)"):
        foreground(np.zeros((3, 3, 3)))
    with pytest.raises(ProcessingError, match="they must match"):
        segment(np.eye(8), measured=np.ones((7, 8), bool))
    with pytest.raises(ProcessingError, match="0 shells"):
        depth_shells(np.ones((4, 4), np.int32), 0)


@given(labels=label_maps, n_shells=st.integers(1, 6), by=st.sampled_from(["depth", "area"]))
def test_shells_partition_the_labels(labels, n_shells, by):
    shells = depth_shells(labels, n_shells, by=by)
    assert ((shells > 0) == (labels > 0)).all()
    assert shells.max(initial=0) <= n_shells
    regions = regions_of(labels, shells)
    for label in np.unique(labels[labels > 0]):
        own = regions[labels == label]
        other = regions[(labels != label) & (labels > 0)]
        assert not np.isin(own, other).any()
    assert ((regions > 0) == (labels > 0)).all()


def test_equal_depth_and_equal_area_of_a_disc():
    labels = discs((81, 81), (40, 40, 40)).astype(np.int32)
    rows, columns = np.indices(labels.shape)
    radius = np.hypot(rows - 40, columns - 40)
    shells = depth_shells(labels, 4)
    for shell, (low, high) in enumerate([(31, 40), (21, 29), (11, 19), (0, 9)], start=1):
        assert (shells[(radius > low) & (radius < high)] == shell).all()
    area = np.bincount(depth_shells(labels, 4, by="area").ravel())[1:]
    assert area == pytest.approx(labels.sum() / 4, rel=0.06)


def test_depth_counts_from_the_surface_of_each_particle_and_contacts_are_surfaces():
    labels = np.zeros((9, 20), np.int32)
    labels[1:8, 1:10], labels[1:8, 10:19] = 1, 2
    depth = depth_below_surface(labels)
    assert depth[4, 1] == depth[4, 9] == depth[4, 10] == 0.5
    assert depth[4, 5] == 3.5
    assert not depth[0].any()


@given(labels=label_maps, seed=st.integers(0, 99))
def test_the_table_follows_the_labels(labels, seed):
    a_A = np.random.default_rng(seed).normal(8.2, 0.01, labels.shape)
    a_A[0, 0] = np.nan
    table = measure(labels, a_A=a_A, a_esd_A=np.full(labels.shape, 0.01), step_mm=0.002)
    assert table.n_pixels.sum() == (labels > 0).sum()
    for i, label in enumerate(table.label):
        rows, columns = np.nonzero(labels == label)
        assert table.x_mm[i] == pytest.approx((columns.mean() - 7.0) * 0.002)
        assert table.y_mm[i] == pytest.approx((7.0 - rows.mean()) * 0.002)
        values = a_A[rows, columns]
        values = values[np.isfinite(values)]
        if values.size:
            assert table.a_A[i] == pytest.approx(values.mean())
            assert table.a_esd_A[i] == pytest.approx(0.01 / np.sqrt(values.size))
            assert table.a_spread_A[i] == pytest.approx(values.std())
        else:
            assert np.isnan(table.a_A[i])
        assert table.area_mm2[i] == pytest.approx(rows.size * 4e-6)
        assert np.pi * table.radius_mm[i] ** 2 == pytest.approx(table.area_mm2[i])


def test_means_are_weighted_by_precision_and_edges_are_told():
    labels = np.zeros((6, 6), np.int32)
    labels[0, :2] = 3
    labels[3, 3] = 7
    a_A, esd = np.full((6, 6), 8.0), np.full((6, 6), 0.1)
    a_A[0, 1], esd[0, 1] = 8.3, 0.2
    table = measure(labels, a_A=a_A, a_esd_A=esd, scale=np.arange(36.0).reshape(6, 6))
    assert table.label.tolist() == [3, 7]
    assert table.touches_edge.tolist() == [True, False]
    assert table.a_A[0] == pytest.approx(8.0 * 0.8 + 8.3 * 0.2)
    assert table.a_esd_A[0] == pytest.approx(1 / np.sqrt(100 + 25))
    assert table.scale == pytest.approx([0.5, 21.0])
    assert np.isnan(table.width).all()


def test_a_map_without_particles_has_an_empty_table():
    table = measure(np.zeros((5, 5), np.int32), a_A=np.zeros((5, 5)))
    assert len(table) == 0
    assert table.a_A.shape == (0,)
