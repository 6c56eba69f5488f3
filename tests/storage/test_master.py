from __future__ import annotations

import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import tiny_calibration
from silx.io import nxdata
from silx.io import open as silx_open

from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.domain.records import ScanLine, ScanRecord
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.storage.master import read_master, write_master

GEOMETRY = ScanGeometry.raster(n_translations=3, step_mm=0.01, n_rotations=4, order="interlaced")
START = {
    "uid": "0123456789",
    "time": 1.7e9,
    "sample_name": "cell 1",
    "proposal_id": "ma-1",
    "xrdct": {"role": "roi", "exposure_s": 0.01, "geometry": GEOMETRY.to_metadata()},
}


def line(folder: Path, index: int, n_frames: int = 3) -> ScanLine:
    """A line file whose frames hold 100 · rotation + frame."""
    path = folder / f"line_{index:04d}.h5"
    frames = 100 * index + np.arange(n_frames)
    with h5py.File(path, "w") as file:
        file["entry/data/data"] = np.broadcast_to(frames[:, None, None], (n_frames, 2, 5)).astype(np.int32)
    along = np.asarray(GEOMETRY.translation_mm)[GEOMETRY.line_translations(index)]
    return ScanLine(
        rotation_index=index, raw_file=path, attempt=index % 2, position_mm=along + 1e-4,
        i0=np.full(3, 1000.0 + index), i1=np.full(3, 800.0), started_s=1.7e9, ended_s=1.7e9 + 1,
    )  # fmt: skip


def record(folder: Path, lines: list[ScanLine] | None = None) -> ScanRecord:
    return ScanRecord(
        start=START,
        geometry=GEOMETRY,
        calibration=tiny_calibration(),
        lines=[line(folder, index) for index in range(4)] if lines is None else lines,
        exit_status="success",
        ended_s=1.7e9 + 10,
        cell={"time_s": np.array([1.7e9]), "voltage": np.array([4.1])},
        baseline={"sr_current": np.array([200.0, 199.0])},
    )


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder


def test_the_stack_is_in_the_order_of_acquisition_and_says_which_cell_each_frame_fills(raw):
    write_master(raw / "master.nxs", record(raw))
    with h5py.File(raw / "master.nxs") as file:
        entry = file["entry"]
        frames = entry["data/data"][:, 0, 0]
        rotation, translation = entry["rotation_index"][()], entry["translation_index"][()]
        for place, (r, t) in enumerate(zip(rotation, translation, strict=True)):
            assert GEOMETRY.cell(place) == (r, t)
            assert frames[place] == 100 * r + place % 3
        assert entry["sample/x_translation"][4] == GEOMETRY.translation_mm[translation[4]]
        assert entry["sample/rotation_angle"][4] == GEOMETRY.rotation_deg[rotation[4]]
        assert entry["i0/data"][4] == 1000 + rotation[4]
        assert entry["experiment_identifier"][()] == b"ma-1"
        assert entry["instrument/detector/count_time"][0] == 0.01
        assert entry["cell/voltage"][0] == 4.1
        assert entry["baseline/sr_current"][1] == 199.0
        assert entry["measured"][()].all()


def test_the_folder_can_be_moved(raw, tmp_path):
    write_master(raw / "master.nxs", record(raw))
    moved = tmp_path / "elsewhere"
    shutil.move(raw, moved)
    with h5py.File(moved / "master.nxs") as file:
        assert sorted(set(file["entry/data/data"][:, 0, 0] // 100)) == [0, 1, 2, 3]


def test_what_no_file_holds_is_a_gap_and_not_measured(raw):
    lines = [line(raw, 0), line(raw, 2, n_frames=2), line(raw, 3)]
    os.remove(lines[2].raw_file)
    write_master(raw / "master.nxs", record(raw, lines))
    order = list(GEOMETRY.line_order)
    with h5py.File(raw / "master.nxs") as file:
        measured = file["entry/measured"][()].reshape(4, 3)
        frames = file["entry/data/data"][:, 1, 1].reshape(4, 3)
    assert measured[order.index(0)].tolist() == [1, 1, 1]
    assert measured[order.index(2)].tolist() == [1, 1, 0]
    assert measured[order.index(3)].tolist() == [0, 0, 0]
    assert (frames[measured == 0] == -1).all()


def test_viewers_find_the_frames_by_default(raw):
    write_master(raw / "master.nxs", record(raw))
    with silx_open(str(raw / "master.nxs")) as file:
        found = nxdata.get_default(file)
        assert found.is_valid
        assert found.signal.shape == (12, 2, 5)


def test_a_scan_without_any_file_is_refused_and_leaves_nothing(raw):
    lines = [line(raw, 0)]
    os.remove(lines[0].raw_file)
    with pytest.raises(DataError, match="none of the 1 line files"):
        write_master(raw / "master.nxs", record(raw, lines))
    assert os.listdir(raw) == []


def test_a_failed_second_writing_keeps_the_first(raw):
    write_master(raw / "master.nxs", record(raw))
    before = (raw / "master.nxs").read_bytes()
    with pytest.raises(DataError):
        write_master(raw / "master.nxs", record(raw, []))
    assert (raw / "master.nxs").read_bytes() == before


def test_a_master_says_all_that_it_was_given_also_from_another_folder(raw, tmp_path):
    given = record(raw)
    write_master(raw / "master.nxs", given)
    moved = tmp_path / "elsewhere"
    shutil.move(raw, moved)
    found = read_master(moved / "master.nxs")
    assert found.start == START
    assert found.geometry == GEOMETRY
    assert found.exit_status == "success"
    assert found.cell["voltage"].tolist() == [4.1]
    by_index = {line.rotation_index: line for line in found.lines}
    for line in given.lines:
        other = by_index[line.rotation_index]
        assert other.raw_file == moved / line.raw_file.name
        assert (other.attempt, other.started_s, other.ended_s) == (line.attempt, line.started_s, line.ended_s)
        np.testing.assert_array_equal(other.position_mm, line.position_mm)
        np.testing.assert_array_equal(other.i0, line.i0)


def test_what_is_no_master_is_told_by_name(raw, tmp_path):
    (tmp_path / "x.nxs").write_bytes(b"not HDF5")
    for path in (tmp_path / "x.nxs", tmp_path / "absent.nxs", line(raw, 0).raw_file):
        with pytest.raises(DataError, match=path.name):
            read_master(path)
