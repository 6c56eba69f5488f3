"""Histograms of lattice parameters: per slice and per particle, with the range that is watched."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.results import LatticeHistogram

__all__ = ["EDGES_A", "NON_CHARACTERISTIC_A", "lattice_histogram", "particle_histograms"]

FloatArray = npt.NDArray[np.floating[Any]]

#: Lattice parameters that pure spinel LixMn2O4 skips: its first two-phase reaction leads from one to
#: the other (Finegan et al., Nat. Commun. 11 (2020) 631, figure 2b).
NON_CHARACTERISTIC_A = (8.076, 8.145)

#: From λ-MnO2 (8.03 Å) to LiMn2O4 (8.25 Å), in steps of 2.5 mÅ, with room on both sides.
EDGES_A = np.linspace(8.0, 8.3, 121)


def lattice_histogram(
    a_A: FloatArray,
    *,
    a_esd_A: FloatArray | None = None,
    scale: FloatArray | None = None,
    where: npt.NDArray[np.bool_] | None = None,
    edges_A: npt.ArrayLike = EDGES_A,
    window_A: tuple[float, float] = NON_CHARACTERISTIC_A,
) -> LatticeHistogram:
    """Return the histogram of a map ``(y, x)``, or of any array, of lattice parameters.

    NaN is left out. The esd of the fraction within the window tells how far the noise of the
    voxels can carry them across its limits; it knows nothing of systematic errors.

    Parameters
    ----------
    a_esd_A, scale:
        Of each voxel: weights of ``by_precision`` (1/esd²) and ``by_scale``. Negative scales count as 0.
    where:
        The voxels that count, such as those that converged.
    edges_A:
        Of the bins; each includes its lower edge, the last one both.
    window_A:
        Lower and upper limit, both included.
    """
    edges = _checked(edges_A, window_A)
    good = np.isfinite(a_A) if where is None else np.isfinite(a_A) & _same_shape(where, a_A, "mask")
    a = a_A[good].astype(np.float64)
    esd = None if a_esd_A is None else _same_shape(a_esd_A, a_A, "esd")[good].astype(np.float64)
    weight = None if scale is None else np.maximum(np.nan_to_num(_same_shape(scale, a_A, "scale")[good]), 0.0)
    precision = None if esd is None else _precision(esd)
    counts, _ = np.histogram(a, edges)
    inside = (a >= window_A[0]) & (a <= window_A[1])
    return LatticeHistogram(
        edges_A=edges,
        counts=counts.astype(np.int64),
        by_scale=_weighted(a, weight, edges),
        by_precision=_weighted(a, precision, edges),
        below=int((a < edges[0]).sum()),
        above=int((a > edges[-1]).sum()),
        window_A=(float(window_A[0]), float(window_A[1])),
        fraction=_share(inside, np.ones(a.size)),
        fraction_esd=np.nan if esd is None else _share_esd(a, esd, window_A),
        fraction_by_scale=np.nan if weight is None else _share(inside, weight),
        fraction_by_precision=np.nan if precision is None else _share(inside, precision),
    )


def particle_histograms(
    labels: npt.NDArray[np.integer[Any]],
    a_A: FloatArray,
    *,
    a_esd_A: FloatArray | None = None,
    scale: FloatArray | None = None,
    where: npt.NDArray[np.bool_] | None = None,
    edges_A: npt.ArrayLike = EDGES_A,
    window_A: tuple[float, float] = NON_CHARACTERISTIC_A,
) -> dict[int, LatticeHistogram]:
    """Return the histogram of each particle of a map of labels, by label; arguments as above."""
    inside = _same_shape(labels, a_A, "map of labels") > 0
    order = np.argsort(labels[inside], kind="stable")
    found, first = np.unique(labels[inside][order], return_index=True)

    def parts(values: FloatArray | npt.NDArray[np.bool_] | None) -> list[Any]:
        if values is None:
            return [None] * found.size
        return np.split(_same_shape(values, a_A, "map")[inside][order], first[1:])

    rows = zip(parts(a_A), parts(a_esd_A), parts(scale), parts(where), strict=True)
    return {
        int(label): lattice_histogram(
            a, a_esd_A=esd, scale=weight, where=good, edges_A=edges_A, window_A=window_A
        )
        for label, (a, esd, weight, good) in zip(found, rows, strict=False)
    }


def _checked(edges_A: npt.ArrayLike, window_A: tuple[float, float]) -> npt.NDArray[np.float64]:
    edges = np.asarray(edges_A, dtype=np.float64)
    if edges.ndim != 1 or edges.size < 2 or not (np.diff(edges) > 0).all():
        raise ProcessingError("the edges of a histogram must be at least two, and ascend")
    if not window_A[0] < window_A[1]:
        raise ProcessingError(
            f"the window from {window_A[0]:g} to {window_A[1]:g} Å is empty; give the lower limit first"
        )
    return edges


def _same_shape(values: npt.NDArray[Any], a_A: FloatArray, what: str) -> npt.NDArray[Any]:
    if values.shape != a_A.shape:
        raise ProcessingError(
            f"the {what} has shape {values.shape}, the lattice parameters {a_A.shape}; they must match"
        )
    return values


def _precision(esd: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    known = np.isfinite(esd) & (esd > 0)
    return np.divide(1.0, np.square(esd), out=np.zeros_like(esd), where=known)


def _weighted(
    a: npt.NDArray[np.float64], weight: npt.NDArray[np.float64] | None, edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    if weight is None:
        return np.full(edges.size - 1, np.nan)
    return np.histogram(a, edges, weights=weight)[0]


def _share(inside: npt.NDArray[np.bool_], weight: npt.NDArray[np.float64]) -> float:
    total = float(weight.sum())
    return float(weight[inside].sum()) / total if total > 0 else np.nan


def _share_esd(
    a: npt.NDArray[np.float64], esd: npt.NDArray[np.float64], window_A: tuple[float, float]
) -> float:
    """Return the esd of the share: each voxel is inside with a probability p, and adds p (1 − p)."""
    known = np.isfinite(esd) & (esd > 0)
    if not known.any():
        return np.nan
    low, high = ((limit - a[known]) / esd[known] for limit in window_A)
    p = ndtr(high) - ndtr(low)
    return float(np.sqrt((p * (1.0 - p)).sum()) / known.sum())
