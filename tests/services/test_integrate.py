from __future__ import annotations

from pathlib import Path

import fabio
import h5py
import numpy as np
import pytest

from xrdct_beamline.domain.errors import ConfigurationError, DataError, ProcessingError
from xrdct_beamline.services.integrate import integrate_files

PONI = """\
Detector: Pilatus100k
Distance: 0.1
Poni1: 0.017
Poni2: 0.02
Rot1: 0.0
Rot2: 0.0
Rot3: 0.0
Wavelength: 2.48e-11
"""
SHAPE = (195, 487)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cell.poni").write_text(PONI)
    (tmp_path / "out").mkdir()
    return tmp_path


def frame(rate: float) -> np.ndarray:
    return np.random.default_rng(0).poisson(rate, SHAPE).astype(np.int32)


def options(folder: Path) -> dict[str, object]:
    return {"poni": folder / "cell.poni", "bins": 40, "solid_angle": False, "polarisation": None}


@pytest.mark.parametrize("kind", ["cbf", "tif", "edf"])
def test_an_image_becomes_three_columns(folder: Path, kind: str) -> None:
    image = {"cbf": fabio.cbfimage.CbfImage, "tif": fabio.tifimage.TifImage, "edf": fabio.edfimage.EdfImage}
    image[kind](data=frame(30)).write(str(folder / f"a.{kind}"))
    done = integrate_files([folder / f"a.{kind}"], output=folder / "out" / "a.xye", **options(folder))
    assert done.n_frames == 1
    radial, intensity, sigma = np.loadtxt(done.output, unpack=True)
    assert len(radial) == 40
    assert np.all(np.diff(radial) > 0)
    np.testing.assert_allclose(intensity, 30, atol=6 * sigma.max())
    assert [p.name for p in (folder / "out").iterdir()] == ["a.xye"]


def test_a_line_becomes_one_file_with_its_unreadable_frames_marked(folder: Path) -> None:
    with h5py.File(folder / "line.h5", "w") as file:
        data = file.create_dataset(
            "/entry/data/data", (4, *SHAPE), np.int32, chunks=(1, *SHAPE), compression="gzip"
        )
        for index in (0, 1, 3):
            data[index] = frame(10 * (index + 1))
    done = integrate_files([folder / "line.h5"], output=folder / "out" / "line.h5", **options(folder))
    assert done.n_frames == 4
    assert done.unreadable == (2,)
    with h5py.File(done.output) as file:
        data = file["entry/data"]
        assert list(data["measured"][()]) == [True, True, False, True]
        assert np.isnan(data["I"][2]).all()
        np.testing.assert_allclose(data["I"][()].mean(axis=1)[[0, 1, 3]], [10, 20, 40], rtol=0.01)
        assert data["I_errors"].shape == (4, 40)
        assert data.attrs["signal"] == "I"
        assert "Wavelength" in file["entry/calibration/poni"].asstr()[()]


def test_nothing_is_written_when_something_is_wrong(folder: Path) -> None:
    fabio.edfimage.EdfImage(data=frame(3)).write(str(folder / "a.edf"))
    fabio.edfimage.EdfImage(data=frame(3)[:50]).write(str(folder / "cut.edf"))
    (folder / "junk.cbf").write_bytes(b"not an image")
    out = folder / "out"
    good = options(folder)
    for error, message, frames, output, change in (
        (DataError, r"absent\.cbf is not there", ["absent.cbf"], "a.xye", {}),
        (DataError, r"junk\.cbf", ["junk.cbf"], "a.xye", {}),
        (DataError, "no frames", [], "a.xye", {}),
        (ConfigurationError, "2 frames do not fit", ["a.edf", "a.edf"], "a.xye", {}),
        (ConfigurationError, r"ending '\.png'", ["a.edf"], "a.png", {}),
        (ConfigurationError, "folder .* is not there", ["a.edf"], "none/a.xye", {}),
        (ConfigurationError, "cannot be read", ["a.edf"], "a.xye", {"poni": folder / "absent.poni"}),
        (ProcessingError, r"shape \(50, 487\)", ["cut.edf"], "a.xye", {}),
        (ProcessingError, r"shape \(50, 487\)", ["a.edf", "cut.edf"], "a.h5", {}),
    ):
        with pytest.raises(error, match=message):
            integrate_files([folder / f for f in frames], output=out / output, **{**good, **change})
        assert list(out.iterdir()) == []


def test_an_unknown_option_is_an_error(folder: Path) -> None:
    fabio.edfimage.EdfImage(data=frame(3)).write(str(folder / "a.edf"))
    with pytest.raises(TypeError, match="quant_min"):
        integrate_files([folder / "a.edf"], output=folder / "out" / "a.xye", quant_min=5, **options(folder))
