from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import made_maps, tiny_calibration
from silx.io import nxdata
from silx.io import open as silx_open

from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.storage.maps import map_group_name, read_maps
from xrdct_beamline.storage.nexus import ProcessedFile, ProcessedHeader

GEOMETRY = ScanGeometry.raster(n_translations=3, step_mm=0.01, n_rotations=2)
HEADER = ProcessedHeader(
    run_uid="0123456789", geometry=GEOMETRY, calibration=tiny_calibration(), axis_px=1.0,
    settings={"unit": "2th_deg"}, phases=("LiMn2O4", "lambda-MnO2"), n_background=4,
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "slice.nxs"


def maps(names=HEADER.phases):
    return made_maps(names, (3, 3), a_A=8.0 + 0.01 * np.arange(9).reshape(3, 3))


def test_maps_come_back_as_they_were_written(path):
    file = ProcessedFile.create(path, HEADER, np.linspace(1, 2, 7))
    file.write_maps(maps(), (2e-4, 1e-4))
    file.close()
    found = read_maps(path)
    assert found.names == ("LiMn2O4", "lambda-MnO2")
    np.testing.assert_allclose(found.a_A["lambda-MnO2"], maps().a_A["LiMn2O4"], rtol=1e-7)
    np.testing.assert_allclose(found.scale_esd["LiMn2O4"], maps().scale_esd["LiMn2O4"])
    assert found.cell["LiMn2O4"].shape == (3, 3, 6)
    assert found.background.shape == (3, 3, 4)
    assert (found.status == 0).all()
    with h5py.File(path) as opened:
        np.testing.assert_allclose(opened["entry/maps/LiMn2O4/x"], [-0.01, 0.0, 0.01])
        np.testing.assert_allclose(opened["entry/maps/LiMn2O4/y"], [0.01, 0.0, -0.01])
        assert opened["entry/maps/fit/drift"][()] == 2e-4


def test_viewers_can_draw_a_map(path):
    file = ProcessedFile.create(path, HEADER, np.linspace(1, 2, 7))
    file.write_maps(maps())
    file.close()
    with silx_open(str(path)) as opened:
        found = nxdata.NXdata(opened["entry/maps/lambda_MnO2"])
        assert found.is_valid
        assert found.signal.shape == (3, 3)
        assert [axis.name.rsplit("/", 1)[-1] for axis in found.axes] == ["y", "x"]


def test_a_file_nobody_refined_says_so(path, tmp_path):
    ProcessedFile.create(path, HEADER, np.linspace(1, 2, 7)).close()
    with pytest.raises(DataError, match="no refined maps"):
        read_maps(path)
    with pytest.raises(DataError, match="no processed file"):
        read_maps(tmp_path / "absent.nxs")


def test_maps_that_do_not_fit_are_refused_and_nothing_is_written(path):
    file = ProcessedFile.create(path, HEADER, np.linspace(1, 2, 7))
    with pytest.raises(DataError, match="no room for maps of Al"):
        file.write_maps(maps(("Al",)))
    with pytest.raises(DataError, match=r"\(2, 2\) do not fit"):
        file.write_maps(made_maps(HEADER.phases, (2, 2)))
    file.close()
    with h5py.File(path) as opened:
        assert np.isnan(opened["entry/maps/LiMn2O4/a"][()]).all()


def test_names_become_names_that_nexus_takes():
    assert map_group_name("lambda-MnO2") == "lambda_MnO2"
    assert map_group_name("Li0.5Mn2O4") == "Li0_5Mn2O4"
