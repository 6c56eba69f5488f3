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
from functools import partial
from typing import TYPE_CHECKING, Any

from .journal import _plain

if TYPE_CHECKING:
    from ._catalog_writer import RunRecorder

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
        Least time between two writings of the same stream. It is longer where the server is slow.
    """

    def __init__(
        self, connect: Callable[[], Any], *, queue_size: int = 10_000, interval_s: float = 1.0
    ) -> None:
        self._connect = connect
        self._interval_s = interval_s
        self._queue: queue.Queue[tuple[str, str, Any]] = queue.Queue(queue_size)
        self._run_of_descriptor: dict[str, str] = {}
        self._missing: dict[str, str] = {}
        self._recorders: dict[str, RunRecorder] = {}
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
            try:
                uid, name, item = self._queue.get(timeout=self._interval_s)
            except queue.Empty:
                self._flush()
                continue
            if item is None:
                self._disconnect()
                return
            if isinstance(item, threading.Event):
                self._flush()
                item.set()
            elif uid not in self._missing:
                self._guarded(uid, partial(self._write, uid, name, item))
            if name == "stop" or uid in self._missing:
                self._recorders.pop(uid, None)

    def _write(self, uid: str, name: str, document: Document) -> None:
        if name == "start":
            self._recorders[uid] = self._recorder()
        self._recorders[uid](name, _as_journaled(document))

    def _flush(self) -> None:
        """Write what recorders keep back between two of their intervals."""
        for uid, recorder in list(self._recorders.items()):
            self._guarded(uid, recorder.flush)
            if uid in self._missing:
                del self._recorders[uid]

    def _guarded(self, uid: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # the boundary of the thread: the scan must not notice
            logger.exception("the catalog could not take run %s", uid)
            self._disconnect()
            self._give_up(uid, f"{type(error).__name__}: {error}")

    def _recorder(self) -> RunRecorder:
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
    present = set(client)
    whole = set(registered_uids(client))
    recorders: dict[str, RunRecorder] = {}
    run_of: dict[str, str] = {}
    for name, document in documents:
        uid = str(document["uid"] if name == "start" else document.get("run_start", ""))
        if name == "start" and uid not in whole:
            if uid in present:
                client.delete_contents(uid, recursive=True, external_only=False)
            recorders[uid] = _recorder(client, math.inf)
        if name == "descriptor":
            run_of[document["uid"]] = uid
        recorder = recorders.get(uid or run_of.get(document.get("descriptor", ""), ""))
        if recorder is not None:
            recorder(name, _as_journaled(document))
    for recorder in recorders.values():
        recorder.flush()  # of runs without a stop document, which were cut short
    return list(recorders)


def registered_uids(client: Any) -> list[str]:
    """Return the uids of the runs that a catalog holds whole, in the order of registration."""
    return [uid for uid, run in client.items() if "stop" in run.metadata]


def _as_journaled(document: Document) -> Document:
    """Return a copy of plain values, the same that a replay would find in the journal."""
    return json.loads(json.dumps(document, default=_plain))


def _recorder(client: Any, interval_s: float) -> RunRecorder:
    from . import _catalog_writer  # imports tiled, which only who keeps a catalog needs

    return _catalog_writer.RunRecorder(client, interval_s=interval_s)
