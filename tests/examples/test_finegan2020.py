"""The published experiment, in small: what is planted is found again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "finegan2020.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finegan")
    run = subprocess.run(
        [sys.executable, str(EXAMPLE), "--output", str(folder), "--quick"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return folder


@pytest.fixture(scope="module")
def table(output):
    return json.loads((output / "finegan2020.json").read_text(encoding="utf-8"))


def test_lattice_parameters_of_single_voxels_are_found(table):
    for pause in table["pauses"]:
        errors = pause["single_phase"]
        assert errors["n"] > 1500
        assert errors["median_A"] < 3e-4
        assert errors["p95_A"] < 8e-4
        assert abs(errors["bias_A"]) < 1.5e-4
        assert pause["statuses"]["failed"] < 10  # of 13 000, most of them empty


def test_counting_noise_reaches_lattice_parameters_as_the_bound_says(table):
    (point,) = table["flux"]
    assert point["n"] > 1500
    assert 0.85 < point["noise_ratio"] < 1.2


def test_mass_fractions_of_shells_are_found(table):
    for pause in table["pauses"]:
        assert len(pause["shells"]) == 8
        for shell in pause["shells"]:
            for phase, planted in shell["planted"].items():
                allowed = max(0.5, 2 * shell["esd"][phase])
                assert abs(shell["found"][phase] - planted) < allowed, (pause["number"], shell)
                if shell["net_counts"] > 1e5:
                    assert shell["esd"][phase] < 0.5
    discharged = table["pauses"][-1]["shells"]
    assert max(s["planted"]["LiMnO2"] for s in discharged) > 20  # the test has something to find
    assert max(s["planted"]["Li2MnO3"] for s in discharged) > 3


def test_particle_1_has_a_gradient_and_particle_2_has_none(table):
    gradients = table["pauses"][-1]["gradients"]
    first, second = gradients["Particle 1"], gradients["Particle 2"]
    assert first["planted"] > 1e-3
    assert first["slope_A_per_um"] == pytest.approx(first["planted"], rel=0.1)
    assert abs(second["slope_A_per_um"]) < 3e-5


def test_wrong_structures_show_as_false_phases(table):
    rows = {(r["variant"], r["composition"]): r for r in table["systematic"]}
    assert abs(rows["as assumed", "pure spinel"]["Li2MnO3"]) < 0.1
    altered = rows["all of `--structures altered`", "pure spinel"]
    assert 0.3 < altered["Li2MnO3"] + altered["LiMnO2"] < 2.0
    assert all(abs(r["a_mA"]) < 0.3 for r in rows.values())


def test_figures_and_tables_are_written(output):
    text = (output / "finegan2020.md").read_text(encoding="utf-8")
    assert "| pause | particle | shell |" in text
    for number in (2, 3, 4, 5):
        size = (output / f"finegan2020-figure-{number}.png").stat().st_size
        assert 5_000 < size < 300_000
