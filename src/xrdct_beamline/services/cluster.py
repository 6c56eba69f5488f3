"""Lines and voxels on Dask workers: the same functions, on more cores than this machine has.

Nothing here imports Dask before a cluster is asked for. A worker that is lost costs what it had under
way and what of its results was not fetched: the scheduler gives those tasks to others.
"""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.callbacks.calibration import detector_of
from xrdct_beamline.callbacks.line_integrator import LocalIntegrator
from xrdct_beamline.callbacks.slice_state import SliceRun, SliceState
from xrdct_beamline.domain.documents import Verdict
from xrdct_beamline.domain.errors import ConfigurationError, ProcessingError
from xrdct_beamline.processing._settings import default_threads
from xrdct_beamline.processing.integration import Integrator
from xrdct_beamline.storage.journal import Document
from xrdct_beamline.storage.raw import Hdf5Frames

__all__ = ["WORKER_MEMORY", "BlocksOnCluster", "Cluster", "ClusterIntegrator", "accepted_lines", "connect"]

logger = logging.getLogger(__name__)

#: What a local worker may take. It needs a tenth of that and more for each megapixel of the detector;
#: at 95 % Dask's nanny ends it and starts another.
WORKER_MEMORY = "2 GiB"

#: Lines, or blocks of voxels, that wait at each worker beside the one that it works on.
_WAITING = 1
_BLOCK_VOXELS = 2048
_CONNECT_S = 30

Patterns = tuple[npt.NDArray[Any], npt.NDArray[Any]]


class Cluster:
    """Workers behind a scheduler; `connect` makes one.

    Parameters
    ----------
    client:
        Of ``distributed``.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def n_under_way(self) -> int:
        """Return how many tasks keep all workers busy."""
        return max(1, sum(self.client.nthreads().values())) * (1 + _WAITING)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> _Task:
        """Begin a call on some worker."""
        return _Task(self.client.submit(function, *arguments, pure=False))

    def blocks(self) -> BlocksOnCluster:
        """Return what `processing.refinement.refine` takes as its pool."""
        return BlocksOnCluster(self)


class _Task:
    """A call on some worker."""

    def __init__(self, future: Any) -> None:
        self._future = future

    def result(self) -> Any:
        """Return its value; what it raised is raised here.

        Raises
        ------
        ProcessingError
            If it took down several workers, or the scheduler is gone.
        """
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError

        try:
            return self._future.result()
        except KilledWorker as error:
            raise ProcessingError(
                "the cluster gave a task up after several workers died with it; "
                "give workers more memory, or run without --cluster to see the fault"
            ) from error
        except (FutureCancelledError, CommClosedError, OSError) as error:
            if isinstance(error, OSError) and not isinstance(error, CommClosedError):
                raise  # the task's own
            raise ProcessingError(
                f"the cluster's scheduler is gone ({error}); start one, and the same command again"
            ) from error

    def cancel(self) -> None:
        """Forget about it."""
        self._future.cancel()


class BlocksOnCluster:
    """Fits blocks of voxels on workers; what all blocks share is sent to each worker once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._sent: dict[int, tuple[Any, Any]] = {}  # the object is kept: its id stays its own
        self.n_blocks = cluster.n_under_way()
        self.block_voxels = _BLOCK_VOXELS

    def submit(self, function: Callable[..., Any], model: Any, templates: Any, *arguments: Any) -> _Task:
        """Begin the fit of a block."""
        return self._cluster.submit(function, self._shared(model), self._shared(templates), *arguments)

    def _shared(self, value: Any) -> Any:
        if id(value) not in self._sent:
            sent = self._cluster.client.scatter(value, broadcast=True, hash=False)
            self._sent[id(value)] = value, sent
        return self._sent[id(value)][1]


class ClusterIntegrator:
    """Integrates lines on workers, some ahead of the one that is asked for; a `LineIntegrator`.

    Parameters
    ----------
    cluster:
        The workers; they must see the raw files under the same paths, or in the searched folders.
    search:
        Folders in which raw files are looked for by name.
    upcoming:
        The lines that will be asked for, by run, as `accepted_lines` finds them.
    """

    def __init__(
        self, cluster: Cluster, search: Sequence[Path], upcoming: Mapping[str, Sequence[tuple[int, str, int]]]
    ) -> None:
        self._cluster = cluster
        self._search = tuple(search)
        self._here = LocalIntegrator(Hdf5Frames(search))  # for its bins: no frame is read by it
        self._upcoming = upcoming
        self._queue: deque[tuple[str, int]] = deque()
        self._under_way: dict[str, _Task] = {}

    def radial(self, run: SliceRun) -> npt.NDArray[np.float64]:
        """Return the bin centres ``(bin,)``."""
        return self._here.radial(run)

    def begin(self, state: SliceState) -> None:
        """Begin with the first lines of a slice that are not done."""
        for task in self._under_way.values():
            task.cancel()
        self._under_way.clear()
        geometry = state.run.geometry
        self._queue = deque(
            (raw_file, len(geometry.line_translations(index)))
            for index, raw_file, attempt in self._upcoming.get(state.run.uid, ())
            if state.done.get(index) != (raw_file, attempt)
        )
        self._fill(state.run)

    def patterns(self, run: SliceRun, raw_file: str, n_frames: int) -> Patterns:
        """Return intensity and sigma ``(frame, bin)`` of a line, as `LineIntegrator`."""
        task = self._under_way.pop(raw_file, None) or self._begun(run, raw_file, n_frames)
        try:
            patterns: Patterns = task.result()
        finally:
            self._fill(run)
        return patterns

    def _fill(self, run: SliceRun) -> None:
        room = self._cluster.n_under_way() - len(self._under_way)
        for _ in range(min(room, len(self._queue))):
            raw_file, n_frames = self._queue.popleft()
            if raw_file not in self._under_way:
                self._under_way[raw_file] = self._begun(run, raw_file, n_frames)

    def _begun(self, run: SliceRun, raw_file: str, n_frames: int) -> _Task:
        return self._cluster.submit(
            _integrate_line,
            tuple(sorted(run.calibration.items())),
            replace(run.settings, threads=1, axis_mm=0.0, monitor_reference=None),
            self._search,
            raw_file,
            n_frames,
        )


def accepted_lines(documents: Iterable[Document]) -> dict[str, list[tuple[int, str, int]]]:
    """Return rotation index, raw file and attempt of the accepted lines, by the run that has their slice.

    Lines of a run that resumes another count to the one with which the slice began.
    """
    first: dict[str, str] = {}
    run_of: dict[str, str] = {}
    lines: dict[str, list[tuple[int, str, int]]] = defaultdict(list)
    for name, doc in documents:
        if name == "start":
            resumes = str(doc.get("xrdct", {}).get("resumes", ""))
            first[doc["uid"]] = first.get(resumes, resumes) or doc["uid"]
        elif name == "descriptor":
            run = str(doc["run_start"])
            run_of[str(doc["uid"])] = first.get(run, run)
        elif name == "event" and doc["data"].get("line_verdict") == Verdict.ACCEPTED:
            data, uid = doc["data"], run_of.get(doc["descriptor"], "")
            lines[uid].append(
                (int(data["line_rotation_index"]), str(data["line_raw_file"]), int(data["line_attempt"]))
            )
    return lines


def _integrate_line(
    calibration: tuple[tuple[str, Any], ...], settings: Any, search: tuple[Path, ...], raw_file: str, n: int
) -> Patterns:
    """Integrate a line on a worker. Single precision is what the file keeps, and half of the way."""
    patterns = _on_this_worker(calibration, settings, search).integrate(raw_file, n)
    return patterns[0].astype(np.float32), patterns[1].astype(np.float32)


class _WorkerIntegrator:
    def __init__(self, calibration: Any, settings: Any, search: Sequence[Path]) -> None:
        self._integrator = Integrator(detector_of(dict(calibration)), **settings.integrator_arguments())  # type: ignore[arg-type]
        self._frames = Hdf5Frames(search)

    def integrate(self, raw_file: str, n_frames: int) -> Patterns:
        frames = self._frames.deferred(raw_file)
        return self._integrator.many(frame for frame, _ in zip(frames, range(n_frames + 1), strict=False))


@lru_cache(maxsize=1)  # its tables are the size of a frame, several times
def _on_this_worker(calibration: Any, settings: Any, search: tuple[Path, ...]) -> _WorkerIntegrator:
    return _WorkerIntegrator(calibration, settings, search)


@contextlib.contextmanager
def connect(where: str) -> Iterator[Cluster]:
    """Yield the workers at an address, or local ones that end with the context.

    Parameters
    ----------
    where:
        ``local``, ``local:N`` with a number of workers, or the ``tcp://`` address of a scheduler.

    Raises
    ------
    ConfigurationError
        If it is none of those, Dask is not installed, nothing answers there or no worker is connected.
    """
    if where.split("://")[0] not in ("tcp", "tls") and where.split(":")[0] != "local":
        raise ConfigurationError(f"--cluster is {where!r}; give local, local:N or tcp://HOST:PORT")
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigurationError(
            "a cluster needs Dask: pip install 'xrdct-beamline[cluster]', or leave --cluster out"
        ) from error
    with contextlib.ExitStack() as stack:
        address: Any = where
        if where.startswith("local"):
            address = stack.enter_context(_local_cluster(where))
        try:
            client = stack.enter_context(Client(address, timeout=_CONNECT_S, set_as_default=False))
            client.wait_for_workers(1, timeout=_CONNECT_S)
        except (OSError, TimeoutError) as error:
            raise ConfigurationError(
                f"no Dask worker answers at {where}: {error}; start a scheduler with dask scheduler and "
                "workers with dask worker tcp://HOST:PORT --nthreads 1"
            ) from error
        _check_versions(client)
        yield Cluster(client)


def _local_cluster(where: str) -> Any:
    from distributed import LocalCluster

    _, _, number = where.partition(":")
    if number and not (number.isdigit() and int(number) > 0):
        raise ConfigurationError(f"--cluster is {where!r}; local:N takes a number of workers, at least 1")
    return LocalCluster(
        n_workers=int(number) if number else default_threads(),
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        memory_limit=WORKER_MEMORY,
        silence_logs=logging.ERROR,
        env={"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


def _check_versions(client: Any) -> None:
    """Refuse workers of another version: their numbers may differ."""
    own = _own_version()
    other = {where: found for where, found in client.run(_own_version).items() if found != own}
    if other:
        where, found = next(iter(other.items()))
        raise ConfigurationError(
            f"{len(other)} of the cluster's workers have another version ({where}: {found}, here {own}); "
            "install the same on all"
        )


def _own_version() -> str:
    return version("xrdct-beamline")
