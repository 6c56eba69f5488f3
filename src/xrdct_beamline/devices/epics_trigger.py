"""The trigger line on an EPICS input: analog, with two thresholds, or binary."""

from __future__ import annotations

import threading
import time
from typing import Any, ClassVar

from ophyd import EpicsSignal, EpicsSignalRO, FormattedComponent
from ophyd.utils.epics_pvs import AlarmSeverity
from ophyd.utils.errors import DisconnectedError

from ._status import put_if_connected
from .trigger_line import LOW, TriggerLine
from .trigger_logic import TriggerSettings, TriggerState

__all__ = ["EpicsBinaryTriggerLine", "EpicsTriggerLine"]

READ_TIMEOUT_S = 1.0


class EpicsTriggerLine(TriggerLine):
    """A voltage on an analog input, such as LabJack's ``Ai0``, and three binary outputs."""

    default_level_pv: ClassVar[str] = "LEVEL"

    level = FormattedComponent(
        EpicsSignalRO, "{self.prefix}{self._level_pv}", kind="hinted", auto_monitor=True
    )
    ready = FormattedComponent(
        EpicsSignal, "{self.prefix}{self.settings.ready_pv}", kind="omitted", put_complete=True
    )
    busy = FormattedComponent(
        EpicsSignal, "{self.prefix}{self.settings.busy_pv}", kind="omitted", put_complete=True
    )
    done = FormattedComponent(
        EpicsSignal, "{self.prefix}{self.settings.done_pv}", kind="omitted", put_complete=True
    )

    def __init__(
        self, prefix: str, *, name: str, settings: TriggerSettings | None = None, **kwargs: Any
    ) -> None:
        self._reading, self._is_gone = threading.Lock(), False
        self._level_pv = (settings and settings.level_pv) or self.default_level_pv
        super().__init__(prefix, name=name, settings=settings, **kwargs)
        self.level.subscribe(self._on_level)
        self.level.subscribe(self._on_connection, event_type=EpicsSignalRO.SUB_META, run=False)
        self.ready.subscribe(self._on_ready_connection, event_type=EpicsSignal.SUB_META, run=False)

    @property
    def source(self) -> str:
        """Name of the level's process variable."""
        return str(self.level.pvname)

    def _on_level(self, *, value: Any, timestamp: float | None = None, **kwargs: Any) -> None:
        severity = AlarmSeverity(self.level.alarm_severity or 0)
        limit = AlarmSeverity.MAJOR if self.settings.tolerate_minor_alarm else AlarmSeverity.MINOR
        if severity >= limit:
            self._invalidate(f"its alarm severity is {severity.name}")
        else:
            self._receive(float(value), timestamp or time.time())

    def _on_connection(self, *, connected: bool = True, **kwargs: Any) -> None:
        if not connected:
            self._invalidate("its server went away")

    def _on_ready_connection(self, *, connected: bool = True, **kwargs: Any) -> None:
        # Nothing is written otherwise: a second program that only looks connects, too.
        if connected and self._owes_low and self.state is TriggerState.DISARMED:
            self._owes_low = not put_if_connected(self.ready, LOW)

    def destroy(self) -> None:
        """Wait for a reading that is under way, and let go of the channels: libca would crash otherwise."""
        with self._reading:
            self._is_gone = True
            super().destroy()

    def _is_high_now(self) -> bool:
        try:
            with self._reading:
                if self._is_gone:
                    return False
                level = float(self.level.get(use_monitor=False, timeout=READ_TIMEOUT_S))
        except (TimeoutError, DisconnectedError):
            self._invalidate("its server does not answer")
            return False
        if self.is_digital:
            return (level != 0) != self.settings.input_inverted
        return level >= self.settings.low_V


class EpicsBinaryTriggerLine(EpicsTriggerLine):
    """A binary input; its levels are 0 and 1."""

    is_digital = True
    default_level_pv = "INPUT"
