"""Runs into the catalog, without the scan ever waiting for it.

The journal is what must not fail. The catalog follows behind a bounded queue in a thread of its own;
a run that it could not take whole is named in `CatalogSubscriber.missing` and brought in later from
the journal by `replay_into_catalog`.
"""

from __future__ import annotations

import json
import logging
import math
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from .journal import _plain

__all__ = ["CatalogSubscriber", "registered_uids", "replay_into_catalog"]

logger = logging.getLogger(__name__)

Document = dict[str, Any]


class CatalogSubscriber:
    """Subscriber of a RunEngine that writes runs into a tiled catalog from its own thread.

    It never blocks and never raises. When the server is down, hangs or falls too far behind, the
    run being written is given up as a whole: half a run looks complete to nobody, because its stop
    document is missing.

    Parameters
    ----------
    connect:
        Returns a writable tiled client; called in the thread, and again after it failed.
    queue_size:
        Documents that may wait before the run is given up.
    interval_s:
        Least time between two writings of the same stream's events; frames are registered at once.
    """

    def __init__(
        self, connect: Callable[[], Any], *, queue_size: int = 10_000, interval_s: float = 1.0
    ) -> None:
        self._connect = connect
        self._interval_s = interval_s
        self._queue: queue.Queue[tuple[str, str, Any]] = queue.Queue(queue_size)
        self._run_of_descriptor: dict[str, str] = {}
        self._missing: dict[str, str] = {}
        self._recorders: dict[str, Callable[[str, Document], None]] = {}
        self._client: Any = None
        self._thread = threading.Thread(target=self._work, name="xrdct-catalog", daemon=True)
        self._thread.start()

    @property
    def missing(self) -> dict[str, str]:
        """Runs that the catalog does not hold whole, and why."""
        return dict(self._missing)

    def __call__(self, name: str, document: Document) -> None:
        """Take one document; return at once."""
        uid = self._run_of(name, document)
        if uid in self._missing:
            return
        try:
            self._queue.put_nowait((uid, name, document))
        except queue.Full:
            self._give_up(uid, f"more than {self._queue.maxsize} documents were waiting")

    def drain(self, timeout_s: float = 30.0) -> bool:
        """Wait until what was taken so far has been written or given up; return whether it was."""
        reached = threading.Event()
        try:
            self._queue.put(("", "", reached), timeout=timeout_s)
        except queue.Full:
            return False
        return reached.wait(timeout_s)

    def close(self, timeout_s: float = 30.0) -> bool:
        """Drain and end the thread; return whether everything was written or given up in time."""
        drained = self.drain(timeout_s)
        if drained:
            self._queue.put(("", "", None))
            self._thread.join(timeout_s)
        return drained

    def _run_of(self, name: str, document: Document) -> str:
        """Return the uid of the run that a document belongs to."""
        if name == "start":
            return str(document["uid"])
        if "run_start" not in document:
            return self._run_of_descriptor.get(document.get("descriptor", ""), "")
        uid = str(document["run_start"])
        if name == "descriptor":
            self._run_of_descriptor[document["uid"]] = uid
        if name == "stop":
            for key in [key for key, run in self._run_of_descriptor.items() if run == uid]:
                del self._run_of_descriptor[key]
        return uid

    def _work(self) -> None:
        while True:
            uid, name, item = self._queue.get()
            if item is None:
                self._disconnect()
                return
            if isinstance(item, threading.Event):
                item.set()
            elif uid in self._missing:
                self._recorders.pop(uid, None)
            else:
                self._write(uid, name, item)

    def _write(self, uid: str, name: str, document: Document) -> None:
        try:
            if name == "start":
                self._recorders[uid] = self._recorder()
            self._recorders[uid](name, _as_journaled(document))
        except Exception as error:  # the boundary of the thread: the scan must not notice
            logger.exception("the catalog could not take a %s document of run %s", name, uid)
            self._disconnect()
            self._give_up(uid, f"{type(error).__name__}: {error}")
        if name == "stop" or uid in self._missing:
            self._recorders.pop(uid, None)

    def _recorder(self) -> Callable[[str, Document], None]:
        if self._client is None:
            self._client = self._connect()
        return _recorder(self._client, self._interval_s)

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.context.close()

    def _give_up(self, uid: str, why: str) -> None:
        if uid in self._missing:
            return
        self._missing[uid] = why
        logger.warning(
            "run %s is not (whole) in the catalog: %s; bring it in from the journal with xrdct replay",
            uid,
            why,
        )


def replay_into_catalog(documents: Iterable[tuple[str, Document]], client: Any) -> list[str]:
    """Write runs from a journal into a catalog; return the uids of those that were written.

    A run that the catalog holds whole is left alone; a run that it holds in part is replaced. Raw
    files are only registered: replacing a run does not touch them.
    """
    documents = list(documents)
    ended = {str(document["run_start"]) for name, document in documents if name == "stop"}
    present = set(client)
    whole = set(registered_uids(client))
    recorders: dict[str, Callable[[str, Document], None]] = {}
    run_of: dict[str, str] = {}
    for name, document in documents:
        uid = str(document["uid"] if name == "start" else document.get("run_start", ""))
        if name == "start" and uid not in whole:
            if uid in present:
                client.delete_contents(uid, recursive=True, external_only=False)
            # Events may wait for the stop document, unless there is none.
            recorders[uid] = _recorder(client, math.inf if uid in ended else 0.0)
        if name == "descriptor":
            run_of[document["uid"]] = uid
        recorder = recorders.get(uid or run_of.get(document.get("descriptor", ""), ""))
        if recorder is not None:
            recorder(name, _as_journaled(document))
    return list(recorders)


def registered_uids(client: Any) -> list[str]:
    """Return the uids of the runs that a catalog holds whole, in the order of registration."""
    return [uid for uid, run in client.items() if "stop" in run.metadata]


def _as_journaled(document: Document) -> Document:
    """Return a copy of plain values, the same that a replay would find in the journal."""
    return json.loads(json.dumps(document, default=_plain))


def _recorder(client: Any, interval_s: float) -> Callable[[str, Document], None]:
    from ._catalog_writer import RunRecorder  # imports tiled, which only who keeps a catalog needs

    return RunRecorder(client, interval_s=interval_s)
