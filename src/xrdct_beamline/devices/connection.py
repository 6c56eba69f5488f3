"""Connecting to process variables, and naming those that do not answer."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from ophyd import Device
from ophyd.signal import EpicsSignalBase

from xrdct_beamline.domain.errors import ConnectionFailed

__all__ = ["declared_pvs", "missing_pvs", "set_signal_timeouts", "wait_for_connections"]

logger = logging.getLogger(__name__)

READ_TIMEOUT_S = 3.0
WRITE_TIMEOUT_S = 5.0  # of settings; moves and acquisitions have timeouts of their own
CONNECTION_TIMEOUT_S = 2.0  # of a single call; a session waits in `wait_for_connections`


def set_signal_timeouts() -> None:
    """Give every EPICS signal finite timeouts; ophyd waits for ever on a write by default.

    ophyd accepts this only before the first signal of the process.
    """
    try:
        EpicsSignalBase.set_defaults(
            timeout=READ_TIMEOUT_S, write_timeout=WRITE_TIMEOUT_S, connection_timeout=CONNECTION_TIMEOUT_S
        )
    except RuntimeError:
        logger.info("signals exist already; they and later ones keep the timeouts that were set before")


def declared_pvs(devices: Iterable[Device]) -> dict[str, EpicsSignalBase]:
    """Return each process variable that the devices' classes declare, and the signal that uses it."""
    pvs: dict[str, EpicsSignalBase] = {}
    for device in devices:
        for walk in device.walk_signals(include_lazy=True):
            for name in _pv_names(walk.item):
                pvs[name] = walk.item
    return pvs


def missing_pvs(devices: Iterable[Device]) -> list[str]:
    """Return the process variables that are not connected now. Never waits."""
    return [
        name
        for name, signal in declared_pvs(devices).items()
        if not signal.connected and not signal.cl.get_pv(name).connected
    ]


def wait_for_connections(devices: Iterable[Device], timeout_s: float = 10.0) -> None:
    """Wait until every signal of the devices is connected.

    Raises
    ------
    ConnectionFailed
        Naming each process variable that did not answer in time.
    """
    devices = tuple(devices)
    deadline_s = time.monotonic() + timeout_s
    for signal in set(declared_pvs(devices).values()):
        try:
            signal.wait_for_connection(timeout=max(deadline_s - time.monotonic(), 0.001))
        except TimeoutError:
            continue  # named below, with all others
    if names := missing_pvs(devices):
        raise not_connected(names, timeout_s)


def not_connected(names: list[str], waited_s: float) -> ConnectionFailed:
    """Return the error that names process variables which did not answer."""
    return ConnectionFailed(
        f"{len(names)} process variable{'s' * (len(names) > 1)} did not answer within {waited_s:g} s: "
        f"{', '.join(sorted(names))}; check that the servers run, and EPICS_CA_ADDR_LIST"
    )


def _pv_names(signal: Any) -> set[str]:
    if not isinstance(signal, EpicsSignalBase):
        return set()
    return {signal.pvname, getattr(signal, "setpoint_pvname", signal.pvname)}
