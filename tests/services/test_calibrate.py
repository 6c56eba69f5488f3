"""Calibrant frame to instrument file: a made frame, the real one, and what is refused."""

from __future__ import annotations

from pathlib import Path

import fabio
import numpy as np
import pytest

from xrdct_beamline import cli
from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.errors import ConfigurationError, ProcessingError
from xrdct_beamline.domain.instrument import Instrument
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.processing.peak_profile import Profile
from xrdct_beamline.services.calibrate import CalibrationOptions, calibrate, table

PONI = """\
Detector: Pilatus300k
Distance: 0.3
Poni1: 0.0532
Poni2: 0.0418
Rot1: 0.0
Rot2: 0.0
Rot3: 0.0
Wavelength: 2.48e-11
"""
PROFILE = Profile(u=0.2, w=4e-4, z=0.02)
A_A = 5.4105
OPTIONS = CalibrationOptions(
    letters=("u", "w", "z"), sensor_depth=False, bins=500, estimator="mean", polarisation=0.99
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a PONI and the frame of a CeO2 whose cell is A_A."""
    folder = tmp_path_factory.mktemp("calibrant")
    (folder / "made.poni").write_text(PONI)
    geometry = DetectorGeometry.from_poni(folder / "made.poni")
    angle = geometry.radial("2th_deg")
    grid = np.arange(0.0, angle.max() + 0.1, 0.002)
    lines = Phase.shipped("CeO2").with_cell(a_A=A_A).reflections(geometry.wavelength_A, angle.max() + 0.5)
    pattern = np.full_like(grid, 30.0)
    for r in lines:
        sine = np.sin(np.radians(r.two_theta_deg / 2))
        area = 6e-4 * r.multiplicity * r.f_squared / (sine**2 * np.sqrt(1 - sine**2))
        pattern += area * PROFILE.shape(grid - r.two_theta_deg, r.two_theta_deg)
    mean = np.interp(angle, grid, pattern) * geometry.solid_angle() * geometry.polarisation(0.99)
    counts = np.random.default_rng(3).poisson(mean).astype(np.int32)
    fabio.cbfimage.CbfImage(data=counts).write(str(folder / "made.cbf"))
    return folder


def test_profile_and_cell_of_a_made_frame_come_back(folder: Path) -> None:
    done = calibrate(folder / "made.cbf", poni=folder / "made.poni", cif="CeO2", options=OPTIONS)
    found, esds = done.instrument.profile, done.instrument.esds
    assert done.fit.phases[0].cell[0] == pytest.approx(A_A, abs=2e-4)
    assert done.instrument.zero_deg == 0.0
    for letter, width in (("u", 0.02), ("w", 5e-5), ("z", 0.002)):
        assert found[letter] == pytest.approx(getattr(PROFILE, letter), abs=max(width, 4 * esds[letter]))
    assert done.fit.ring_r < 0.03
    assert done.instrument.wavelength_A == pytest.approx(0.248)
    assert done.instrument.provenance["frame"] == "made.cbf"
    assert any("off by as much" in remark for remark in done.remarks)


def test_with_the_cell_fixed_the_zero_takes_its_place(folder: Path) -> None:
    options = CalibrationOptions(
        free="zero", letters=("w", "z"), sensor_depth=False, bins=500, estimator="mean"
    )
    done = calibrate(folder / "made.cbf", poni=folder / "made.poni", cif="CeO2", options=options)
    assert done.fit.phases[0].cell[0] == pytest.approx(5.411651)
    assert done.instrument.zero_deg > 5 * done.instrument.esds["zero_deg"] > 0
    text = "\n".join(table(done))
    assert "zero_deg" in text
    assert "fixed" in next(line for line in table(done) if line.startswith("a_A"))


def test_the_command_writes_a_file_and_prints_a_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = folder / "instrument.toml"
    frame, poni = str(folder / "made.cbf"), str(folder / "made.poni")
    arguments = ["calibrate", frame, "--poni", poni, "--cif", "CeO2", "-o", str(output), "--letters", "w,z"]
    arguments += ["--no-sensor-depth", "--bins", "500", "--estimator", "mean"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "Rwp" in printed
    assert "a_A" in printed
    assert Profile(**Instrument.load(output).profile).w > 0


def test_rings_that_are_not_there_are_told(folder: Path) -> None:
    with pytest.raises(ProcessingError, match="check that PONI, wavelength and CIF"):
        calibrate(folder / "made.cbf", poni=folder / "made.poni", cif="Al", options=OPTIONS)
    narrow = CalibrationOptions(
        two_theta_range_deg=(4.0, 6.0), bins=500, sensor_depth=False, estimator="mean"
    )
    with pytest.raises(ProcessingError, match="2 rings of CeO2"):
        calibrate(folder / "made.cbf", poni=folder / "made.poni", cif="CeO2", options=narrow)
    with pytest.raises(ConfigurationError, match="free is 'all'"):
        CalibrationOptions(free="all")
    with pytest.raises(ConfigurationError, match="letters"):
        CalibrationOptions(letters=("q",))


@pytest.mark.slow
def test_the_real_frame_gives_the_known_cell_and_ring_intensities(shared_data: Path) -> None:
    """With this PONI and no zero a(CeO2) is 5.4110 Å: the geometry was itself calibrated on CeO2."""
    data = shared_data / "ceo2_cdte2m"
    done = calibrate(
        data / "CeO2.cbf",
        poni=data / "CeO2.poni",
        mask=data / "mask.edf",
        cif="CeO2",
        detector="Pilatus CdTe 2M",
    )
    assert done.instrument.zero_deg == 0.0
    assert done.fit.phases[0].cell[0] == pytest.approx(5.4110, abs=5e-4)
    assert done.fit.ring_r <= 0.03
    assert len(done.fit.rings) >= 20
    # CdTe absorbs 71 keV within 0.42 mm: 0.044° as seen from 0.544 m.
    assert done.instrument.profile["sensor_depth_deg"] == pytest.approx(0.044, abs=0.01)
