"""The trigger line that the settings describe."""

from __future__ import annotations

from .epics_trigger import EpicsBinaryTriggerLine, EpicsTriggerLine
from .serial_lines import ModemLines, ScpiVoltmeter
from .serial_trigger import DigitalSerialTriggerLine, SerialTriggerLine
from .trigger_line import TriggerLine
from .trigger_settings import TriggerBackend, TriggerSettings

__all__ = ["make_trigger_line"]


def make_trigger_line(settings: TriggerSettings, prefix: str, *, name: str = "trigger") -> TriggerLine:
    """Return a line over the configured backend.

    Parameters
    ----------
    prefix:
        Of the line's process variables, such as ``XRDCT:TRIG:``; a serial port has none.

    Raises
    ------
    ConnectionFailed
        If a serial port cannot be used; process variables connect later.
    """
    match settings.backend:
        case TriggerBackend.EPICS_ANALOG:
            return EpicsTriggerLine(prefix, name=name, settings=settings)
        case TriggerBackend.EPICS_BINARY:
            return EpicsBinaryTriggerLine(prefix, name=name, settings=settings)
        case TriggerBackend.SERIAL:
            return DigitalSerialTriggerLine(ModemLines(settings), name=name, settings=settings)
        case TriggerBackend.SCPI:
            return SerialTriggerLine(ScpiVoltmeter(settings), name=name, settings=settings)
