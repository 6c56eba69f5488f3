from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import TINY_PONI, tiny_calibration
from silx.io import nxdata
from silx.io import open as silx_open

from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.storage.nexus import (
    ProcessedFile,
    ProcessedHeader,
    read_processed,
    read_slice,
    read_summary,
)

GEOMETRY = ScanGeometry.raster(n_translations=5, step_mm=0.01, n_rotations=4, order="interlaced")
RADIAL = np.linspace(1.0, 10.0, 7)
HEADER = ProcessedHeader(
    run_uid="0123456789",
    geometry=GEOMETRY,
    calibration=tiny_calibration(),
    axis_px=2.0,
    settings={"bins": 7, "unit": "2th_deg", "radial_range": None},
    role="broad",
    state_index=2,
    title="cell 1",
)


def new_file(path: Path) -> ProcessedFile:
    return ProcessedFile.create(path, HEADER, RADIAL)


def line(value: float) -> dict:
    return {
        "intensity": np.full((5, 7), value, dtype=np.float32),
        "sigma": np.full((5, 7), value / 10, dtype=np.float32),
        "measured": np.array([True, True, True, True, False]),
        "raw_file": f"/raw/{value}.h5",
        "attempt": int(value),
        "monitor_reference": 1000.0,
    }


def write_constant_slice(file: ProcessedFile, value: float) -> None:
    def read(bins: slice) -> tuple[np.ndarray, np.ndarray]:
        n = len(RADIAL[bins])
        return np.full((5, 5, n), value, np.float32), np.full((5, 5, n), value / 10, np.float32)

    file.write_slice(read, 90.0)


def test_a_line_is_read_back_with_where_it_came_from(tmp_path: Path) -> None:
    file = new_file(tmp_path / "a.nxs")
    assert file.lines() == {}
    assert file.monitor_reference is None
    file.write_line(3, **line(2.0))
    assert file.lines() == {3: ("/raw/2.0.h5", 2)}
    intensity, sigma, measured = file.read_line(3)
    np.testing.assert_array_equal(intensity, 2.0)
    np.testing.assert_array_equal(sigma, np.float32(0.2))
    assert measured.tolist() == [True, True, True, True, False]
    assert np.isnan(file.read_line(0)[0]).all()
    assert file.monitor_reference == 1000.0
    np.testing.assert_array_equal(file.radial, RADIAL)
    file.close()


def test_a_file_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "a.nxs"
    file = new_file(path)
    file.write_line(1, **line(1.0))
    file.close()
    again = ProcessedFile.open_or_create(path, HEADER, pytest.fail)
    assert again.lines() == {1: ("/raw/1.0.h5", 1)}
    again.write_line(1, **line(3.0))
    assert again.lines() == {1: ("/raw/3.0.h5", 3)}
    again.close()


def test_nothing_but_numbers_changes_once_it_is_laid_out(tmp_path: Path) -> None:
    path = tmp_path / "a.nxs"
    file = new_file(path)
    size = path.stat().st_size
    for rotation in range(4):
        file.write_line(rotation, **line(1.0))
    write_constant_slice(file, 1.0)
    file.finish(exit_status="success", lines_retaken=0)
    file.close()
    assert path.stat().st_size == size


def test_counts_while_it_grows_and_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.nxs"
    file = new_file(path)
    file.write_line(0, **line(1.0))
    file.mark_line(1, "3 of 5 frames")
    growing = read_summary(path)
    assert (growing.status, growing.complete) == ("running", False)
    assert (growing.lines_planned, growing.lines_done, growing.lines_bad) == (4, 1, 1)
    assert (growing.frames_planned, growing.frames_integrated) == (20, 4)
    assert (growing.run_uid, growing.state_index) == ("0123456789", 2)
    file.finish(exit_status="abort", lines_retaken=3)
    partial = read_summary(path)
    assert (partial.status, partial.complete, partial.exit_status) == ("partial", False, "abort")
    assert partial.lines_retaken == 3
    for rotation in range(4):
        file.write_line(rotation, **line(1.0))
    assert read_summary(path).status == "running"
    file.finish(exit_status="success", lines_retaken=3)
    assert read_summary(path).complete
    assert file.is_finished
    file.close()


def test_slice_is_written_in_pieces_and_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xrdct_beamline.storage.nexus._BINS_AT_ONCE", 3)
    path = tmp_path / "a.nxs"
    file = new_file(path)
    whole = np.random.default_rng(0).random((5, 5, 7)).astype(np.float32)
    whole[..., 6] = np.nan  # a bin that nobody measured
    asked: list[slice] = []

    def read(bins: slice) -> tuple[np.ndarray, np.ndarray]:
        asked.append(bins)
        return whole[..., bins], whole[..., bins] / 10

    with pytest.raises(DataError, match="holds no slice yet"):
        read_slice(path)
    file.write_slice(read, 90.0)
    file.close()
    assert [(b.start, b.stop) for b in asked] == [(0, 3), (3, 6), (6, 7)]
    found = read_processed(path)
    np.testing.assert_array_equal(found.intensity, whole)
    np.testing.assert_array_equal(found.sigma, whole / 10)
    assert found.sinogram.shape == (4, 5, 7)
    intensity, radial, extent_mm = read_slice(path)
    np.testing.assert_array_equal(intensity, whole)
    np.testing.assert_array_equal(radial, RADIAL)
    np.testing.assert_allclose(extent_mm, (-0.025, 0.025, -0.025, 0.025))
    with h5py.File(path) as raw:
        np.testing.assert_allclose(
            raw["entry/overview/intensity"][()], whole[..., :6].mean(axis=-1), rtol=1e-6
        )


def test_viewers_open_on_an_image_of_the_slice(tmp_path: Path) -> None:
    path = tmp_path / "a.nxs"
    file = new_file(path)
    write_constant_slice(file, 1.0)
    file.close()
    with silx_open(str(path)) as root:
        for name in ("sinogram", "slice", "overview"):
            assert nxdata.is_valid_nxdata(root["entry"][name]), name
        default = nxdata.get_default(root)
        assert default.group.name == "/entry/overview"
        assert default.is_image
        assert nxdata.NXdata(root["entry/sinogram"]).errors.shape == (4, 5, 7)
        assert nxdata.NXdata(root["entry/slice"]).axes_dataset_names == ["y", "x", "radial"]


def test_the_file_says_what_is_needed_to_understand_it(tmp_path: Path) -> None:
    mask = np.zeros((40, 48), dtype=bool)
    mask[3, 4] = True
    calibration = DetectorGeometry(poni_text=TINY_PONI, user_mask=mask).to_metadata()
    path = tmp_path / "a.nxs"
    ProcessedFile.create(path, replace(HEADER, calibration=calibration), RADIAL).close()
    with h5py.File(path) as file:
        entry = file["entry"]
        assert entry["calibration/poni"][()].decode() == TINY_PONI
        assert entry["calibration/poni_sha256"][()].decode() == calibration["poni_sha256"]
        bits = np.unpackbits(entry["calibration/mask_packed"][()])[: mask.size].reshape(mask.shape)
        np.testing.assert_array_equal(bits, mask)
        assert entry["process/program"][()].decode() == "xrdct-beamline"
        assert entry["process/version"][()]
        assert entry["geometry/line_order"][()].tolist() == list(GEOMETRY.line_order)
        np.testing.assert_allclose(entry["slice/y"][()], [0.02, 0.01, 0.0, -0.01, -0.02])
        assert entry["sinogram/rotation"].attrs["units"] == "deg"
        assert entry["sinogram/radial"].attrs["units"] == "deg"


def test_the_file_of_another_run_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.nxs"
    new_file(path).close()
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="holds run 0123456789, not 9876"):
        ProcessedFile.open_or_create(path, replace(HEADER, run_uid="9876"), pytest.fail)
    assert path.read_bytes() == before


@pytest.mark.parametrize("harm", ["cut", "garbage", "foreign"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(
    tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.nxs"
    new_file(path).close()
    if harm == "cut":
        os.truncate(path, 3000)
    elif harm == "garbage":
        path.write_bytes(b"not HDF5" * 100)
    else:
        with h5py.File(path, "w") as file:
            file["something"] = 1
    damaged = path.read_bytes()
    file = ProcessedFile.open_or_create(path, HEADER, lambda: RADIAL)
    assert file.lines() == {}
    file.close()
    assert (tmp_path / "a.damaged-1.nxs").read_bytes() == damaged
    assert "is kept as" in caplog.text


def test_a_file_of_other_settings_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.nxs"
    for bins in (7, 8, 9):
        header = replace(HEADER, settings={**HEADER.settings, "bins": bins})
        ProcessedFile.open_or_create(path, header, lambda n=bins: np.arange(float(n))).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.nxs", "a.other-settings-1.nxs", "a.other-settings-2.nxs",
    ]  # fmt: skip


def test_an_output_that_cannot_be_written_leaves_nothing_half_done(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot make the processed file"):
        new_file(tmp_path / "absent" / "a.nxs")
    huge = replace(HEADER, geometry=ScanGeometry.raster(200, 0.001, 200))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(ConfigurationError, match="choose a folder with room"):
            ProcessedFile.create(tmp_path / "b.nxs", huge, RADIAL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.nxs").write_bytes(b"x")
    for path in (tmp_path / "a.nxs", tmp_path / "absent.nxs"):
        with pytest.raises(DataError, match="is no processed file"):
            read_summary(path)


@pytest.mark.system
def test_a_killed_writer_leaves_every_line_that_it_reported_and_viewers_may_look_on(tmp_path: Path) -> None:
    path = tmp_path / "a.nxs"
    new_file(path).close()
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); sys.path.insert(0, sys.argv[3])\n"
        "from pathlib import Path; import test_nexus as t\n"
        "file = t.ProcessedFile.open(Path(sys.argv[1]), t.HEADER)\n"
        "file.write_line(2, **t.line(5.0)); print('written', flush=True)\n"
        "sys.stdin.readline(); os.kill(os.getpid(), 9)"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(path), str(here), str(here.parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == b"written\n"
        with h5py.File(path, "r") as viewer:  # as any viewer opens it
            np.testing.assert_array_equal(viewer["entry/sinogram/intensity"][2], 5.0)
        writer.stdin.write(b"\n")
        writer.stdin.close()
        assert writer.wait(20) == -9
    file = ProcessedFile.open(path, HEADER)
    assert file.lines() == {2: ("/raw/5.0.h5", 5)}
    np.testing.assert_array_equal(file.read_line(2)[0], 5.0)
    file.close()
