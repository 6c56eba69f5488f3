"""Frames beyond the linear range are warned of; hot pixels and dark frames are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import write_raw_line

from xrdct_beamline.devices.line_record import LineValues
from xrdct_beamline.startup.count_rate import CountRateCheck
from xrdct_beamline.storage.raw import Hdf5Frames


def line(raw_file: str, n: int = 8) -> LineValues:
    i1 = np.full(n, 900.0)
    i1[5] = 600.0  # where most sample is
    values = LineValues.empty(n)
    return replace(values, raw_file=raw_file, i0=np.full(n, 1000.0), i1=i1, captured=n)


@pytest.mark.parametrize(
    ("n_bright", "counts", "is_warned"), [(50, 120_000, True), (5, 120_000, False), (50, 90_000, False)]
)
def test_bright_reflections(tmp_path: Path, n_bright: int, counts: int, is_warned: bool) -> None:
    frames = np.full((8, 20, 30), 100, dtype=np.int32)
    frames[5].flat[:n_bright] = counts
    check = CountRateCheck(Hdf5Frames(), exposure_s=0.01, limit_per_s=1e7)
    warning = check(line(write_raw_line(tmp_path / "line.h5", frames)))
    assert bool(warning) == is_warned
    if is_warned:
        assert f"{n_bright} pixels of a frame have more than 1e+05 counts, up to {counts}" in warning


def test_a_full_counter_is_a_limit_of_its_own(tmp_path: Path) -> None:
    frames = np.full((8, 20, 30), 2**20, dtype=np.int32)
    check = CountRateCheck(Hdf5Frames(), exposure_s=10.0, limit_per_s=1e7)
    assert "1.05e+06 counts" in check(line(write_raw_line(tmp_path / "line.h5", frames)))


def test_a_file_that_is_not_here_is_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check = CountRateCheck(Hdf5Frames(), exposure_s=0.01, limit_per_s=1e7)
    assert check(line(str(tmp_path / "elsewhere.h5"))) == ""
    assert "the count rate is not known" in caplog.text
