"""The phantom: its particles, the orientation of its maps, and what is true in each voxel."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.sim.composition import Composition
from xrdct_beamline.sim.electrode import MATRIX, OUTSIDE, Disc, Electrode, Particle, make_electrode, rasterise
from xrdct_beamline.sim.lattice import LMO_LATTICE

PIXEL_MM = 0.004  # coarser than the beam: these tests look at shapes


@pytest.fixture(scope="module")
def electrode() -> Electrode:
    return make_electrode(1, pixel_mm=PIXEL_MM)


def _blob(x_mm: float, y_mm: float, radius_mm: float = 0.08, kind: str = "ordinary") -> Electrode:
    particle = Particle(x_mm=x_mm, y_mm=y_mm, radius_mm=radius_mm, kind=kind)
    return rasterise([particle], disc=Disc(), pixel_mm=0.002)


def _value(electrode: Electrode, values: np.ndarray, kind: str) -> np.ndarray:
    """Values of the regions of the particle of a kind, from its surface to its core."""
    owner = next(i for i, p in enumerate(electrode.particles) if p.kind == kind)
    return values[electrode.region_particle == owner]


def test_same_seed_gives_the_same_electrode(electrode):
    again, other = make_electrode(1, pixel_mm=PIXEL_MM), make_electrode(2, pixel_mm=PIXEL_MM)
    assert np.array_equal(electrode.regions, again.regions)
    assert electrode.particles == again.particles
    assert not np.array_equal(electrode.labels, other.labels)


def test_particles_do_not_overlap_and_lie_in_the_disc(electrode):
    for a, b in itertools.combinations(electrode.particles, 2):
        assert math.hypot(a.x_mm - b.x_mm, a.y_mm - b.y_mm) > a.radius_mm + b.radius_mm
    for p in electrode.particles:
        assert electrode.disc.margin_mm(np.array(p.x_mm), np.array(p.y_mm)) > p.radius_mm


def test_both_particles_of_interest_are_there_and_within_the_fine_scan(electrode):
    found = {p.kind: p for p in electrode.particles if p.kind != "ordinary"}
    assert set(found) == {"Li-rich", "bulk"}
    assert all(math.hypot(p.x_mm, p.y_mm) + p.radius_mm < 0.2 for p in found.values())


def test_particles_fill_about_half_of_the_disc(electrode):
    area = (electrode.labels > 0).sum() * PIXEL_MM**2
    assert 0.45 < area / (math.pi * 0.5**2) < 0.65


def test_radii_follow_the_size_distribution():
    small = make_electrode(3, pixel_mm=PIXEL_MM, median_particle_radius_mm=0.02)
    radii = [p.radius_mm for p in small.particles if p.kind == "ordinary"]
    assert len(radii) > 150
    assert np.median(radii) == pytest.approx(0.02, rel=0.15)
    assert max(radii) <= 0.04


def test_rasters_agree_with_each_other(electrode):
    assert np.array_equal(electrode.labels > 0, electrode.regions > MATRIX)
    assert np.array_equal(electrode.labels - 1, electrode.region_particle[electrode.regions])
    assert np.array_equal(electrode.labels > 0, electrode.depth_mm > 0)
    assert electrode.regions[0, 0] == OUTSIDE


def test_depth_shells_run_from_surface_to_core():
    e = _blob(0.1, 0.05, kind="Li-rich")
    row, column = _pixel(e, 0.1, 0.05)
    assert e.depth_mm[row, column] == pytest.approx(0.08, abs=0.005)
    assert e.region_depth[e.regions[row, column]] > 0.9
    edge_row, edge_column = _pixel(e, 0.1, 0.05 + 0.077)
    assert e.region_depth[e.regions[edge_row, edge_column]] < 0.1


def _pixel(e: Electrode, x_mm: float, y_mm: float) -> tuple[int, int]:
    n = e.regions.shape[0]
    return round((n - 1) / 2 - y_mm / e.pixel_mm), round((n - 1) / 2 + x_mm / e.pixel_mm)


@pytest.mark.parametrize(("x_mm", "y_mm"), [(0.2, 0.1), (-0.3, -0.2)])
def test_density_map_has_y_upwards_and_x_to_the_right(x_mm, y_mm):
    density = _blob(x_mm, y_mm, radius_mm=0.05).density_map(0.02, 41)
    rows, columns = np.indices(density.shape)
    assert (columns * density).sum() / density.sum() == pytest.approx(20 + x_mm / 0.02, abs=0.05)
    assert (rows * density).sum() / density.sum() == pytest.approx(20 - y_mm / 0.02, abs=0.05)


@pytest.mark.parametrize(("step_mm", "n"), [(0.02, 61), (0.02, 60), (0.013, 101), (0.003, 401)])
def test_density_map_keeps_the_area(electrode, step_mm, n):
    area = electrode.density_map(step_mm, n).sum() * step_mm**2
    assert area == pytest.approx(0.95 * (electrode.labels > 0).sum() * PIXEL_MM**2, rel=0.01)


def test_density_map_is_an_average():
    density = _blob(0.0, 0.0, radius_mm=0.1).density_map(0.02, 21)
    assert density[10, 10] == pytest.approx(0.95)
    assert density[0, 0] == 0.0
    edge = (density > 0) & (density < 0.95)
    assert edge.any()


def test_phantom_cannot_be_taken_for_its_mirror_image(electrode):
    density = electrode.density_map(0.02, 61)
    for turned in (density[::-1], density[:, ::-1], density[::-1, ::-1], density.T, np.rot90(density)):
        assert np.corrcoef(density.ravel(), turned.ravel())[0, 1] < 0.7


def test_mean_lithium_of_the_particles_is_the_cells(electrode):
    contents = Composition(electrode, LMO_LATTICE, seed=1).at(0.5)
    ordinary = np.array(
        [k >= 0 and electrode.particles[k].kind == "ordinary" for k in electrode.region_particle]
    )
    lithium = (contents.spinel * LMO_LATTICE.lithium(contents.a_A)).sum(axis=1) / np.where(
        ordinary, contents.spinel.sum(axis=1), 1.0
    )
    mean = np.average(lithium, weights=ordinary * electrode.region_volume)
    assert mean == pytest.approx(0.5, abs=1e-3)
    assert lithium[ordinary].std() > 0.01


def test_lithium_rich_particle_is_one_phase_with_a_growing_gradient(electrode):
    composition = Composition(electrode, LMO_LATTICE, seed=1)
    tilt = []
    for x in (0.2, 0.6, 1.0):
        contents = composition.at(x)
        a = _value(electrode, contents.a_A[:, 0], "Li-rich")
        assert np.all(_value(electrode, contents.spinel[:, 1], "Li-rich") == 0)
        tilt.append(a[-1] - a[0])
    assert tilt[0] == pytest.approx(0.0, abs=1e-9)
    assert 0.005 < tilt[1] < tilt[2] < 0.018
    assert a[0] == pytest.approx(8.224, abs=2e-3)
    assert a[-1] == pytest.approx(8.240, abs=2e-3)


def test_bulk_particle_has_two_phases_without_gradient(electrode):
    contents = Composition(electrode, LMO_LATTICE, seed=1).at(0.39)
    a, spinel = _value(electrode, contents.a_A, "bulk"), _value(electrode, contents.spinel, "bulk")
    assert a == pytest.approx(np.tile([8.076, 8.145], (len(a), 1)))
    assert spinel[:, 0] == pytest.approx(spinel[:, 1])


def test_minor_phases_are_where_the_experiment_found_them(electrode):
    composition = Composition(electrode, LMO_LATTICE, seed=1)
    charged, discharged = composition.at(0.2).minor, composition.at(1.0).minor
    rock_salt, layered = _value(electrode, discharged, "bulk")[0] / 0.95
    # 26 % by mass: 0.26/4.43 / (0.26/4.43 + 0.74/4.29) by volume
    assert rock_salt == pytest.approx(0.2539, abs=1e-4)
    assert layered == 0.0
    assert np.all(charged[:, 0] == 0.0)
    shell = _value(electrode, charged[:, 1], "Li-rich") / 0.95
    assert np.all(shell[:6] == pytest.approx(0.0385, abs=1e-3))
    assert np.all(shell[6:] == 0.0)


def test_volume_fractions_fill_the_solid(electrode):
    contents = Composition(electrode, LMO_LATTICE, seed=1).at(0.8)
    total = contents.spinel.sum(axis=1) + contents.minor.sum(axis=1)
    assert total == pytest.approx(0.95 * (electrode.region_particle >= 0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"median_particle_radius_mm": 0.2}, "median particle radius"),
        ({"radius_mm": 0.6}, "does not fit"),
        ({"pixel_mm": 0.0}, "pixel_mm"),
    ],
)
def test_impossible_electrodes_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        make_electrode(1, **settings)
