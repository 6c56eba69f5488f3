"""CIFs as people have them: the same crystal however it is written, and a sentence for every guess."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest

from xrdct_beamline.domain._symmetry import Symmetry, cell_of_metric, metric
from xrdct_beamline.domain.errors import PhaseError
from xrdct_beamline.domain.phases import Phase

CUBIC = """_cell_length_a 8.2000(4)
_cell_length_b 8.2000(4)
_cell_length_c 8.2000(4)
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
"""
SPINEL_2 = "Li 0.125 0.125 0.125\nMn 0.5 0.5 0.5\nO 0.2631(2) 0.2631(2) 0.2631(2)"
#: The same atoms from the other origin, which lies at -(1/8, 1/8, 1/8).
SPINEL_1 = "Li 0 0 0\nMn 0.625 0.625 0.625\nO 0.3881 0.3881 0.3881"
NAME = "_symmetry_space_group_name_H-M"


def operators(group: str) -> str:
    found = gemmi.find_spacegroup_by_name(group)
    return "loop_\n_symmetry_equiv_pos_as_xyz\n" + "\n".join(f"'{op.triplet()}'" for op in found.operations())


def cif(
    symmetry: str, sites: str, columns: str = "", cell: str = CUBIC, head: str = "", name: str = "LMO"
) -> str:
    tags = ["label", "fract_x", "fract_y", "fract_z", *columns.split()]
    loop = "loop_\n" + "\n".join(f"_atom_site_{tag}" for tag in tags)
    return f"data_{name}\n{head}\n{cell}{symmetry}\n{loop}\n{sites}\n"


@pytest.fixture
def read(tmp_path: Path):
    def from_text(text: str | bytes, block: str | None = None) -> Phase:
        path = tmp_path / "some.cif"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Phase.from_cif(path, block)

    return from_text


def intensities(phase: Phase) -> dict[tuple[int, int, int], float]:
    return {r.hkl: r.f_squared for r in phase.reflections(0.2480, 12.0)}


def with_zero_displacement(sites: str) -> str:
    return "\n".join(f"{line} 0.0" for line in sites.splitlines())


def test_structure_factors_of_the_spinel_are_those_of_the_tables(read) -> None:
    text = cif(f"{NAME} 'F d -3 m:2'", with_zero_displacement(SPINEL_2), "B_iso_or_equiv")
    found = intensities(read(text))
    tabulated = {(1, 1, 1): 38256, (3, 1, 1): 23770, (2, 2, 2): 17511, (4, 0, 0): 174174, (4, 4, 0): 119393}
    for hkl, f_squared in tabulated.items():
        assert found[hkl] == pytest.approx(f_squared, rel=2e-3)


@pytest.mark.parametrize(
    "group",
    ["P -1", "C 1 2/c 1", "A 1 2/n 1", "P n m a", "P b n m", "F d d d:1", "I 41/a m d:2", "R -3 c:H",
     "R -3 c:R", "P 63 m c", "P 31 2 1", "P 21 3", "P a -3", "F d -3 m:1", "F d -3 m:2", "I a -3 d"],
)  # fmt: skip
def test_gemmi_finds_the_same_crystal_in_every_kind_of_group(read, group: str) -> None:
    found = gemmi.find_spacegroup_by_name(group)
    values = cell_of_metric(Symmetry.of_group(found).average(metric((6.1, 6.9, 7.7, 83.0, 97.0, 101.0))))
    tags = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    cell = "".join(f"_cell_{tag} {value:.6f}\n" for tag, value in zip(tags, values, strict=True))
    text = cif(operators(group), "Mn .1173 .2291 .3719 0.5\nO 0 0 0 0.4", "B_iso_or_equiv", cell)
    phase = read(text)
    small = gemmi.make_small_structure_from_block(gemmi.cif.read_string(text)[0])
    small.change_occupancies_to_crystallographic(0.1)
    n_operators = len(small.cell.images) + 1
    assert phase.composition == pytest.approx({s.element.name: s.occ * n_operators for s in small.sites})
    calculator = gemmi.StructureFactorCalculatorX(small.cell)
    calculator.addends.add_cl_fprime(12398.42 / 0.248)
    reflections = phase.reflections(0.248, 8.0)
    strongest = max(r.f_squared for r in reflections)
    theirs = [
        abs(calculator.calculate_sf_from_small_structure(small, [int(i) for i in hkl])) ** 2
        for hkl in gemmi.make_miller_array(
            small.cell, gemmi.SpaceGroup("P 1"), 0.248 / 2 / np.sin(np.radians(4.0))
        )
    ]
    assert sum(r.multiplicity for r in reflections) == 2 * sum(f > 1e-7 for f in theirs)
    for r in reflections:  # gemmi leaves f″ out
        f = calculator.calculate_sf_from_small_structure(small, list(r.hkl))
        assert r.f_squared == pytest.approx(abs(f) ** 2, abs=1e-3 * strongest)


@pytest.mark.parametrize(
    ("symmetry", "sites"),
    [
        (f"{NAME} 'F d -3 m:1'", SPINEL_1),
        (f"{NAME} 'F d -3 m S'", SPINEL_1),
        (f"{NAME} 'Fd-3mZ'", SPINEL_2),
        (f"{NAME} 'F d -3 m (origin choice 2)'", SPINEL_2),
        ("_symmetry_space_group_name_Hall 'F 4d 2 3 -1d'", SPINEL_1),
        ("_space_group_name_Hall '-F 4vw 2vw 3'", SPINEL_2),
        (operators("F d -3 m:1"), SPINEL_1),
        (f"{NAME} 'F d -3 m'\n{operators('F d -3 m:1')}", SPINEL_1),
        (operators("F d -3 m:2"), SPINEL_2),
    ],
    ids=["colon 1", "S", "Z", "words", "Hall 1", "Hall 2", "operators 1", "operators win", "operators 2"],
)
def test_the_origin_that_a_file_states_is_used(read, symmetry: str, sites: str) -> None:
    columns, sites = "B_iso_or_equiv", with_zero_displacement(sites)
    expected = read(cif(f"{NAME} 'F d -3 m:2'", with_zero_displacement(SPINEL_2), columns))
    phase = read(cif(symmetry, sites, columns))
    assert phase.composition == pytest.approx({"Li": 8, "Mn": 16, "O": 32})
    assert intensities(phase) == pytest.approx(intensities(expected), rel=1e-9)
    assert not any("origin" in sentence for sentence in phase.assumptions)


@pytest.mark.parametrize("sites", [SPINEL_1, SPINEL_2], ids=["1", "2"])
@pytest.mark.parametrize("hint", ["multiplicity", "formula"])
def test_an_origin_that_is_not_stated_is_found_and_told(read, sites: str, hint: str) -> None:
    columns, head, rows = "B_iso_or_equiv", "", with_zero_displacement(sites)
    if hint == "multiplicity":
        columns += " symmetry_multiplicity"
        rows = "\n".join(f"{a} {m}" for a, m in zip(rows.splitlines(), (8, 16, 32), strict=True))
    else:
        head = "_chemical_formula_sum 'Li Mn2 O4'"
    phase = read(cif(f"{NAME} 'F d -3 m'", rows, columns, head=head))
    assert phase.composition == pytest.approx({"Li": 8, "Mn": 16, "O": 32})
    assert any("which origin" in sentence for sentence in phase.assumptions)


def test_atoms_that_would_touch_tell_the_origin_of_silicon(read) -> None:
    first = read(cif("_space_group_IT_number 227", "Si 0 0 0", cell=CUBIC.replace("8.2000", "5.4310")))
    second = read(cif(f"{NAME} 'F d -3 m'", "Si .125 .125 .125", cell=CUBIC.replace("8.2000", "5.4310")))
    for phase in (first, second):
        assert phase.composition == pytest.approx({"Si": 8})
        assert len(phase.assumptions) >= 2


def test_operators_that_no_table_knows_are_used_as_they_are(read) -> None:
    ops = "loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\n-x+1/3,-y,-z"
    phase = read(cif(ops, "Mn 0.1 0.2 0.3"))
    assert phase.space_group == "2 operators"
    assert phase.composition == pytest.approx({"Mn": 2})
    assert len(phase.free_cell) == 6


def test_the_halves_of_a_split_site_stay_two_and_rounded_thirds_become_one(read) -> None:
    split = read(cif(f"{NAME} 'P m -3 m'", "O 0.0 0.0 0.025 0.5", "occupancy"))
    assert split.composition == pytest.approx({"O": 3.0})
    hexagonal = CUBIC.replace("gamma 90", "gamma 120")
    assert read(cif(f"{NAME} 'P 63 m c'", "Zn 0.333 0.667 0", cell=hexagonal)).composition == {"Zn": 2.0}


def test_a_lone_identity_does_not_hide_the_space_group(read) -> None:
    phase = read(cif(f"{NAME} 'F m -3 m'\nloop_\n_symmetry_equiv_pos_as_xyz\nx,y,z", "Al 0 0 0"))
    assert phase.composition == pytest.approx({"Al": 4})
    assert any("only operator is x,y,z" in sentence for sentence in phase.assumptions)


def test_a_name_that_contradicts_the_operators_is_told(read) -> None:
    phase = read(cif(f"{NAME} 'P m -3 m'\n{operators('F m -3 m')}", "Al 0 0 0"))
    assert phase.composition == pytest.approx({"Al": 4})
    assert any("operators are believed" in sentence for sentence in phase.assumptions)


def test_rhombohedral_axes_are_told_from_hexagonal_ones_by_the_cell(read) -> None:
    rhombohedral = (
        "_cell_length_a 5.128\n_cell_length_b 5.128\n_cell_length_c 5.128\n"
        "_cell_angle_alpha 55.28\n_cell_angle_beta 55.28\n_cell_angle_gamma 55.28\n"
    )
    phase = read(cif(f"{NAME} 'R -3 c'", "Al .352 .352 .352\nO .556 -.056 .25", cell=rhombohedral))
    assert phase.composition == pytest.approx({"Al": 4, "O": 6})
    assert phase.free_cell == ("a_A", "alpha_deg")


def test_displacements_are_converted_or_assumed_and_told(read) -> None:
    sites = "Al1 0 0 0 0.0100(5) ?\nAl2 .5 .5 .5 ? 0.79\nNa1 .25 0 0 . .\nNa2 0 .25 0 ? ?"
    tensor = "loop_\n_atom_site_aniso_label\n" + "".join(
        f"_atom_site_aniso_U_{p}\n" for p in ("11", "22", "33", "12", "13", "23")
    )
    text = cif(f"{NAME} 'P 1'", sites, "U_iso_or_equiv B_iso_or_equiv")
    phase = read(text + tensor + "Na1 .01 .02 .03 0 0 0\n")
    u = {s.label: s.u_iso_A2 for s in phase._crystal().sites}
    assert u["Al1"] == pytest.approx(0.0100)
    assert u["Al2"] == pytest.approx(0.79 / (8 * np.pi**2))
    assert u["Na1"] == pytest.approx(0.02)
    assert u["Na2"] == pytest.approx(0.5 / (8 * np.pi**2))
    assert any("Na1" in s and "isotropic equivalent" in s for s in phase.assumptions)
    assert any("Na2" in s and "B = 0.5" in s for s in phase.assumptions)


def test_tensors_in_oblique_axes_are_those_that_gemmi_finds(read) -> None:
    cell = CUBIC.replace("gamma 90", "gamma 120").replace("c 8.2000", "c 5.1000")
    values = {"11": 0.02, "22": 0.02, "33": 0.03, "12": 0.01, "13": 0.0, "23": 0.0}
    u_eq = gemmi.UnitCell(8.2, 8.2, 5.1, 90, 90, 120).calculate_u_eq(
        gemmi.SMat33d(0.02, 0.02, 0.03, 0.01, 0, 0)
    )
    reciprocal = np.array([1 / (8.2 * np.sqrt(0.75))] * 2 + [1 / 5.1])
    for kind, factor in (("U", lambda i, j: 1.0), ("B", lambda i, j: 8 * np.pi**2),
                         ("beta", lambda i, j: 2 * np.pi**2 * reciprocal[i] * reciprocal[j])):  # fmt: skip
        loop = "loop_\n_atom_site_aniso_label\n" + "".join(f"_atom_site_aniso_{kind}_{p}\n" for p in values)
        row = " ".join(f"{v * factor(int(p[0]) - 1, int(p[1]) - 1):.8f}" for p, v in values.items())
        phase = read(cif(f"{NAME} 'P 3'", "Al 0 0 0", cell=cell) + loop + f"Al {row}\n")
        assert phase._crystal().sites[0].u_iso_A2 == pytest.approx(u_eq, rel=1e-5)


def test_elements_come_from_ions_isotopes_and_labels(read) -> None:
    ions = cif(f"{NAME} 'P 1'", "a 0 0 0 Mn3+ 0.5\nb .5 .5 .5 O2- 1.01(2)\nc .2 .2 .2 D ?\nd .3 .3 .3 Li1+ .",
               "type_symbol occupancy")  # fmt: skip
    phase = read(ions)
    assert phase.composition == pytest.approx({"Mn": 0.5, "O": 1.0, "D": 1.0, "Li": 1.0})
    assert any("above 1" in s for s in phase.assumptions)
    labels = cif(
        f"{NAME} 'P 1'",
        "CA1 0 0 0\nOW2 .5 .5 .5\nHO1 .2 .2 .2\nX9 ? ? ?",
        head="_chemical_formula_sum 'Ca H O'",
    )
    phase = read(labels)
    assert phase.composition == pytest.approx({"Ca": 1, "O": 1, "H": 1})
    assert any("read from the label" in s for s in phase.assumptions)
    assert any("X9" in s and "left out" in s for s in phase.assumptions)


def test_of_several_blocks_the_one_with_sites_is_taken_or_the_one_named(read) -> None:
    al, si = (Phase.shipped(name).cif_text for name in ("Al", "Si"))
    two = "data_global\n_journal_year 1967\n" + al + si
    phase = read(two)
    assert phase.name == "Al"
    assert any("2 structures (Al, Si)" in s for s in phase.assumptions)
    assert read(two, "Si").composition == pytest.approx({"Si": 8})
    assert read("data_global\n_journal_year 1967\n" + al).assumptions == ()
    with pytest.raises(PhaseError, match=r"no block 'Ge'.*Al, Si"):
        read(two, "Ge")


def test_what_is_not_ascii_does_not_stand_in_the_way(read) -> None:
    text = Phase.shipped("Al").cif_text.replace("data_Al", "data_Alé").replace("# Cell", "# Å, Müller: cell")
    assert read("\ufeff" + text).composition == pytest.approx({"Al": 4})
    assert read(text.encode("latin-1")).name == "Ale"
    assert read(text.encode("utf-16")).name == "Ale"
    assert read(Phase.shipped("Al").cif_text.replace("data_Al", "data_")).name == "some"


def test_what_symmetry_ties_follows(read) -> None:
    corundum = Phase.shipped("Li2MnO3").with_cell(beta_deg=110.0, b_A=8.6)
    assert corundum.cell == pytest.approx((4.937, 8.6, 5.03, 90, 110.0, 90))
    hexagonal = read(
        cif(f"{NAME} 'P 63 m c'", "Zn 0.33333 0.66667 0", cell=CUBIC.replace("gamma 90", "gamma 120"))
    )
    assert hexagonal.free_cell == ("a_A", "c_A")
    assert hexagonal.with_cell(a_A=8.3).cell == pytest.approx((8.3, 8.3, 8.2, 90, 90, 120))
    assert hexagonal.composition == pytest.approx({"Zn": 2})
    with pytest.raises(PhaseError, match="does not fit its space group"):
        Phase.shipped("Al").with_cell(a_A=4.0, b_A=4.1)


def test_what_cannot_be_used_is_refused_with_a_sentence(read) -> None:
    fd3m = f"{NAME} 'F d -3 m:2'"
    for text, message in (
        (cif(fd3m, SPINEL_2, cell=CUBIC.replace("gamma 90", "gamma ?")), "_cell_angle_gamma"),
        (cif(fd3m, SPINEL_2, cell=CUBIC.replace("c 8.2000(4)", "c 8.3")), "does not fit its space group"),
        (cif("", SPINEL_2), "no space group"),
        (cif("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,z\ny,z,x", SPINEL_2), "not a group"),
        (cif("loop_\n_symmetry_equiv_pos_as_xyz\nx,y,q", SPINEL_2), "cannot be read"),
        (cif(fd3m, "Li ? ? ?"), "no atom site"),
        (cif(fd3m, "Qq .1 .1 .1"), "unknown element: Qq"),
        (cif(fd3m, "Li 0 0 0 -0.2", "occupancy"), "occupancy -0.2"),
        ("data_a\n" + CUBIC + fd3m, "no atom sites"),
    ):
        with pytest.raises(PhaseError, match=message) as caught:
            read(text)
        assert "\n" not in str(caught.value)


def test_a_range_without_reflections_is_told() -> None:
    with pytest.raises(PhaseError, match=r"Al has no reflection between 1 and 3°"):
        Phase.shipped("Al").reflections(0.248, 3.0, 1.0)
    assert Phase.shipped("Al").reflections(0.248, 3.0) == []
    with pytest.raises(PhaseError, match="too many reflections"):
        Phase.shipped("LiMn2O4").reflections(0.01, 170.0)


def test_structures_of_the_round_robin_are_read(shared_data: Path) -> None:
    contents = {"Al2O3": {"Al": 12, "O": 18}, "ZnO": {"Zn": 2, "O": 2}, "CaF2": {"Ca": 4, "F": 8}}
    for name, atoms in contents.items():
        phase = Phase.from_cif(shared_data / "cpd_round_robin" / f"{name}.cif")
        assert phase.composition == pytest.approx(atoms)
        assert phase.assumptions
