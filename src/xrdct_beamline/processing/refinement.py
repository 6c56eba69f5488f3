"""Full-pattern refinement of every voxel of a slice, compiled.

Least squares on the whole pattern with structure factors fixed, after H. M. Rietveld, J. Appl. Cryst. 2
(1969) 65; mass fractions after R. J. Hill and C. J. Howard, J. Appl. Cryst. 20 (1987) 467.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.results import RefinedMaps, RefinementStatus

from ._refine_model import PatternModel
from ._refine_run import BlockPool, Job, Patterns, Result, refine_all
from ._refine_voxel import BY_BIN, BY_MODEL, BY_VOXEL
from ._settings import default_threads
from .peak_profile import Profile

__all__ = ["BlockPool", "PatternModel", "Profile", "RefinedMaps", "RefinementStatus", "refine"]

FloatArray = npt.NDArray[np.float64]


def refine(
    slice_or_patterns: npt.ArrayLike,
    model: PatternModel,
    sigma: npt.ArrayLike | None = None,
    counts: bool = False,
    threads: int | None = None,
    start: RefinedMaps | None = None,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
    pool: BlockPool | None = None,
) -> RefinedMaps:
    """Fit the model to each pattern.

    Weights never come from the patterns themselves, whose noise would bias the fit. Numbers that are not
    finite are left out; one bad voxel never stops a map.

    Parameters
    ----------
    slice_or_patterns:
        Slice ``(y, x, bin)``, stack ``(n, bin)`` or one pattern ``(bin,)``.
    sigma:
        Standard deviations, ``(bin,)`` for all patterns alike or in the shape of the patterns; bins
        where it is not positive are left out. Without it the variance of each bin is estimated from
        residuals of some voxels, and its size from those of each.
    counts:
        The patterns are counts: their variance is the model's value (iterated, not differentiated, which
        makes the fit that of largest Poisson likelihood).
    threads:
        All cores by default.
    start:
        Maps to start from, as of the line before; voxels that converged there skip the search unless
        another cell explains the pattern clearly better.
    progress:
        Called with the voxels done and all of them, in this thread.
    stop:
        Once set, the maps are returned as they are, the rest as ``NOT_MEASURED``.
    pool:
        Other processes that fit the voxels, instead of this one's threads; the maps are the same.

    Raises
    ------
    ProcessingError
        If the shapes of patterns, sigma, start and model do not fit, or sigma and counts are both given.
    """
    patterns = Patterns(slice_or_patterns)
    n_bins = model.bins.size
    if patterns.n_bins != n_bins:
        raise ProcessingError(
            f"the patterns have {patterns.n_bins} bins, the model {n_bins}; give the model their radial axis"
        )
    if threads is not None and threads < 1:
        raise ProcessingError(f"threads = {threads}; at least 1 is needed")
    mode, deviations = _weights(patterns, sigma, counts)
    if start is not None and (start.names != model.names or start.shape != patterns.shape):
        raise ProcessingError(
            f"the maps to start from are of {', '.join(start.names)} with shape {start.shape}; the model has "
            f"{', '.join(model.names)} and the patterns {patterns.shape}"
        )
    job = Job(
        model=model,
        patterns=patterns,
        sigma=deviations,
        mode=mode,
        relative=sigma is None and not counts,
        threads=default_threads() if threads is None else threads,
        progress=progress or (lambda _done, _total: None),
        stop=stop or threading.Event(),
        pool=pool,
    )
    return _maps(model, refine_all(job, start), patterns.shape)


def _weights(patterns: Patterns, sigma: npt.ArrayLike | None, counts: bool) -> tuple[int, Patterns]:
    """Return where the weights come from, and the deviations."""
    uniform = Patterns(np.ones((1, patterns.n_bins), dtype=np.float32))
    if sigma is None:
        return (BY_MODEL if counts else BY_BIN), uniform
    if counts:
        raise ProcessingError("sigma and counts=True say two things about the noise; give one of them")
    given = np.asarray(sigma)
    if given.shape == (patterns.n_bins,):
        return BY_BIN, Patterns(given[None])
    if given.shape != (*patterns.shape, patterns.n_bins):
        raise ProcessingError(
            f"sigma has shape {given.shape}; the patterns have {(*patterns.shape, patterns.n_bins)}: "
            f"give that, or ({patterns.n_bins},) for all alike"
        )
    return BY_VOXEL, Patterns(given)


def _maps(model: PatternModel, result: Result, shape: tuple[int, ...]) -> RefinedMaps:
    """Return the parameters as maps."""
    layout, n_back = model.layout, model.n_background
    cell, cell_esd, scale, scale_esd = {}, {}, {}, {}
    for k, (phase, first) in enumerate(zip(model.phases, layout.first_cell, strict=True)):
        own = slice(first, first + phase.n_cell)
        cell[phase.name] = phase.full_cell(result.theta[:, own]).reshape(*shape, 6)
        cell_esd[phase.name] = phase.full_esd(result.esd[:, own]).reshape(*shape, 6)
        gone = np.isnan(result.theta[:, n_back + k]).reshape(shape)
        cell[phase.name][gone] = np.nan
        if phase.n_cell:
            cell[phase.name][np.isnan(cell[phase.name][..., 0])] = np.nan
        scale[phase.name] = (result.theta[:, n_back + k] / model.norms[k]).reshape(shape)
        scale_esd[phase.name] = (result.esd[:, n_back + k] / model.norms[k]).reshape(shape)
    nothing = np.full(shape, np.nan)
    return RefinedMaps(
        names=model.names,
        cell=cell,
        cell_esd=cell_esd,
        scale=scale,
        scale_esd=scale_esd,
        mass_fraction=_by_name(model, result.mass, shape),
        mass_fraction_esd=_by_name(model, result.mass_esd, shape),
        background=result.theta[:, :n_back].reshape(*shape, n_back),
        width=result.theta[:, -1].reshape(shape) if layout.width_free else nothing,
        width_esd=result.esd[:, -1].reshape(shape) if layout.width_free else nothing.copy(),
        rwp=result.rwp.reshape(shape),
        status=result.status.reshape(shape),
    )


def _by_name(model: PatternModel, values: FloatArray, shape: tuple[int, ...]) -> dict[str, Any]:
    return {name: values[:, k].reshape(shape) for k, name in enumerate(model.names)}
