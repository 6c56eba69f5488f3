from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.errors import CalibrationError

PONI = """\
# an entry that a later one replaces
Detector: Pilatus300kCdTe
Distance: 9.9
Poni1: 0.0
Poni2: 0.0
Rot1: 0.5
Rot2: 0.0
Rot3: 0.0
Wavelength: 1e-10
# the entry that counts
Detector: Pilatus300kCdTe
Distance: 0.3
Poni1: 0.0517
Poni2: 0.0430
Rot1: 0.0
Rot2: 0.0
Rot3: 0.0
Wavelength: 2.48e-11
"""
SHAPE = (619, 487)


@pytest.fixture
def poni(tmp_path: Path) -> Path:
    path = tmp_path / "cell.poni"
    path.write_text(PONI)
    return path


def test_the_last_entry_of_a_poni_counts(poni: Path) -> None:
    geometry = DetectorGeometry.from_poni(poni)
    assert geometry.shape == SHAPE
    assert geometry.distance_m == 0.3
    assert geometry.wavelength_A == pytest.approx(0.248)
    assert geometry.pixel_m == (172e-6, 172e-6)


def test_angles_are_those_of_a_hand_worked_pixel(poni: Path) -> None:
    geometry = DetectorGeometry.from_poni(poni)
    y_m, x_m = (100 + 0.5) * 172e-6 - 0.0517, (40 + 0.5) * 172e-6 - 0.0430
    two_theta = np.arctan(np.hypot(y_m, x_m) / 0.3)
    assert geometry.radial().dtype == np.float64
    assert geometry.radial()[100, 40] == pytest.approx(np.degrees(two_theta), rel=1e-12)
    q = 4 * np.pi * np.sin(two_theta / 2) / 0.248
    assert geometry.radial("q_A^-1")[100, 40] == pytest.approx(q, rel=1e-12)
    assert geometry.radial("q_nm^-1")[100, 40] == pytest.approx(10 * q, rel=1e-12)
    assert geometry.azimuth_rad()[100, 40] == pytest.approx(np.arctan2(y_m, x_m), rel=1e-12)
    assert geometry.solid_angle()[100, 40] == pytest.approx(np.cos(two_theta) ** 3, rel=1e-6)
    cos2chi = np.cos(2 * np.arctan2(y_m, x_m))
    polarisation = 0.5 * (1 + np.cos(two_theta) ** 2 - 0.99 * cos2chi * np.sin(two_theta) ** 2)
    assert geometry.polarisation(0.99)[100, 40] == pytest.approx(polarisation, rel=1e-6)


def test_the_mask_joins_the_gaps(poni: Path) -> None:
    gaps = DetectorGeometry.from_poni(poni).mask
    assert gaps[200, 10]
    assert not gaps[10, 10]
    mine = np.zeros(SHAPE, bool)
    mine[10, 10] = True
    both = DetectorGeometry.from_poni(poni, mask=mine).mask
    assert both[200, 10]
    assert both[10, 10]
    assert both.sum() == gaps.sum() + 1


def test_a_mask_is_read_from_numpy_and_image_files(poni: Path, tmp_path: Path) -> None:
    import fabio

    mask = np.zeros(SHAPE, np.uint8)
    mask[3, 4] = 1
    np.save(tmp_path / "mask.npy", mask)
    fabio.edfimage.EdfImage(data=mask).write(str(tmp_path / "mask.edf"))
    for name in ("mask.npy", "mask.edf"):
        assert np.array_equal(DetectorGeometry.from_poni(poni, tmp_path / name).user_mask, mask == 1)


def test_a_detector_name_overrides_the_poni(poni: Path) -> None:
    geometry = DetectorGeometry.from_poni(poni, detector="Pilatus CdTe 2M")
    assert geometry.shape == (1679, 1475)
    assert geometry.detector_name == "Pilatus CdTe 2M"
    assert geometry.mask.sum() == 211405
    assert geometry.distance_m == 0.3


def test_an_override_keeps_how_the_detector_is_mounted(tmp_path: Path) -> None:
    text = PONI.replace(
        "Detector: Pilatus300kCdTe\n", 'Detector: Pilatus300k\nDetector_config: {"orientation": 2}\n'
    )
    path = tmp_path / "turned.poni"
    path.write_text("poni_version: 2.1\n" + text)
    turned = DetectorGeometry.from_poni(path, detector="Pilatus CdTe 300k").radial()
    path.write_text(PONI)
    upright = DetectorGeometry.from_poni(path).radial()
    assert not np.allclose(turned, upright)


@pytest.mark.parametrize("masked", [False, True])
def test_metadata_hold_everything_and_are_plain_json(poni: Path, masked: bool) -> None:
    mask = np.random.default_rng(1).random(SHAPE) < 0.01 if masked else None
    geometry = DetectorGeometry.from_poni(poni, mask=mask, detector="Pilatus CdTe 300k")
    metadata = json.loads(json.dumps(geometry.to_metadata()))
    again = DetectorGeometry.from_metadata(metadata)
    assert again.to_metadata() == metadata
    assert np.array_equal(again.mask, geometry.mask)
    assert np.array_equal(again.radial(), geometry.radial())


def test_altered_metadata_are_refused(poni: Path) -> None:
    metadata = DetectorGeometry.from_poni(poni, mask=np.zeros(SHAPE, bool)).to_metadata()
    with pytest.raises(CalibrationError, match="PONI text does not match"):
        DetectorGeometry.from_metadata({**metadata, "poni": metadata["poni"] + " "})
    with pytest.raises(CalibrationError, match="mask does not match"):
        DetectorGeometry.from_metadata({**metadata, "mask_sha256": "0"})


def test_unusable_calibrations_are_refused_with_a_sentence(poni: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"absent\.poni cannot be read"):
        DetectorGeometry.from_poni(tmp_path / "absent.poni")
    with pytest.raises(CalibrationError, match=r"shape \(10, 20\).*\(619, 487\)"):
        DetectorGeometry.from_poni(poni, mask=np.zeros((10, 20)))
    with pytest.raises(CalibrationError, match="no detector 'Eiger 99M'"):
        DetectorGeometry.from_poni(poni, detector="Eiger 99M")
    with pytest.raises(CalibrationError, match=r"mask .*none\.edf cannot be read"):
        DetectorGeometry.from_poni(poni, mask=tmp_path / "none.edf")
    for old, new, message in (
        ("Wavelength: 1e-10\n", "", None),
        ("Wavelength: 2.48e-11\n", "", "no wavelength"),
        ("Distance", "Distants", "lacks distance"),
        ("Detector: Pilatus300kCdTe\n", "", "names no detector"),
        ("Pilatus300kCdTe", "Nonsense", "cannot use the PONI"),
        ("Distance: 0.3", "Distance: far", "cannot use the PONI"),
    ):
        text = (poni.read_text()).replace(old, new)
        poni.write_text(text)
        if message is not None:
            with pytest.raises(CalibrationError, match=message):
                DetectorGeometry.from_poni(poni)
            poni.write_text(PONI)


def test_unknown_unit_and_impossible_polarisation_are_refused(poni: Path) -> None:
    geometry = DetectorGeometry.from_poni(poni)
    with pytest.raises(CalibrationError, match=r"unit 'd_A' is unknown.*2th_deg"):
        geometry.radial("d_A")
    with pytest.raises(CalibrationError, match="polarisation is 99"):
        geometry.polarisation(99)


def test_the_gaps_of_pyfai_are_those_of_the_real_detector(shared_data: Path) -> None:
    import fabio

    folder = shared_data / "ceo2_cdte2m"
    frame = fabio.open(str(folder / "CeO2.cbf")).data
    gaps = DetectorGeometry.from_poni(folder / "CeO2.poni", detector="Pilatus CdTe 2M").mask
    assert np.count_nonzero(gaps != (frame == -1)) < 100


def test_angles_are_those_of_pyfai_loading_the_same_file(poni: Path) -> None:
    import pyFAI

    text = poni.read_text().replace("Rot1: 0.0\n", "Rot1: 0.01\n").replace("Rot2: 0.0\n", "Rot2: -0.02\n")
    poni.write_text(text)
    loaded = pyFAI.load(str(poni))
    geometry = DetectorGeometry.from_poni(poni)
    assert np.array_equal(geometry.radial(), loaded.center_array(SHAPE, unit="2th_deg"))
    assert np.array_equal(geometry.solid_angle(), loaded.solidAngleArray(SHAPE))
