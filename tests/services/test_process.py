from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import Attempt, phantom_line, slice_documents, write_raw_line

from xrdct_beamline.callbacks.map_settings import MapSettings
from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.instrument import Instrument
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.services.pipeline import LiveSettings
from xrdct_beamline.services.process import process_files, recipe_of
from xrdct_beamline.services.replay import replay
from xrdct_beamline.storage.journal import JournalWriter

GEOMETRY = ScanGeometry.raster(n_translations=5, step_mm=0.03, n_rotations=4, order="interlaced")
PROCESSING = ProcessingSettings(bins=24, estimator="median", threads=1, radial_range=(5.0, 40.0))
SETTINGS = LiveSettings(processing=PROCESSING)


@pytest.fixture
def scan(tmp_path) -> tuple[Path, Path]:
    """A journal, and its raw files with the master that live processing wrote beside them."""
    raw = tmp_path / "raw"
    raw.mkdir()
    attempts = []
    for index in GEOMETRY.line_order:
        write_raw_line(raw / f"line_{index}.h5", phantom_line(GEOMETRY, index))
        attempts.append(Attempt(rotation_index=index, raw_file=str(raw / f"line_{index}.h5")))
    journal = tmp_path / "journal.jsonl"
    with JournalWriter(journal) as writer:
        for name, doc in slice_documents(GEOMETRY, attempts, uid="0123456789"):
            writer(name, doc)
    replay(journal, tmp_path / "live", settings=SETTINGS)
    return journal, raw


def sinogram(path: Path) -> bytes:
    with h5py.File(path, "r") as file:
        group = file["entry/sinogram"]
        return b"".join(group[name][()].tobytes() for name in ("intensity", "intensity_errors", "measured"))


def test_a_moved_master_gives_the_same_sinogram_as_live_bit_for_bit(scan, tmp_path):
    _, raw = scan
    moved = tmp_path / "archive" / "raw"
    moved.parent.mkdir()
    shutil.move(raw, moved)
    (again,) = process_files([moved / "01234567_master.nxs"], tmp_path / "again", settings=SETTINGS)
    assert sinogram(again) == sinogram(tmp_path / "live" / again.name)


def test_the_recipe_of_a_result_makes_it_anew(scan, tmp_path):
    journal, _ = scan
    (live,) = (tmp_path / "live").glob("*.nxs")
    settings = recipe_of(live, LiveSettings(processing=ProcessingSettings(threads=1)))
    assert settings.processing == PROCESSING
    (again,) = process_files([journal], tmp_path / "again", settings=settings)
    assert sinogram(again) == sinogram(live)


def test_an_interrupted_run_integrates_only_what_is_missing(scan, tmp_path, monkeypatch):
    _, raw = scan
    master = raw / "01234567_master.nxs"
    (first,) = process_files([master], tmp_path / "out", settings=SETTINGS)
    expected = sinogram(first)
    with h5py.File(first, "r+") as file:  # as if it had been stopped before the line at place 1
        file["entry/lines/status"][1] = 0
        file["entry/sinogram/intensity"][1] = np.nan
        file["entry/sinogram/measured"][1] = 0
        file["entry/finished"][()] = 0
    for index in (0, 2, 3):
        (raw / f"line_{index}.h5").unlink()
    process_files([master], tmp_path / "out", settings=SETTINGS)
    assert sinogram(first) == expected


def test_the_refinement_is_part_of_the_recipe():
    lmo = Phase.shipped("LiMn2O4").with_cell(a_A=8.2).with_occupancy({"Li": 0.5})
    maps = MapSettings(
        phases=(lmo, Phase.shipped("Al")),
        instrument=Instrument(wavelength_A=0.25, profile={"w": 0.01}, two_theta_range_deg=(1.0, 20.0)),
        radial_range=(2.0, 9.0),
        window_A=None,
    )
    again = MapSettings.from_metadata(maps.to_metadata())
    assert again.to_metadata() == maps.to_metadata()
    assert [p.name for p in again.phases] == ["LiMn2O4", "Al"]
    assert again.phases[0].cell == lmo.cell
    assert again.phases[0].occupancy == lmo.occupancy


def test_what_is_no_scan_is_refused(tmp_path):
    for name, says in (("x.txt", "neither a master"), ("x.nxs", "no master file"), ("x.jsonl", "journal")):
        (tmp_path / name).write_text("")
        with pytest.raises((ConfigurationError, DataError), match=says):
            process_files([tmp_path / name], tmp_path / "out", settings=SETTINGS)
    with pytest.raises(ConfigurationError, match="refinement cannot be read"):
        MapSettings.from_metadata({"phases": []})
