"""One run's way into a tiled catalog. Imports tiled: import it inside of functions only."""

from __future__ import annotations

import math
import time
from typing import Any

from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer, _RunWriter

__all__ = ["RunRecorder"]

#: Events of a stream in one request, at most.
BATCH_SIZE = 1000


class _LineWriter(_RunWriter):
    """Writes a StreamDatum at once, and the events of a stream at most once per interval.

    The reader concatenates a key's files in the order in which they were registered. TiledWriter
    with a batch size above 1 registers short files last, and with a batch size of 1 it sends a
    request of 50 ms for each sample of the cell.
    """

    def __init__(self, client: Any, *, interval_s: float) -> None:
        # SQLite has no list columns, so that every array becomes a zarr array (max_array_size=0).
        super().__init__(client, batch_size=BATCH_SIZE, max_array_size=0)
        self._interval_s = interval_s
        self._written_s: dict[str, float] = {}

    def stream_datum(self, doc: dict[str, Any]) -> None:
        self._write_external_data(doc)

    def event(self, doc: dict[str, Any]) -> None:
        super().event(doc)
        node = self._desc_nodes[doc["descriptor"]]
        stream, now = node.item["id"], time.monotonic()
        if now - self._written_s.get(stream, -math.inf) < self._interval_s:
            return
        self._written_s[stream] = now
        if rows := self._internal_data_cache[stream]:
            self._write_internal_data(rows, desc_node=node)
            rows.clear()


class RunRecorder:
    """Callback that writes the documents of a single run.

    Parameters
    ----------
    client:
        Writable tiled container.
    interval_s:
        Least time between two writings of the same stream's events; the last ones are written
        with the stop document.
    """

    def __init__(self, client: Any, *, interval_s: float) -> None:
        self._writer = _LineWriter(client.include_data_sources(), interval_s=interval_s)
        self._normalizer = RunNormalizer()
        self._normalizer.subscribe(self._writer)

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        """Write one document."""
        self._normalizer(name, document)
