"""Reflections and structure factors against tabulated values (gemmi |F|² with f', λ = 0.2480 Å)."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xrdct_beamline.domain._symmetry import metric
from xrdct_beamline.domain.errors import PhaseError
from xrdct_beamline.domain.phases import Phase, shipped_names

WAVELENGTH_A = 0.2480

# name: (hkl, d Å, 2θ °, multiplicity, |F|² electrons² per cell)
TABLE = {
    "LiMn2O4": [
        ((1, 1, 1), 4.7597, 2.9857, 8, 37886.0),
        ((2, 2, 0), 2.9147, 4.8765, 12, 376.1),
        ((3, 1, 1), 2.4857, 5.7188, 24, 22703.5),
        ((4, 0, 0), 2.0610, 6.8985, 6, 161360.5),
        ((5, 1, 1), 1.5866, 8.9651, 24, 24135.9),
        ((3, 3, 3), 1.5866, 8.9651, 8, 6958.5),
        ((4, 4, 0), 1.4574, 9.7618, 12, 102100.4),
        ((5, 3, 1), 1.3935, 10.2103, 48, 11903.6),
    ],
    "lambda-MnO2": [
        ((1, 1, 1), 4.6361, 3.0653, 8, 42159.1),
        ((3, 1, 1), 2.4211, 5.8714, 24, 19558.1),
        ((4, 4, 0), 1.4195, 10.0228, 12, 91195.4),
    ],
    "LiMnO2": [
        ((1, 1, 1), 2.3845, 5.9618, 8, 334.4),
        ((2, 0, 0), 2.0650, 6.8852, 6, 3030.5),
        ((2, 2, 2), 1.1922, 11.9399, 8, 1073.8),
    ],
    "Al": [((1, 1, 1), 2.3380, 6.0805, 8, 1190.7), ((3, 1, 1), 1.2210, 11.6579, 24, 538.8)],
}

CONTENTS = {
    "LiMn2O4": {"Li": 8, "Mn": 16, "O": 32},
    "lambda-MnO2": {"Mn": 16, "O": 32},
    "Li0.5Mn2O4": {"Li": 4, "Mn": 16, "O": 32},
    "LiMnO2": {"Li": 2, "Mn": 2, "O": 4},
    "Li2MnO3": {"Li": 8, "Mn": 4, "O": 12},
    "Al": {"Al": 4},
    "CeO2": {"Ce": 4, "O": 8},
    "LaB6": {"La": 1, "B": 6},
    "Si": {"Si": 8},
    "Al2O3": {"Al": 12, "O": 18},
    "ZnO": {"Zn": 2, "O": 2},
    "CaF2": {"Ca": 4, "F": 8},
}


@pytest.mark.parametrize("name", sorted(TABLE))
def test_reflections_agree_with_the_tables(name: str) -> None:
    found = {r.hkl: r for r in Phase.shipped(name).reflections(WAVELENGTH_A, 14.0)}
    for hkl, d_A, two_theta_deg, multiplicity, f_squared in TABLE[name]:
        reflection = found[hkl]
        assert reflection.d_A == pytest.approx(d_A, abs=6e-5)
        assert reflection.two_theta_deg == pytest.approx(two_theta_deg, abs=6e-5)
        assert reflection.multiplicity == multiplicity
        assert reflection.f_squared == pytest.approx(f_squared, rel=2e-3, abs=0.06)


def test_every_structure_of_the_contract_is_shipped_with_the_right_contents() -> None:
    assert set(shipped_names()) == set(CONTENTS)
    for name, contents in CONTENTS.items():
        assert Phase.shipped(name).composition == pytest.approx(contents)
        assert Phase.shipped(name).name == name
        assert Phase.shipped(name).assumptions == ()


@pytest.mark.parametrize(
    ("name", "metal", "anion", "shortest_A", "neighbours"),
    [
        ("LiMn2O4", "Mn", "O", 1.958, 6),
        ("LiMn2O4", "Li", "O", 1.973, 4),
        ("lambda-MnO2", "Mn", "O", 1.909, 6),
        ("Li0.5Mn2O4", "Mn1", "O", 1.934, 6),
        ("Li0.5Mn2O4", "Li", "O", 1.949, 4),
        ("LiMnO2", "Mn", "O", 2.065, 6),
        ("Li2MnO3", "Mn", "O", 1.904, 6),
        ("Al2O3", "Al", "O", 1.855, 6),
        ("ZnO", "Zn", "O", 1.974, 4),
        ("CaF2", "Ca", "F", 2.366, 8),
        ("CeO2", "Ce", "O", 2.343, 8),
    ],
)
def test_atoms_have_the_neighbours_that_crystal_chemistry_gives_them(
    name: str, metal: str, anion: str, shortest_A: float, neighbours: int
) -> None:
    phase = Phase.shipped(name)
    sites = phase._crystal().sites
    centre = next(s for s in sites if s.label == metal).positions[0]
    others = np.concatenate([s.positions for s in sites if s.element == anion])
    shifts = np.stack(np.meshgrid(*[(-1, 0, 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    offsets = (others[:, None] + shifts - centre).reshape(-1, 3)
    distances = np.sort(np.sqrt(np.einsum("ni,ij,nj->n", offsets, metric(phase.cell), offsets)))
    assert distances[0] == pytest.approx(shortest_A, abs=2e-3)
    assert distances[neighbours - 1] < 1.07 * shortest_A
    assert distances[neighbours] > 1.2 * shortest_A


def test_cell_mass_is_z_times_the_formula_mass() -> None:
    assert Phase.shipped("LiMn2O4").cell_mass_g_mol == pytest.approx(8 * 180.81, rel=1e-4)
    assert Phase.shipped("LiMn2O4").density_g_cm3 == pytest.approx(4.29, abs=0.005)


def test_forbidden_reflections_are_left_out() -> None:
    hkls = [r.hkl for r in Phase.shipped("Si").reflections(WAVELENGTH_A, 14.0)]
    assert (2, 2, 2) not in hkls
    assert hkls[:3] == [(1, 1, 1), (2, 2, 0), (3, 1, 1)]


def test_reflections_ascend_and_stay_within_the_angle() -> None:
    angles = [r.two_theta_deg for r in Phase.shipped("Li2MnO3").reflections(WAVELENGTH_A, 10.0)]
    assert angles == sorted(angles)
    assert angles[0] == pytest.approx(2.996, abs=1e-3)
    assert angles[-1] <= 10.0


def test_low_laue_classes_list_families_that_only_higher_symmetry_would_join() -> None:
    hkls = {r.hkl: r.multiplicity for r in Phase.shipped("Li0.5Mn2O4").reflections(WAVELENGTH_A, 8.5)}
    assert hkls[(4, 2, 0)] == hkls[(4, 0, 2)] == 12


def test_a_longer_cell_moves_the_lines_and_keeps_the_atoms() -> None:
    phase = Phase.shipped("LiMn2O4").with_cell(a_A=8.1)
    first = phase.reflections(WAVELENGTH_A, 4.0)[0]
    assert first.d_A == pytest.approx(8.1 / math.sqrt(3))
    assert phase.volume_A3 == pytest.approx(8.1**3)
    assert phase.composition == pytest.approx(CONTENTS["LiMn2O4"])


def test_taking_lithium_out_changes_the_structure_factor_as_it_should() -> None:
    full = {r.hkl: r.f_squared for r in Phase.shipped("LiMn2O4").reflections(WAVELENGTH_A, 10.0)}
    empty_phase = Phase.shipped("LiMn2O4").with_occupancy({"Li": 0.0})
    empty = {r.hkl: r.f_squared for r in empty_phase.reflections(WAVELENGTH_A, 10.0)}
    assert empty_phase.composition["Li"] == 0
    change_440 = (empty[(4, 4, 0)] / empty[(1, 1, 1)]) / (full[(4, 4, 0)] / full[(1, 1, 1)]) - 1
    assert change_440 == pytest.approx(-0.17, abs=0.01)


def test_unusable_input_is_refused_with_its_name(tmp_path) -> None:
    with pytest.raises(PhaseError, match=r"no structure 'Mn3O4'.*LiMn2O4"):
        Phase.shipped("Mn3O4")
    with pytest.raises(PhaseError, match=r"absent\.cif cannot be read"):
        Phase.from_cif(tmp_path / "absent.cif")
    cif = Phase.shipped("Al").cif_text
    for name, text, message in (
        ("empty", "", "not a CIF"),
        ("cell", cif.replace("_cell_length_a", "_cell_length_q"), "no unit cell"),
        ("sites", cif.split("loop_")[0], "no atom sites"),
        ("group", cif.replace("F m -3 m", "F x"), "no space group"),
        ("element", cif.replace("Al Al", "Al Qq"), "unknown element"),
    ):
        (tmp_path / f"{name}.cif").write_text(text)
        with pytest.raises(PhaseError, match=message):
            Phase.from_cif(tmp_path / f"{name}.cif")
    with pytest.raises(PhaseError, match="site 'Na'"):
        Phase.shipped("Al").with_occupancy({"Na": 1.0})
    with pytest.raises(PhaseError, match="wavelength is 0"):
        Phase.shipped("Al").reflections(0.0, 10.0)
    with pytest.raises(PhaseError, match="between 0 and 180"):
        Phase.shipped("Al").reflections(0.25, 200.0)
