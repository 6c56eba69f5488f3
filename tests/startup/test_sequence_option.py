"""`xrdct sim --sequence`."""

from __future__ import annotations

from pathlib import Path

import pytest

from xrdct_beamline.cli import main
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.sim.cell_sequence import CellSequence
from xrdct_beamline.startup.configuration import load_configuration
from xrdct_beamline.startup.simulation import read_sequence, sim_options


def test_sequence_of_a_file_is_what_the_cell_does(tmp_path: Path) -> None:
    file = tmp_path / "my.cell"
    file.write_text("capacity 1 mAh\nrest 1 h\n", encoding="utf-8")
    programme = sim_options(load_configuration(), sequence=file, time_scale=60.0).programme
    assert isinstance(programme, CellSequence)
    assert programme.time_scale == 60.0
    assert programme.begin().at(59.9).step == "rest"
    assert programme.begin().at(60.1).step == "end"


@pytest.mark.parametrize("name", ["finegan2020.cell", "finegan2020-pouch.cell"])
def test_sequences_ship_with_the_software(name: str) -> None:
    assert read_sequence(Path(f"package:{name}")).steps


def test_mistake_in_a_sequence_is_told_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "my.cell"
    file.write_text("capacity 1 mAh\n\ndischarge C/2 till 3 V\n", encoding="utf-8")
    assert main(["sim", "--list-pvs", "--sequence", str(file)]) == 2
    assert f"{file}, line 3: 'till' is not understood here; write until or for" in capsys.readouterr().err


def test_missing_sequence_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.cell cannot be read .*package:finegan2020\.cell"):
        read_sequence(tmp_path / "none.cell")


def test_pauses_are_the_sequences_own() -> None:
    with pytest.raises(ConfigurationError, match="leave --pause-at and --pause-s out"):
        sim_options(load_configuration(), sequence=Path("package:finegan2020.cell"), pause_s=60.0)
