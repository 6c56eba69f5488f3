from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.histograms import (
    EDGES_A,
    NON_CHARACTERISTIC_A,
    lattice_histogram,
    particle_histograms,
)

maps = arrays(
    np.float64,
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.one_of(st.just(np.nan), st.floats(7.9, 8.4)),
)


def test_the_window_is_the_papers():
    assert NON_CHARACTERISTIC_A == (8.076, 8.145)
    assert EDGES_A[0] < 8.03
    assert EDGES_A[-1] > 8.25


@given(a_A=maps, seed=st.integers(0, 50))
def test_counts_sum_to_the_voxels_and_weights_to_their_sums(a_A, seed):
    rng = np.random.default_rng(seed)
    scale, esd = rng.random(a_A.shape), rng.uniform(1e-4, 1e-2, a_A.shape)
    found = lattice_histogram(a_A, a_esd_A=esd, scale=scale)
    good = np.isfinite(a_A)
    assert found.n_voxels == good.sum()
    within = good & (a_A >= EDGES_A[0]) & (a_A <= EDGES_A[-1])
    assert found.counts.sum() == within.sum()
    assert found.by_scale.sum() == pytest.approx(scale[within].sum())
    assert found.by_precision.sum() == pytest.approx((1 / esd[within] ** 2).sum())


@given(a_A=maps, seed=st.integers(0, 50))
def test_particles_and_background_add_up_to_the_slice(a_A, seed):
    labels = np.random.default_rng(seed).integers(0, 4, a_A.shape)
    parts = particle_histograms(labels, a_A, scale=np.full(a_A.shape, 2.0))
    whole = lattice_histogram(a_A, where=labels > 0)
    assert set(parts) == set(np.unique(labels[labels > 0]))
    assert sum(h.n_voxels for h in parts.values()) == whole.n_voxels
    if parts:
        assert (sum(h.counts for h in parts.values()) == whole.counts).all()
        assert (sum(h.by_scale for h in parts.values()) == 2.0 * whole.counts).all()


def test_fractions_within_the_window_plain_and_weighted():
    a_A = np.array([8.05, 8.10, 8.12, 8.20])
    found = lattice_histogram(
        a_A, scale=np.array([1.0, 2.0, 3.0, 4.0]), a_esd_A=np.array([1e-3, 2e-3, 1e-3, 1e-3])
    )
    assert found.fraction == 0.5
    assert found.fraction_by_scale == pytest.approx(0.5)
    assert found.fraction_by_precision == pytest.approx(1.25 / 3.25)
    assert found.fraction_esd == pytest.approx(0, abs=1e-12)


def test_the_fractions_esd_is_its_scatter():
    rng = np.random.default_rng(3)
    truth = rng.uniform(8.06, 8.09, 400)
    esd = np.full(400, 2e-3)
    drawn = [lattice_histogram(truth + esd * rng.normal(size=400)).fraction for _ in range(300)]
    # p(1 − p) is computed about the noisy value, which blurs it once more
    told = lattice_histogram(truth + esd * rng.normal(size=400), a_esd_A=esd).fraction_esd
    assert 0.8 < told / np.std(drawn) < 1.4


def test_negative_scales_and_unknown_esds_weigh_nothing():
    a_A = np.array([8.1, 8.2])
    found = lattice_histogram(a_A, scale=np.array([-1.0, np.nan]), a_esd_A=np.array([np.nan, 0.0]))
    assert found.by_scale.sum() == found.by_precision.sum() == 0
    assert np.isnan([found.fraction_by_scale, found.fraction_by_precision, found.fraction_esd]).all()
    bare = lattice_histogram(a_A)
    assert np.isnan(bare.by_scale).all()
    assert np.isnan(lattice_histogram(np.array([np.nan])).fraction)


def test_what_does_not_match_is_refused():
    a_A = np.zeros((3, 3))
    with pytest.raises(ProcessingError, match="scale has shape"):
        lattice_histogram(a_A, scale=np.zeros(9))
    with pytest.raises(ProcessingError, match="ascend"):
        lattice_histogram(a_A, edges_A=[8.2, 8.1])
    with pytest.raises(ProcessingError, match="is empty"):
        lattice_histogram(a_A, window_A=(8.2, 8.1))
    with pytest.raises(ProcessingError, match="map of labels"):
        particle_histograms(np.zeros((2, 2), int), a_A)
