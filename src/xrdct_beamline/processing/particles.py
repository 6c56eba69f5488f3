"""Particles in a map: labelled, measured, divided into shells of depth.

Labels are maps ``(y, x)`` of integers: 0 is background, 1, 2, … are particles in the order in which
their first pixels come, row by row. Positions follow the package's axes: x = column − axis_px,
y = axis_px − row, in translation steps.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import h_maxima, remove_small_holes
from skimage.segmentation import watershed

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.results import Particles

__all__ = ["depth_below_surface", "depth_shells", "foreground", "measure", "regions_of", "segment"]

FloatArray = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int32]

#: How far the deepest point of a particle lies from the nearest pixel centre, on average over a pixel.
_CENTRE_OFFSET_PX = 0.3826

#: Faces and corners: a particle that touches itself at a corner is one.
_NEIGHBOURS = np.ones((3, 3), dtype=np.bool_)


def segment(
    scale: FloatArray,
    *,
    threshold: float | None = None,
    measured: npt.NDArray[np.bool_] | None = None,
    smoothing_px: float = 0.7,
    min_size_px: int = 12,
    neck_px: float = 1.0,
) -> Labels:
    """Return the particles of a map ``(y, x)``, such as the scale of a phase: threshold, then watershed.

    Parts of a clump are told apart where the neck between them is narrower than they are by more
    than twice ``neck_px``. Seeds are the maxima of the distance to the outside.

    Parameters
    ----------
    scale:
        NaN is background, and has no say in threshold or smoothing.
    threshold:
        What a particle exceeds; Otsu's threshold of the smoothed map without. A map with one value only
        has no such threshold and no particle.
    measured:
        Pixels that count; others are background.
    smoothing_px:
        Standard deviation of the Gaussian that the map is smoothed with before the threshold; 0 for none.
    min_size_px:
        Smaller pieces are background, smaller parts of a clump go to their neighbours. Holes of fewer
        pixels are filled.
    neck_px:
        In pixels; see above.
    """
    if min_size_px < 1 or smoothing_px < 0 or neck_px <= 0:
        raise ProcessingError(
            f"particles need min_size_px ≥ 1, smoothing_px ≥ 0 and neck_px > 0, got {min_size_px}, "
            f"{smoothing_px:g} and {neck_px:g}"
        )
    inside = foreground(scale, threshold=threshold, measured=measured, smoothing_px=smoothing_px)
    # skimage counts up to and including max_size.
    filled = remove_small_holes(inside, max_size=max(0, min_size_px - 1))
    inside = np.asarray(filled & _counts(scale, measured))
    clumps, _ = ndimage.label(inside, structure=_NEIGHBOURS)
    inside = _large_enough(clumps, min_size_px) > 0
    distance = np.asarray(ndimage.distance_transform_edt(np.pad(inside, 1)))[1:-1, 1:-1]
    seeds, _ = ndimage.label(h_maxima(distance, neck_px), structure=_NEIGHBOURS)
    labels = _flood(distance, seeds, inside)
    kept = _seeds_kept(labels, clumps, min_size_px)
    if not kept.all():
        labels = _flood(distance, np.where(kept[seeds], seeds, 0), inside)
    return _in_order(labels)


def foreground(
    scale: FloatArray,
    *,
    threshold: float | None = None,
    measured: npt.NDArray[np.bool_] | None = None,
    smoothing_px: float = 0.7,
) -> npt.NDArray[np.bool_]:
    """Return which pixels of a map ``(y, x)`` exceed the threshold; arguments as in `segment`."""
    if scale.ndim != 2:
        raise ProcessingError(f"particles are found in a map (y, x), got an array of shape {scale.shape}")
    counts = _counts(scale, measured)
    if not counts.any():
        return counts
    smooth = _smoothed(scale, counts, smoothing_px)
    if threshold is None:
        values = smooth[counts]
        if values.min() == values.max():
            return np.zeros_like(counts)
        threshold = float(threshold_otsu(values))
    return counts & (smooth > threshold)


def depth_below_surface(labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """Return how far each pixel's centre lies below the surface of its particle, in pixels; 0 outside.

    Neighbours, background and the edge of the map are outside of a particle: in contact, both have a
    surface there.
    """
    depth = np.zeros(labels.shape)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        inside = labels[box] == label
        distance = np.asarray(ndimage.distance_transform_edt(np.pad(inside, 1)))[1:-1, 1:-1]
        # The outermost pixels are 1 from the nearest centre outside; the surface is half-way.
        depth[box][inside] = distance[inside] - 0.5
    return depth


def depth_shells(
    labels: npt.NDArray[np.integer[Any]], n_shells: int = 4, *, by: Literal["depth", "area"] = "depth"
) -> Labels:
    """Return the shell of each pixel: 1 at the surface to ``n_shells`` in the core, 0 in the background.

    Each particle is divided for itself, by the distance to its surface. The shells of one that is
    smaller than ``n_shells`` pixels deep may be empty.

    Parameters
    ----------
    labels:
        From `segment`, ``(y, x)``.
    by:
        "depth": equal steps from the surface to the deepest point. "area": the same number of
        pixels in each, as far as pixels of the same depth stay together.
    """
    if n_shells < 1:
        raise ProcessingError(f"{n_shells} shells cannot be made; take at least 1 (the paper takes 4)")
    depth = depth_below_surface(labels)
    shells = np.zeros(labels.shape, dtype=np.int32)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        inside = labels[box] == label
        own = depth[box][inside]
        deepest = own.max() + _CENTRE_OFFSET_PX
        share = own / deepest if by == "depth" else _middle_rank(own) / own.size
        shells[box][inside] = np.minimum(np.floor(share * n_shells).astype(np.int32), n_shells - 1) + 1
    return shells


def regions_of(labels: npt.NDArray[np.integer[Any]], shells: npt.NDArray[np.integer[Any]]) -> Labels:
    """Return one label per particle and shell: (particle − 1) · n + shell, 0 outside; n is the highest shell.

    For one particle alone this is its shells: ``regions_of(labels == 7, shells)``.
    """
    if labels.shape != shells.shape:
        raise ProcessingError(f"labels of shape {labels.shape} and shells of {shells.shape} do not match")
    particles = labels.astype(np.int32)
    inside = (particles > 0) & (shells > 0)
    return np.where(inside, (particles - 1) * int(shells.max(initial=1)) + shells, 0).astype(np.int32)


def measure(
    labels: npt.NDArray[np.integer[Any]],
    *,
    axis_px: float | None = None,
    step_mm: float = 1.0,
    a_A: FloatArray | None = None,
    a_esd_A: FloatArray | None = None,
    scale: FloatArray | None = None,
    width: FloatArray | None = None,
) -> Particles:
    """Return the properties of each particle: size, place, and means of the maps given.

    Parameters
    ----------
    labels:
        ``(y, x)``, 0 for background.
    axis_px, step_mm:
        Column of the rotation axis (the middle of the map by default) and edge of a pixel.
    a_A, a_esd_A:
        Lattice parameter and its esd per pixel; NaN where there is none. The mean is weighted by
        1/esd² where esds are given. Its esd adds the pixels as if they were independent; in a slice from
        filtered back-projection neighbours are anti-correlated, and the esd is an upper bound.
    scale, width:
        Their means and, from the scatter of the pixels, the esds of the means.
    """
    index = np.unique(labels[labels > 0])
    n = max(labels.shape)
    axis = (n - 1) / 2 if axis_px is None else axis_px
    area = np.bincount(labels.ravel(), minlength=int(index.max(initial=0)) + 1)[index]
    rows, columns = _centroids(labels, index)
    a, a_esd, a_spread = _weighted_means(labels, index, a_A, a_esd_A)
    scale_mean, scale_esd, _ = _weighted_means(labels, index, scale, None)
    width_mean, width_esd, _ = _weighted_means(labels, index, width, None)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    return Particles(
        label=index.astype(np.int64),
        area_mm2=area.astype(np.float64) * step_mm**2,
        n_pixels=area.astype(np.int64),
        x_mm=(columns - axis) * step_mm,
        y_mm=(axis - rows) * step_mm,
        radius_mm=np.sqrt(area / np.pi) * step_mm,
        touches_edge=np.isin(index, edge),
        a_A=a,
        a_esd_A=a_esd,
        a_spread_A=a_spread,
        scale=scale_mean,
        scale_esd=scale_esd,
        width=width_mean,
        width_esd=width_esd,
    )


def _counts(scale: FloatArray, measured: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
    finite = np.isfinite(scale)
    if measured is None:
        return finite
    if measured.shape != scale.shape:
        raise ProcessingError(f"the mask has shape {measured.shape}, the map {scale.shape}; they must match")
    return finite & measured


def _smoothed(scale: FloatArray, counts: npt.NDArray[np.bool_], smoothing_px: float) -> FloatArray:
    """Return the map smoothed over the pixels that count: what is unmeasured pulls no edge."""
    if smoothing_px == 0:
        return scale
    known = np.where(counts, scale, 0.0).astype(np.float64)
    weight = ndimage.gaussian_filter(counts.astype(np.float64), smoothing_px)
    smooth = ndimage.gaussian_filter(known, smoothing_px)
    return np.divide(smooth, weight, out=np.zeros_like(smooth), where=weight > 1e-6)


def _flood(
    distance: FloatArray, seeds: npt.NDArray[np.integer[Any]], inside: npt.NDArray[np.bool_]
) -> npt.NDArray[np.integer[Any]]:
    return np.asarray(watershed(-distance, seeds, mask=inside, connectivity=2))


def _large_enough(labels: npt.NDArray[np.integer[Any]], min_size_px: int) -> npt.NDArray[np.integer[Any]]:
    return np.where(np.bincount(labels.ravel())[labels] >= min_size_px, labels, 0)


def _seeds_kept(
    labels: npt.NDArray[np.integer[Any]], clumps: npt.NDArray[np.integer[Any]], min_size_px: int
) -> npt.NDArray[np.bool_]:
    """Return which parts are large enough, or the largest of their clump; by label."""
    size = np.bincount(labels.ravel())
    found, first = np.unique(labels, return_index=True)
    clump = np.zeros(size.size, dtype=np.int64)
    clump[found] = clumps.ravel()[first]
    largest = np.zeros(clumps.max(initial=0) + 1, dtype=np.int64)
    by_size = np.argsort(size, kind="stable")
    largest[clump[by_size]] = by_size  # the last one written is the largest
    kept = size >= min_size_px
    kept[largest] = True
    kept[0] = True
    return np.asarray(kept)


def _in_order(labels: npt.NDArray[np.integer[Any]]) -> Labels:
    """Return the labels numbered in the order of their first pixels."""
    found, first = np.unique(labels, return_index=True)
    first[found == 0] = -1
    new = np.empty(found.size, dtype=np.int32)
    new[np.argsort(first)] = np.arange(found.size) + (0 if (found == 0).any() else 1)
    return np.asarray(new[np.searchsorted(found, labels)], dtype=np.int32)


def _middle_rank(values: FloatArray) -> npt.NDArray[np.float64]:
    """Return the rank of each value; equal ones share the middle of theirs."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - count / 2.0)[inverse]


def _centroids(
    labels: npt.NDArray[np.integer[Any]], index: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if not index.size:
        return np.zeros(0), np.zeros(0)
    centres = np.asarray(ndimage.center_of_mass(labels > 0, labels, index), dtype=np.float64)
    return centres[:, 0], centres[:, 1]


def _weighted_means(
    labels: npt.NDArray[np.integer[Any]],
    index: npt.NDArray[np.integer[Any]],
    values: FloatArray | None,
    esd: FloatArray | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return mean, its esd and the standard deviation over the pixels of each particle; NaN for none."""
    nothing = np.full(index.size, np.nan)
    if values is None:
        return nothing, nothing.copy(), nothing.copy()
    weight = np.ones(values.shape) if esd is None else 1.0 / np.square(esd, dtype=np.float64)
    good = (labels > 0) & np.isfinite(values) & np.isfinite(weight) & (weight > 0)
    where, w, v = labels[good], weight[good], values[good].astype(np.float64)
    length = int(index.max(initial=0)) + 1
    total = np.bincount(where, w, length)[index]
    count = np.bincount(where, minlength=length)[index]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(where, w * v, length)[index] / total
        full = np.full(length, np.nan)
        full[index] = mean
        spread = np.sqrt(np.bincount(where, w * (v - full[where]) ** 2, length)[index] / total)
        esd_of_mean = spread / np.sqrt(count) if esd is None else 1.0 / np.sqrt(total)
    lacking = count == 0
    return (
        np.where(lacking, np.nan, mean),
        np.where(lacking, np.nan, esd_of_mean),
        np.where(lacking, np.nan, spread),
    )
