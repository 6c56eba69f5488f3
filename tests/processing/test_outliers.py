from __future__ import annotations

import numpy as np
import pytest

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.results import Particles
from xrdct_beamline.processing.outliers import find_outliers, robust_z


def table(a_A, a_esd_A, scale=None, width=None):
    n = len(a_A)
    nothing = np.full(n, np.nan)
    return Particles(
        label=np.arange(1, n + 1),
        n_pixels=np.full(n, 50),
        area_mm2=np.full(n, 5e-5),
        x_mm=np.zeros(n),
        y_mm=np.zeros(n),
        radius_mm=np.full(n, 4e-3),
        touches_edge=np.zeros(n, bool),
        a_A=np.asarray(a_A, float),
        a_esd_A=np.asarray(a_esd_A, float),
        a_spread_A=nothing,
        scale=nothing if scale is None else np.asarray(scale, float),
        scale_esd=nothing,
        width=nothing if width is None else np.asarray(width, float),
        width_esd=nothing,
    )


def bulk(n=200, scatter=2e-3, esd=1e-3, seed=1):
    rng = np.random.default_rng(seed)
    esds = esd * rng.uniform(0.5, 1.5, n)
    return 8.2 + scatter * rng.normal(size=n) + esds * rng.normal(size=n), esds


def test_the_particle_that_does_not_follow_is_found_with_its_reason():
    a_A, esd = bulk()
    a_A[41] = 8.12
    found = find_outliers(table(a_A, esd))
    assert found.label[found.is_outlier].tolist() == [42]
    assert found.order[0] == 42
    assert found.reasons(42)[0].startswith("a -")
    assert found.reasons(1) == ()
    assert found.median["a"] == pytest.approx(8.2, abs=5e-4)
    assert found.scatter["a"] == pytest.approx(2e-3, rel=0.25)


def test_z_is_normal_in_the_bulk_whatever_the_share_of_the_esds():
    for scatter, esd in [(2e-3, 1e-4), (1e-3, 2e-3), (0.0, 1e-3)]:
        z, _, told = robust_z(*bulk(2000, scatter, esd))
        assert np.std(z) == pytest.approx(1.0, abs=0.1)
        assert told == pytest.approx(scatter, abs=2.5e-4)


def test_a_poorly_known_particle_is_no_outlier():
    a_A, esd = bulk()
    a_A[3], esd[3] = 8.12, 0.05
    assert not find_outliers(table(a_A, esd)).is_outlier.any()


def test_any_quantity_counts_and_unknown_ones_are_left_out():
    a_A, esd = bulk(50)
    width = np.random.default_rng(2).normal(1.0, 0.05, 50)
    width[7] = 3.0
    found = find_outliers(table(a_A, esd, width=width))
    assert set(found.z) == {"a", "width"}
    assert found.label[found.is_outlier].tolist() == [8]
    assert found.reasons(8)[0].startswith("width +")


def test_few_or_equal_or_unknown_particles_are_survived():
    assert not find_outliers(table([8.0, 8.3, 8.1], [1e-3] * 3)).is_outlier.any()
    assert not find_outliers(table([8.1] * 9, [1e-3] * 9)).is_outlier.any()
    same = find_outliers(table([8.1] * 9 + [8.2], [np.nan] * 10))
    assert same.label[same.is_outlier].tolist() == [10]
    empty = find_outliers(table([], []))
    assert empty.order.size == 0
    a_A, esd = bulk(30)
    a_A[0] = np.nan
    assert not find_outliers(table(a_A, esd)).is_outlier[0]
    with pytest.raises(ProcessingError, match="must be positive"):
        find_outliers(table(a_A, esd), limit=0)
