import json
from dataclasses import replace

import h5py
import numpy as np
import pytest

from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.services.reconstruct import ReconstructionOptions, reconstruct_file

ANGLES = np.arange(45) * 4.0
AXIS_PX, STEP_MM = 21.4, 0.01


def blob_sinogram():
    t = np.arange(44) - AXIS_PX
    theta = np.radians(ANGLES)[:, None]
    at = 7 * np.cos(theta) + 4 * np.sin(theta)
    line = np.sqrt(2 * np.pi) * 2.5 * np.exp(-((t - at) ** 2) / (2 * 2.5**2))
    return (line[:, :, None] * np.arange(1, 4)).astype(np.float32)


@pytest.fixture
def processed(tmp_path):
    sinogram = blob_sinogram()
    sinogram[17] = np.nan
    path = tmp_path / "run.nxs"
    with h5py.File(path, "w") as file:
        group = file.create_group("entry/sinogram")
        group["intensity"] = sinogram
        group["intensity_errors"] = np.sqrt(np.abs(sinogram) + 0.01)
        group["rotation"] = ANGLES
        group["translation"] = (np.arange(44) - 21.5) * STEP_MM
        group["radial"] = np.array([3.0, 4.0, 5.0])
        group["radial"].attrs["units"] = "deg"
    return path


def test_a_file_is_reconstructed_about_the_axis_that_it_shows(processed, tmp_path):
    calls = []
    result = reconstruct_file(processed, tmp_path / "slice.h5", progress=lambda *a: calls.append(a))
    assert result.axis.axis_px == pytest.approx(AXIS_PX, abs=0.1)
    assert result.axis.agrees
    assert (result.shape, result.bad_lines) == ((44, 44, 3), 1)
    assert calls == [(3, 3)]
    with h5py.File(result.output) as file:
        group = file["entry/slice"]
        image, sigma = group["intensity"][()], group["intensity_errors"][()]
        x, y = group["x"][()], group["y"][()]
        assert json.loads(file["entry/process/settings"][()])["method"] == "fbp"
    row, column = np.unravel_index(image[:, :, 2].argmax(), (44, 44))
    assert (x[column], y[row]) == (pytest.approx(0.07, abs=0.006), pytest.approx(0.04, abs=0.006))
    assert image.max() == pytest.approx(3.0, rel=0.05)
    assert (sigma > 0).all()


def test_the_recorded_axis_is_taken_unless_another_is_wanted(processed, tmp_path):
    with h5py.File(processed, "r+") as file:
        file["entry/geometry/axis_px"] = 21.0
    recorded = reconstruct_file(processed, tmp_path / "recorded.h5")
    found = reconstruct_file(processed, tmp_path / "found.h5", ReconstructionOptions(find_axis=True))
    given = reconstruct_file(processed, tmp_path / "given.h5", ReconstructionOptions(axis_px=20.5))
    assert [r.axis_source for r in (recorded, found, given)] == ["recorded", "found", "given"]
    assert (recorded.axis.axis_px, given.axis.axis_px) == (21.0, 20.5)
    assert found.axis.axis_px == pytest.approx(AXIS_PX, abs=0.1)
    with h5py.File(recorded.output) as file:
        assert file["entry/process/axis_source"][()] == b"recorded"


def test_what_lies_outside_of_a_region_is_subtracted(processed, tmp_path):
    with h5py.File(processed, "r+") as file:
        file["entry/outside/intensity"] = 0.25 * file["entry/sinogram/intensity"][()]
    options = ReconstructionOptions(axis_px=AXIS_PX)
    freed = reconstruct_file(processed, tmp_path / "freed.h5", options)
    whole = reconstruct_file(processed, tmp_path / "whole.h5", replace(options, freed=False))
    assert (freed.is_freed, whole.is_freed) == (True, False)
    with h5py.File(freed.output) as one, h5py.File(whole.output) as other:
        np.testing.assert_allclose(
            one["entry/slice/intensity"], 0.75 * other["entry/slice/intensity"][()], atol=1e-5
        )


def test_pixel_size_filter_and_axis_are_free(processed, tmp_path):
    options = ReconstructionOptions(axis_px=AXIS_PX, pixel_px=0.5, filter_name="hann")
    result = reconstruct_file(processed, tmp_path / "fine.h5", options)
    assert result.shape == (88, 88, 3)
    with h5py.File(result.output) as file:
        assert np.diff(file["entry/slice/x"][()]) == pytest.approx(STEP_MM / 2)
        assert file["entry/slice/intensity"][()].max() == pytest.approx(3.0, rel=0.15)


def test_what_cannot_be_used_is_refused_and_nothing_is_left(processed, tmp_path, monkeypatch):
    with pytest.raises(ConfigurationError, match="is the file that is read"):
        reconstruct_file(processed, processed)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        reconstruct_file(processed, tmp_path / "absent" / "slice.h5")
    with pytest.raises(DataError, match="no processed file with a sinogram"):
        reconstruct_file(tmp_path / "absent.nxs", tmp_path / "slice.h5")
    with pytest.raises(ConfigurationError, match="takes neither a filter nor a pixel size"):
        ReconstructionOptions(backend="astra", filter_name="hann")
    with pytest.raises(ConfigurationError, match=r"given as 20 px, so it is not to be found"):
        ReconstructionOptions(axis_px=20.0, find_axis=True)
    with pytest.raises(ConfigurationError, match="no method 'magic'"):
        reconstruct_file(processed, tmp_path / "slice.h5", ReconstructionOptions(method="magic"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.nxs"]
