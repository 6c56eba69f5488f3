"""Whole scans at the level of ring averages, against the renderer of frames and by counting."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.sim.composition import Composition
from xrdct_beamline.sim.crystals import LI2MNO3, LIMNO2, SPINEL, StructureFactors, make_spinel
from xrdct_beamline.sim.degraded import DegradedComposition
from xrdct_beamline.sim.detector import SimulatedDetector, demo_poni
from xrdct_beamline.sim.diffraction import Artefacts, Beam, FrameRenderer
from xrdct_beamline.sim.electrode import Disc, Particle, make_electrode, rasterise
from xrdct_beamline.sim.lattice import LMO_LATTICE
from xrdct_beamline.sim.paths import BeamProfile
from xrdct_beamline.sim.patterns import PatternForward, PlantedStructures, RingDetector
from xrdct_beamline.sim.powder import STRUCTURES
from xrdct_beamline.sim.truth import slice_truth, structure_density_g_cm3

PHOTONS = 2e9


@pytest.fixture(scope="module")
def detector():
    return SimulatedDetector.from_poni(demo_poni())


@pytest.fixture(scope="module")
def electrode():
    """Two particles of interest and a small ordinary one, off the axis."""
    particles = [
        Particle(x_mm=0.010, y_mm=0.012, radius_mm=0.010, kind="Li-rich"),
        Particle(x_mm=-0.014, y_mm=-0.006, radius_mm=0.009, kind="bulk"),
        Particle(x_mm=0.012, y_mm=-0.014, radius_mm=0.006),
    ]
    disc = Disc(radius_mm=0.03, x_mm=0.001, y_mm=-0.001, chip_depth_mm=0.002)
    return rasterise(particles, disc=disc, pixel_mm=0.0005, chamber_radius_mm=0.04)


@pytest.fixture(scope="module")
def forward(electrode, detector):
    contents = Composition(electrode, LMO_LATTICE, 1)
    rings = RingDetector(detector, n_bins=300, range_deg=(4.0, 9.4))
    return PatternForward(electrode, contents, rings, photons=PHOTONS)


def test_rings_are_the_means_of_the_renderers_pixels(electrode, detector):
    rings = RingDetector(detector, n_bins=300, range_deg=(4.0, 9.4), flat_rms=0.0)
    thin = BeamProfile(n_rays=1)
    contents = Composition(electrode, LMO_LATTICE, 7)
    forward = PatternForward(electrode, contents, rings, beam=thin, n_depths=9, n_lattices=64)
    renderer = FrameRenderer(
        electrode,
        detector,
        seed=7,
        artefacts=Artefacts.none(),
        beam=Beam(flux_photons_s=2e11, filter_transmission=1.0),
    )
    counts = renderer.expected(30.0, 0.012, 0.5, 0.01)
    angle = np.degrees(detector.two_theta_rad)
    ring = np.floor((angle - 4.0) / 5.4 * 300)
    used = np.isfinite(counts) & (ring >= 0) & (ring < 300)
    nominal = detector.solid_angle_sr * detector.polarisation(0.99)
    index = ring[used].astype(int)
    mean = np.bincount(index, counts[used], 300) / np.bincount(index, nominal[used], 300)
    line, transmission = forward.expected_line(30.0, np.array([0.012]), 0.5)
    pixel_sr = (172e-6 / (1e-3 * detector.distance_mm)) ** 2
    modelled = transmission[0] * line[0] / pixel_sr + PHOTONS * forward._air
    assert transmission[0] == pytest.approx(renderer.transmission(30.0, 0.012, 0.5), rel=1e-6)
    assert np.abs(modelled - mean).max() < 2e-4 * mean.max()


def test_noise_is_that_of_the_counts_and_repeats(forward):
    translation = np.linspace(-0.02, 0.02, 9)
    expected, transmission = forward.expected_line(10.0, translation, 0.5)
    line, sigma = forward.line(10.0, translation, 0.5, 3)
    pull = (line - expected) / sigma
    assert abs(pull.mean()) < 0.08
    assert pull.std() == pytest.approx(1.0, abs=0.05)
    counts = (expected * transmission[:, None] + PHOTONS * forward._air * forward._pixel_sr)[4]
    assert sigma[4].mean() * transmission[4] == pytest.approx(
        (np.sqrt(counts / forward.counts_per_value())).mean(), rel=0.02
    )
    again, _ = forward.line(10.0, translation, 0.5, 3)
    np.testing.assert_array_equal(again, line)
    other, _ = forward.line(10.0, translation, 0.5, 4)
    assert (other != line).mean() > 0.9


def test_the_mass_in_a_line_is_the_same_at_every_angle(electrode, detector):
    rings = RingDetector(detector, n_bins=20, range_deg=(6.9, 7.2))
    contents = Composition(electrode, LMO_LATTICE, 1)
    forward = PatternForward(electrode, contents, rings, walls=False)
    translation = np.arange(-40, 41) * 0.001
    mass = [forward.expected_line(a, translation, 0.5)[0].sum() for a in (0.0, 33.0, 90.0, 121.0)]
    assert np.ptp(mass) < 6e-3 * mass[0]  # what the raster of circles of 20 pixels allows


def test_the_first_ring_takes_a_millionth_of_the_beam_per_micrometre(detector):
    disc = Disc(radius_mm=0.03, x_mm=0.0, y_mm=0.0, chip_depth_mm=0.0)
    whole = rasterise(
        [Particle(x_mm=0.0, y_mm=0.0, radius_mm=0.02)], disc=disc, pixel_mm=0.001, chamber_radius_mm=0.04
    )
    rings = RingDetector(detector, n_bins=400, range_deg=(4.0, 9.4))
    forward = PatternForward(whole, Composition(whole, LMO_LATTICE, 1), rings, walls=False)
    line, _ = forward.expected_line(0.0, np.array([0.0]), 1.0)
    peak = np.abs(rings.two_theta_deg - 6.9) < 0.25  # 400, 0.6 of 111 in power times sinθ
    counts = (line[0] * forward.counts_per_value())[peak].sum() / PHOTONS / (0.95 * 40.0)
    ring_sr = 2 * math.pi * np.sin(np.radians(6.9)) * np.radians(5.4 / 400) * peak.sum()
    seen = forward._sensitivity[peak].sum() / ring_sr
    assert counts / seen == pytest.approx(1.1e-6 * 0.60 * 6.9 / 2.9857, rel=0.1)


def test_structures_can_differ_from_those_assumed(electrode, detector):
    rings = RingDetector(detector, n_bins=300, range_deg=(4.0, 9.4))
    contents = Composition(electrode, LMO_LATTICE, 1)
    translation = np.array([0.01])

    def ratio(**settings):
        forward = PatternForward(
            electrode, contents, rings, planted=PlantedStructures(**settings), walls=False
        )
        line = forward.expected_line(0.0, translation, 1.0)[0][0]
        two_theta = rings.two_theta_deg
        return line[np.abs(two_theta - 8.96) < 0.1].sum() / line[np.abs(two_theta - 6.9) < 0.1].sum()

    plain = ratio()
    moved = ratio(structures=(make_spinel(u=0.2642), *STRUCTURES[1:]))
    emptied = ratio(lithium_offset=-0.3)
    assert abs(moved / plain - 1) > 0.01
    assert abs(emptied / plain - 1) > 0.01


def test_default_spinel_is_unchanged_by_its_maker():
    lines = StructureFactors(make_spinel(lithium_on_manganese=0.05), 0.2480, 8.0).lines()
    plain = StructureFactors(SPINEL, 0.2480, 8.0).lines()
    assert make_spinel() == SPINEL
    assert lines[0].f_squared_sum < 0.95 * plain[0].f_squared_sum


def test_truth_says_where_one_phase_fills_a_voxel(electrode):
    contents = Composition(electrode, LMO_LATTICE, 1)
    charged = slice_truth(electrode, contents.at(0.4), 0.001, 61)
    rich, bulk = charged.label == 1, charged.label == 2
    assert charged.single_phase[rich].all()
    assert not charged.single_phase[bulk].any()
    assert charged.depth_mm[rich].max() == pytest.approx(0.0095, abs=0.001)
    # x = right, y = up: Particle 1 lies in the upper right
    rows, columns = np.nonzero(rich)
    assert columns.mean() - 30 == pytest.approx(10, abs=0.5)
    assert 30 - rows.mean() == pytest.approx(12, abs=0.5)


def test_truth_weighs_phases_by_their_cells(electrode):
    truth = slice_truth(electrode, Composition(electrode, LMO_LATTICE, 1).at(1.0), 0.001, 61)
    spinel, rock_salt, monoclinic = truth.mass_fractions(truth.label == 2)
    assert rock_salt == pytest.approx(0.26, rel=0.05)
    assert monoclinic == 0.0
    core = (truth.label == 1) & (truth.depth_mm > 0.006)
    shell = (truth.label == 1) & (truth.depth_mm < 0.003)
    assert truth.mass_fractions(core)[2] == 0.0
    assert truth.mass_fractions(shell)[2] == pytest.approx(0.035, rel=0.1)
    assert truth.mass_fractions(core).sum() == pytest.approx(1.0)
    assert spinel > 0.7


def test_densities_are_those_of_the_crystals():
    assert structure_density_g_cm3(SPINEL) == pytest.approx(4.287, abs=0.005)
    assert structure_density_g_cm3(LIMNO2) == pytest.approx(4.43, abs=0.01)
    assert structure_density_g_cm3(LI2MNO3) == pytest.approx(3.88, abs=0.02)


def test_degraded_particles_segregate_more_where_the_lattice_is_smaller():
    electrode = make_electrode(
        2, pixel_mm=0.0005, radius_mm=0.05, chamber_radius_mm=0.055, median_particle_radius_mm=0.004
    )
    composition = DegradedComposition(electrode, 1)
    truth = slice_truth(electrode, composition.at(1.0), 0.001, 111)
    assert len(set(composition.classes)) == 3
    a_A, rock_salt = [], []
    for k in range(3):
        mask = np.isin(truth.label, 1 + np.flatnonzero(composition.classes == k))
        a_A.append(np.nanmean(truth.a_A[mask]))
        rock_salt.append(truth.mass_fractions(mask)[1])
    assert a_A == sorted(a_A)
    assert rock_salt == sorted(rock_salt, reverse=True)
    assert rock_salt[0] == pytest.approx(0.20, abs=0.01)


def test_what_cannot_be_is_refused(electrode, detector):
    contents = Composition(electrode, LMO_LATTICE, 1)
    with pytest.raises(ConfigurationError, match="have no pixel"):
        PatternForward(electrode, contents, RingDetector(detector, range_deg=(4.0, 60.0)))
    with pytest.raises(ConfigurationError, match="photons"):
        PatternForward(electrode, contents, RingDetector(detector), photons=0.0)
    with pytest.raises(ConfigurationError, match="at least one ray"):
        BeamProfile(n_rays=0)


def test_a_scan_yields_its_lines_by_angle(forward):
    geometry = ScanGeometry.raster(9, 0.004, 4, 180.0)
    lines = list(forward.scan(geometry, 0.5, 1))
    assert [angle for angle, _, _ in lines] == [0.0, 45.0, 90.0, 135.0]
    assert lines[0][1].shape == lines[0][2].shape == (9, 300)


def test_a_powder_on_the_axis_peaks_where_bragg_says(forward):
    pattern, sigma = forward.powder([(LIMNO2, 30.0)], 100, 1)
    two_theta = forward.rings.two_theta_deg
    expected = 2 * np.degrees(np.arcsin(forward.rings.detector.wavelength_A / 2 / (4.13 / 2)))
    assert two_theta[pattern.argmax()] == pytest.approx(expected, abs=0.02)
    assert 0 < sigma.max() < 0.05 * pattern.max()
