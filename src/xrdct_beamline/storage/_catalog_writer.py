"""One run's way into a tiled catalog. Imports tiled: import it inside of functions only."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from bluesky_tiled_plugins.writing.consolidators import Patch
from bluesky_tiled_plugins.writing.tiled_writer import RunNormalizer, _RunWriter

__all__ = ["RunRecorder"]

#: A request is followed by this many times its own duration without one of its kind. The server
#: looks at every file of a key whenever one is added (1 s for 300 files), and a row of a table costs
#: it 50 ms: a slow server gets fewer and larger requests instead of falling behind.
REST = 10.0


class _LineWriter(_RunWriter):
    """Takes files in their order, and writes what has gathered at most once per interval.

    The reader concatenates a key's files in the order in which they were registered, which
    TiledWriter keeps only with a batch size of 1: a request for each line and each sample.
    """

    def __init__(self, client: Any, *, interval_s: float) -> None:
        # Batches are written here; SQLite has no list columns, so every array becomes a zarr array.
        super().__init__(client, batch_size=math.inf, max_array_size=0)
        self._interval_s = interval_s
        self._next_s: dict[str, float] = {}
        self._unwritten: dict[str, list[Any]] = defaultdict(list)

    def stream_datum(self, doc: dict[str, Any]) -> None:
        node, consolidator, patch = self._update_consolidator(doc)
        self._unwritten[node.uri] = [node, consolidator, *self._unwritten[node.uri][2:], patch]
        self._when_due(node.uri, lambda: self._write_files(node.uri))

    def event(self, doc: dict[str, Any]) -> None:
        super().event(doc)
        stream = self._desc_nodes[doc["descriptor"]].item["id"]
        self._when_due(stream, lambda: self._write_rows(stream))

    def stop(self, doc: dict[str, Any]) -> None:
        self.flush()
        super().stop(doc)

    def flush(self) -> None:
        """Write everything that has gathered."""
        for uri in list(self._unwritten):
            self._write_files(uri)
        for stream in list(self._internal_data_cache):
            self._write_rows(stream)

    def _when_due(self, key: str, write: Callable[[], None]) -> None:
        started = time.monotonic()
        if started >= self._next_s.get(key, 0.0 if math.isfinite(self._interval_s) else math.inf):
            write()
            ended = time.monotonic()
            self._next_s[key] = ended + max(self._interval_s, REST * (ended - started))

    def _write_files(self, uri: str) -> None:
        if uri in self._unwritten:
            node, consolidator, *patches = self._unwritten[uri]
            patch = Patch.combine_patches(patches)
            self._update_data_source_for_node(node, consolidator.get_data_source(), patch)
            del self._unwritten[uri]

    def _write_rows(self, stream: str) -> None:
        if rows := self._internal_data_cache[stream]:
            self._write_internal_data(rows, desc_node=self._desc_nodes[stream])
            rows.clear()


class RunRecorder:
    """Callback that writes the documents of a single run.

    Parameters
    ----------
    client:
        Writable tiled container.
    interval_s:
        Least time between two writings of the same stream; what has gathered in between is written
        with the next, with `flush`, or with the stop document.
    """

    def __init__(self, client: Any, *, interval_s: float) -> None:
        self._writer = _LineWriter(client.include_data_sources(), interval_s=interval_s)
        self._normalizer = RunNormalizer()
        self._normalizer.subscribe(self._writer)

    def __call__(self, name: str, document: dict[str, Any]) -> None:
        """Take one document."""
        self._normalizer(name, document)

    def flush(self) -> None:
        """Write everything that has gathered."""
        self._writer.flush()
