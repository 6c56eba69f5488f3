"""Refined maps: recovery, least deviations, verdicts, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.domain.results import RefinementStatus
from xrdct_beamline.processing.peak_profile import Profile
from xrdct_beamline.processing.refinement import PatternModel, refine

WAVELENGTH_A = 0.248
RADIAL = (np.arange(400) + 0.5) * 0.025 + 2.0
PROFILE = Profile(u=0.15, w=7e-4, y=0.01, z=0.003)
SPINEL = "LiMn2O4"


def make_model(*names, **options):
    options = {"cell_limits": {SPINEL: (8.0, 8.3)}, **options} if SPINEL in names else options
    return PatternModel([Phase.shipped(n) for n in names], RADIAL, WAVELENGTH_A, profile=PROFILE, **options)


@pytest.fixture(scope="module")
def model():
    return make_model(SPINEL)


def scale_for(model, height, name=SPINEL):
    """Scale that puts the crest of the strongest reflection at a height."""
    return height / model.pattern({}, {name: 1.0}).max()


def noisy(pattern, n, seed=0):
    return np.random.default_rng(seed).poisson(pattern, (n, pattern.size)).astype(np.float32)


def test_clean_patterns_come_back(model):
    cells = np.linspace(8.03, 8.27, 12)
    scale = scale_for(model, 1000.0)
    patterns = [model.pattern({SPINEL: a}, [scale], [100.0, -20.0, 5.0]) for a in cells]
    maps = refine(np.reshape(patterns, (3, 4, -1)), model)
    assert maps.status.shape == (3, 4)
    assert np.all(maps.status == RefinementStatus.CONVERGED)
    assert maps.a_A[SPINEL].ravel() == pytest.approx(cells, abs=2e-5)
    assert maps.scale[SPINEL] / scale == pytest.approx(1.0, abs=1e-3)
    assert maps.background[..., :3].reshape(-1, 3) == pytest.approx(np.tile([100, -20, 5], (12, 1)), abs=0.3)
    assert maps.cell[SPINEL][0, 0] == pytest.approx([8.03] * 3 + [90] * 3, abs=2e-5)
    assert maps.mass_fraction[SPINEL] == pytest.approx(1.0)
