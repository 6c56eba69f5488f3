"""Structure factors, detector geometry and powder patterns of the forward model."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pyFAI
import pyFAI.detectors
import pytest

from xrdct_beamline.domain.errors import CalibrationError, ConfigurationError
from xrdct_beamline.sim.crystals import ALUMINIUM, LI2MNO3, LIMNO2, SPINEL, StructureFactors
from xrdct_beamline.sim.detector import SimulatedDetector, demo_poni
from xrdct_beamline.sim.diffraction import Artefacts, Beam, FrameRenderer
from xrdct_beamline.sim.electrode import Disc, Particle, make_electrode, rasterise
from xrdct_beamline.sim.lattice import LMO_LATTICE
from xrdct_beamline.sim.powder import cone_power_per_um, make_bank

DETECTORS = ("Pilatus CdTe 300k", "Pilatus CdTe 2M")

#: 2θ in degrees at 0.2480 Å, multiplicity and mean |F|² in e² per cell.
SPINEL_LINES = [
    (2.9857, 8, 37886.0),
    (4.8765, 12, 376.1),
    (5.7188, 24, 22703.5),
    (5.9734, 8, 17199.3),
    (6.8985, 6, 161360.5),
    (7.5183, 24, 8962.8),
    (8.4514, 24, 65.2),
    (8.9651, 32, (24 * 24135.9 + 8 * 6958.5) / 32),  # 511 and 333
    (9.7618, 12, 102100.4),
    (10.2103, 48, 11903.6),
]


def _poni(detector: str = DETECTORS[0], rot: tuple[float, float, float] = (0.0012, -0.0008, 0.0)) -> str:
    return (
        f"poni_version: 2\nDetector: {detector}\nDetector_config: {{}}\nDistance: 0.3\nPoni1: -0.0026\n"
        f"Poni2: 0.0419\nRot1: {rot[0]}\nRot2: {rot[1]}\nRot3: {rot[2]}\nWavelength: 2.47968e-11\n"
    )


@pytest.fixture(scope="module")
def detector() -> SimulatedDetector:
    return SimulatedDetector.from_poni(demo_poni())


@pytest.fixture(scope="module")
def bank(detector):
    return make_bank(detector, LMO_LATTICE, half_length_mm=0.6)


@pytest.fixture(scope="module")
def blob(detector) -> FrameRenderer:
    """A single particle at x = 0.2, y = 0.1 mm, no tails of the beam, and an ideal detector."""
    return _single_particle(detector, 0.2, 0.1)


def _single_particle(detector: SimulatedDetector, x_mm: float, y_mm: float, **beam: float) -> FrameRenderer:
    electrode = rasterise([Particle(x_mm=x_mm, y_mm=y_mm, radius_mm=0.06)], disc=Disc())
    settings = Beam(**{"tail_share": 0.0, **beam})
    return FrameRenderer(electrode, detector, beam=settings, artefacts=Artefacts.none())


def test_spinel_lines_are_the_tabulated_ones():
    lines = StructureFactors(SPINEL, 0.2480, 10.3).lines()
    assert len(lines) == len(SPINEL_LINES)
    for line, (two_theta_deg, multiplicity, f_squared) in zip(lines, SPINEL_LINES, strict=True):
        assert line.two_theta_deg == pytest.approx(two_theta_deg, abs=6e-5)
        assert line.multiplicity == multiplicity
        assert line.f_squared_sum / multiplicity == pytest.approx(f_squared, rel=1e-4, abs=0.06)


@pytest.mark.parametrize(
    ("structure", "volume_A3", "expected"),
    [
        (LIMNO2, 70.445, [334.4, 3030.5, 1699.0, 201.3, 1073.8]),
        (ALUMINIUM, 66.406, [1190.7, 1048.4, 701.4, 538.8, 494.9]),
    ],
)
def test_minor_phases_have_the_tabulated_lines(structure, volume_A3, expected):
    lines = StructureFactors(structure, 0.2480, 12.2).lines()
    assert structure.volume_A3 == pytest.approx(volume_A3, abs=1e-3)
    assert [x.multiplicity for x in lines] == [8, 6, 12, 24, 8]
    assert [x.f_squared_sum / x.multiplicity for x in lines] == pytest.approx(expected, rel=1e-4, abs=0.06)


def test_layered_oxide_shows_its_marker_lines():
    angles = [x.two_theta_deg for x in StructureFactors(LI2MNO3, 0.2480, 4.0).lines()]
    assert angles == pytest.approx([2.996, 3.331, 3.478, 3.870], abs=1e-3)


def test_lithium_and_contraction_change_the_intensities():
    factors = StructureFactors(SPINEL, 0.2480, 10.3, min_scale=0.97)
    full, empty = factors.lines(lithium=1.0), factors.lines(scale=8.03 / 8.2441, lithium=0.0)
    assert empty[0].two_theta_deg == pytest.approx(3.0653, abs=1e-4)
    full_ratio = full[8].f_squared_sum / full[0].f_squared_sum
    assert empty[8].f_squared_sum / empty[0].f_squared_sum / full_ratio == pytest.approx(0.80, abs=0.03)


def test_first_ring_takes_a_millionth_of_the_beam_per_micrometre():
    line = StructureFactors(SPINEL, 0.2480, 3.1).lines()[0]
    assert cone_power_per_um(line, SPINEL.volume_A3, 0.2480) == pytest.approx(1.12e-6, rel=0.01)


@pytest.mark.parametrize(
    ("name", "rot"),
    [
        (DETECTORS[0], (0.0, 0.0, 0.0)),
        (DETECTORS[0], (0.0012, -0.0008, 0.0)),
        (DETECTORS[0], (0.1, -0.07, 0.3)),
        pytest.param(DETECTORS[1], (0.1, -0.07, 0.3), marks=pytest.mark.slow),
    ],
)
def test_geometry_agrees_with_pyfai(name, rot, tmp_path):
    file = tmp_path / "a.poni"
    file.write_text(_poni(name, rot), encoding="utf-8")
    reference, ours = pyFAI.load(str(file)), SimulatedDetector.from_poni(_poni(name, rot))
    two_theta_rad = reference.center_array(ours.shape, "2th_rad", scale=False)
    assert np.abs(ours.two_theta_rad - two_theta_rad).max() < 1e-9
    assert np.abs(ours.solid_angle - reference.solidAngleArray(ours.shape)).max() < 1e-6
    assert np.abs(ours.polarisation(0.99) - reference.polarization(ours.shape, factor=0.99)).max() < 1e-6
    assert ours.wavelength_A == pytest.approx(reference.wavelength * 1e10)
    assert ours.distance_mm == pytest.approx(reference.getFit2D()["directDist"])


@pytest.mark.parametrize("name", DETECTORS)
def test_gaps_are_pyfais(name):
    ours = SimulatedDetector.from_poni(demo_poni(), detector=name)
    reference = pyFAI.detectors.detector_factory(name)
    assert ours.shape == reference.shape
    assert np.array_equal(ours.gap_mask, reference.calc_mask().astype(bool))


def test_demo_geometry_is_as_promised(detector, tmp_path):
    file = tmp_path / "demo.poni"
    file.write_text(demo_poni(), encoding="utf-8")
    assert pyFAI.load(str(file)).detector.name == "Pilatus CdTe 300k" == detector.name
    angles = np.degrees(detector.two_theta_rad)
    assert 0.4 < angles.min() < 0.7
    assert angles.max() > 18.0
    near_ring = np.abs(angles - 5.0) < 0.05
    assert np.ptp(detector.azimuth_rad[near_ring]) > math.radians(160.0)


@pytest.mark.parametrize(("two_theta_deg", "azimuth_deg"), [(3.0, 90.0), (8.0, 60.0), (12.0, 110.0)])
def test_rays_hit_the_pixel_that_sees_their_angle(detector, two_theta_deg, azimuth_deg):
    row, column = detector.pixel_of(math.radians(two_theta_deg), math.radians(azimuth_deg))
    pixel = round(row), round(column)
    assert math.degrees(detector.two_theta_rad[pixel]) == pytest.approx(two_theta_deg, abs=0.025)
    assert math.degrees(detector.azimuth_rad[pixel]) == pytest.approx(azimuth_deg, abs=0.5)
    nearer = detector.pixel_of(math.radians(two_theta_deg), math.radians(azimuth_deg), depth_mm=1.0)
    shift_px = math.tan(math.radians(two_theta_deg)) / 0.172
    moved = math.hypot(nearer[0] - row, nearer[1] - column)
    assert moved == pytest.approx(shift_px, rel=0.01)
    assert nearer[0] < row  # closer to the beam, which passes below the detector


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Wavelength: 2.47968e-11", "", "no wavelength"),
        ("Distance: 0.3", "Distance: near", "not a number"),
        ("Distance: 0.3", "Distance: -0.3", "must be positive"),
        ("Poni1: -0.0026", "Poni1: nan", "must be finite"),
        ("Pilatus CdTe 300k", "Eiger 4M", "not simulated; use one of Pilatus CdTe 300k"),
    ],
)
def test_unusable_poni_text_is_refused(old, new, message):
    with pytest.raises(CalibrationError, match=message):
        SimulatedDetector.from_poni(_poni().replace(old, new))


def test_last_calibration_of_a_poni_file_counts():
    text = _poni() + _poni().replace("Distance: 0.3", "Distance: 0.5")
    assert SimulatedDetector.from_poni(text).poni.distance == 0.5


#: 440 of the spinel at x = 0.1, a = 8.053 Å.
RING_DEG = 2 * math.degrees(math.asin(0.247968 * math.sqrt(32) / 2 / 8.053))


def _ring_centre_deg(renderer: FrameRenderer, rotation_deg: float, translation_mm: float) -> float:
    """Centroid of the 440 ring over a straight background, as seen from the rotation axis."""
    detector = renderer.detector
    counts = renderer.expected(rotation_deg, translation_mm, 0.1, 1.0)  # no rock salt yet
    angle = np.degrees(detector.two_theta_rad)
    used = (np.abs(angle - RING_DEG) < 0.3) & np.isfinite(counts)
    intensity = counts[used] / detector.solid_angle[used] / detector.polarisation(0.99)[used]
    edges = np.linspace(RING_DEG - 0.3, RING_DEG + 0.3, 61)
    bins = np.digitize(angle[used], edges)
    pattern = np.array([intensity[bins == k].mean() for k in range(1, 61)])
    centres = 0.5 * (edges[1:] + edges[:-1])
    pattern -= np.interp(centres, centres[[0, -1]], pattern[[0, -1]])
    return float((pattern * centres).sum() / pattern.sum())


def test_ring_is_where_braggs_law_puts_it(detector):
    on_axis = _single_particle(detector, 0.0, 0.0)  # no parallax
    assert _ring_centre_deg(on_axis, 0.0, 0.0) == pytest.approx(RING_DEG, abs=3e-4)


def test_each_ray_element_has_its_own_distance(blob):
    """Turned to where it lies 0.2236 mm before and behind the axis, the blob moves its rings."""
    towards = math.degrees(math.atan2(0.1, 0.2)) - 90.0  # the beam then runs along the blob's direction
    near = _ring_centre_deg(blob, towards, 0.0)
    far = _ring_centre_deg(blob, towards + 180.0, 0.0)
    shift_rad = 2 * 0.2236 / 300.0 * math.sin(math.radians(RING_DEG)) * math.cos(math.radians(RING_DEG))
    assert far - near == pytest.approx(math.degrees(shift_rad), rel=0.03)


def test_patterns_between_two_of_the_bank_are_shared_out_well(detector, bank):
    finer = make_bank(detector, LMO_LATTICE, half_length_mm=0.6, n_depths=2, n_lattices=127)
    assert finer.a_A[61] == pytest.approx(0.5 * (bank.a_A[30] + bank.a_A[31]))
    mixed, exact = 0.5 * (bank.spinel[0, 30] + bank.spinel[0, 31]), finer.spinel[0, 61]
    assert np.abs(mixed - exact).max() < 0.01 * exact.max()


def test_transmission_is_that_of_the_materials(blob):
    clear = blob.transmission(0.0, 1.3)
    assert clear == pytest.approx(math.exp(-0.257e-4 * 2e3 * math.sqrt(1.4**2 - 1.3**2)), rel=1e-6)
    assert blob.transmission(0.0, 5.0) == 1.0
    through, beside = blob.transmission(0.0, 0.2), blob.transmission(0.0, 0.12)
    extra = 120.0 * (0.95 * (4.82e-4 - 0.26e-4) + 0.26e-4 - 0.30e-4)
    assert through / beside == pytest.approx(math.exp(-extra), rel=0.01)


@pytest.mark.parametrize("settings", [{"flux_photons_s": 2e11}, {"filter_transmission": 0.01}])
def test_counts_scale_with_the_flux(blob, detector, settings):
    brighter = _single_particle(detector, 0.2, 0.1, **settings)
    ratio = np.nansum(brighter.expected(0, 0.2, 0.5, 0.01)) / np.nansum(blob.expected(0, 0.2, 0.5, 0.01))
    assert ratio == pytest.approx(2.0, rel=1e-6)


def test_counts_scale_with_exposure_and_monitor(blob):
    once = blob.frame(0, 0.2, 0.5, 0.1)
    longer, brighter = blob.frame(0, 0.2, 0.5, 0.4), blob.frame(0, 0.2, 0.5, 0.1, i0=4.0)
    total = once[once > 0].sum()
    assert total > 10_000
    for other in (longer, brighter):
        assert other[other > 0].sum() == pytest.approx(4 * total, abs=5 * math.sqrt(20 * total))


def test_frame_without_beam_is_empty(blob):
    assert blob.frame(0, 0.2, 0.5, 0.01, i0=0.0).max() == 0


def test_demo_frame_has_a_few_counts_on_strong_rings(detector):
    renderer = FrameRenderer(make_electrode(1, pixel_mm=0.002), detector)
    assert 0.5 < np.nanmax(renderer.expected(0.0, 0.0, 0.5, 0.01)) < 4.0


def test_lattice_map_is_that_of_the_state(blob):
    truth = blob.lattice_map(0.02, 61, 0.39)
    assert np.nanmin(truth) == pytest.approx(np.nanmax(truth))
    assert truth[25, 40] == pytest.approx(0.5 * (8.076 + 8.145))
    assert np.isnan(truth[0, 0])
    assert np.array_equal(np.isfinite(truth), blob.electrode.density_map(0.02, 61) > 0)
    assert blob.spinel_map(0.02, 61, 0.2) == pytest.approx(blob.electrode.density_map(0.02, 61))
    assert blob.minor_maps(0.02, 61, 1.0).shape == (2, 61, 61)
    assert 0 < blob.minor_maps(0.02, 61, 1.0)[0].max() < 0.06


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 0.0, 1.1, 0.01), "takes 0 to 1"),
        ((math.nan, 0.0, 0.5, 0.01), "finite"),
        ((0.0, 0.0, 0.5, 0.0), "must be positive"),
        ((0.0, 0.0, 0.5, 0.01, -1.0), "must not be negative"),
    ],
)
def test_impossible_frames_are_refused(blob, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        blob.frame(*arguments)


def test_tails_show_the_foil(detector):
    electrode = rasterise([], disc=Disc(), pixel_mm=0.01)
    with_tails, without = (
        FrameRenderer(electrode, detector, beam=Beam(tail_share=share), artefacts=Artefacts.none())
        for share in (0.02, 0.0)
    )
    angle = np.degrees(detector.two_theta_rad)
    on_ring = (np.abs(angle - 6.08) < 0.02) & ~detector.gap_mask & ~detector.bad_mask
    bright, dark = (r.expected(0, 0, 0.5, 1.0)[on_ring].mean() for r in (with_tails, without))
    assert bright > 1.3 * dark


def test_renderer_settings_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Beam().flux_photons_s = 1.0
