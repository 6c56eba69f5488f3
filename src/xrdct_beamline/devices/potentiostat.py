"""The cell's cycler, as far as a scan needs it: recorded, never controlled."""

from __future__ import annotations

from typing import Any

from ophyd import Component, Device, EpicsSignalRO, Signal

__all__ = ["Potentiostat"]


class Potentiostat(Device):
    """Voltage, current, capacity and step of the cell, and the level of its trigger line.

    Subscribing to the device, as ``bps.monitor`` does, gives one call per sample of the gateway.

    Parameters
    ----------
    trigger_level:
        The level of the trigger line, whichever wire it is on; its latest value is part of a sample.
    """

    SUB_SAMPLE = "sample"
    _default_sub = SUB_SAMPLE

    voltage = Component(EpicsSignalRO, "Voltage_RBV", kind="hinted", auto_monitor=True)  # V
    current = Component(EpicsSignalRO, "Current_RBV", kind="hinted", auto_monitor=True)  # mA
    capacity = Component(EpicsSignalRO, "Capacity_RBV", kind="normal", auto_monitor=True)  # mAh
    step = Component(EpicsSignalRO, "Step_RBV", kind="normal", auto_monitor=True, string=True)
    trigger_level = Component(Signal, value=0.0, kind="normal")  # V, or 0 and 1
    #: Changes last in a sample, so that whoever is told by it reads one sample's values.
    sample_time_s = Component(EpicsSignalRO, "SampleTime_RBV", kind="omitted", auto_monitor=True)

    def __init__(self, prefix: str, *, name: str, trigger_level: Signal | None = None, **kwargs: Any) -> None:
        self._latest_s = 0.0
        super().__init__(prefix, name=name, **kwargs)
        if trigger_level is not None:
            trigger_level.subscribe(self._on_trigger_level)
        self.sample_time_s.subscribe(self._on_sample)

    def read(self) -> dict[str, dict[str, Any]]:
        """Read the latest sample; its timestamps are the gateway's."""
        sampled_s = float(self.sample_time_s.get())
        return {
            key: {"value": reading["value"], "timestamp": sampled_s}
            for key, reading in super().read().items()
        }

    def _on_trigger_level(self, *, value: Any, timestamp: float | None = None, **kwargs: Any) -> None:
        self.trigger_level.put(float(value), timestamp=timestamp, force=True)

    def _on_sample(self, *, value: Any, **kwargs: Any) -> None:
        if value == self._latest_s:
            return  # sent again after a reconnection
        self._latest_s = value
        self._run_subs(sub_type=self.SUB_SAMPLE, timestamp=value, value=value)
