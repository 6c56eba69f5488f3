"""A callback that is too slow for the RunEngine, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["BoundedWorker"]

logger = logging.getLogger(__name__)

Callback = Callable[[str, dict[str, Any]], Any]

#: Documents that come many to a run; only these are ever dropped.
_DROPPABLE = frozenset({"event", "event_page", "stream_datum", "datum", "datum_page"})


class BoundedWorker:
    """Passes documents on to a callback in another thread: ``RE.subscribe(BoundedWorker(callback))``.

    It never blocks and never raises into the RunEngine. When ``maxsize`` documents wait, further
    events are dropped, the newest first, counted and logged; documents that give a run its shape
    (start, descriptor, stream_resource, stop) are few and always kept. What is dropped is missing
    from the live picture only: the journal has it, and a replay fills the gap.

    Parameters
    ----------
    callback:
        Takes ``(name, doc)``; what it raises is logged with its traceback and counted.
    maxsize:
        Documents that may wait.
    """

    def __init__(self, callback: Callback, maxsize: int = 1000) -> None:
        if maxsize < 1:
            raise ValueError(f"maxsize is {maxsize}; the worker needs room for at least 1 document")
        self.dropped = 0
        self.failures = 0
        self._callback = callback
        self._maxsize = maxsize
        self._waiting: deque[tuple[str, dict[str, Any]]] = deque()
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="document-worker", daemon=True)
        self._thread.start()

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Queue a document, or drop it."""
        with self._changed:
            is_full = len(self._waiting) >= self._maxsize and name in _DROPPABLE
            if not is_full and not self._is_closing:
                self._waiting.append((name, dict(doc)))
                self._changed.notify()
                return
            self.dropped += 1
            dropped = self.dropped
        if dropped & (dropped - 1) == 0:  # 1, 2, 4, 8, …: a flood must not flood the log
            why = "the worker is closed" if self._is_closing else f"{self._maxsize} documents wait"
            logger.warning("dropped a %s because %s; %d dropped so far", name, why, dropped)

    def close(self, timeout_s: float = 10.0) -> bool:
        """Work off what waits and end the thread; return whether that was done in time."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            logger.warning("%d documents are still waiting after %g s", len(self._waiting), timeout_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if not self._waiting:
                    return
                name, doc = self._waiting.popleft()
            started = time.monotonic()
            try:
                self._callback(name, doc)
            except Exception:  # the thread is the boundary
                self.failures += 1
                logger.exception("the callback failed on a %s after %.1f s", name, time.monotonic() - started)
