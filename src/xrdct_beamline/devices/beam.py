"""The beam: monitors before and behind the sample, the ring, the fast shutter."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ophyd import Component, Device, EpicsSignal, EpicsSignalRO, FormattedComponent
from ophyd.status import Status, SubscriptionStatus
from ophyd.utils import DisconnectedError

from xrdct_beamline.domain.errors import DeviceError

from ._status import combine, put_if_connected, settle, until

__all__ = ["Beam", "BeamBehindShutter", "BeamLimits", "Shutter", "ShutterState"]

SHUTTER_TIMEOUT_S = 5.0
MONITOR_PATIENCE_S = 0.5


class ShutterState(IntEnum):
    """What the shutter can be told, and says."""

    CLOSED = 0
    OPEN = 1


class Shutter(Device):
    """The fast shutter; closed unless a line is being taken. Counts for how long it was open."""

    command = Component(EpicsSignal, "OPEN", kind="omitted", auto_monitor=True)
    state = Component(EpicsSignalRO, "OPEN_RBV", kind="hinted", auto_monitor=True)

    def __init__(self, prefix: str, *, name: str, **kwargs: object) -> None:
        self._open_s = 0.0
        self._opened_s: float | None = None
        super().__init__(prefix, name=name, **kwargs)
        self.state.subscribe(self._on_state)

    @property
    def open_s(self) -> float:
        """Seconds for which it was open since this object was made: what the sample's dose follows."""
        since_s = self._opened_s
        return self._open_s + (0.0 if since_s is None else time.monotonic() - since_s)

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

    def _on_state(self, *, value: object, **kwargs: object) -> None:
        since_s, now_s = self._opened_s, time.monotonic()
        if value and since_s is None:
            self._opened_s = now_s
        elif not value and since_s is not None:
            self._opened_s = None
            self._open_s += now_s - since_s


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamLimits:
    """What a line needs of the ring, the beam monitor and the photon shutter."""

    current_mA: float = 0.0
    flux: float = 0.0
    photon_shutter_open: float = 1.0


class Beam(Device):
    """Monitors and ring. ``trigger`` is done with the monitors' next counts.

    Parameters
    ----------
    i0, i1, current, flux:
        Process variables, after the prefix: facilities name them freely.
    limits:
        Below which `problem` has one.
    """

    i0 = FormattedComponent(EpicsSignalRO, "{self.prefix}{self._i0}", kind="hinted", auto_monitor=True)
    i1 = FormattedComponent(EpicsSignalRO, "{self.prefix}{self._i1}", kind="normal", auto_monitor=True)
    current_mA = FormattedComponent(
        EpicsSignalRO, "{self.prefix}{self._current}", kind="normal", auto_monitor=True
    )
    flux = FormattedComponent(EpicsSignalRO, "{self.prefix}{self._flux}", kind="normal", auto_monitor=True)

    def __init__(
        self,
        prefix: str,
        *,
        i0: str,
        i1: str,
        current: str,
        flux: str,
        name: str,
        limits: BeamLimits | None = None,
        **kwargs: object,
    ) -> None:
        self._i0, self._i1, self._current, self._flux = i0, i1, current, flux
        self.limits = limits or BeamLimits()
        super().__init__(prefix, name=name, **kwargs)

    def trigger(self) -> Status:
        """Wait for new counts of both monitors; equal ones are not sent again, so not for long."""
        return combine([self._updated(self.i0), self._updated(self.i1)])

    def problem(self) -> str:
        """Return why no line should be started, or an empty string."""
        if not (self.current_mA.connected and self.flux.connected):
            return "the records of the beam are not connected"
        try:
            current_mA, flux = float(self.current_mA.get()), float(self.flux.get())
            photon_shutter = self._photon_shutter_value()
        except (TimeoutError, DisconnectedError) as error:
            return f"the records of the beam do not answer ({error})"
        if current_mA < self.limits.current_mA:
            return f"the ring has {current_mA:.3g} mA, {self.limits.current_mA:g} mA are needed"
        if photon_shutter not in (None, self.limits.photon_shutter_open):
            return "the photon shutter is closed"
        if flux < self.limits.flux:
            return f"the beam monitor reads {flux:.3g} photons/s, {self.limits.flux:g} are needed"
        return ""

    def known_flux(self) -> float:
        """Return the photons per second of now, NaN where the beam monitor does not answer."""
        try:
            return float(self.flux.get()) if self.flux.connected else math.nan
        except (TimeoutError, DisconnectedError):
            return math.nan

    def _photon_shutter_value(self) -> float | None:
        return None

    def _updated(self, monitor: EpicsSignalRO) -> Status:
        updated = Status()
        update = SubscriptionStatus(monitor, lambda **kwargs: True, timeout=MONITOR_PATIENCE_S, run=False)
        update.add_callback(lambda done: settle(updated))
        return updated


class BeamBehindShutter(Beam):
    """The beam of a beamline whose photon shutter, upstream, is closed by others.

    Parameters
    ----------
    photon_shutter:
        Process variable, after the prefix.
    """

    photon_shutter = FormattedComponent(
        EpicsSignalRO, "{self.prefix}{self._photon_shutter}", kind="normal", auto_monitor=True
    )

    def __init__(self, prefix: str, *, photon_shutter: str, **kwargs: Any) -> None:
        self._photon_shutter = photon_shutter
        super().__init__(prefix, **kwargs)

    def _photon_shutter_value(self) -> float | None:
        return float(self.photon_shutter.get())
