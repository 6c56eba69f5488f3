"""Runs the kernels over a frame, on as many threads as it is given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ._azimuth import estimate_cells, fill_cells
from ._estimators import MEDIAN, N_COLUMNS, TRIMMED_MEAN, Plan
from ._offset_tables import OFFSET_CLASSES, choose_bases, estimate_offset_tables, fill_offset_table
from ._rings import Rings
from ._ringwise import estimate_rings, scatter, scatter_dark
from ._spots import N_LOW, subtract_spots
from ._tables import CLASSES, estimate_tables, fill_table, sort_tail

__all__ = ["Reducer", "Rows", "load_kernels", "sample_frames"]

Rows = npt.NDArray[np.float64]

#: More large counts than this share of the pixels, and a frame is not one of small counts.
_TAIL_SHARE = 16


class _Workspace:
    """Memory that one frame needs while it is reduced."""

    def __init__(self, rings: Rings, n_threads: int) -> None:
        room = max(rings.ring.size // _TAIL_SHARE, 64)
        self.tables = np.zeros((n_threads, (rings.n_rings + 1) * CLASSES), np.uint64)
        self.tails = np.empty((n_threads, room), np.int32)
        self.tail = np.empty(room * n_threads, np.int32)
        self.tail_start = np.empty(rings.n_rings + 1, np.int64)
        self.low = np.empty((rings.n_rings, N_LOW))
        self.base = np.empty(rings.n_rings + 1, np.int32)
        self._rings = rings

    @cached_property
    def offset_tables(self) -> npt.NDArray[np.uint64]:
        """Tables for frames of large counts."""
        return np.zeros((len(self.tables), (self._rings.n_rings + 1) * OFFSET_CLASSES), np.uint64)

    @cached_property
    def buffer(self) -> npt.NDArray[np.float32]:
        """Room for a frame in ring order."""
        return np.empty(int(self._rings.start[-1]), np.float32)

    def collect_tail(self, lengths: Sequence[int], words: npt.NDArray[np.uint32]) -> bool:
        """Bring the lists of all threads into ring order; return False if one of them did not fit."""
        if min(lengths) < 0:
            return False
        tail = np.concatenate([self.tails[t, :length] for t, length in enumerate(lengths)])
        sort_tail(tail, tail.size, words, self._rings.n_rings, self.tail_start, self.tail)
        return True


class Reducer:
    """Frames to rows of results, with the memory for it kept between frames.

    Safe to call from several threads: each call takes a workspace of its own.
    """

    def __init__(
        self,
        rings: Rings,
        dark: npt.NDArray[np.float64] | None,
        plan: Plan,
        cells: npt.NDArray[np.int32] | None = None,
        n_azimuth: int = 0,
    ) -> None:
        self._rings = rings
        self._dark = None if dark is None else dark.ravel()
        self._plan = plan
        self._cells, self._n_azimuth = cells, n_azimuth
        self._free: dict[int, list[_Workspace]] = {}
        self._lock = threading.Lock()

    def __call__(self, frame: npt.NDArray[Any], pool: ThreadPoolExecutor | None, n_threads: int) -> Rows:
        """Reduce a flat frame on ``n_threads`` threads of a pool, or here if there is none."""
        workspace = self._take(n_threads)
        try:
            rows = np.empty((self._rings.n_rings, N_COLUMNS))
            run = _runner(pool)
            if self._cells is not None:
                self._by_cells(frame, self._cells, run, n_threads, rows)
                return rows
            if not self._by_any_table(frame, workspace, run, n_threads, rows):
                self._by_rings(frame, workspace, run, n_threads, rows)
            subtract_spots(workspace.low, rows)
            return rows
        finally:
            with self._lock:
                self._free.setdefault(n_threads, []).append(workspace)

    def _take(self, n_threads: int) -> _Workspace:
        with self._lock:
            free = self._free.get(n_threads)
            return free.pop() if free else _Workspace(self._rings, n_threads)

    def _by_any_table(
        self, frame: npt.NDArray[Any], w: _Workspace, run: _Run, n_threads: int, rows: Rows
    ) -> bool:
        if frame.dtype != np.int32 or self._dark is not None or not self._rings.can_be_packed:
            return False
        if self._counts_are_small(frame) and self._by_tables(frame, w, run, n_threads, rows):
            return True
        return self._by_offset_tables(frame, w, run, n_threads, rows)

    def _counts_are_small(self, frame: npt.NDArray[Any]) -> bool:
        """Whether the tables of small counts are worth a try, judged by a few thousand pixels."""
        step = max(frame.size // 4096, 1)
        large = np.count_nonzero(frame[::step] >= CLASSES)
        return bool(large * step * _TAIL_SHARE * 2 < frame.size)

    def _by_tables(
        self, frame: npt.NDArray[Any], w: _Workspace, run: _Run, n_threads: int, rows: Rows
    ) -> bool:
        rings = self._rings
        words, offset, step = rings.packed
        pieces = pairwise(np.linspace(0, frame.size, n_threads + 1).astype(int))
        lengths = run(
            [
                (fill_table, (frame, words, a, b, rings.n_rings, w.tables[t], w.tails[t]))
                for t, (a, b) in enumerate(pieces)
            ]
        )
        if not w.collect_tail(lengths, words):
            w.tables[:] = 0
            return False
        shared = (offset, step, rings.deficit, frame, words, w.tail, w.tail_start, self._plan, rows, w.low)
        shares = pairwise(np.linspace(0, rings.n_rings, n_threads + 1).astype(int))
        run([(estimate_tables, (w.tables, a, b, *shared)) for a, b in shares])
        return True

    def _by_offset_tables(
        self, frame: npt.NDArray[Any], w: _Workspace, run: _Run, n_threads: int, rows: Rows
    ) -> bool:
        rings = self._rings
        plain_median = self._plan.method == MEDIAN and not self._plan.unbiased  # is a pixel's own value
        if plain_median or rings.start[-1] < 2 * OFFSET_CLASSES * rings.n_rings:
            return False
        per_count = choose_bases(frame, rings.order, rings.start, rings.inverse, w.base)
        if per_count == 0:
            return False
        words, offset, step = rings.packed
        tables, shared = w.offset_tables, (frame, words, rings.inverse)
        pieces = pairwise(np.linspace(0, frame.size, n_threads + 1).astype(int))
        lengths = run(
            [
                (fill_offset_table, (*shared, w.base, per_count, a, b, tables[t], w.tails[t]))
                for t, (a, b) in enumerate(pieces)
            ]
        )
        if not w.collect_tail(lengths, words):
            tables[:] = 0
            return False
        of_rings = (w.base, per_count, rings.mean_norm, offset, step, *shared, w.tail, w.tail_start)
        shares = pairwise(np.linspace(0, rings.n_rings, n_threads + 1).astype(int))
        run([(estimate_offset_tables, (tables, a, b, *of_rings, self._plan, rows, w.low)) for a, b in shares])
        return True

    def _by_rings(
        self, frame: npt.NDArray[Any], w: _Workspace, run: _Run, n_threads: int, rows: Rows
    ) -> None:
        rings, dark = self._rings, self._dark
        buffer = w.buffer
        place, start = rings.place, rings.start
        pieces = pairwise(np.linspace(0, frame.size, n_threads + 1).astype(int))
        if dark is None:
            run([(scatter, (frame, place, a, b, buffer)) for a, b in pieces])
        else:
            run([(scatter_dark, (frame, dark, place, a, b, buffer)) for a, b in pieces])
        edges = np.searchsorted(start, np.linspace(0, start[-1], n_threads + 1))  # shares of equal pixels
        edges[0], edges[-1] = 0, rings.n_rings
        norm, corrected = rings.norm_in_order, rings.norm is not None
        run(
            [
                (estimate_rings, (buffer, norm, start, a, b, corrected, self._plan, rows, w.low))
                for a, b in pairwise(edges)
            ]
        )

    def _by_cells(
        self, frame: npt.NDArray[Any], cells: npt.NDArray[np.int32], run: _Run, n_threads: int, rows: Rows
    ) -> None:
        rings, n_azimuth = self._rings, self._n_azimuth
        sums = np.zeros((rings.n_rings * n_azimuth, 3))
        dark = _NOTHING if self._dark is None else self._dark
        norm = _NOTHING_SINGLE if rings.norm is None else rings.norm
        # Threads would meet in the cells; several frames at once keep them busy all the same.
        fill_cells(frame, dark, cells, norm, 0, frame.size, sums)
        shares = pairwise(np.linspace(0, rings.n_rings, n_threads + 1).astype(int))
        run([(estimate_cells, (sums, n_azimuth, a, b, self._plan, rows)) for a, b in shares])


def load_kernels() -> None:
    """Compile, or load from numba's cache, what integer frames need; on a small frame of each kind."""
    per_ring = 2 * OFFSET_CLASSES
    ring = np.repeat(np.arange(2, dtype=np.int32), per_ring)
    rings = Rings(shape=(1, ring.size), radial=np.arange(2.0), ring=ring, norm=None)
    reducer = Reducer(rings, None, Plan(TRIMMED_MEAN, 0.05, 0.05, True, 5.0))
    for frame in sample_frames(ring.size):
        reducer(frame, None, 1)


def sample_frames(size: int) -> list[npt.NDArray[np.int32]]:
    """Return frames of few counts, of hundreds, and of all sizes: each is reduced in a way of its own."""
    rng = np.random.default_rng(0)
    poisson = rng.poisson(300.0, size).astype(np.int32)
    return [np.zeros(size, np.int32), poisson, rng.integers(0, 1 << 20, size, np.int32)]


_NOTHING, _NOTHING_SINGLE = np.empty(0), np.empty(0, np.float32)

_Task = tuple[Callable[..., Any], tuple[Any, ...]]
_Run = Callable[[Sequence[_Task]], list[Any]]


def _runner(pool: ThreadPoolExecutor | None) -> _Run:
    """Return a function that runs tasks side by side and waits for them; the last one runs here."""

    def run(tasks: Sequence[_Task]) -> list[Any]:
        if pool is None or len(tasks) == 1:
            return [function(*arguments) for function, arguments in tasks]
        futures = [pool.submit(function, *arguments) for function, arguments in tasks[:-1]]
        function, arguments = tasks[-1]
        last = function(*arguments)
        return [*(future.result() for future in futures), last]

    return run
