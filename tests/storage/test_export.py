from __future__ import annotations

import csv
import os
import re
from dataclasses import replace

import gemmi
import numpy as np
import pytest

from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.processing.particles import measure
from xrdct_beamline.processing.peak_profile import Profile
from xrdct_beamline.storage.export import (
    BeamAndProfile,
    PatternSet,
    check_free,
    check_room,
    in_two_theta,
    instprm_text,
    profile_of_instprm,
    write_gsas,
    write_particles,
    write_topas,
    write_xye,
)

PROFILE = Profile(u=0.0021, v=-3e-4, w=8.5e-4, x=0.004, y=0.011, z=0.002, axial=0.01)
INSTRUMENT = BeamAndProfile(wavelength_A=0.24797, profile=PROFILE, zero_deg=0.0013)
RADIAL = np.linspace(2.0, 14.0, 40)


def pattern_set(n=3, unit="2th_deg", radial=RADIAL):
    rng = np.random.default_rng(4)
    intensity = rng.normal(5.0, 1.0, (n, radial.size))
    sigma = rng.uniform(0.1, 1.0, intensity.shape)
    intensity[0, 3] = np.nan
    sigma[0, 7] = 0.0
    return PatternSet(
        names=[f"voxel_{i:03d}" for i in range(n)],
        radial=radial,
        unit=unit,
        intensity=intensity,
        sigma=sigma,
        columns={"row": range(n), "x_mm": np.linspace(-0.1, 0.1, n)},
        source="run.nxs",
    )


def phases():
    return [Phase.shipped("LiMn2O4").with_cell(a_A=8.2), Phase.shipped("Li2MnO3")]


def test_xye_is_read_back_and_the_index_says_which_is_which(tmp_path):
    patterns = pattern_set()
    calls = []
    write_xye(tmp_path / "out", patterns, progress=lambda *a: calls.append(a))
    with (tmp_path / "out/index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["voxel_000.xye", "voxel_001.xye", "voxel_002.xye"]
    assert [float(row["x_mm"]) for row in rows] == pytest.approx([-0.1, 0.0, 0.1])
    for i, row in enumerate(rows):
        found = np.loadtxt(tmp_path / "out" / row["file"])
        kept = np.ones(RADIAL.size, bool)
        if i == 0:
            kept[[3, 7]] = False
        assert found[:, 0] == pytest.approx(RADIAL[kept], abs=1e-7)
        assert found[:, 1] == pytest.approx(patterns.intensity[i, kept], rel=1e-6)
        assert found[:, 2] == pytest.approx(patterns.sigma[i, kept], rel=1e-4)
    assert calls == [(3, 3)]
    assert "2th_deg" in (tmp_path / "out/voxel_000.xye").read_text().splitlines()[1]
    n_bytes = sum(p.stat().st_size for p in (tmp_path / "out").glob("*.xye"))
    assert 0.7 * n_bytes < patterns.n_bytes < 1.5 * n_bytes


def test_a_single_pattern_can_be_a_file(tmp_path):
    write_xye(tmp_path / "slice.xye", pattern_set(1))
    assert np.loadtxt(tmp_path / "slice.xye").shape == (38, 3)


def test_nothing_is_overwritten_unasked_and_a_failure_leaves_what_was_there(tmp_path):
    output = tmp_path / "out"
    write_xye(output, pattern_set(2))
    with pytest.raises(ConfigurationError, match="--force"):
        write_xye(output, pattern_set(3))

    def fail(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_xye(output, pattern_set(3), force=True, progress=fail)
    assert len(list(output.glob("*.xye"))) == 2
    write_xye(output, pattern_set(3), force=True)
    assert len(list(output.glob("*.xye"))) == 3
    assert os.listdir(tmp_path) == ["out"]


def test_force_does_not_empty_a_folder_of_others(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter1.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match="was not written by an export"):
        write_xye(tmp_path / "thesis", pattern_set(), force=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigurationError, match="is a file"):
        write_xye(tmp_path / "file", pattern_set(), force=True)
    with pytest.raises(ConfigurationError, match="is a folder"):
        write_particles(tmp_path / "thesis", measure(np.eye(3, dtype=int)), force=True)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        check_free(tmp_path / "absent" / "out", force=False)
    with pytest.raises(ConfigurationError, match="MB left"):
        check_room(tmp_path / "out", 10**18)


@pytest.mark.parametrize(("unit", "factor"), [("q_A^-1", 1.0), ("q_nm^-1", 10.0)])
def test_momentum_transfer_becomes_two_theta(unit, factor):
    q = factor * 4 * np.pi * np.sin(np.radians(RADIAL) / 2) / 0.24797
    found = in_two_theta(pattern_set(unit=unit, radial=q), 0.24797)
    assert found.radial == pytest.approx(RADIAL)
    assert found.unit == "2th_deg"
    with pytest.raises(ConfigurationError, match="r_mm"):
        in_two_theta(pattern_set(unit="r_mm"), 0.24797)


def test_gsas_letters_are_centidegrees_and_variances():
    values = dict(
        line.split(":") for line in instprm_text(PROFILE, 0.24797, 0.0013).splitlines() if line[0] != "#"
    )
    numbers = {key: float(value) for key, value in values.items() if key != "Type"}
    for two_theta in (3.0, 12.0):
        tan, cos = np.tan(np.radians(two_theta) / 2), np.cos(np.radians(two_theta) / 2)
        gauss, lorentz = PROFILE.widths(two_theta)
        variance = numbers["U"] * tan**2 + numbers["V"] * tan + numbers["W"]  # centidegrees squared
        assert 2.3548200450309493 * np.sqrt(variance) / 100 == pytest.approx(gauss, rel=1e-6)
        assert (numbers["X"] / cos + numbers["Y"] * tan + numbers["Z"]) / 100 == pytest.approx(lorentz)
    assert numbers["SH/L"] == pytest.approx(0.02)
    assert numbers["Zero"] == pytest.approx(0.0013)
    assert (values["Type"], numbers["Polariz."], numbers["Azimuth"]) == ("PXC", 1.0, 0.0)


def test_an_instrument_file_goes_there_and_back():
    profile, wavelength_A, zero_deg = profile_of_instprm(instprm_text(PROFILE, 0.24797, 0.0013))
    for letter in ("u", "v", "w", "x", "y", "z", "axial"):
        assert getattr(profile, letter) == pytest.approx(getattr(PROFILE, letter), rel=1e-6)
    assert (wavelength_A, zero_deg) == pytest.approx((0.24797, 0.0013))
    one_line = "#x\nType:PXC;Bank:1\nLam:0.2\nZero:0;U:2;V:0;W:5;X:0;Y:0;SH/L:0.002\n"
    assert profile_of_instprm(one_line)[1] == 0.2
    with pytest.raises(DataError, match="PXC is needed"):
        profile_of_instprm("Type:PNT\n")
    with pytest.raises(DataError, match="lacks"):
        profile_of_instprm("Type:PXC\nLam:0.2\n")


def read_fxye(path):
    """Read FXYE as GSAS-II does: title, BANK line, centidegrees."""
    title, bank, *rows = path.read_text().splitlines()
    assert {len(line) for line in (title, bank, *rows)} == {80}
    words = bank.split()
    assert words[0] == "BANK"
    assert words[-1] == "FXYE"
    assert int(words[2]) == len(rows)
    table = np.array([[float(v) for v in row.split()] for row in rows])
    assert float(words[5]) == pytest.approx(table[0, 0], abs=1e-3)
    table[:, 0] /= 100
    return table


def test_a_gsas_folder_has_all_that_a_project_needs(tmp_path):
    patterns = pattern_set()
    write_gsas(tmp_path / "gsas", patterns, phases(), INSTRUMENT)
    table = read_fxye(tmp_path / "gsas/data/voxel_001.fxye")
    assert table[:, 0] == pytest.approx(RADIAL, abs=1e-6)
    assert table[:, 1] == pytest.approx(patterns.intensity[1], rel=1e-6)
    assert table[:, 2] == pytest.approx(patterns.sigma[1], rel=1e-5)
    copied = Phase.from_cif(tmp_path / "gsas/phases/LiMn2O4.cif")
    assert copied.composition == Phase.shipped("LiMn2O4").composition
    assert profile_of_instprm((tmp_path / "gsas/instrument.instprm").read_text())[1] == 0.24797
    script = (tmp_path / "gsas/make_project.py").read_text()
    compile(script, "make_project.py", "exec")
    assert "phases/Li2MnO3.cif" in script
    with (tmp_path / "gsas/index.csv").open() as file:
        for row in csv.DictReader(file):
            assert (tmp_path / "gsas" / row["file"]).is_file()


def test_values_below_zero_keep_their_weight_in_gsas(tmp_path):
    """GSAS-II's importer drops intensities of 0 and less; a constant in the background does no harm."""
    patterns = pattern_set(2)
    below = replace(patterns, intensity=patterns.intensity - np.array([[5.0], [0.0]]))
    write_gsas(tmp_path / "gsas", below, (), INSTRUMENT)
    with (tmp_path / "gsas/index.csv").open() as file:
        added = [float(row["added_to_intensity"]) for row in csv.DictReader(file)]
    assert added[0] > 0
    assert added[1] == 0
    table = read_fxye(tmp_path / "gsas/data/voxel_000.fxye")
    assert (table[:, 1] > 0).all()
    kept = np.isfinite(below.intensity[0]) & (below.sigma[0] > 0)
    assert table[:, 1] - added[0] == pytest.approx(below.intensity[0, kept], abs=1e-5)


def test_a_name_with_a_q_is_kept_out_of_the_comments(tmp_path):
    """GSAS-II takes such a comment for one of data over q."""
    write_xye(tmp_path / "a.xye", replace(pattern_set(1), source="sequence.nxs"))
    comments = [line for line in (tmp_path / "a.xye").read_text().splitlines() if line[0] == "#"]
    assert comments == ["# 2th_deg intensity sigma"]
    write_xye(tmp_path / "b.xye", pattern_set(1))
    assert "# voxel_000 of run.nxs" in (tmp_path / "b.xye").read_text()


def test_the_gsas_script_calls_what_gsas_ii_offers(tmp_path, monkeypatch):
    """A stand-in for GSASIIscriptable records what the script asks for."""
    write_gsas(tmp_path / "gsas", pattern_set(), phases(), INSTRUMENT)
    stand_in = (
        "calls = []\n"
        "class G2Project:\n"
        "    def __init__(self, newgpx): calls.append(('new', newgpx))\n"
        "    def add_powder_histogram(self, datafile, iparams, fmthint=None):\n"
        "        calls.append(('histogram', datafile, iparams)); return datafile\n"
        "    def add_phase(self, phasefile, phasename=None, histograms=(), fmthint=None):\n"
        "        calls.append(('phase', phasefile, phasename, list(histograms)))\n"
        "    def do_refinements(self, refinements): calls.append(('refine', len(refinements)))\n"
        "    def save(self): calls.append(('save',))\n"
    )
    (tmp_path / "GSASIIscriptable.py").write_text(stand_in)
    monkeypatch.syspath_prepend(str(tmp_path))
    script = tmp_path / "gsas/make_project.py"
    monkeypatch.setattr("sys.argv", [str(script)])
    exec(compile(script.read_text(), str(script), "exec"), {"__file__": str(script)})  # noqa: S102
    import GSASIIscriptable

    kinds = [call[0] for call in GSASIIscriptable.calls]
    assert kinds == ["new", "histogram", "phase", "phase", "refine", "save"]
    assert GSASIIscriptable.calls[1][1] == str(tmp_path / "gsas/data/voxel_000.fxye")
    assert os.path.isfile(GSASIIscriptable.calls[2][1])


def topas_value(text, key):
    return re.search(rf"{key}\s+(\S+)", text).group(1)


def test_a_topas_folder_has_input_list_and_batch(tmp_path):
    write_topas(tmp_path / "topas", pattern_set(), phases(), INSTRUMENT)
    names = (tmp_path / "topas/batch.txt").read_text().split()
    assert names == ["voxel_000.xye", "voxel_001.xye", "voxel_002.xye"]
    for name in names:
        assert np.loadtxt(tmp_path / "topas" / name, comments=None).shape[1] == 3
    batch = (tmp_path / "topas/run_batch.bat").read_bytes()
    assert b"batch.txt" in batch
    assert batch.count(b"\r\n") == batch.count(b"\n")
    text = (tmp_path / "topas/refine.inp").read_text()
    assert text.isascii()
    assert "LP_Factor(90)" in text
    assert float(topas_value(text, "lo")) == 0.24797
    assert "th2_offset = 0.001300;" in text
    assert text.count("   str\n") == 2
    assert "axial divergence" in text


def test_topas_letters_are_swapped_where_topas_swaps_them(tmp_path):
    write_topas(tmp_path / "topas", pattern_set(), phases()[:1], INSTRUMENT)
    text = (tmp_path / "topas/refine.inp").read_text()
    numbers = re.search(r"TCHZ_Peak_Type\((.*)\)", text).group(1).split(",")[1::2]
    u, v, w, z, x, y = (float(n) for n in numbers)  # TOPAS: Lorentzian X tan + Y / cos
    constant = float(re.search(r"lor_fwhm = (\S+);", text).group(1))
    tan, cos = np.tan(np.radians(4.0)), np.cos(np.radians(4.0))
    gauss, lorentz = PROFILE.widths(8.0)
    assert np.sqrt(u * tan**2 + v * tan + w + z / cos**2) == pytest.approx(gauss)
    assert x * tan + y / cos + constant == pytest.approx(lorentz)


def test_topas_structures_have_cell_sites_and_occupancies(tmp_path):
    spinel = phases()[0].with_occupancy({"Li1": 0.4} if "Li1" in label_set(phases()[0]) else {"Li": 0.4})
    write_topas(tmp_path / "topas", pattern_set(), [spinel, phases()[1]], INSTRUMENT)
    first, second = (tmp_path / "topas/refine.inp").read_text().split("   str\n")[1:]
    assert 'space_group "Fd-3mZ"' in first
    assert "a @ 8.200000" in first
    assert "b = Get(a);" in first
    assert "al 90.000000" in first
    assert 'space_group "C2/m"' in second
    assert "be @ 109.46" in second
    sites = {
        words[1]: words
        for words in (re.sub(r"= (\S+);", r"\1", line).split() for line in first.splitlines())
        if words and words[0] == "site"
    }
    assert set(sites) == label_set(spinel)
    for site, occupancy in spinel.sites:
        words = sites[site.label]
        position = [float(gemmi.cif.as_number(words[i])) for i in (3, 5, 7)]
        assert position == pytest.approx(site.positions[0], abs=1e-6)
        assert words[8:11] == ["occ", site.element, f"{occupancy:.6g}"]
        assert float(words[12]) == pytest.approx(8 * np.pi**2 * site.u_iso_A2, rel=1e-4)


def label_set(phase):
    return {site.label for site, _ in phase.sites}


def test_particles_have_units_in_their_columns_and_unknown_is_empty(tmp_path):
    labels = np.zeros((20, 20), int)
    labels[4:8, 4:9], labels[12:17, 10:13] = 1, 2
    a_A = np.where(labels == 1, 8.2, np.nan)
    particles = measure(labels, a_A=a_A, a_esd_A=np.full(labels.shape, 1e-3), step_mm=0.001)
    write_particles(tmp_path / "p.csv", particles, more={"is_outlier": np.array([False, True])})
    with (tmp_path / "p.csv").open() as file:
        first, second = csv.DictReader(file)
    assert float(first["area_mm2"]) == pytest.approx(20e-6)
    assert float(first["x_mm"]) == pytest.approx(particles.x_mm[0])
    assert float(first["y_mm"]) == pytest.approx(particles.y_mm[0])
    assert float(first["a_A"]) == pytest.approx(8.2)
    assert float(first["a_esd_A"]) == pytest.approx(1e-3 / np.sqrt(20))
    assert second["a_A"] == ""
    assert (first["is_outlier"], second["is_outlier"]) == ("0", "1")


def test_patterns_of_another_shape_are_refused():
    with pytest.raises(DataError, match="need arrays of shape"):
        PatternSet(
            names=["a"], radial=RADIAL, unit="2th_deg", intensity=np.ones((1, 3)), sigma=np.ones((1, 3))
        )
