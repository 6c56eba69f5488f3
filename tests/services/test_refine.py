from __future__ import annotations

import threading
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import tiny_calibration

from xrdct_beamline.callbacks.calibration import detector_of
from xrdct_beamline.callbacks.map_settings import MapSettings
from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.instrument import Instrument
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.domain.results import RefinementStatus
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.services.refine import refine_file
from xrdct_beamline.storage.maps import read_maps
from xrdct_beamline.storage.nexus import ProcessedFile, ProcessedHeader

GEOMETRY = ScanGeometry.raster(n_translations=4, step_mm=0.01, n_rotations=3)
RADIAL = np.linspace(2.5, 10.5, 200)
LMO = Phase.shipped("LiMn2O4")
SETTINGS = MapSettings(
    phases=(LMO,),
    instrument=Instrument(wavelength_A=0.248, profile={"w": 0.08**2}, two_theta_range_deg=(1.0, 12.0)),
    background=3,
)
A_A = 8.05 + 0.01 * np.arange(16).reshape(4, 4)


@pytest.fixture(scope="module")
def processed(tmp_path_factory) -> Path:
    """A slice whose lattice parameter rises from voxel to voxel; the first voxel is empty."""
    path = tmp_path_factory.mktemp("processed") / "slice.nxs"
    model = SETTINGS.model(RADIAL, detector_of(tiny_calibration()).wavelength_A, "2th_deg")
    rng = np.random.default_rng(1)
    values = np.array(
        [[model.pattern({LMO.name: a}, {LMO.name: 2e-8}, [1.0, 0, 0]) for a in row] for row in A_A]
    )
    values[0, 0] = 0.0
    values = (values + rng.normal(0, 0.3, values.shape)).astype(np.float32)
    header = ProcessedHeader(
        run_uid="0123456789", geometry=GEOMETRY, calibration=tiny_calibration(), axis_px=1.5,
        settings={"unit": "2th_deg"}, series_uid="series", state_index=3,
    )  # fmt: skip
    file = ProcessedFile.create(path, header, RADIAL)
    file.write_slice(lambda bins: (values[..., bins], np.full_like(values[..., bins], 0.3)), 180.0)
    file.close()
    return path


def test_the_maps_of_a_file_are_those_that_were_planted(processed, tmp_path):
    done = refine_file(processed, tmp_path / "maps.nxs", SETTINGS, threads=1)
    maps = read_maps(tmp_path / "maps.nxs")
    found = maps.a_A[LMO.name]
    assert np.isnan(found[0, 0])
    assert maps.status[0, 0] == RefinementStatus.NO_SIGNAL
    pulls = ((found - A_A) / maps.a_esd_A[LMO.name]).ravel()[1:]
    assert np.abs(pulls).max() < 4.5
    assert 0.5 < pulls.std() < 1.6
    assert done.counts()["converged"] == 15
    with h5py.File(tmp_path / "maps.nxs") as file:
        assert file["entry/series_uid"][()] == b"series"
        np.testing.assert_allclose(file["entry/maps/LiMn2O4/x"], [-0.015, -0.005, 0.005, 0.015], atol=1e-12)
        np.testing.assert_allclose(file["entry/maps/LiMn2O4/y"], [0.015, 0.005, -0.005, -0.015], atol=1e-12)


def test_what_is_there_is_not_replaced_unless_it_is_meant(processed, tmp_path):
    output = tmp_path / "maps.nxs"
    output.write_text("precious")
    with pytest.raises(ConfigurationError, match="there already; give --force"):
        refine_file(processed, output, SETTINGS)
    assert output.read_text() == "precious"
    refine_file(processed, output, SETTINGS, force=True, threads=1)
    assert read_maps(output).names == ("LiMn2O4",)
    with pytest.raises(ConfigurationError, match="choose another name"):
        refine_file(processed, processed, SETTINGS, force=True)


def test_an_interrupted_refinement_says_which_voxels_it_lacks(processed, tmp_path):
    stop = threading.Event()
    stop.set()
    done = refine_file(processed, tmp_path / "maps.nxs", SETTINGS, threads=1, stop=stop)
    assert done.interrupted
    assert done.counts()["not measured"] == 16


def test_another_wavelength_or_no_slice_is_refused(processed, tmp_path):
    other = Instrument(wavelength_A=0.25, profile={"w": 0.01}, two_theta_range_deg=(1.0, 12.0))
    with pytest.raises(ConfigurationError, match=r"calibrated at 0\.25 Å"):
        refine_file(processed, tmp_path / "m.nxs", MapSettings(phases=(LMO,), instrument=other))
    with pytest.raises(DataError):
        refine_file(tmp_path / "absent.nxs", tmp_path / "m.nxs", SETTINGS)
    assert not (tmp_path / "m.nxs").exists()
