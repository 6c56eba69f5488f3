"""Small compositions of statuses: all of several, one after another, a signal's value."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from typing import Any

from ophyd import EpicsSignal
from ophyd.status import Status, SubscriptionStatus
from ophyd.utils import InvalidState

from xrdct_beamline.domain.errors import DeviceError

__all__ = ["combine", "finished", "put_if_connected", "settle", "then", "until", "write_changed"]


def finished() -> Status:
    """Return a status that is done."""
    status = Status()
    status.set_finished()
    return status


def combine(statuses: Iterable[Status]) -> Status:
    """Return a status that is done with the last of several, and fails with the first failure."""
    waiting = list(statuses)
    if not waiting:
        return finished()
    combined, lock = Status(), threading.Lock()
    remaining = len(waiting)

    def one_is_done(status: Status) -> None:
        nonlocal remaining
        error = status.exception(timeout=0)
        with lock:
            is_settled = remaining <= 0
            remaining = 0 if error else remaining - 1
            is_last = remaining == 0 and not is_settled
        if is_last:
            settle(combined, error)

    for status in waiting:
        status.add_callback(one_is_done)
    return combined


def then(first: Status, follow: Callable[[], Status]) -> Status:
    """Return a status of two steps: ``follow`` is called once ``first`` has succeeded."""
    chained = Status()

    def go_on(status: Status) -> None:
        error = status.exception(timeout=0)
        if error is None:
            try:
                second = follow()
            except Exception as refusal:  # a callback's thread: nobody above would see it
                settle(chained, refusal)
            else:
                second.add_callback(lambda done: settle(chained, done.exception(timeout=0)))
        else:
            settle(chained, error)

    first.add_callback(go_on)
    return chained


def settle(status: Status, error: Exception | None = None) -> None:
    """Finish a status, or fail it; nothing happens if another thread already has."""
    try:
        if error is None:
            status.set_finished()
        else:
            status.set_exception(error)
    except InvalidState:
        return


def until(signal: Any, wanted: Any, timeout_s: float, describe: Callable[[], DeviceError]) -> Status:
    """Return a status that is done once a monitored signal has a value, or fails with ``describe()``."""

    def is_reached(*, value: Any, **kwargs: Any) -> bool:
        return bool(value == wanted)

    explained = Status()
    reached = SubscriptionStatus(signal, is_reached, timeout=timeout_s)
    reached.add_callback(lambda done: settle(explained, None if done.success else describe()))
    return explained


def write_changed(settings: Iterable[tuple[EpicsSignal, Any]]) -> Status:
    """Write those settings whose readback differs, in order, and wait for all at once."""
    return combine([signal.set(value) for signal, value in settings if not _is_same(signal.get(), value)])


def _is_same(old: Any, new: Any) -> bool:
    """Whether a readback already has a setting's value."""
    if isinstance(old, str) or isinstance(new, str):
        return bool(old == new)
    return math.isclose(old, new, rel_tol=1e-9, abs_tol=1e-12)


def put_if_connected(signal: EpicsSignal, value: Any) -> bool:
    """Write without waiting; False if nobody listens, so that stopping never hangs on a dead server."""
    if not signal.connected:
        return False
    signal.put(value, wait=False)
    return True
