"""Maps of a slice of two discs of spinel with different lattice parameters."""

from __future__ import annotations

import numpy as np
import pytest
from builders import tiny_calibration

from xrdct_beamline.callbacks import map_builder
from xrdct_beamline.callbacks.calibration import detector_of
from xrdct_beamline.callbacks.map_builder import MapBuilder
from xrdct_beamline.callbacks.map_settings import MapSettings
from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.callbacks.slice_state import SliceRun, SliceState
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.instrument import Instrument
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.domain.results import RefinementStatus
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.processing.reconstruction import IncrementalFBP

N = 15
GEOMETRY = ScanGeometry.raster(n_translations=N, step_mm=0.01, n_rotations=16, order="interlaced")
RADIAL = np.linspace(2.5, 10.5, 200)
LMO = Phase.shipped("LiMn2O4")
INSTRUMENT = Instrument(wavelength_A=0.248, profile={"w": 0.08**2}, two_theta_range_deg=(1.0, 12.0))
SETTINGS = MapSettings(phases=(LMO,), instrument=INSTRUMENT, background=3)


@pytest.fixture(scope="module")
def model():
    wavelength_A = detector_of(tiny_calibration()).wavelength_A
    return SETTINGS.model(RADIAL, wavelength_A, "2th_deg")


@pytest.fixture(scope="module")
def lines(model):
    """Projections of a disc with a = 8.10 Å on the left and one with 8.20 Å on the right."""
    t = np.arange(N) - (N - 1) / 2
    lines = []
    for angle in np.radians(GEOMETRY.rotation_deg):
        line = np.zeros((N, len(RADIAL)))
        for centre, a_A in ((-3.5, 8.10), (3.5, 8.20)):
            chord = 2 * np.sqrt(np.clip(3.0**2 - (t - centre * np.cos(angle)) ** 2, 0, None))
            line += chord[:, None] * model.pattern({LMO.name: a_A}, {LMO.name: 2e-8}, [1.0, 0.0, 0.0])
        lines.append(line.astype(np.float32))
    return lines


def slice_state(role="broad", geometry=GEOMETRY) -> SliceState:
    run = SliceRun(
        uid="run", role=role, title="", started_s=0.0, geometry=geometry, calibration=tiny_calibration(),
        settings=ProcessingSettings(threads=1, bins=len(RADIAL)),
    )  # fmt: skip
    state = SliceState(run=run, make_radial=lambda: RADIAL)
    state.fbp = IncrementalFBP(N, len(RADIAL), 16, (N - 1) / 2, geometry.rotation_deg)
    return state


def add(state, lines, indices):
    for index in indices:
        sigma = np.full_like(lines[index], 0.05)
        state.fbp.add(GEOMETRY.rotation_deg[index], lines[index], sigma)
        state.done[index] = ("file", 0)


@pytest.fixture
def published():
    return []


@pytest.fixture
def builder(published, model, monkeypatch):
    monkeypatch.setattr(MapSettings, "model", lambda *_: model)  # seconds to make, the same for all tests
    return MapBuilder(SETTINGS, lambda state, maps, final: published.append((len(state.done), maps, final)))


def test_the_final_maps_have_the_lattice_parameters_of_the_discs(builder, published, lines):
    state = slice_state()
    builder.opened(state)
    add(state, lines, GEOMETRY.line_order)
    builder.closed(state)
    ((n_lines, maps, is_final),) = published
    assert n_lines == 16
    assert is_final
    assert state.maps is maps
    centre = N // 2
    assert maps.a_A[LMO.name][centre, centre - 3] == pytest.approx(8.10, abs=2e-3)
    assert maps.a_A[LMO.name][centre, centre + 3] == pytest.approx(8.20, abs=2e-3)
    assert maps.status[0, 0] == RefinementStatus.NOT_MEASURED  # a corner no projection has seen whole
    assert abs(state.drift_A[0]) < 3 * state.drift_A[1] + 1e-3


def test_nothing_is_refined_before_the_slice_is_more_than_streaks(builder, published, lines):
    state = slice_state()
    builder.opened(state)
    add(state, lines, GEOMETRY.line_order[:3])
    assert not builder.step()
    add(state, lines, GEOMETRY.line_order[3:8])
    assert builder.step()
    assert [entry[0] for entry in published] == [8]
    assert not builder.step()  # no line has come since
    add(state, lines, GEOMETRY.line_order[8:9])
    assert builder.step()
    assert [entry[2] for entry in published] == [False, False]


def test_a_pass_is_made_of_pieces_and_published_when_it_is_whole(builder, published, lines, monkeypatch):
    monkeypatch.setattr(map_builder, "VOXELS_AT_ONCE", 60)
    state = slice_state()
    builder.opened(state)
    add(state, lines, GEOMETRY.line_order)
    builder.step()
    assert published == []
    while builder.step():
        pass
    ((_, pieces, _),) = published
    builder.closed(state)
    whole = published[-1][1]
    refined = whole.status != RefinementStatus.NOT_MEASURED
    assert (pieces.status[refined] != RefinementStatus.NOT_MEASURED).all()
    assert 60 < refined.sum() < N * N


def test_a_range_without_bins_is_told_once_and_the_slice_goes_on(published, lines, caplog):
    settings = MapSettings(phases=(LMO,), instrument=INSTRUMENT, radial_range=(20.0, 30.0))
    builder = MapBuilder(settings, lambda *_: published.append(1))
    state = slice_state()
    builder.opened(state)
    add(state, lines, GEOMETRY.line_order)
    builder.step()
    builder.step()
    builder.closed(state)
    assert published == []
    assert state.maps is None
    assert caplog.text.count("0 bins of the pattern") == 1


def test_the_drift_of_a_region_of_interest_in_order_of_angle_is_not_told(builder, lines):
    sequential = ScanGeometry.raster(n_translations=N, step_mm=0.01, n_rotations=16)
    state = slice_state("roi", sequential)
    builder.opened(state)
    add(state, lines, range(16))
    builder.closed(state)
    assert np.isnan(state.drift_A).all()


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ConfigurationError, match="at least one phase"):
        MapSettings(phases=(), instrument=INSTRUMENT)
    with pytest.raises(ConfigurationError, match="limits_A is 9 to 8"):
        MapSettings(phases=(LMO,), instrument=INSTRUMENT, limits_A=(9.0, 8.0))
