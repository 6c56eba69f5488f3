"""Trigger lines over every backend, with something at the other end of the wire."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, Protocol

from fakes import fake
from ophyd.utils.epics_pvs import AlarmSeverity
from scpi_meter import ScpiMeter

from xrdct_beamline.devices import serial_lines
from xrdct_beamline.devices.epics_trigger import EpicsBinaryTriggerLine, EpicsTriggerLine
from xrdct_beamline.devices.serial_lines import ModemLines
from xrdct_beamline.devices.serial_trigger import DigitalSerialTriggerLine
from xrdct_beamline.devices.trigger_backends import make_trigger_line
from xrdct_beamline.devices.trigger_line import TriggerLine
from xrdct_beamline.devices.trigger_settings import TriggerSettings

HIGH_V = 3.3


class Rig(Protocol):
    """A line and its surroundings.

    Attributes
    ----------
    wired:
        Outputs that the other end can see.
    high_text:
        How messages give its high level, as a pattern.
    """

    line: TriggerLine
    wired: tuple[str, ...]
    high_text: str

    def drive(self, is_high: bool) -> None: ...

    def seen(self) -> dict[str, int]: ...

    def lose(self) -> None: ...

    def find_again(self) -> None: ...

    def spoil(self) -> bool:
        """Make the level unbelievable; False if this wire always has one."""
        ...

    def close(self) -> None: ...


class FakeEpicsRig:
    """ophyd's fake signals."""

    wired = ("ready", "busy", "done")

    def __init__(self, settings: dict[str, Any], *, is_binary: bool) -> None:
        cls = EpicsBinaryTriggerLine if is_binary else EpicsTriggerLine
        self._high = 1 if is_binary else HIGH_V
        self.high_text = "level 1" if is_binary else r"3\.30 V"
        self.line = fake(cls, name="trigger", settings=TriggerSettings(**settings))
        self.drive(False)

    def drive(self, is_high: bool) -> None:
        self.line.level.sim_put(self._high if is_high else 0)

    def seen(self) -> dict[str, int]:
        return {name: int(getattr(self.line, name).get()) for name in self.wired}

    def lose(self) -> None:
        self.line.level._run_subs(sub_type="meta", connected=False)

    def find_again(self) -> None:
        self.drive(False)

    def spoil(self) -> bool:
        self.line.level.alarm_severity = AlarmSeverity.INVALID
        self.drive(True)
        return True

    def close(self) -> None:
        self.line.destroy()


class LoopRig:
    """pyserial's ``loop://``: CTS follows RTS, with which the test drives; DTR is READY, and seen as DSR."""

    wired = ("ready",)
    high_text = "level 1"

    def __init__(self, settings: dict[str, Any]) -> None:
        chosen = TriggerSettings(
            backend="serial", port="loop://", input_line="CTS", dtr_drives="ready", **settings
        )
        self._wires = ModemLines(chosen)
        self.line = DigitalSerialTriggerLine(self._wires, name="trigger", settings=chosen)

    def drive(self, is_high: bool) -> None:
        self._wires._port.rts = is_high

    def seen(self) -> dict[str, int]:
        return {"ready": int(self._wires._port.dsr)}

    def lose(self) -> None:
        self._wires._port.close()

    def find_again(self) -> None:
        pass  # a loop is there when it is opened

    def spoil(self) -> bool:
        return False

    def close(self) -> None:
        self.line.destroy()


class FakePort:
    """The modem-control lines of a port."""

    def __init__(self) -> None:
        self.cts = self.dsr = False
        self.dtr = self.rts = False
        self.carrier = True
        self.is_lost = False

    @property
    def cd(self) -> bool:
        if self.is_lost:
            raise OSError(errno.EIO, "Input/output error")
        return self.carrier

    def close(self) -> None:
        self.dtr = self.rts = False


class InvertedRig:
    """A TTL adapter: CD is asserted while the cell runs; RTS is BUSY, DTR is DONE."""

    wired = ("busy", "done")
    high_text = "level 1"

    def __init__(self, settings: dict[str, Any], patch: Any) -> None:
        self.port = FakePort()
        patch.setattr(serial_lines, "open_port", self._open)
        chosen = TriggerSettings(
            backend="serial",
            port="/dev/ttyUSB0",
            input_line="CD",
            input_inverted=True,
            rts_drives="busy",
            dtr_drives="done",
            **settings,
        )
        self.line = make_trigger_line(chosen, "")

    def _open(self, settings: TriggerSettings) -> FakePort:
        if self.port.is_lost:
            raise OSError(errno.ENOENT, "No such file or directory")
        return self.port

    def drive(self, is_high: bool) -> None:
        self.port.carrier = not is_high

    def seen(self) -> dict[str, int]:
        return {"busy": int(self.port.rts), "done": int(self.port.dtr)}

    def lose(self) -> None:
        self.port.is_lost = True

    def find_again(self) -> None:
        self.port.is_lost = False

    def spoil(self) -> bool:
        return False

    def close(self) -> None:
        self.line.destroy()


class ScpiRig:
    """A voltmeter on a pseudo-terminal, which has no modem-control lines."""

    wired = ()
    high_text = r"3\.30 V"

    def __init__(self, settings: dict[str, Any], folder: Path) -> None:
        self.meter = ScpiMeter(folder / "meter")
        chosen = TriggerSettings(backend="scpi", port=self.meter.port, **{"reply_timeout_s": 0.2, **settings})
        try:
            self.line = make_trigger_line(chosen, "")
        except BaseException:
            self.meter.unplug()
            raise

    def drive(self, is_high: bool) -> None:
        self.meter.voltage_V = HIGH_V if is_high else 0.0

    def seen(self) -> dict[str, int]:
        return {}

    def lose(self) -> None:
        self.meter.unplug()

    def find_again(self) -> None:
        self.meter.plug_in()

    def spoil(self) -> bool:
        self.meter.answer = b"+9.9E37\n"
        return True

    def close(self) -> None:
        self.line.destroy()
        self.meter.unplug()
