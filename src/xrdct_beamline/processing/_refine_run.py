"""Hands voxels to the kernels, chunk by chunk, on as many threads as it is given."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.results import RefinedMaps, RefinementStatus

from ._refine_model import PatternModel
from ._refine_noise import bin_variance
from ._refine_search import Templates, search_patterns
from ._refine_voxel import BY_BIN, BY_MODEL, BY_VOXEL, fit_patterns

__all__ = ["BlockPool", "Job", "Patterns", "Result", "refine_all"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

#: Voxels of a task: long enough for the kernels, short enough to stop within a tenth of a second.
CHUNK = 256
#: Voxels that the noise of a bin is estimated from, and the weights of the search, at most.
_SAMPLE, _SEARCH_SAMPLE = 1024, 256
#: How often it is estimated, each time with the weights of the time before.
_NOISE_ROUNDS = 2


class Patterns:
    """Patterns ``(…, bin)`` as a list, taken a few at a time: the whole is never copied."""

    def __init__(self, array: npt.ArrayLike) -> None:
        self.array = np.asarray(array)
        if self.array.ndim == 0 or self.array.dtype.kind not in "iuf":
            raise ProcessingError(
                f"patterns of shape {self.array.shape} and dtype {self.array.dtype} cannot be refined; "
                "give real numbers (…, bin)"
            )
        self.shape = self.array.shape[:-1]
        self.n_bins = self.array.shape[-1]
        self.size = int(np.prod(self.shape, dtype=np.int64))

    def take(self, index: IntArray) -> npt.NDArray[np.float32]:
        """Return some patterns ``(n, bin)`` as float32, a view where neighbours are asked for."""
        if self.array.ndim == 1:
            part = self.array[None]
        elif self.array.flags.c_contiguous:
            flat = self.array.reshape(self.size, self.n_bins)
            run = index.size > 0 and index[-1] - index[0] + 1 == index.size
            part = flat[index[0] : index[-1] + 1] if run else flat[index]
        else:
            part = self.array[np.unravel_index(index, self.shape)]
        return np.ascontiguousarray(part, dtype=np.float32)


@dataclass
class Result:
    """Parameters of every voxel, and what is said about them."""

    theta: FloatArray
    esd: FloatArray
    mass: FloatArray
    mass_esd: FloatArray
    rwp: FloatArray
    status: npt.NDArray[np.int8]

    @classmethod
    def empty(cls, n: int, n_parameters: int, n_phases: int) -> Result:
        """Return the result of nothing measured."""
        wide, narrow = (n, n_parameters), (n, n_phases)
        return cls(
            np.full(wide, np.nan), np.full(wide, np.nan), np.full(narrow, np.nan), np.full(narrow, np.nan),
            np.full(n, np.nan), np.full(n, RefinementStatus.NOT_MEASURED, dtype=np.int8),
        )  # fmt: skip

    def only(self, index: IntArray) -> Result:
        """Return the result of some of the voxels."""
        return Result(*(array[index] for array in self.arrays()))

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """Return all arrays, in the order of the kernel's arguments."""
        return self.theta, self.esd, self.mass, self.mass_esd, self.rwp, self.status


class BlockPool(Protocol):
    """Other processes that fit blocks of voxels."""

    #: Blocks that may be under way at once, and voxels of each.
    n_blocks: int
    block_voxels: int

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Any:
        """Begin a call; return what has its value as ``result()``."""
        ...


@dataclass(frozen=True)
class Job:
    """What to refine, and how."""

    model: PatternModel
    patterns: Patterns
    sigma: Patterns
    mode: int
    relative: bool
    threads: int
    progress: Callable[[int, int], None]
    stop: threading.Event
    pool: BlockPool | None = None


@dataclass(frozen=True)
class _Pass:
    """One go over voxels: their numbers, the weights, and where each starts."""

    job: Job
    sigma: Patterns
    templates: Templates
    result: Result

    def run(self, index: IntArray, theta: FloatArray, known: npt.NDArray[np.bool_]) -> Result:
        """Fit some voxels, from ``theta`` where it is known."""
        return fit_block(*self.block(index, theta, known))

    def block(self, index: IntArray, theta: FloatArray, known: npt.NDArray[np.bool_]) -> tuple[Any, ...]:
        """Return all that the fit of some voxels needs: the arguments of `fit_block`."""
        job = self.job
        sigma = self.sigma.take(index if job.mode == BY_VOXEL else np.zeros(1, dtype=np.int64))
        weights = job.mode, job.relative
        return job.model, self.templates, weights, job.patterns.take(index), sigma, theta, known

    def store(self, index: IntArray, part: Result) -> None:
        """Put the fit of some voxels where it belongs."""
        for whole, piece in zip(self.result.arrays(), part.arrays(), strict=True):
            whole[index] = piece


def fit_block(
    model: PatternModel,
    templates: Templates,
    weights: tuple[int, bool],
    patterns: npt.NDArray[np.float32],
    sigma: npt.NDArray[np.float32],
    theta: FloatArray,
    known: npt.NDArray[np.bool_],
) -> Result:
    """Fit patterns ``(n, bin)``, from ``theta`` where it is known; each as if it were alone."""
    kit, t = model.kit, templates
    part = Result.empty(known.size, theta.shape[1], kit.n_nodes.size)
    part.theta[...] = theta
    search_patterns(
        patterns, known, t.rows, t.gram, t.lines, t.first, t.cells, kit.first_cell, kit.n_cell, part.theta
    )
    fit_patterns(kit, patterns, sigma, *weights, *part.arrays())
    return part


def refine_all(job: Job, start: RefinedMaps | None) -> Result:
    """Fit all voxels of a job; once it is stopped, those that are done."""
    layout, n = job.model.layout, job.patterns.size
    result = Result.empty(n, layout.n_parameters, len(job.model.phases))
    sample = (
        np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.int64)) if n else np.zeros(0, np.int64)
    )
    weight = _search_weight(job, sample)
    templates = job.model.templates(weight)
    sigma = job.sigma
    if job.relative:
        sigma = _estimate_sigma(job, templates, sample)
        templates = job.model.templates(1.0 / sigma.array[0].astype(np.float64) ** 2)
    whole = _Pass(job, sigma, templates, result)
    theta, known = _starting_points(job, start)
    if job.pool is None:
        with ThreadPoolExecutor(job.threads, thread_name_prefix="refine") as threads:

            def submit(index: IntArray) -> Any:
                return threads.submit(whole.run, index, theta[index], known[index])

            _run_chunks(whole, submit, 2 * job.threads, CHUNK)
    else:
        pool = job.pool

        def send(index: IntArray) -> Any:
            return pool.submit(fit_block, *whole.block(index, theta[index], known[index]))

        _run_chunks(whole, send, pool.n_blocks, pool.block_voxels)
    _rescue(whole, known)
    return result


def _search_weight(job: Job, sample: IntArray) -> FloatArray:
    """Return weights by bin for the search: of the mean pattern's noise, as far as it is known."""
    few = sample[: 1 if job.mode == BY_BIN else _SEARCH_SAMPLE]
    if job.relative or not few.size:
        return np.ones(job.patterns.n_bins)
    if job.mode == BY_MODEL:
        mean = np.maximum(_mean(job.patterns.take(few)), 0.0)
        variance = mean + 0.1 * mean.mean() + 1e-30
    else:
        variance = _mean(job.sigma.take(few).astype(np.float64) ** 2)
    usable = np.isfinite(variance) & (variance > 0)
    weight = np.divide(1.0, variance, out=np.zeros_like(variance), where=usable)
    return weight if np.any(usable) else np.ones(job.patterns.n_bins)


def _mean(patterns: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Return the mean of what is finite in each bin, 0 where nothing is."""
    there = np.isfinite(patterns)
    return np.where(there, patterns, 0.0).sum(axis=0, dtype=np.float64) / np.maximum(there.sum(axis=0), 1)


def _estimate_sigma(job: Job, templates: Templates, sample: IntArray) -> Patterns:
    """Return deviations by bin, up to a factor, from the residuals of a sample.

    Twice: in the first fit, which knows no weights, noisy bins spoil the residuals of quiet ones.
    """
    variance, patterns = np.ones(job.patterns.n_bins), job.patterns.take(sample)
    for _ in range(_NOISE_ROUNDS):
        deviations = Patterns(np.sqrt(variance).astype(np.float32)[None])
        probe = _Pass(job, deviations, templates, Result.empty(0, job.model.layout.n_parameters, 0))
        theta, fitted = _fit_sample(probe, sample)
        found = bin_variance(job.model.kit, patterns[: fitted.size], theta, fitted, variance)
        variance = np.where(np.isnan(found), variance, found)
    return Patterns(np.sqrt(variance).astype(np.float32)[None])


def _fit_sample(probe: _Pass, sample: IntArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return the parameters of a sample, without phases that do not stand out, and which were fitted."""
    job, layout = probe.job, probe.job.model.layout
    start = np.tile(layout.start(), (sample.size, 1))
    whole = Result.empty(sample.size, start.shape[1], job.model.kit.n_nodes.size)
    for place in _split(np.arange(sample.size)):
        if job.stop.is_set():
            break
        part = probe.run(sample[place], start[place], np.zeros(place.size, dtype=np.bool_))
        whole.theta[place], whole.status[place] = part.theta, part.status
    for k, first in enumerate(layout.first_cell):
        hidden = np.isnan(whole.theta[:, first : first + job.model.phases[k].n_cell]).any(axis=1)
        whole.theta[hidden, job.model.n_background + k] = 0.0
    fitted = (whole.status == RefinementStatus.CONVERGED) | (whole.status == RefinementStatus.AT_LIMIT)
    return np.where(np.isnan(whole.theta), start, whole.theta), fitted


def _starting_points(job: Job, start: RefinedMaps | None) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return the parameters that each voxel starts from, and whether they come from a fit."""
    layout = job.model.layout
    theta = np.tile(layout.start(), (job.patterns.size, 1))
    known = np.zeros(job.patterns.size, dtype=np.bool_)
    if start is None:
        return theta, known
    known = (start.status == RefinementStatus.CONVERGED).ravel().copy()
    kit = job.model.kit
    for phase, first in zip(job.model.phases, layout.first_cell, strict=True):
        places = [phase.map.index(k) for k in range(phase.n_cell)]
        cells = start.cell[phase.name].reshape(-1, 6)[:, places]
        own = slice(first, first + phase.n_cell)
        usable = known[:, None] & np.isfinite(cells)
        theta[:, own] = np.where(usable, np.clip(cells, kit.lower[own], kit.upper[own]), theta[:, own])
        known &= np.isfinite(cells).all(axis=1)
    return theta, known


def _split(index: IntArray, size: int = CHUNK) -> list[IntArray]:
    return [index[i : i + size] for i in range(0, index.size, size)]


def _run_chunks(whole: _Pass, submit: Callable[[IntArray], Any], n_under_way: int, size: int) -> None:
    """Fit all voxels, telling of the progress in this thread, until the job is stopped."""
    job, n = whole.job, whole.job.patterns.size
    chunks = deque(_split(np.arange(n), size))
    under_way: deque[tuple[IntArray, Any]] = deque()
    done = 0
    while chunks or under_way:
        while chunks and len(under_way) < n_under_way and not job.stop.is_set():
            index = chunks.popleft()
            under_way.append((index, submit(index)))
        if not under_way:
            break  # stopped
        index, future = under_way.popleft()
        whole.store(index, future.result())
        done += index.size
        job.progress(done, n)


def _rescue(whole: _Pass, known: npt.NDArray[np.bool_]) -> None:
    """Fit again what did not settle inside its limits: with a search if it had none, then from neighbours."""
    job = whole.job
    tries = [_without_start] if known.any() else []
    tries += [_from_neighbours] if len(job.patterns.shape) == 2 else []
    for prepare in tries:
        status = whole.result.status
        bad = np.flatnonzero((status == RefinementStatus.FAILED) | (status == RefinementStatus.AT_LIMIT))
        theta, usable, start_known = prepare(whole, bad, known)
        for part in _split(np.flatnonzero(usable)):
            if job.stop.is_set():
                return
            index = bad[part]
            fitted = whole.run(index, theta[part], np.full(index.size, start_known))
            better = np.flatnonzero(fitted.status == RefinementStatus.CONVERGED)
            better = better[~(fitted.rwp[better] > whole.result.rwp[index[better]])]
            whole.store(index[better], fitted.only(better))


def _without_start(
    whole: _Pass, bad: IntArray, known: npt.NDArray[np.bool_]
) -> tuple[FloatArray, npt.NDArray[np.bool_], bool]:
    return np.tile(whole.job.model.layout.start(), (bad.size, 1)), known[bad], False


def _from_neighbours(
    whole: _Pass, bad: IntArray, known: npt.NDArray[np.bool_]
) -> tuple[FloatArray, npt.NDArray[np.bool_], bool]:
    """Return the medians of the eight neighbours that converged."""
    job, result = whole.job, whole.result
    rows, columns = job.patterns.shape
    y, x = np.unravel_index(bad, job.patterns.shape)
    theta = np.tile(job.model.layout.start(), (bad.size, 1))
    usable = np.zeros(bad.size, dtype=np.bool_)
    n_linear = job.model.n_background + len(job.model.phases)
    for i in range(bad.size):
        near_y, near_x = np.mgrid[max(y[i] - 1, 0) : y[i] + 2, max(x[i] - 1, 0) : x[i] + 2]
        near = (near_y.clip(max=rows - 1) * columns + near_x.clip(max=columns - 1)).ravel()
        near = near[result.status[near] == RefinementStatus.CONVERGED]
        moved = result.theta[near, n_linear:]
        if near.size and np.isfinite(moved).all():
            usable[i] = True
            theta[i, n_linear:] = np.median(moved, axis=0)
    return theta, usable, True
