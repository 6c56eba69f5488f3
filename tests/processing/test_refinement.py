"""Refined maps: recovery, least deviations, verdicts, refusals."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares

from xrdct_beamline.domain.errors import PhaseError, ProcessingError
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


@pytest.mark.parametrize("height", [100.0, 1000.0, 10_000.0])
def test_counts_scatter_as_little_as_they_can(model, height):
    scale = scale_for(model, height)
    pattern = model.pattern({SPINEL: 8.145}, [scale], [0.1 * height])
    maps = refine(noisy(pattern, 1500), model, counts=True)
    error = maps.a_A[SPINEL] - 8.145
    bound = model.cramer_rao({SPINEL: 8.145}, [scale], [0.1 * height, 0, 0, 0, 0, 0])["a_A"][SPINEL]
    assert np.all(maps.status == RefinementStatus.CONVERGED)
    assert error.std() / bound == pytest.approx(1.0, abs=0.1)
    assert abs(error.mean()) < 0.2 * error.std()
    assert 0.8 < maps.a_esd_A[SPINEL].mean() / error.std() < 1.25


def test_agrees_with_scipy_on_the_exact_model(model):
    scale = scale_for(model, 500.0)
    pattern = noisy(model.pattern({SPINEL: 8.17}, [scale], [80.0, 10.0]), 1)[0]
    sigma = np.full(RADIAL.size, 12.0)

    def misfit(p):
        return (model.pattern({SPINEL: p[0]}, [scale * p[1]], p[2:]) - pattern) / sigma

    ours = refine(pattern, model, sigma=sigma)
    found = least_squares(misfit, [8.171, 1.0, 80.0, 10.0, 0, 0, 0, 0], x_scale=[1e-3, 0.01] + [1.0] * 6)
    esd = np.sqrt(np.diag(np.linalg.inv(found.jac.T @ found.jac)))
    assert float(ours.a_A[SPINEL]) == pytest.approx(found.x[0], abs=0.05 * esd[0])
    assert float(ours.scale[SPINEL]) == pytest.approx(scale * found.x[1], abs=0.05 * scale * esd[1])
    assert float(ours.a_esd_A[SPINEL]) == pytest.approx(esd[0], rel=0.02)
    assert float(ours.scale_esd[SPINEL]) == pytest.approx(scale * esd[1], rel=0.02)
    assert ours.background == pytest.approx(found.x[2:], abs=0.2)


def test_two_spinels_of_one_structure_come_apart():
    spinel = Phase.shipped(SPINEL)
    model = PatternModel(
        [replace(spinel, name="poor"), replace(spinel, name="rich")],
        RADIAL, WAVELENGTH_A, profile=PROFILE,
        cell_limits={"poor": (8.02, 8.11), "rich": (8.11, 8.2)},
    )  # fmt: skip
    scale = scale_for(model, 2000.0, "poor")
    scales = {"poor": scale, "rich": scale / 2}
    maps = refine(
        noisy(model.pattern({"poor": 8.076, "rich": 8.145}, scales, [100.0]), 200), model, counts=True
    )
    for name, a_A in (("poor", 8.076), ("rich", 8.145)):
        error = maps.a_A[name] - a_A
        assert abs(error.mean()) < 0.3 * error.std()
        assert maps.a_esd_A[name].mean() / error.std() == pytest.approx(1.0, abs=0.2)
    share = maps.mass_fraction["poor"]
    assert maps.mass_fraction_esd["poor"].mean() / share.std() == pytest.approx(1.0, abs=0.2)
    assert maps.mass_fraction["poor"] + maps.mass_fraction["rich"] == pytest.approx(1.0)


def test_mass_fractions_are_those_of_hill_and_howard():
    model = make_model(SPINEL, "LiMnO2")
    scales = {SPINEL: 2e-6, "LiMnO2": 3e-5}
    pattern = model.pattern({SPINEL: 8.1, "LiMnO2": 4.13}, scales, [1.0])
    maps = refine(pattern, model)
    spinel = Phase.shipped(SPINEL).with_cell(a_A=8.1)
    rock = Phase.shipped("LiMnO2").with_cell(a_A=4.13)
    zmv = [2e-6 * spinel.cell_mass_g_mol * spinel.volume_A3, 3e-5 * rock.cell_mass_g_mol * rock.volume_A3]
    assert float(maps.mass_fraction[SPINEL]) == pytest.approx(zmv[0] / sum(zmv), abs=1e-3)


def test_free_monoclinic_cell():
    model = make_model("Li2MnO3", free_cells=["Li2MnO3"])
    cell = np.array(model.phases[0].phase.cell) * [1.003, 1.0, 0.998, 1, 1, 1] + [0, 0, 0, 0, 0.2, 0]
    scale = scale_for(model, 3000.0, "Li2MnO3")
    maps = refine(model.pattern({"Li2MnO3": cell}, [scale], [100.0]), model, counts=True)
    assert maps.status == RefinementStatus.CONVERGED
    assert maps.cell["Li2MnO3"] == pytest.approx(cell, abs=2e-3)
    assert np.isnan(maps.cell_esd["Li2MnO3"][3])


def test_free_width():
    model = make_model(SPINEL, free_width=True, width_limit_deg=0.8)
    scale = scale_for(model, 2000.0)
    pattern = model.pattern({SPINEL: 8.1}, [scale], [50.0], width=0.3)
    maps = refine(noisy(pattern, 300), model, counts=True)
    assert maps.width.mean() == pytest.approx(0.3, abs=0.005)
    assert maps.width_esd.mean() / maps.width.std() == pytest.approx(1.0, abs=0.2)
    assert np.isnan(refine(pattern, make_model(SPINEL), counts=True).width)


def test_occupancy_follows_a():
    table = {8.03: {"Li": 0.0}, 8.25: {"Li": 1.0}}
    model = make_model(SPINEL, occupancy_map={SPINEL: table})
    emptied = Phase.shipped(SPINEL).with_cell(a_A=8.08).with_occupancy({"Li": 0.05 / 0.22})
    plain = PatternModel([emptied], RADIAL, WAVELENGTH_A, profile=PROFILE, free_cells=[])
    pattern = plain.pattern({}, {SPINEL: 1e-5}, [20.0])
    maps = refine(pattern, model, sigma=np.ones(RADIAL.size))
    assert float(maps.a_A[SPINEL]) == pytest.approx(8.08, abs=2e-5)
    assert float(maps.scale[SPINEL]) == pytest.approx(1e-5, rel=2e-3)
    assert float(maps.rwp) < 2e-3


def test_verdicts_and_holes(model):
    scale = scale_for(model, 1000.0)
    patterns = np.tile(model.pattern({SPINEL: 8.1}, [scale], [50.0]), (7, 1))
    patterns[1] = 0.0
    patterns[2] = np.nan
    patterns[3, 5:] = np.nan
    patterns[4, 40:60] = np.nan
    patterns[4, 100] = np.inf
    patterns[5] = model.pattern({SPINEL: 8.36}, [scale], [50.0])
    patterns[6] = np.random.default_rng(0).normal(0.0, 1.0, RADIAL.size)
    maps = refine(patterns, model, sigma=np.full(RADIAL.size, 5.0))
    s = RefinementStatus
    assert maps.status.tolist() == [
        s.CONVERGED, s.NO_SIGNAL, s.NOT_MEASURED, s.FAILED, s.CONVERGED, maps.status[5], s.NO_SIGNAL,
    ]  # fmt: skip
    assert maps.status[5] in (s.AT_LIMIT, s.FAILED)
    assert maps.a_A[SPINEL][[0, 4]] == pytest.approx(8.1, abs=3e-5)
    assert np.all(np.isnan(maps.a_A[SPINEL][[1, 2, 3, 6]]))


def test_a_far_cell_is_found_whatever_the_start(model):
    scale = scale_for(model, 1000.0)
    far = refine(model.pattern({SPINEL: 8.02}, [scale], [50.0])[None], model)
    maps = refine(model.pattern({SPINEL: 8.28}, [scale], [50.0])[None], model, start=far)
    assert maps.a_A[SPINEL] == pytest.approx([8.28], abs=3e-5)


def test_start_changes_nothing_but_the_way(model):
    patterns = noisy(model.pattern({SPINEL: 8.1}, [scale_for(model, 500.0)], [50.0]), 50)
    cold = refine(patterns, model, counts=True)
    warm = refine(patterns, model, counts=True, start=cold)
    assert warm.a_A[SPINEL] == pytest.approx(cold.a_A[SPINEL], abs=0.05 * cold.a_esd_A[SPINEL].mean())


def test_noise_that_differs_from_bin_to_bin_is_found_out(model):
    """Without sigma the noisy bins come to weigh less: the scatter nears that of known weights."""
    pattern = model.pattern({SPINEL: 8.1}, [scale_for(model, 100.0)], [20.0])
    sigma = np.where(np.arange(RADIAL.size) % 2, 1.0, 10.0)
    patterns = pattern + np.random.default_rng(3).normal(size=(600, RADIAL.size)) * sigma
    unknown, known = refine(patterns, model), refine(patterns, model, sigma=sigma)
    spread = unknown.a_A[SPINEL].std()
    assert spread == pytest.approx(known.a_A[SPINEL].std(), rel=0.1)
    assert unknown.a_esd_A[SPINEL].mean() / spread == pytest.approx(1.0, abs=0.15)


def test_stop_leaves_the_rest_unmeasured_and_progress_counts(model):
    patterns = np.tile(model.pattern({SPINEL: 8.1}, [scale_for(model, 500.0)], [50.0]), (4000, 1))
    stop, seen = threading.Event(), []

    def progress(done, total):
        seen.append((done, total))
        stop.set()

    maps = refine(patterns, model, counts=True, threads=1, progress=progress, stop=stop)
    left = maps.status == RefinementStatus.NOT_MEASURED
    assert 0 < left.sum() < 4000
    assert np.all(maps.status[~left] == RefinementStatus.CONVERGED)
    assert seen[0][1] == 4000
    assert seen[-1][0] == 4000 - left.sum()


def test_any_layout_of_memory_gives_the_same(model):
    patterns = noisy(model.pattern({SPINEL: 8.1}, [scale_for(model, 500.0)], [50.0]), 12).reshape(3, 4, -1)
    turned = np.asfortranarray(patterns.astype(np.float64))
    one, two = (refine(p, model, counts=True).a_A[SPINEL] for p in (patterns, turned))
    assert np.array_equal(one, two)


def test_unit_of_scattering_vector_makes_no_difference(model):
    q = 4 * np.pi * np.sin(np.radians(RADIAL) / 2) / WAVELENGTH_A
    other = PatternModel([Phase.shipped(SPINEL)], q, WAVELENGTH_A, "q_A^-1", PROFILE, free_cells=[])
    assert other.pattern({}, [1e-6]) == pytest.approx(model.pattern({}, [1e-6]), rel=1e-3, abs=1e-3)


def test_doublet_is_the_weighted_sum_of_its_lines():
    lines = ((0.248, 2.0), (0.2485, 1.0))
    options = {"free_cells": []}
    both = make_model("LiMnO2", emission=lines, **options).pattern({}, [1e-4])
    first = make_model("LiMnO2", emission=lines[:1], **options).pattern({}, [1e-4])
    second = make_model("LiMnO2", emission=((0.248, 0.0), lines[1]), **options).pattern({}, [1e-4])
    assert both == pytest.approx((2 * first + second) / 3, rel=1e-3)


def test_bad_input_is_refused_in_a_sentence(model):
    spinel = Phase.shipped(SPINEL)
    with pytest.raises(PhaseError, match="two phases are called"):
        PatternModel([spinel, spinel], RADIAL, WAVELENGTH_A)
    with pytest.raises(PhaseError, match="no reflection between"):
        PatternModel([spinel], np.linspace(0.5, 1.5, 50), WAVELENGTH_A)
    with pytest.raises(ProcessingError, match="not finite"):
        PatternModel([spinel], np.where(RADIAL > 5, np.nan, RADIAL), WAVELENGTH_A)
    with pytest.raises(PhaseError, match="cell_limits names"):
        PatternModel([spinel], RADIAL, WAVELENGTH_A, cell_limits={"x": (8.0, 8.1)})
    ones = np.ones((2, RADIAL.size))
    with pytest.raises(ProcessingError, match="bins, the model"):
        refine(ones[:, :-1], model)
    with pytest.raises(ProcessingError, match="sigma has shape"):
        refine(ones, model, sigma=np.ones(3))
    with pytest.raises(ProcessingError, match="give one of them"):
        refine(ones, model, sigma=ones, counts=True)
    with pytest.raises(ProcessingError, match="maps to start from"):
        refine(ones, model, start=refine(ones[:1], model))
