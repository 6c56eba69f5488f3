"""The instrument file: there and back, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from xrdct_beamline.domain.errors import CalibrationError
from xrdct_beamline.domain.instrument import Instrument


@pytest.fixture
def instrument() -> Instrument:
    return Instrument(
        wavelength_A=0.24797,
        profile={"u": 0.15, "v": -0.0035, "w": 3e-4, "y": 0.01, "z": 0.002, "sensor_depth_deg": 0.05},
        zero_deg=1.25e-3,
        two_theta_range_deg=(2.5, 15.75),
        esds={"u": 0.006, "zero_deg": 2e-5},
        provenance={"calibrant": "CeO2", "frame": 'C:\\a "frame".cbf', "a_A": 5.41076},
    )


def test_what_is_written_is_read(instrument: Instrument, tmp_path: Path) -> None:
    instrument.save(tmp_path / "instrument.toml")
    assert Instrument.load(tmp_path / "instrument.toml") == instrument


def test_another_wavelength_is_refused(instrument: Instrument) -> None:
    instrument.refuse_other_wavelength(0.24797 * (1 + 1e-5))
    with pytest.raises(CalibrationError, match=r"0\.24797 Å, the PONI says 0\.248"):
        instrument.refuse_other_wavelength(0.2480)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("wavelength_A = 0.24797", "", "lacks wavelength_A"),
        ("u = 0.15", "U = 0.15", "no profile parameter U"),
        ("u = 0.15", "u = nan", "u of an instrument is nan"),
        ("w = 0.0003", 'w = "wide"', "w of an instrument is 'wide'"),
        ("zero_deg = 0.00125", "zero = 0.00125", "unknown entry zero"),
        ("[2.5, 15.75]", "[15.75, 2.5]", "must ascend"),
        ("[2.5, 15.75]", "[2.5]", "two angles"),
        ("wavelength_A = 0.24797", "wavelength_A = -1.0", "must be positive"),
        ("[esds]", "[esds", "is not TOML"),
    ],
)
def test_files_that_cannot_be_used_are_refused(
    instrument: Instrument, old: str, new: str, message: str
) -> None:
    text = instrument.to_toml()
    assert old in text
    with pytest.raises(CalibrationError, match=message):
        Instrument.from_toml(text.replace(old, new, 1))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"absent\.toml cannot be read"):
        Instrument.load(tmp_path / "absent.toml")
