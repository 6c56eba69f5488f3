from __future__ import annotations

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import tiny_calibration

from xrdct_beamline.cli import main
from xrdct_beamline.domain.errors import CalibrationError, ConfigurationError, DataError
from xrdct_beamline.domain.instrument import Instrument
from xrdct_beamline.domain.results import RefinedMaps
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.processing.reconstruction import IncrementalFBP
from xrdct_beamline.services.export import (
    ExportOptions,
    Format,
    ParticleSettings,
    Region,
    prepare_export,
)
from xrdct_beamline.storage.export import profile_of_instprm
from xrdct_beamline.storage.maps import write_maps
from xrdct_beamline.storage.nexus import ProcessedFile, ProcessedHeader

N, N_BINS, AXIS_PX, STEP_MM = 41, 24, 20.3, 0.002
RADIAL = np.linspace(2.0, 12.0, N_BINS)
GEOMETRY = ScanGeometry.raster(n_translations=N, step_mm=STEP_MM, n_rotations=40)
PEAKS = np.exp(-0.5 * ((RADIAL - 5.0) / 0.4) ** 2)
#: Two discs: x and y from the axis, radius, all in pixels.
DISCS = ((8.0, 5.0, 6.0), (-7.0, -6.0, 5.0))


def lines():
    """Yield the lines of two discs that diffract alike, on a flat background of theirs."""
    for angle in GEOMETRY.rotation_deg:
        t = np.arange(N) - AXIS_PX
        chords = np.zeros(N)
        for x, y, radius in DISCS:
            centre = x * np.cos(np.radians(angle)) + y * np.sin(np.radians(angle))
            chords += 2 * np.sqrt(np.maximum(radius**2 - (t - centre) ** 2, 0))
        yield angle, chords[:, None] * (1.0 + 10.0 * PEAKS)


@pytest.fixture(scope="module")
def processed(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("processed") / "run.nxs"
    header = ProcessedHeader(
        run_uid="0123456789",
        geometry=GEOMETRY,
        calibration=tiny_calibration(),
        axis_px=AXIS_PX,
        settings={"bins": N_BINS, "unit": "2th_deg", "radial_range": None},
        role="roi",
        state_index=0,
        title="cell 1",
        phases=("LiMn2O4",),
        n_background=2,
    )
    file = ProcessedFile.create(path, header, RADIAL)
    fbp = IncrementalFBP(N, N_BINS, 40, AXIS_PX, GEOMETRY.rotation_deg)
    for index, (angle, line) in enumerate(lines()):
        sigma = np.sqrt(line + 1.0)
        fbp.add(angle, line, sigma)
        file.write_line(
            index,
            intensity=line.astype(np.float32),
            sigma=sigma.astype(np.float32),
            measured=np.ones(N, bool),
            raw_file=f"/raw/{index}.h5",
            attempt=0,
            monitor_reference=1000.0,
        )
    file.write_slice(lambda bins: (fbp.slice(bins), fbp.slice_sigma(bins)), 180.0)
    file.finish(exit_status="success", lines_retaken=0)
    file.close()
    return path


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def export(processed, output, **options):
    found = prepare_export(processed, output, ExportOptions(**options))
    found.write()
    return found


def test_particles_become_patterns_with_their_places(processed, tmp_path):
    found = export(processed, tmp_path / "out")
    assert found.n_items == 2
    assert "2 patterns of particles" in str(found)
    rows = rows_of(tmp_path / "out/index.csv")
    for row, (x, y, radius) in zip(rows, DISCS, strict=True):
        assert float(row["x_mm"]) == pytest.approx(x * STEP_MM, abs=0.5 * STEP_MM)
        assert float(row["y_mm"]) == pytest.approx(y * STEP_MM, abs=0.5 * STEP_MM)
        assert float(row["radius_mm"]) == pytest.approx(radius * STEP_MM, rel=0.1)
        table = np.loadtxt(tmp_path / "out" / row["file"])
        assert table[:, 0] == pytest.approx(RADIAL, abs=1e-6)
        assert table[:, 1] == pytest.approx(1 + 10 * PEAKS, rel=0.12)
        assert (table[:, 2] > 0).all()


def test_shells_and_voxels_and_the_whole_slice(processed, tmp_path):
    export(processed, tmp_path / "shells", region=Region.SHELL, n_shells=2)
    rows = rows_of(tmp_path / "shells/index.csv")
    assert [(row["particle"], row["shell_from_surface"]) for row in rows] == [
        ("1", "1"), ("1", "2"), ("2", "1"), ("2", "2"),
    ]  # fmt: skip
    core = np.loadtxt(tmp_path / "shells" / rows[1]["file"])
    assert core[:, 1] == pytest.approx(1 + 10 * PEAKS, rel=0.03)

    found = export(processed, tmp_path / "voxels", region=Region.VOXEL)
    rows = rows_of(tmp_path / "voxels/index.csv")
    assert found.n_items == len(rows) == len(list((tmp_path / "voxels").glob("*.xye")))
    sizes = np.bincount([int(row["particle"]) for row in rows])[1:]
    assert sizes == pytest.approx([np.pi * 36, np.pi * 25], rel=0.2)
    first = rows[0]
    assert float(first["x_mm"]) == pytest.approx((int(first["column"]) - AXIS_PX) * STEP_MM)
    assert float(first["y_mm"]) == pytest.approx((AXIS_PX - int(first["row"])) * STEP_MM)

    export(processed, tmp_path / "slice.xye", region=Region.SLICE)
    n_disc = np.pi * min(AXIS_PX, N - 1 - AXIS_PX) ** 2
    expected = (1 + 10 * PEAKS) * np.pi * 61 / n_disc
    assert np.loadtxt(tmp_path / "slice.xye")[:, 1] == pytest.approx(expected, rel=0.06)


def test_unmixed_shells_are_nearer_to_the_truth(processed, tmp_path):
    errors = []
    for name, blur in (("mixed", None), ("unmixed", 1.05)):
        export(processed, tmp_path / name, region=Region.SHELL, n_shells=3, blur_px=blur)
        row = rows_of(tmp_path / name / "index.csv")[0]
        found = np.loadtxt(tmp_path / name / row["file"])[:, 1]
        errors.append(np.abs(found / (1 + 10 * PEAKS) - 1).max())
    assert errors[1] < 0.6 * errors[0]


def test_topas_and_gsas_get_the_instrument_of_a_calibration(processed, tmp_path):
    instrument = tmp_path / "instrument.toml"
    Instrument(
        wavelength_A=0.248, profile={"w": 9e-4, "y": 0.01}, zero_deg=0.002, two_theta_range_deg=(2.0, 12.0)
    ).save(instrument)
    cif = tmp_path / "LiMn2O4.cif"
    cif.write_text(
        (Path(__file__).parents[2] / "src/xrdct_beamline/structures/LiMn2O4.cif").read_text("utf-8"), "utf-8"
    )
    options = {"instrument": instrument, "cifs": (cif,)}
    assert export(processed, tmp_path / "gsas", format=Format.GSAS, **options).notes == ()
    profile, wavelength_A, zero_deg = profile_of_instprm((tmp_path / "gsas/instrument.instprm").read_text())
    assert (profile.w, profile.y, zero_deg) == pytest.approx((9e-4, 0.01, 0.002))
    assert wavelength_A == pytest.approx(0.248)
    export(processed, tmp_path / "topas", format=Format.TOPAS, **options)
    assert "lo 0.2480000" in (tmp_path / "topas/refine.inp").read_text()
    # What was written for GSAS-II serves as an instrument file again.
    again = {"instrument": tmp_path / "gsas/instrument.instprm", "cifs": (cif,)}
    export(processed, tmp_path / "again", format=Format.GSAS, **again)
    assert (tmp_path / "again/instrument.instprm").read_text() == (
        tmp_path / "gsas/instrument.instprm"
    ).read_text()


def test_what_was_assumed_is_said_and_another_wavelength_refused(processed, tmp_path):
    notes = prepare_export(processed, tmp_path / "t", ExportOptions(format=Format.TOPAS)).notes
    assert any("profile is a guess" in note for note in notes)
    assert any("no structures" in note for note in notes)
    other = tmp_path / "other.toml"
    Instrument(wavelength_A=0.2, profile={"w": 1e-3}, two_theta_range_deg=(2.0, 12.0)).save(other)
    with pytest.raises(CalibrationError, match="calibrated at 0"):
        prepare_export(processed, tmp_path / "t", ExportOptions(format=Format.GSAS, instrument=other))


def test_the_table_of_particles_has_refined_means_where_there_are_any(processed, tmp_path):
    plain = export(processed, tmp_path / "plain.csv", format=Format.CSV)
    assert "no refined maps" in plain.notes[0]
    assert rows_of(tmp_path / "plain.csv")[0]["a_A"] == ""

    refined = tmp_path / "refined.nxs"
    refined.write_bytes(processed.read_bytes())
    write_some_maps(refined)
    table = export(refined, tmp_path / "refined.csv", format=Format.CSV)
    assert "LiMn2O4" in table.notes[0]
    first, second = rows_of(tmp_path / "refined.csv")
    assert float(first["a_A"]) == pytest.approx(8.2, abs=1e-6)
    assert float(second["a_A"]) == pytest.approx(8.1, abs=1e-6)
    assert float(first["a_esd_A"]) > 0
    assert first["is_outlier"] == "0"
    options = ExportOptions(format=Format.CSV, particles=ParticleSettings(phase="Al"))
    with pytest.raises(ConfigurationError, match="no maps of Al"):
        prepare_export(refined, tmp_path / "al.csv", options)


def write_some_maps(path):
    """Refined maps: a is 8.2 Å in the first disc and 8.1 Å elsewhere."""
    rows, columns = np.indices((N, N))
    distance = [np.hypot(columns - AXIS_PX - x, AXIS_PX - rows - y) - r for x, y, r in DISCS]
    cell = np.full((N, N, 6), 90.0)
    cell[..., :3] = np.where(distance[0] < 4, 8.2, 8.1)[..., None]
    of_phase = {"LiMn2O4": np.where(np.minimum(*distance) <= 0, 1.0, 0.0)}
    nothing = np.full((N, N), np.nan)
    maps = RefinedMaps(
        names=("LiMn2O4",),
        cell={"LiMn2O4": cell},
        cell_esd={"LiMn2O4": np.full((N, N, 6), 1e-3)},
        scale=of_phase,
        scale_esd={"LiMn2O4": np.full((N, N), 0.01)},
        mass_fraction=of_phase,
        mass_fraction_esd=of_phase,
        background=np.zeros((N, N, 2)),
        width=nothing,
        width_esd=nothing,
        rwp=np.full((N, N), 0.1),
        status=np.zeros((N, N), np.int8),
    )
    with h5py.File(path, "r+") as file:
        write_maps(file["entry"], maps)


def test_the_command_says_what_it_writes_and_refuses_to_write_it_twice(processed, tmp_path, capsys):
    arguments = ["export", str(processed), "-o", str(tmp_path / "out"), "--threshold", "0.5"]
    assert main([*arguments, "--dry-run"]) == 0
    assert "2 patterns of particles, about" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main(arguments) == 0
    assert main(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*arguments, "--force", "--format", "gsas", "--region", "shell"]) == 0
    assert "note: the profile is a guess" in capsys.readouterr().out
    assert (tmp_path / "out/make_project.py").is_file()


def test_what_cannot_be_exported_is_said(processed, tmp_path):
    with pytest.raises(DataError, match="no processed file"):
        prepare_export(tmp_path / "absent.nxs", tmp_path / "out")
    with pytest.raises(DataError, match="lower --threshold"):
        prepare_export(processed, tmp_path / "out", ExportOptions(particles=ParticleSettings(threshold=1e9)))
    with pytest.raises(ConfigurationError, match="cannot be unmixed"):
        ExportOptions(region=Region.VOXEL, blur_px=1.0)
    with pytest.raises(DataError, match="no refined maps of Al"):
        prepare_export(processed, tmp_path / "out", ExportOptions(particles=ParticleSettings(phase="Al")))
