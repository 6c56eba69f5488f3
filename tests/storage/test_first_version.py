"""Files of the first version keep opening. Never make the fixture anew: it is what people have."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.services.pipeline import LiveSettings
from xrdct_beamline.services.process import process_files, recipe_of
from xrdct_beamline.storage.journal import read_journal
from xrdct_beamline.storage.maps import read_maps
from xrdct_beamline.storage.master import read_master
from xrdct_beamline.storage.nexus_reader import read_poni, read_processed, read_summary
from xrdct_beamline.storage.raw import Hdf5Frames

FIXTURE = Path(__file__).parents[1] / "data" / "first_version.zip"
GEOMETRY = ScanGeometry.raster(n_translations=4, step_mm=0.03, n_rotations=2)
#: A pattern of the sinogram, as it was read when it was written.
PATTERN = [110.7673, 135.83377, 146.40504, 11.234913, 0.0, 0.0, 0.0, np.nan]


@pytest.fixture
def old(tmp_path) -> Path:
    with zipfile.ZipFile(FIXTURE) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def test_a_processed_file_says_what_it_said(old):
    found, summary = read_processed(old / "processed.nxs"), read_summary(old / "processed.nxs")
    np.testing.assert_allclose(found.sinogram[0, 1], PATTERN, rtol=1e-6)
    assert found.intensity.shape == (4, 4, 8)
    assert found.unit == "2th_deg"
    assert (summary.run_uid, summary.state_index, summary.lines_done) == ("0123456789", 2, 2)
    assert "Distance: 0.1" in read_poni(old / "processed.nxs")


def test_maps_say_what_they_said(old):
    maps = read_maps(old / "maps.nxs")
    assert maps.names == ("LiMn2O4",)
    np.testing.assert_allclose(maps.a_A["LiMn2O4"], np.full((4, 4), 8.2), rtol=1e-6)


def test_raw_files_a_master_and_a_journal_open(old):
    record = read_master(old / "master.nxs")
    assert record.geometry == GEOMETRY
    assert [len(list(Hdf5Frames().frames(str(line.raw_file)))) for line in record.lines] == [4, 4]
    names = [name for name, _ in read_journal(old / "journal.jsonl")]
    assert names.count("event") == 2
    assert names[-1] == "stop"


def test_the_old_recipe_still_gives_the_old_numbers(old, tmp_path):
    recipe = recipe_of(old / "processed.nxs", LiveSettings(processing=ProcessingSettings(threads=1)))
    (again,) = process_files([old / "master.nxs"], tmp_path / "again", settings=recipe)
    before, now = read_processed(old / "processed.nxs"), read_processed(again)
    np.testing.assert_allclose(now.sinogram, before.sinogram, rtol=1e-5)
    np.testing.assert_array_equal(now.radial, before.radial)


@pytest.mark.parametrize("name", ["processed.nxs", "maps.nxs", "master.nxs"])
def test_a_file_of_a_later_version_is_refused_with_both_versions(old, name):
    read = {"processed.nxs": read_processed, "maps.nxs": read_maps, "master.nxs": read_master}[name]
    with h5py.File(old / name, "r+") as file:
        assert file.attrs["xrdct_schema"] == 1
        file.attrs["xrdct_schema"] = 99
    with pytest.raises(DataError, match=rf"{name} has layout 99, this version reads up to 1"):
        read(old / name)
    with h5py.File(old / name, "r+") as file:  # from before there was a version
        del file.attrs["xrdct_schema"]
    read(old / name)
