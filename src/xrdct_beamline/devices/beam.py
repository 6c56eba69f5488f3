"""The beam: monitors before and behind the sample, the ring, the fast shutter."""

from __future__ import annotations

from enum import IntEnum

from ophyd import Component, Device, EpicsSignal, EpicsSignalRO, FormattedComponent
from ophyd.status import Status, SubscriptionStatus

from xrdct_beamline.domain.errors import DeviceError

from ._status import combine, put_if_connected, settle, until

__all__ = ["Beam", "Shutter", "ShutterState"]

SHUTTER_TIMEOUT_S = 5.0
MONITOR_PATIENCE_S = 0.5


class ShutterState(IntEnum):
    """What the shutter can be told, and says."""

    CLOSED = 0
    OPEN = 1


class Shutter(Device):
    """The fast shutter; closed unless a line is being taken."""

    command = Component(EpicsSignal, "OPEN", kind="omitted", auto_monitor=True)
    state = Component(EpicsSignalRO, "OPEN_RBV", kind="hinted", auto_monitor=True)

    def set(self, target: ShutterState) -> Status:
        """Open or close, and wait until the shutter says so."""
        self.command.put(int(target), wait=False)
        return until(
            self.state,
            int(target),
            SHUTTER_TIMEOUT_S,
            lambda: DeviceError(
                f"{self.name} is not {target.name.lower()} {SHUTTER_TIMEOUT_S:g} s after the command "
                f"({self.state.pvname} is {self.state.get()}); check the interlock and the air supply"
            ),
        )

    def stop(self, *, success: bool = False) -> None:
        """Close, without waiting."""
        put_if_connected(self.command, int(ShutterState.CLOSED))

    def unstage(self) -> list[object]:
        """Close."""
        self.stop()
        return super().unstage()


class Beam(Device):
    """Monitors and ring. ``trigger`` is done with the monitors' next counts.

    Parameters
    ----------
    i0, i1, current, flux:
        Process variables, after the prefix: facilities name them freely.
    """

    i0 = FormattedComponent(EpicsSignalRO, "{self.prefix}{self._i0}", kind="hinted", auto_monitor=True)
    i1 = FormattedComponent(EpicsSignalRO, "{self.prefix}{self._i1}", kind="normal", auto_monitor=True)
    current_mA = FormattedComponent(
        EpicsSignalRO, "{self.prefix}{self._current}", kind="normal", auto_monitor=True
    )
    flux = FormattedComponent(EpicsSignalRO, "{self.prefix}{self._flux}", kind="normal", auto_monitor=True)

    def __init__(
        self, prefix: str, *, i0: str, i1: str, current: str, flux: str, name: str, **kwargs: object
    ) -> None:
        self._i0, self._i1, self._current, self._flux = i0, i1, current, flux
        super().__init__(prefix, name=name, **kwargs)

    def trigger(self) -> Status:
        """Wait for new counts of both monitors; equal ones are not sent again, so not for long."""
        return combine([self._updated(self.i0), self._updated(self.i1)])

    def _updated(self, monitor: EpicsSignalRO) -> Status:
        updated = Status()
        update = SubscriptionStatus(monitor, lambda **kwargs: True, timeout=MONITOR_PATIENCE_S, run=False)
        update.add_callback(lambda done: settle(updated))
        return updated
