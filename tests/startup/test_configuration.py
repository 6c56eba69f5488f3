"""One file decides; a mistake in it is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.startup.configuration import load_configuration, package_file

MINIMAL = """
[beamline]
name = "mine"
prefix = "ID15A:"
[paths]
data = "data"
[calibration]
poni = "my.poni"
"""


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


def test_the_simulated_beamline_is_the_default():
    configuration = load_configuration()
    assert configuration.beamline.prefix == "XRDCT:"
    assert configuration.calibration.poni == package_file("demo.poni")
    assert configuration.scan.geometry().shape == (60, 61)


def test_paths_are_relative_to_the_file(tmp_path):
    configuration = load_configuration(write(tmp_path, MINIMAL))
    assert configuration.paths.raw == tmp_path / "data" / "raw"
    assert configuration.calibration.poni == tmp_path / "my.poni"
    assert configuration.scan.n_translations == 351  # the paper's, where nothing is said


def test_data_can_go_elsewhere(tmp_path):
    configuration = load_configuration().with_data(Path("elsewhere"))
    assert configuration.paths.journal == Path.cwd() / "elsewhere" / "journal.jsonl"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[beamline", "not valid TOML"),
        ("[beamline]\nname = 'x'\nprefix = 'y'", "'paths' is missing"),
        (MINIMAL + "[scan]\nexposure_ms = 10", "'exposure_ms' is not a setting; known are exposure_s"),
        (MINIMAL + "[scan]\nn_rotations = 3.5", "n_rotations is 3.5, which is not a int"),
        (MINIMAL + "[page]\nport = true", "port is True"),
        (MINIMAL + "[scan]\nzigzag = 1", "zigzag is 1, which is not a bool"),
        (MINIMAL.replace('"my.poni"', "3"), "poni is 3, a path in quotes is needed"),
        ("scan = 3\n" + MINIMAL, r"scan must be a \[section\], not 3"),
    ],
)
def test_a_mistake_is_named(tmp_path, text, words):
    with pytest.raises(ConfigurationError, match=words):
        load_configuration(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml cannot be read"):
        load_configuration(tmp_path / "nowhere.toml")
