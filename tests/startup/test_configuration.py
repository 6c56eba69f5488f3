"""One file decides; a mistake in it is one sentence."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from xrdct_beamline.devices.settings import BeamlineSettings as DeviceSettings
from xrdct_beamline.devices.trigger_settings import ModemInput
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.startup.configuration import load_configuration, package_file
from xrdct_beamline.startup.live import map_settings
from xrdct_beamline.startup.processes import confine_to_loopback

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


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "[devices]\nrotation_sign = 0",
            r"line 10: \[devices\] rotation_sign is 0; it must be 1 or",
        ),
        ("[devices]\n\nminimum_i0 = -1", r"line 11: \[devices\] minimum_i0 is -1; give 0 for no limit"),
        ("[devices]\ntranslation_tolerance_mm = 0", r"line 10: .*is 0; no stage stands that still"),
        ("[devices.line_limits]\nstall_s = 0.0", r"line 10: \[devices.line_limits\] stall_s is 0 s;"),
        (
            "[devices.trigger_settings]\nhigh_V = 0.5",
            r"line 10: .*low_V of the trigger is 0.8 V",
        ),
        ("[devices.trigger_settings]\nhigh_mV = 500", r"line 10: .*did you mean 'high_V'"),
        (
            "[devices.trigger_settings]\ninput_line = 'RI'",
            r"line 10: .*is 'RI'; use one of 'CTS', 'DSR', 'CD'",
        ),
        ("[devices]\ntranslation = 1", r"line 10: \[devices\] translation is 1, .*; give text in quotes"),
        ("[scan]\nperiod_s = 0.005", r"line 10: \[scan\] period_s: a period of 5 ms is too short"),
        ("[scan]\nn_rotations = 0", r"line 10: \[scan\] n_rotations is 0; it must be"),
    ],
)
def test_a_mistake_is_told_with_line_key_value_and_remedy(tmp_path, text, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        load_configuration(write(tmp_path, MINIMAL + text))
    assert str(refused.value).startswith(str(tmp_path / "mine.toml"))


def every_setting(section):
    for item in fields(section):
        value = getattr(section, item.name)
        yield from every_setting(value) if is_dataclass(value) else [item.name]


def test_the_shipped_file_tells_of_each_setting_of_the_devices():
    text = package_file("simulated.toml").read_text()
    untold = [name for name in every_setting(DeviceSettings()) if f"{name} = " not in text]
    assert not untold


def test_each_device_setting_can_be_given(tmp_path):
    text = """
[devices]
rotation_sign = -1
rotation_tolerance_deg = 0.01
i0 = "IONC:1"
minimum_current_mA = 20
[devices.line_limits]
stall_s = 5
[devices.trigger_settings]
backend = "serial"
port = "/dev/ttyUSB0"
input_line = "DSR"
low_V = 1.0
high_V = 3
"""
    devices = load_configuration(write(tmp_path, MINIMAL + text)).devices
    assert (devices.rotation_sign, devices.translation_sign) == (-1, 1)
    assert (devices.rotation_tolerance_deg, devices.i0, devices.minimum_current_mA) == (0.01, "IONC:1", 20.0)
    assert devices.line_limits.stall_s == 5.0
    trigger = devices.trigger_settings
    assert (trigger.low_V, trigger.high_V, trigger.input_line) == (1.0, 3.0, ModemInput.DSR)


def test_reading_a_configuration_imports_no_control_system():
    script = "import sys, xrdct_beamline.startup.configuration; print({'ophyd', 'epics'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("text", ["ca", "0", "70000", "-1", ""])
def test_a_port_in_the_environment_that_is_none_is_named(monkeypatch, text):
    monkeypatch.setenv("EPICS_CA_SERVER_PORT", text)
    with pytest.raises(ConfigurationError, match=rf"EPICS_CA_SERVER_PORT is '{text}'; it must be a port"):
        confine_to_loopback()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml cannot be read"):
        load_configuration(tmp_path / "nowhere.toml")


def test_what_is_refined_comes_from_the_configuration():
    settings = map_settings(load_configuration())
    assert [phase.name for phase in settings.phases] == ["LiMn2O4"]
    assert settings.instrument.profile["w"] == 0.00117
    assert settings.radial_range == (2.2, 11.0)


def test_phases_without_an_instrument_are_refused_with_the_line(tmp_path):
    text = package_file("simulated.toml").read_text().replace('instrument = "package', '# "package')
    path = tmp_path / "b.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"line \d+: .*instrument is missing.*xrdct calibrate"):
        load_configuration(path)


def test_nothing_is_refined_without_phases(tmp_path):
    text = package_file("simulated.toml").read_text().replace('phases = ["LiMn2O4"]', "phases = []")
    path = tmp_path / "b.toml"
    path.write_text(text)
    assert map_settings(load_configuration(path)) is None
