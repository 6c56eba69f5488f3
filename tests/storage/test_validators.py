"""What other people's programs say of our files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import made_maps, tiny_calibration
from silx.io import nxdata
from silx.io import open as silx_open

from xrdct_beamline.domain.records import ScanLine, ScanRecord
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.storage.maps import MapsHeader, write_maps_file
from xrdct_beamline.storage.master import write_master
from xrdct_beamline.storage.nexus import ProcessedFile, ProcessedHeader

GEOMETRY = ScanGeometry.raster(n_translations=3, step_mm=0.01, n_rotations=2)
RADIAL = np.linspace(1, 10, 7)


def processed_file(folder: Path) -> Path:
    header = ProcessedHeader(
        run_uid="0123456789", geometry=GEOMETRY, calibration=tiny_calibration(), axis_px=1.0,
        settings={"unit": "2th_deg"}, phases=("LiMn2O4", "lambda-MnO2"), n_background=4, title="cell 1",
    )  # fmt: skip
    file = ProcessedFile.create(folder / "slice.nxs", header, RADIAL)
    for index in range(2):
        line = np.full((3, 7), 2.0, np.float32)
        file.write_line(
            index, intensity=line, sigma=line / 10, measured=np.ones(3, bool), raw_file="x.h5", attempt=0
        )
    file.write_slice(lambda bins: (np.ones((3, 3, len(RADIAL[bins]))),) * 2, 180.0)
    file.write_maps(made_maps(header.phases, (3, 3)))
    file.finish(exit_status="success", lines_retaken=0)
    file.close()
    return folder / "slice.nxs"


def maps_file(folder: Path) -> Path:
    axis_mm = np.array([-0.01, 0.0, 0.01])
    header = MapsHeader(source=processed_file(folder), y_mm=-axis_mm, x_mm=axis_mm, settings={})
    write_maps_file(folder / "maps.nxs", made_maps(("LiMn2O4",), (3, 3)), header)
    return folder / "maps.nxs"


def master_file(folder: Path) -> Path:
    lines = []
    for index in range(2):
        path = folder / f"line_{index}.h5"
        with h5py.File(path, "w") as file:
            file["entry/data/data"] = np.zeros((3, 2, 5), np.int32)
        monitor = np.ones(3)
        lines.append(
            ScanLine(
                rotation_index=index, raw_file=path, attempt=0, position_mm=monitor, i0=monitor, i1=monitor,
                started_s=1.7e9, ended_s=1.7e9,
            )
        )  # fmt: skip
    start = {"uid": "0123456789", "time": 1.7e9, "sample_name": "cell 1", "xrdct": {"exposure_s": 0.01}}
    record = ScanRecord(
        start=start, geometry=GEOMETRY, calibration=tiny_calibration(), lines=lines, exit_status="success",
        ended_s=1.7e9,
    )  # fmt: skip
    write_master(folder / "master.nxs", record)
    return folder / "master.nxs"


FILES = [processed_file, maps_file, master_file]


@pytest.mark.slow
@pytest.mark.parametrize("make", FILES)
def test_nexusformat_finds_no_error(make, tmp_path):
    done = subprocess.run(
        [str(Path(sys.executable).parent / "nxcheck"), str(make(tmp_path))],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert "Total number of errors: 0" in text, text + done.stderr  # it exits 0 whatever it finds


@pytest.mark.parametrize("make", FILES)
def test_viewers_open_on_a_picture(make, tmp_path):
    with silx_open(str(make(tmp_path))) as file:
        found = nxdata.get_default(file)
        assert found.is_valid
        assert found.signal.ndim >= 2
