"""The whole-pattern fit: against a pattern that is summed line by line, and against real samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xrdct_beamline.domain.errors import PhaseError, ProcessingError
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.processing._pattern_model import Model
from xrdct_beamline.processing._pattern_terms import bin_means, lorentz_polarisation
from xrdct_beamline.processing.peak_profile import Profile
from xrdct_beamline.processing.refinement import PatternModel, refine
from xrdct_beamline.processing.whole_pattern import (
    COPPER_K_ALPHA,
    PatternFit,
    Radiation,
    Setting,
    fit_pattern,
)

WAVELENGTH_A = 0.2480
RADIATION = Radiation.monochromatic(WAVELENGTH_A)
TWO_THETA = np.arange(2.5, 13.0, 0.025) + 0.0125
PROFILE = Profile(u=0.15, v=-0.004, w=6e-4, y=0.02, z=0.003)


def direct(
    phase: Phase,
    scale: float,
    profile: Profile,
    zero_deg: float = 0.0,
    radiation: Radiation = RADIATION,
    two_theta: np.ndarray = TWO_THETA,
) -> np.ndarray:
    """Sum the lines of a phase at 9 points per bin, without anything of the model under test."""
    step = two_theta[1] - two_theta[0]
    x, w = np.polynomial.legendre.leggauss(9)
    points = two_theta[:, None] + 0.5 * step * x
    total = np.zeros_like(points)
    for wavelength_A, share in radiation.emission:
        for r in phase.reflections(radiation.emission[0][0], two_theta[-1] + 1.0):
            sine = wavelength_A / (2 * r.d_A)
            angle = 2 * np.degrees(np.arcsin(sine))
            lorentz = 1 / (sine**2 * np.cos(np.arcsin(sine)))
            if radiation.monochromator_deg is not None:
                k = np.cos(np.radians(radiation.monochromator_deg)) ** 2
                lorentz *= (1 + k * np.cos(np.radians(angle)) ** 2) / (1 + k)
            line = profile.shape(points - angle - zero_deg, angle + zero_deg)
            total += share * scale * r.multiplicity * r.f_squared * lorentz * line
    return total @ w / 2


@pytest.mark.parametrize("asymmetry", [{}, {"axial": 0.02}, {"sensor_depth_deg": 0.06}])
def test_bins_hold_the_mean_of_the_lines(asymmetry: dict[str, float]) -> None:
    profile = Profile(u=0.15, w=6e-4, y=0.1, z=0.01, **asymmetry)
    centres, areas = np.array([4.01, 6.3]), np.array([1.0, 2.0])
    edges = np.arange(2.5, 9.0, 0.025)
    x, w = np.polynomial.legendre.leggauss(9)
    points = 0.5 * (edges[1:] + edges[:-1])[:, None] + 0.0125 * x
    expected = sum(a * profile.shape(points - c, c) @ w / 2 for c, a in zip(centres, areas, strict=True))
    assert bin_means(edges, centres, areas, profile) == pytest.approx(expected, abs=2e-4 * expected.max())


def test_polarisation_of_a_laboratory_diffractometer() -> None:
    lorentz = 1 / (np.sin(np.radians(15)) ** 2 * np.cos(np.radians(15)))
    assert lorentz_polarisation(30.0, None) == pytest.approx(lorentz)
    assert lorentz_polarisation(30.0, 0.0) == pytest.approx(lorentz * (1 + 0.75) / 2)
    k = np.cos(np.radians(26.6)) ** 2
    assert lorentz_polarisation(30.0, 26.6) == pytest.approx(lorentz * (1 + k * 0.75) / (1 + k))


def test_everything_planted_is_recovered() -> None:
    planted = Phase.shipped("LiMn2O4").with_cell(a_A=8.2137)
    second = Phase.shipped("Li2MnO3").with_cell(a_A=4.945, b_A=8.541, c_A=5.024, beta_deg=109.31)
    background = 40.0 - 3.0 * TWO_THETA + 0.1 * TWO_THETA**2
    pattern = direct(planted, 2e-6, PROFILE, 0.004) + direct(second, 3e-6, PROFILE, 0.004) + background
    fit = fit_pattern(
        TWO_THETA,
        pattern,
        [Phase.shipped("LiMn2O4"), Phase.shipped("Li2MnO3")],
        RADIATION,
        free=("cell", "zero_deg", "u", "v", "w", "y", "z"),
        start=Setting(profile=Profile(w=1e-3, z=5e-3)),
    )
    for found, true in zip(fit.phases, (planted, second), strict=True):
        assert found.cell == pytest.approx(true.cell, abs=2e-5)
    assert fit.setting.zero_deg == pytest.approx(0.004, abs=1e-6)
    for letter in "uvwyz":
        assert getattr(fit.setting.profile, letter) == pytest.approx(
            getattr(PROFILE, letter), rel=0.01, abs=1e-5
        )
    assert fit.values["LiMn2O4:scale"] == pytest.approx(2e-6, rel=1e-4)
    mass = {p.name: s * p.cell_mass_g_mol * p.volume_A3 for p, s in ((planted, 2e-6), (second, 3e-6))}
    for name, value in mass.items():
        assert fit.mass_fractions[name] == pytest.approx(value / sum(mass.values()), abs=1e-5)
    assert fit.rwp < 1e-4
    assert fit.background == pytest.approx(background, abs=0.05)


def test_sensor_depth_and_zero_are_told_apart_when_the_cell_is_known() -> None:
    profile = Profile(u=0.15, w=4e-4, z=0.002, sensor_depth_deg=0.05)
    phase = Phase.shipped("CeO2")
    pattern = direct(phase, 1e-5, profile, 0.001) + 5.0
    start = Setting(profile=Profile(w=6e-4, z=4e-3, sensor_depth_deg=0.01))
    fit = fit_pattern(TWO_THETA, pattern, [phase], RADIATION, start=start,
                      free=("zero_deg", "u", "w", "z", "sensor_depth_deg"))  # fmt: skip
    assert fit.setting.profile.sensor_depth_deg == pytest.approx(0.05, rel=0.02)
    assert fit.setting.zero_deg == pytest.approx(0.001, abs=2e-5)
    assert fit.phases[0].cell == phase.cell


def test_two_emission_lines_and_axial_divergence() -> None:
    radiation = Radiation(emission=COPPER_K_ALPHA, monochromator_deg=26.6)
    two_theta = np.arange(26.0, 62.0, 0.04)
    profile = Profile(w=0.004, z=0.03, axial=0.03)
    phase = Phase.shipped("CaF2")
    pattern = direct(phase, 1e-3, profile, 0.0, radiation, two_theta) + 100.0
    single = direct(phase, 1e-3, profile, 0.0, Radiation.monochromatic(1.5405929), two_theta)
    assert np.abs(pattern - 100.0 - single).max() > 0.1 * single.max()
    fit = fit_pattern(two_theta, pattern, [phase.with_cell(a_A=5.47)], radiation,
                      free=("cell", "w", "z", "axial"),
                      start=Setting(profile=Profile(w=0.008, z=0.02, axial=0.02)), background=2)  # fmt: skip
    assert fit.phases[0].cell[0] == pytest.approx(5.463, abs=2e-5)
    assert fit.setting.profile.axial == pytest.approx(0.03, rel=0.01)
    assert fit.rwp < 2e-3


def test_grains_and_strains_of_a_phase_widen_its_lines_alone() -> None:
    wide = Profile(u=PROFILE.u, v=PROFILE.v, w=PROFILE.w, x=0.03, y=PROFILE.y + 0.2, z=PROFILE.z)
    pattern = direct(Phase.shipped("LiMn2O4"), 2e-6, PROFILE) + direct(Phase.shipped("Al"), 4e-5, wide) + 10
    phases = [Phase.shipped("LiMn2O4"), Phase.shipped("Al")]
    fit = fit_pattern(TWO_THETA, pattern, phases, RADIATION,
                      free=("size_deg", "strain_deg"), start=Setting(profile=PROFILE),
                      background=1)  # fmt: skip
    assert fit.values["Al:size_deg"] == pytest.approx(0.03, rel=0.02)
    assert fit.values["Al:strain_deg"] == pytest.approx(0.2, rel=0.02)
    assert fit.values["LiMn2O4:size_deg"] < 1e-4


def _noisy_fits(n: int) -> list[PatternFit]:
    rng = np.random.default_rng(7)
    phase = Phase.shipped("LiMn2O4")
    two_theta = TWO_THETA[:200]
    mean = direct(phase, 1e-6, PROFILE, two_theta=two_theta) + 20.0
    return [
        fit_pattern(two_theta, rng.poisson(mean).astype(float), [phase], RADIATION, counts=True,
                    start=Setting(profile=PROFILE), background=2)
        for _ in range(n)
    ]  # fmt: skip


def test_esds_are_the_scatter_of_counts() -> None:
    fits = _noisy_fits(30)
    for name in ("LiMn2O4:a_A", "LiMn2O4:scale"):
        values = np.array([fit.values[name] for fit in fits])
        # 30 draws know their own scatter to 13 %.
        assert np.mean([fit.esds[name] for fit in fits]) == pytest.approx(values.std(ddof=1), rel=0.45)
    a = np.array([fit.values["LiMn2O4:a_A"] for fit in fits])
    assert abs(a.mean() - 8.2441) < 4 * a.std() / np.sqrt(len(a))
    assert np.mean([fit.goodness_of_fit for fit in fits]) == pytest.approx(1.0, abs=0.03)


def test_ring_intensities_are_measured_not_calculated() -> None:
    """A ring that the structure makes too weak is found so, and the others are left alone."""
    phase = Phase.shipped("CeO2")
    pattern = direct(phase, 1e-5, PROFILE) + 5.0
    stronger = next(r for r in phase.reflections(WAVELENGTH_A, 13.0) if r.hkl == (2, 2, 0))
    angle = stronger.two_theta_deg
    area = 1e-5 * stronger.multiplicity * stronger.f_squared * float(lorentz_polarisation(angle, None))
    edges = np.append(TWO_THETA - 0.0125, TWO_THETA[-1] + 0.0125)
    pattern += 0.1 * bin_means(edges, np.array([angle]), np.array([area]), PROFILE)
    fit = fit_pattern(TWO_THETA, pattern, [phase], RADIATION, free=(), start=Setting(profile=PROFILE))
    ratios = {ring.hkl: ring.measured / ring.calculated for ring in fit.rings}
    scale = fit.values["CeO2:scale"] / 1e-5
    assert ratios[(2, 2, 0)] * scale == pytest.approx(1.1, abs=2e-3)
    assert ratios[(3, 1, 1)] * scale == pytest.approx(1.0, abs=2e-3)
    assert fit.ring_r > 0.01


def test_it_is_the_same_model_as_that_of_the_voxels() -> None:
    profile = Profile(u=0.15, v=-0.0035, w=3e-4, y=0.01, z=0.0022, sensor_depth_deg=0.05)
    phases = [Phase.shipped("LiMn2O4"), Phase.shipped("Li2MnO3")]
    voxels = PatternModel(phases, TWO_THETA, WAVELENGTH_A, profile=profile, background=3, zero_deg=1e-3)
    edges = np.append(TWO_THETA - 0.0125, TWO_THETA[-1] + 0.0125)
    model = Model(edges, phases, RADIATION, Setting(profile=profile, zero_deg=1e-3), (), 3)
    ours = model.pattern(np.array([2e-6, 3e-6, 10.0, 1.0, 0.5]))
    theirs = voxels.pattern({}, {"LiMn2O4": 2e-6, "Li2MnO3": 3e-6}, [10.0, 1.0, 0.5])
    assert ours == pytest.approx(theirs, abs=1e-5 * theirs.max())


def test_a_voxel_gets_the_same_cell_and_esd() -> None:
    phase = Phase.shipped("LiMn2O4")
    mean = direct(phase.with_cell(a_A=8.2137), 1e-7, PROFILE) + 5.0
    counts = np.random.default_rng(11).poisson(mean).astype(float)
    fit = fit_pattern(TWO_THETA, counts, [phase], RADIATION, counts=True, start=Setting(profile=PROFILE),
                      background=3)  # fmt: skip
    maps = refine(counts, PatternModel([phase], TWO_THETA, WAVELENGTH_A, profile=PROFILE, background=3),
                  counts=True, threads=1)  # fmt: skip
    esd = fit.esds["LiMn2O4:a_A"]
    assert float(maps.a_A["LiMn2O4"]) == pytest.approx(fit.values["LiMn2O4:a_A"], abs=0.15 * esd)
    assert float(maps.a_esd_A["LiMn2O4"]) == pytest.approx(esd, rel=0.1)
    scale = fit.values["LiMn2O4:scale"]
    assert float(maps.scale["LiMn2O4"]) == pytest.approx(scale, abs=0.15 * fit.esds["LiMn2O4:scale"])


def test_bins_that_were_not_measured_do_not_count() -> None:
    pattern = direct(Phase.shipped("CeO2"), 1e-5, PROFILE) + 5.0
    holes = pattern.copy()
    holes[[3, 100, 101]] = np.nan
    fit = fit_pattern(TWO_THETA, holes, [Phase.shipped("CeO2")], RADIATION, start=Setting(profile=PROFILE))
    assert len(fit.measured) == len(pattern) - 3
    assert fit.phases[0].cell[0] == pytest.approx(5.411651, abs=1e-5)


def test_what_cannot_be_fitted_is_refused() -> None:
    phase, pattern = Phase.shipped("CeO2"), np.ones_like(TWO_THETA)
    for arguments, message in (
        ((TWO_THETA, pattern[:-1], [phase]), "do not make a pattern"),
        ((TWO_THETA[::-1], pattern, [phase]), "must ascend"),
        ((TWO_THETA, pattern, []), "at least one phase"),
        ((TWO_THETA, pattern, [phase, phase]), "same name"),
        ((TWO_THETA, np.full_like(pattern, np.nan), [phase]), "0 bins cannot determine"),
    ):
        with pytest.raises(ProcessingError, match=message):
            fit_pattern(*arguments, RADIATION)
    with pytest.raises(ProcessingError, match="wavelength cannot be free"):
        fit_pattern(TWO_THETA, pattern, [phase], RADIATION, free=("wavelength",))
    with pytest.raises(PhaseError, match="no reflection between"):
        fit_pattern(TWO_THETA[:20], pattern[:20], [phase], RADIATION)
    with pytest.raises(ProcessingError, match="sum to 1"):
        Radiation(emission=((1.54, 1.0), (1.55, 0.5)))


@pytest.mark.slow
def test_round_robin_sample_1g_is_what_was_weighed(shared_data: Path) -> None:
    """Madsen et al., J. Appl. Cryst. 34 (2001) 409; nothing here was adjusted to the answer."""
    angle, counts = np.loadtxt(shared_data / "cpd_round_robin" / "cpd-1g.prn", unpack=True)
    keep = slice(np.searchsorted(angle, 20.0), np.searchsorted(angle, 100.0) // 2 * 2)
    angle, counts = angle[keep].reshape(-1, 2).mean(axis=1), counts[keep].reshape(-1, 2).sum(axis=1)
    fit = fit_pattern(
        angle,
        counts,
        [Phase.shipped(name) for name in ("Al2O3", "ZnO", "CaF2")],
        Radiation(emission=COPPER_K_ALPHA, monochromator_deg=26.6),
        counts=True,
        free=("cell", "displacement_deg", "u", "v", "w", "axial", "size_deg", "strain_deg"),
        start=Setting(profile=Profile(u=0.01, w=0.004, x=0.02, y=0.05, axial=0.03)),
        background=12,
    )
    weighed = {"Al2O3": 0.3137, "ZnO": 0.3421, "CaF2": 0.3442}
    for name, fraction in weighed.items():
        assert fit.mass_fractions[name] == pytest.approx(fraction, abs=0.015)
    assert fit.goodness_of_fit < 1.5
