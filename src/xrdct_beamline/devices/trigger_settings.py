"""How the pause arrives: over which wire, and how its level is told from noise. Imports no control system."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from xrdct_beamline.domain.errors import ConfigurationError

__all__ = ["ModemInput", "TriggerBackend", "TriggerOutput", "TriggerSettings"]


class TriggerBackend(StrEnum):
    """What the line is connected to."""

    EPICS_ANALOG = "epics-analog"
    EPICS_BINARY = "epics-binary"
    SERIAL = "serial"  # modem-control lines
    SCPI = "scpi"  # a voltmeter on a serial port


class ModemInput(StrEnum):
    """Modem-control lines that can be read."""

    CTS = "CTS"
    DSR = "DSR"
    CD = "CD"


class TriggerOutput(StrEnum):
    """What a modem-control line can drive."""

    READY = "ready"
    BUSY = "busy"
    DONE = "done"
    NONE = "none"


_CHOICES: dict[str, type[StrEnum]] = {
    "backend": TriggerBackend,
    "input_line": ModemInput,
    "rts_drives": TriggerOutput,
    "dtr_drives": TriggerOutput,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSettings:
    """How the pause arrives, and how its level is told from noise.

    Parameters
    ----------
    backend:
        What the line is connected to.
    low_V, high_V:
        Thresholds of the hysteresis: the level is high from ``high_V`` up, until it is below ``low_V``.
        A digital input has levels 0 and 1, and needs none.
    debounce_s:
        For how long the level has to stay high to count.
    sample_period_s:
        How often the level is looked at: the scan period of an EPICS record, 0 for one that is told of
        each change; for the serial backends 0 lets them choose. A level that is caught high once must
        not count, so ``debounce_s`` is at least two periods.
    may_be_high_at_arming:
        Whether a level that is high already at arming is an edge; otherwise arming refuses.
    tolerate_minor_alarm:
        Whether a level in MINOR alarm is a level; MAJOR and INVALID never are.
    input_inverted:
        Whether a digital input at 0 means the pause. A cable that is out then looks like one.
    level_pv, ready_pv, busy_pv, done_pv:
        What follows the trigger's prefix; the level is LEVEL (analog) or INPUT (binary) where empty.
    port, baud:
        Serial port, or a URL of pyserial, and its speed.
    input_line:
        Modem-control line that carries the pause.
    rts_drives, dtr_drives:
        What RTS and DTR say. A voltmeter may take them for its own handshake.
    reply_timeout_s:
        How long a voltmeter may take for a reading.
    heartbeat_s:
        How often the session tells the server of the line that it lives; 0 for a server without
        a watchdog. Serial ports have none.
    """

    backend: TriggerBackend = TriggerBackend.EPICS_ANALOG
    low_V: float = 0.8
    high_V: float = 2.0
    debounce_s: float = 0.05
    sample_period_s: float = 0.0
    may_be_high_at_arming: bool = False
    tolerate_minor_alarm: bool = False
    input_inverted: bool = False
    level_pv: str = ""
    ready_pv: str = "READY"
    busy_pv: str = "BUSY"
    done_pv: str = "DONE"
    port: str = ""
    baud: int = 9600
    input_line: ModemInput = ModemInput.CTS
    rts_drives: TriggerOutput = TriggerOutput.NONE
    dtr_drives: TriggerOutput = TriggerOutput.NONE
    reply_timeout_s: float = 0.5
    heartbeat_s: float = 1.0

    def __post_init__(self) -> None:
        for name, kind in _CHOICES.items():
            self._choose(name, kind)
        if not self.low_V < self.high_V:
            raise ConfigurationError(
                f"low_V of the trigger is {self.low_V:g} V and high_V {self.high_V:g} V; low_V must be less"
            )
        for name in ("debounce_s", "sample_period_s", "heartbeat_s"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name} of the trigger is {getattr(self, name):g} s; use 0 or more")
        if self.debounce_s < 2 * self.sample_period_s:
            raise ConfigurationError(
                f"debounce_s of the trigger is {self.debounce_s:g} s and the level is looked at every "
                f"{self.sample_period_s:g} s; one glitch would count, give {2 * self.sample_period_s:g} s"
            )
        if not self.reply_timeout_s > 0:
            raise ConfigurationError(
                f"reply_timeout_s of the trigger is {self.reply_timeout_s:g} s; it must be positive"
            )
        if self.is_serial:
            self._check_serial()

    @property
    def is_serial(self) -> bool:
        """Whether the line is on a serial port of this machine."""
        return self.backend in (TriggerBackend.SERIAL, TriggerBackend.SCPI)

    @property
    def has_watchdog(self) -> bool:
        """Whether a server drops the outputs when this process goes away."""
        return not self.is_serial and self.heartbeat_s > 0

    def _choose(self, name: str, kind: type[StrEnum]) -> None:
        """Take the text of a choice for the choice."""
        try:
            object.__setattr__(self, name, kind(getattr(self, name)))
        except ValueError:
            raise ConfigurationError(
                f"{name} of the trigger is {getattr(self, name)!r}; use one of {', '.join(kind)}"
            ) from None

    def _check_serial(self) -> None:
        if not self.port:
            raise ConfigurationError(
                f"backend {self.backend.value!r} of the trigger needs a port, such as /dev/ttyUSB0"
            )
        if self.rts_drives == self.dtr_drives != TriggerOutput.NONE:
            raise ConfigurationError(
                f"rts_drives and dtr_drives of the trigger are both {self.rts_drives.value!r}; "
                "let them say different things, or 'none'"
            )
