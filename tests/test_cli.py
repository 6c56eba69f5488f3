"""A mistake at the door: one sentence, exit code 2, nothing half-written."""

from __future__ import annotations

import numpy as np
import pytest
from fabio.edfimage import EdfImage

from xrdct_beamline.cli import main
from xrdct_beamline.startup.configuration import package_file


@pytest.fixture
def frame(tmp_path):
    path = tmp_path / "frame.edf"
    EdfImage(data=np.ones((619, 487), dtype=np.int32)).write(str(path))
    return path


def refused(capsys, *arguments):
    """Run a command that must be refused; return its one sentence."""
    code = main([str(a) for a in arguments])
    sentence = capsys.readouterr().err.strip()
    assert code == 2
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return sentence


def integrate(frame, tmp_path, *, poni=None, mask=None, output=None):
    options = [
        "integrate",
        frame,
        "--poni",
        poni or package_file("demo.poni"),
        "-o",
        output or tmp_path / "o.xye",
    ]
    return options + (["--mask", mask] if mask else [])


def test_a_frame_becomes_a_pattern(frame, tmp_path):
    assert main([str(a) for a in integrate(frame, tmp_path)]) == 0
    pattern = np.loadtxt(tmp_path / "o.xye")
    assert pattern.shape[1] == 3
    assert np.nanmedian(pattern[:, 1]) == pytest.approx(1.0, rel=0.15)  # solid angle and polarisation


def test_a_mask_of_another_shape(frame, tmp_path, capsys):
    mask = tmp_path / "mask.edf"
    EdfImage(data=np.zeros((10, 12), dtype=np.int8)).write(str(mask))
    sentence = refused(capsys, *integrate(frame, tmp_path, mask=mask))
    assert "10" in sentence
    assert "619" in sentence
    assert not (tmp_path / "o.xye").exists()


def test_a_poni_without_wavelength(frame, tmp_path, capsys):
    poni = tmp_path / "no.poni"
    lines = package_file("demo.poni").read_text().splitlines()
    poni.write_text("\n".join(line for line in lines if not line.startswith("Wavelength")))
    assert "avelength" in refused(capsys, *integrate(frame, tmp_path, poni=poni))
    assert not (tmp_path / "o.xye").exists()


def test_a_frame_that_is_not_there(tmp_path, capsys):
    missing = tmp_path / "missing.cbf"
    assert str(missing) in refused(capsys, *integrate(missing, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written(frame, tmp_path, capsys):
    output = tmp_path / "nowhere" / "o.xye"
    assert "nowhere" in refused(capsys, *integrate(frame, tmp_path, output=output))


def test_a_demo_into_a_folder_with_other_things(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    sentence = refused(capsys, "demo", "--headless", "--output", tmp_path)
    assert "not an earlier demo" in sentence
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_demo_into_a_file(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(capsys, "demo", "--headless", "--output", tmp_path / "file")


def test_a_configuration_that_is_not_there(tmp_path, capsys):
    assert "none.toml cannot be read" in refused(capsys, "sim", "--config", tmp_path / "none.toml")


def test_a_journal_in_a_folder_that_is_not_there(tmp_path, capsys):
    journal = tmp_path / "none" / "journal.jsonl"
    assert str(journal) in refused(capsys, "live", journal, "--output", tmp_path, "--no-page")


def test_a_cif_that_is_not_there_is_named_as_the_user_would(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["refine", "slice.nxs", "-o", "maps.nxs", "--cif", "nosuch.cif"]) == 2
    assert f"the CIF {tmp_path / 'nosuch.cif'} cannot be read" in capsys.readouterr().err
