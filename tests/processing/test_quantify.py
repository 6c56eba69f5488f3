from __future__ import annotations

import numpy as np
import pytest

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.domain.results import RegionPatterns
from xrdct_beamline.processing.particles import depth_shells, regions_of
from xrdct_beamline.processing.peak_profile import Profile
from xrdct_beamline.processing.quantify import gradient, mass_fractions, region_depths
from xrdct_beamline.processing.refinement import PatternModel

RADIAL = np.linspace(2.5, 11.5, 240)
SPINEL, ROCK_SALT = Phase.shipped("LiMn2O4"), Phase.shipped("LiMnO2")


@pytest.fixture(scope="module")
def model():
    return PatternModel(
        [SPINEL, ROCK_SALT],
        RADIAL,
        0.248,
        profile=Profile(w=1.6e-3),
        background=2,
        cell_limits={"LiMn2O4": (8.1, 8.25), "LiMnO2": (4.11, 4.15)},
    )


def mixture(model, weight, a_A=8.18):
    """Return a pattern of the two phases by mass fraction of the rock salt, after Hill and Howard."""
    shares = zip((SPINEL.with_cell(a_A=a_A), ROCK_SALT), (1 - weight, weight), strict=True)
    scales = [share / (phase.cell_mass_g_mol * phase.volume_A3) for phase, share in shares]
    pattern = model.pattern({SPINEL.name: a_A}, scales)
    return pattern * (100.0 / pattern.max())


def test_mass_fractions_are_recovered_and_their_esds_are_the_scatter(model):
    rng = np.random.default_rng(3)
    weights = np.repeat([0.02, 0.08, 0.2], 40)
    exact = np.stack([mixture(model, w) + 5.0 for w in weights])
    sigma = np.sqrt(exact / 20.0)
    patterns = RegionPatterns(
        label=np.arange(1, 121),
        n_pixels=np.full(120, 50.0),
        intensity=exact + sigma * rng.normal(size=exact.shape),
        sigma=sigma,
        correlation=np.eye(120),
    )
    found = mass_fractions(patterns, model)
    percent, esd = found.weight_percent(ROCK_SALT.name)
    assert (found.maps.status == 0).all()
    pulls = (percent - 100 * weights) / esd
    assert np.std(pulls) == pytest.approx(1.0, abs=0.2)
    assert np.mean(pulls) == pytest.approx(0.0, abs=0.3)
    other, _ = found.weight_percent(SPINEL.name)
    assert percent + other == pytest.approx(100.0)


def test_a_region_without_numbers_stops_nothing(model):
    exact = np.stack([mixture(model, 0.1), np.full(RADIAL.size, np.nan)])
    patterns = RegionPatterns(
        label=np.array([3, 9]), n_pixels=np.ones(2), intensity=exact, sigma=np.ones_like(exact)
    )
    found = mass_fractions(patterns, model)
    percent, _ = found.weight_percent(ROCK_SALT.name)
    assert percent[0] == pytest.approx(10.0, abs=0.05)
    assert np.isnan(percent[1])
    assert found.label.tolist() == [3, 9]


def test_depths_of_the_shells_of_a_disc():
    rows, columns = np.indices((61, 61))
    disc = (np.hypot(rows - 30, columns - 30) <= 24).astype(np.int32)
    regions = regions_of(disc, depth_shells(disc, 4))
    depths = region_depths(regions, disc)
    # means over rings of the radii 24-18, 18-12, 12-6, 6-0
    rings = [(24, 18), (18, 12), (12, 6), (6, 0)]
    expected = [24 - 2 / 3 * (a**3 - b**3) / (a**2 - b**2) for a, b in rings]
    assert depths == pytest.approx(expected, abs=0.6)
    with pytest.raises(ProcessingError, match="do not match"):
        region_depths(regions[1:], disc)


DEPTH = np.array([1.0, 3.0, 5.0, 7.0])
CORRELATION = np.array([[1, -0.3, 0.05, 0], [-0.3, 1, -0.3, 0.05], [0.05, -0.3, 1, -0.3], [0, 0.05, -0.3, 1]])


def test_slope_and_esd_follow_the_correlated_noise():
    rng = np.random.default_rng(1)
    esd = np.array([0.1, 0.2, 0.2, 0.4])
    factor = np.linalg.cholesky(CORRELATION * np.outer(esd, esd))
    found = [
        gradient(DEPTH, 4.0 - 0.5 * DEPTH + factor @ rng.normal(size=4), esd, CORRELATION) for _ in range(400)
    ]
    slopes = np.array([g.slope for g in found])
    assert slopes.mean() == pytest.approx(-0.5, abs=0.01)
    assert slopes.std() == pytest.approx(found[0].slope_esd, rel=0.12)
    assert np.mean([g.surface for g in found]) == pytest.approx(4.0, abs=0.03)
    assert not any(g.is_flat for g in found)
    assert np.mean([g.chance_of_line for g in found]) == pytest.approx(0.5, abs=0.06)


def test_a_flat_profile_is_told_as_flat():
    rng = np.random.default_rng(2)
    found = [gradient(DEPTH, 8.2 + 1e-3 * rng.normal(size=4), np.full(4, 1e-3)) for _ in range(200)]
    assert np.mean([g.is_flat for g in found]) > 0.96
    assert np.mean([abs(g.slope) < 2 * g.slope_esd for g in found]) == pytest.approx(0.95, abs=0.05)
    assert found[0].mean == pytest.approx(8.2, abs=2e-3)


def test_unknown_shells_are_left_out_and_too_few_refused():
    known = gradient([1, 3, 5], [1.0, np.nan, 3.0], [0.1, 0.1, 0.1])
    assert known.slope == pytest.approx(0.5)
    assert np.isnan(known.chance_of_line)
    with pytest.raises(ProcessingError, match="1 are known"):
        gradient([1, 3], [1.0, np.nan], [0.1, 0.1])
    with pytest.raises(ProcessingError, match="need one shape"):
        gradient([1, 3], [1.0], [0.1, 0.1])
    with pytest.raises(ProcessingError, match="correlation has shape"):
        gradient([1, 3], [1.0, 2.0], [0.1, 0.1], np.eye(3))
