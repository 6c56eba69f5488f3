"""Telling the server of the trigger line that somebody has its outputs in hand."""

from __future__ import annotations

import logging
import threading

from ophyd import Component, Device, EpicsSignal, EpicsSignalRO

from xrdct_beamline.domain.errors import ConfigurationError

from ._status import put_if_connected

__all__ = ["Heartbeat", "Watchdog"]

logger = logging.getLogger(__name__)

BEATS_PER_WATCH = 2.5  # one may come late


class Watchdog(Device):
    """Drops READY, BUSY and DONE and closes the fast shutter when heartbeats stop."""

    heartbeat = Component(EpicsSignal, "HEARTBEAT", kind="omitted")
    limit_s = Component(EpicsSignal, "WATCHDOG", kind="config", auto_monitor=True)
    alive = Component(EpicsSignalRO, "ALIVE", kind="omitted", auto_monitor=True, string=True)


class Heartbeat:
    """A thread that writes a new number every ``period_s``, from `start` to `stop`.

    It stops with the process, however that ends, and with SIGSTOP. A server that goes away is
    found again when it comes back.

    Parameters
    ----------
    watchdog:
        A connected one.
    """

    def __init__(self, watchdog: Watchdog, period_s: float) -> None:
        self._watchdog, self._period_s = watchdog, period_s
        self._ends = threading.Event()
        self._count = 0
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin.

        Raises
        ------
        ConfigurationError
            If the watchdog is less patient than the heartbeats take.
        """
        limit_s = float(self._watchdog.limit_s.get())
        if 0 < limit_s < BEATS_PER_WATCH * self._period_s:
            raise ConfigurationError(
                f"heartbeat_s of the trigger is {self._period_s:g} s and {self._watchdog.prefix}WATCHDOG is "
                f"{limit_s:g} s; one late heartbeat would close the shutter, use {limit_s / 5:g} s"
            )
        self._beat()
        self._watchdog.alive.subscribe(self._on_alive, run=False)
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and say so: the lines are safe, and nobody needs to watch them."""
        if self._thread is None:
            return
        self._ends.set()
        self._thread.join()
        self._thread = None
        put_if_connected(self._watchdog.heartbeat, 0)

    def _run(self) -> None:
        while not self._ends.wait(self._period_s):
            try:
                self._beat()
            except Exception:  # of this thread nobody else would hear; the next beat may succeed
                logger.exception("heartbeat %d was not sent", self._count)

    def _beat(self) -> None:
        self._count = self._count % 1_000_000 + 1
        put_if_connected(self._watchdog.heartbeat, self._count)

    def _on_alive(self, *, value: str, **kwargs: object) -> None:
        if value == "Lost":
            logger.warning(
                "%s dropped the trigger line's outputs and closed the shutter: no heartbeat for %g s",
                self._watchdog.prefix,
                self._watchdog.limit_s.get(),
            )
