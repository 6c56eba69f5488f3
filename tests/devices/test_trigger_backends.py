"""One suite over every backend, and what is particular to serial ports."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scpi_meter import ScpiMeter
from trigger_rigs import FakeEpicsRig, InvertedRig, LoopRig, Rig, ScpiRig
from trigger_suite import SETTINGS, TriggerSuite, error_of, soon

from xrdct_beamline.devices import serial_trigger
from xrdct_beamline.devices.serial_lines import NoReading, ScpiVoltmeter, open_port
from xrdct_beamline.devices.trigger_backends import make_trigger_line
from xrdct_beamline.devices.trigger_settings import TriggerSettings
from xrdct_beamline.domain.errors import ConfigurationError, ConnectionFailed, DeviceError

BACKENDS = ("epics-analog", "epics-binary", "loop", "inverted", "scpi")


@pytest.fixture(params=BACKENDS)
def make(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Rig]]:
    monkeypatch.setattr(serial_trigger, "REOPEN_S", 0.02)
    made: list[Rig] = []

    def make_rig(**changes: Any) -> Rig:
        settings = {**SETTINGS, **changes}
        match request.param:
            case "loop":
                rig: Rig = LoopRig(settings)
            case "inverted":
                rig = InvertedRig(settings, monkeypatch)
            case "scpi":
                rig = ScpiRig(settings, tmp_path)
            case kind:
                rig = FakeEpicsRig(settings, is_binary=kind == "epics-binary")
        made.append(rig)
        return rig

    yield make_rig
    for rig in made:
        rig.close()


class TestBackends(TriggerSuite):
    pass


@pytest.fixture
def meter(tmp_path: Path) -> Iterator[ScpiMeter]:
    meter = ScpiMeter(tmp_path / "meter")
    yield meter
    meter.unplug()


def settings_of(meter: ScpiMeter, **changes: Any) -> TriggerSettings:
    return TriggerSettings(
        **{"backend": "scpi", "port": meter.port, "reply_timeout_s": 0.05, **SETTINGS, **changes}
    )


@pytest.fixture
def voltmeter(meter: ScpiMeter) -> Iterator[ScpiVoltmeter]:
    voltmeter = ScpiVoltmeter(settings_of(meter))
    voltmeter.open()
    yield voltmeter
    voltmeter.close()


@pytest.mark.parametrize(
    ("answer", "voltage_V"),
    [(b"+3.300000E+00,+1.0E-09,+9.91E+37,+2.0E+01,+4.7E+04\n", 3.3), (b" -0.5\r\n", -0.5)],
)
def test_first_number_of_a_reply_is_the_voltage(
    voltmeter: ScpiVoltmeter, meter: ScpiMeter, answer: bytes, voltage_V: float
) -> None:
    meter.answer = answer
    assert voltmeter.read() == voltage_V


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", r"not answered :READ\? within 0.05 s$"),
        (b"+3.3", r"not answered :READ\? within 0.05 s, only b'\+3.3'"),
        (b"-113,Undefined header\n", "voltage"),
        (b"\xff\x00?\n", "which is no number"),
        (b"\n", "which is no number"),
        (b"+9.9E37\n", "an overload; choose a range"),
        (b"-9.9E+37\n", "an overload"),
        (b"+9.91E37\n", "an overload"),
        (b"nan\n", "an overload"),
        (b"3.3" * 200, "only"),
    ],
)
def test_what_is_no_reading_is_no_level(
    voltmeter: ScpiVoltmeter, meter: ScpiMeter, answer: bytes, reason: str
) -> None:
    meter.answer = answer
    if reason == "voltage":
        assert voltmeter.read() == -113.0  # an error queue's number: far below any threshold
        return
    with pytest.raises(NoReading, match=reason):
        voltmeter.read()


def test_late_answer_is_not_taken_for_the_next(voltmeter: ScpiVoltmeter, meter: ScpiMeter) -> None:
    meter.voltage_V, meter.delay_s = 3.3, 0.1
    with pytest.raises(NoReading):
        voltmeter.read()
    soon(lambda: meter.questions == 1)
    meter.voltage_V, meter.delay_s = 0.0, 0.0
    soon(lambda: voltmeter._port.in_waiting)  # the old answer has come
    assert voltmeter.read() == 0.0


def test_single_bad_reading_is_not_the_end(meter: ScpiMeter) -> None:
    line = make_trigger_line(settings_of(meter), "")
    try:
        status = line.trigger()
        for _ in range(3):
            asked = meter.questions
            meter.answer = b"?\n"
            soon(lambda before=asked: meter.questions > before)
            meter.answer = None
            soon(lambda before=asked: meter.questions > before + 2)
        assert not status.done
        meter.voltage_V = 3.3
        status.wait(10)
    finally:
        line.destroy()


def test_silence_is_the_end_and_says_why(meter: ScpiMeter) -> None:
    line = make_trigger_line(settings_of(meter), "")
    try:
        status = line.trigger()
        meter.answer = b""
        assert "no valid level, it has not answered :READ?" in error_of(status)
    finally:
        line.destroy()


def test_meter_that_gets_slow_is_an_error_not_a_missed_pause(meter: ScpiMeter) -> None:
    line = make_trigger_line(settings_of(meter, reply_timeout_s=0.5), "")
    try:
        status = line.trigger()
        meter.delay_s = 0.12
        meter.voltage_V = 3.3
        assert "its last 5 readings came further apart than the debounce time of 0.1 s" in error_of(status)
    finally:
        line.destroy()


def test_meter_too_slow_for_the_debounce_time_is_refused(meter: ScpiMeter) -> None:
    meter.delay_s = 0.08
    with pytest.raises(
        ConnectionFailed, match=r"takes 0\.\d+ s for a reading and debounce_s is 0.1 s; set it to"
    ):
        make_trigger_line(settings_of(meter, reply_timeout_s=0.5), "")


def test_silent_meter_is_refused(meter: ScpiMeter) -> None:
    meter.answer = b""
    with pytest.raises(ConnectionFailed, match="gives no level: it has not answered"):
        make_trigger_line(settings_of(meter), "")


def test_port_is_held_by_one(meter: ScpiMeter, voltmeter: ScpiVoltmeter) -> None:
    with pytest.raises(ConnectionFailed, match="does another program hold it"):
        open_port(settings_of(meter))


def test_missing_port_is_named(tmp_path: Path) -> None:
    port = str(tmp_path / "ttyUSB7")
    settings = TriggerSettings(backend="serial", port=port)
    with pytest.raises(ConnectionFailed, match=f"serial port {port} cannot be opened.*dialout"):
        make_trigger_line(settings, "")


def test_output_that_the_port_does_not_have_is_named(meter: ScpiMeter) -> None:
    line = make_trigger_line(settings_of(meter, rts_drives="ready"), "")
    try:
        with pytest.raises(DeviceError, match="ready of trigger cannot be driven"):
            line.trigger()
        assert line.state == "disarmed"
    finally:
        line.destroy()


def test_port_opens_with_its_outputs_low() -> None:
    port = open_port(TriggerSettings(backend="serial", port="loop://"))
    assert not port.cts  # the loop shows RTS as CTS,
    assert not port.dsr  # and DTR as DSR
    port.close()


def test_lost_output_is_restored_with_the_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial_trigger, "REOPEN_S", 0.02)
    rig = InvertedRig(dict(SETTINGS), monkeypatch)
    try:
        rig.line.busy.put(1)
        rig.lose()
        soon(lambda: rig.line._logic._fault)
        rig.port.rts = False  # as a new port has it
        rig.find_again()
        soon(lambda: rig.port.rts)
        assert rig.line.busy.get() == 1
    finally:
        rig.close()


def test_closed_line_leaves_the_port_closed_and_low(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = InvertedRig(dict(SETTINGS), monkeypatch)
    rig.line.busy.put(1)
    rig.line.done.put(1)
    rig.close()
    assert rig.seen() == {"busy": 0, "done": 0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"low_V": 2.0, "high_V": 2.0}, "low_V must be less"),
        ({"debounce_s": -0.1}, "debounce_s of the trigger is -0.1 s"),
        ({"sample_period_s": 0.03}, r"one glitch would count, give 0.06 s"),
        ({"backend": "serial"}, "needs a port"),
        ({"backend": "scpi", "port": "x", "reply_timeout_s": 0.0}, "must be positive"),
        ({"backend": "serial", "port": "x", "rts_drives": "done", "dtr_drives": "done"}, "both 'done'"),
        ({"backend": "gpib"}, "gpib"),
    ],
)
def test_settings_are_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TriggerSettings(**wrong)


def test_serial_ports_have_no_watchdog() -> None:
    assert TriggerSettings().has_watchdog
    assert not TriggerSettings(heartbeat_s=0.0).has_watchdog
    assert not TriggerSettings(backend="serial", port=os.devnull).has_watchdog
