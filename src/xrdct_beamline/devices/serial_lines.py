"""What a serial port can read and drive: modem-control lines, or a SCPI voltmeter behind it.

Neither can promise safe outputs: the kernel drops RTS and DTR when the last user closes the port, however
that process ended, but it raises them for a moment when a port is opened, and it does nothing if the
machine itself stops. docs/cabling.md says what follows from that.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any, ClassVar, Protocol

from xrdct_beamline.domain.errors import ConnectionFailed, TriggerError

from .trigger_settings import ModemInput, TriggerOutput, TriggerSettings

__all__ = ["ModemLines", "NoReading", "ScpiVoltmeter", "TriggerWires", "open_port"]

#: What a SCPI instrument sends for an overload (9.9E37), and for "not a number" (9.91E37).
OVERLOAD = 9.9e37
QUERY = b":READ?\n"
LONGEST_REPLY = 256


class NoReading(TriggerError):
    """A reading that failed; the next may succeed."""


class TriggerWires(Protocol):
    """One input and up to two outputs of a serial port. A lost port raises `OSError`."""

    is_digital: ClassVar[bool]

    @property
    def source(self) -> str:
        """Port and line, for messages."""
        ...

    def open(self) -> None:
        """Open the port, outputs low."""
        ...

    def read(self) -> float:
        """Return the level, in V or as 0 and 1; raise `NoReading` if there is none."""
        ...

    def drive(self, output: TriggerOutput, is_high: bool) -> None:
        """Set an output; one that is not wired is remembered by nobody."""
        ...

    def close(self) -> None:
        """Bring the outputs to their safe level and close the port."""
        ...


def open_port(settings: TriggerSettings) -> Any:
    """Return an open pyserial port whose outputs are low, as far as that is ours to say.

    Raises
    ------
    ConnectionFailed
        If the port cannot be opened, or pyserial is not installed.
    """
    try:
        import serial
    except ImportError as error:
        raise ConnectionFailed(
            "a trigger line on a serial port needs pyserial; pip install 'xrdct-beamline[acquisition]'"
        ) from error
    try:
        port = serial.serial_for_url(
            settings.port,
            do_not_open=True,
            baudrate=settings.baud,
            timeout=settings.reply_timeout_s,
            write_timeout=settings.reply_timeout_s,
            # Two sessions on one line would arm and release it for one another.
            **({"exclusive": True} if "://" not in settings.port else {}),
        )
        port.rts = port.dtr = False  # pyserial raises both otherwise
        port.open()
    except (OSError, ValueError) as error:  # SerialException is an OSError
        raise ConnectionFailed(
            f"serial port {settings.port} cannot be opened ({error}); is the adapter plugged in, may this "
            "user read it (group dialout), does another program hold it?"
        ) from error
    return port


class _Port:
    """The port and its outputs."""

    is_digital: ClassVar[bool]

    def __init__(self, settings: TriggerSettings) -> None:
        self._settings = settings
        self._port: Any = None

    def open(self) -> None:
        self.close()
        self._port = open_port(self._settings)

    def drive(self, output: TriggerOutput, is_high: bool) -> None:
        if self._port is None:
            return
        if output is self._settings.rts_drives:
            self._port.rts = is_high
        elif output is self._settings.dtr_drives:
            self._port.dtr = is_high

    def close(self) -> None:
        port, self._port = self._port, None
        if port is None:
            return
        with contextlib.suppress(OSError):  # unplugged: there is nothing left to drive
            if self._settings.rts_drives is not TriggerOutput.NONE:
                port.rts = False
            if self._settings.dtr_drives is not TriggerOutput.NONE:
                port.dtr = False
        port.close()

    def _opened(self) -> Any:
        if self._port is None:
            raise OSError(f"port {self._settings.port} is closed")
        return self._port


class ModemLines(_Port):
    """The pause on CTS, DSR or CD; RTS and DTR answer."""

    is_digital = True

    @property
    def source(self) -> str:
        """Port and line."""
        return f"{self._settings.port} {self._settings.input_line.value}"

    def read(self) -> float:
        """Return 1 if the line is asserted, else 0."""
        port = self._opened()
        match self._settings.input_line:
            case ModemInput.CTS:
                return float(port.cts)
            case ModemInput.DSR:
                return float(port.dsr)
            case ModemInput.CD:
                return float(port.cd)


class ScpiVoltmeter(_Port):
    """A voltmeter that answers ``:READ?`` with a number, or several of which the first is a voltage."""

    is_digital = False

    @property
    def source(self) -> str:
        """Port and query."""
        return f"voltmeter on {self._settings.port}"

    def read(self) -> float:
        """Return the voltage of a new reading."""
        port = self._opened()
        port.reset_input_buffer()  # a late answer to an earlier question is not this one's
        port.write(QUERY)
        reply = port.read_until(b"\n", LONGEST_REPLY)
        if not reply.endswith(b"\n"):
            heard = f", only {reply[:20]!r}" if reply else ""
            raise NoReading(f"it has not answered :READ? within {self._settings.reply_timeout_s:g} s{heard}")
        return _voltage(reply)


def _voltage(reply: bytes) -> float:
    text = reply.decode("ascii", "replace").strip()
    try:
        voltage = float(text.split(",")[0])
    except ValueError:
        raise NoReading(f"it answers {text[:40]!r}, which is no number") from None
    if math.isnan(voltage) or abs(voltage) >= OVERLOAD:
        raise NoReading(f"it answers {text[:40]}, an overload; choose a range that takes the level")
    return voltage
