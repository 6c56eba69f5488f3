"""The cell's cycler, as far as a scan needs it: recorded, never controlled."""

from __future__ import annotations

from typing import Any

from ophyd import Component, Device, EpicsSignalRO, FormattedComponent

__all__ = ["Potentiostat"]


class Potentiostat(Device):
    """Voltage, current, capacity and step of the cell, and the level of its trigger line.

    Subscribing to the device, as ``bps.monitor`` does, gives one call per sample of the gateway.

    Parameters
    ----------
    trigger_level_pv:
        Process variable of the trigger line's level.
    """

    SUB_SAMPLE = "sample"
    _default_sub = SUB_SAMPLE

    voltage = Component(EpicsSignalRO, "Voltage_RBV", kind="hinted", auto_monitor=True)  # V
    current = Component(EpicsSignalRO, "Current_RBV", kind="hinted", auto_monitor=True)  # mA
    capacity = Component(EpicsSignalRO, "Capacity_RBV", kind="normal", auto_monitor=True)  # mAh
    step = Component(EpicsSignalRO, "Step_RBV", kind="normal", auto_monitor=True, string=True)
    trigger_level = FormattedComponent(
        EpicsSignalRO, "{self._trigger_level_pv}", kind="normal", auto_monitor=True
    )  # V
    #: Changes last in a sample, so that whoever is told by it reads one sample's values.
    sample_time_s = Component(EpicsSignalRO, "SampleTime_RBV", kind="omitted", auto_monitor=True)

    def __init__(self, prefix: str, *, name: str, trigger_level_pv: str, **kwargs: Any) -> None:
        self._trigger_level_pv = trigger_level_pv
        self._latest_s = 0.0
        super().__init__(prefix, name=name, **kwargs)
        self.sample_time_s.subscribe(self._on_sample)

    def read(self) -> dict[str, dict[str, Any]]:
        """Read the latest sample; its timestamps are the gateway's."""
        sampled_s = float(self.sample_time_s.get())
        return {
            key: {"value": reading["value"], "timestamp": sampled_s}
            for key, reading in super().read().items()
        }

    def _on_sample(self, *, value: Any, **kwargs: Any) -> None:
        if value == self._latest_s:
            return  # sent again after a reconnection
        self._latest_s = value
        self._run_subs(sub_type=self.SUB_SAMPLE, timestamp=value, value=value)
