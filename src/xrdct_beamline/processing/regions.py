"""Patterns of regions of a slice, straight from the sinogram, with the region's own sigma.

The noise of neighbouring pixels is anti-correlated in a slice from filtered back-projection, so the
sigma of a sum is not the root of summed variances. Both the sum and its variance are sums over the
rays, with the weights with which each ray enters the region.

What the finite resolution carries from one region into another can be taken out: the mean
patterns measured are the true ones mixed by a small matrix, which is inverted (geometric transfer
matrix; Rousset, Ma & Evans, J. Nucl. Med. 39 (1998) 904). The noise is then that of the mixture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.results import RegionPatterns

from ._angles import angle_weights
from ._filters import check_filter
from ._projector import LineProjector, OutputField
from .sinogram import fill_holes, measured_bins

__all__ = ["blur_fwhm_px", "region_patterns", "transfer_matrix"]

FloatArray = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]

#: Half a Gaussian's width at half maximum over its standard deviation, twice: FWHM = 2.3548 σ.
FWHM_TO_SIGMA = 1.0 / 2.3548200450309493

#: What each filter, with pixels of one step, blurs by itself: the FWHM that unmixes concentric shells of a
#: phantom of thin rays best (`tests/processing/test_regions.py`).
RECONSTRUCTION_FWHM_PX = {"ramp": 1.08, "shepp-logan": 1.21, "cosine": 1.5, "hann": 1.86}

#: How many σ of the blur around the regions the outside can still reach them.
REACH_SIGMA = 4.0

#: Beyond this condition number shells are too thin for the blur, and unmixing only makes noise.
WORST_CONDITION = 50.0


def region_patterns(
    sinogram: FloatArray,
    labels: Labels,
    *,
    rotation_deg: npt.ArrayLike,
    axis_px: float,
    sigma: FloatArray | None = None,
    blur_px: float | None = None,
    filter_name: str = "ramp",
    field: OutputField | None = None,
    image: FloatArray | None = None,
) -> RegionPatterns:
    """Return the mean pattern of each region of a slice, as `IncrementalFBP.region` over its size.

    Parameters
    ----------
    sinogram, sigma:
        ``(rotation, translation, bin)``, holes and lines that were not measured included as NaN.
    labels:
        Region of each pixel ``(y, x)``; 0 for none.
    rotation_deg:
        The planned angles, one per line.
    axis_px, filter_name, field:
        As in `IncrementalFBP`.
    blur_px:
        FWHM of the slice's resolution (`blur_fwhm_px`). With it, what regions and their surroundings
        exchange is taken out; the price is a larger sigma. What bleeds into a region of interest needs a
        label of its own, or is taken as the same all around.
    image:
        Slice ``(y, x, bin)`` that the means are taken from, where it is not the sinogram's own: one that
        was freed from what lies outside of a region of interest. Sigma stays that of the rays.

    Raises
    ------
    ProcessingError
        If labels and slice do not fit, nothing was measured, or the regions are too thin to unmix.
    """
    _check(sinogram, sigma, rotation_deg)
    n_bins = sinogram.shape[2]
    projector = LineProjector(sinogram.shape[1], axis_px, filter_name=filter_name, field=field)
    if labels.shape != projector.field.shape:
        raise ProcessingError(f"labels have shape {labels.shape}, the slice {projector.field.shape}")
    names, sizes, regions, mixing = _regions(labels, blur_px)
    weight = angle_weights(rotation_deg)
    measured = measured_bins(sinogram)
    covered = weight @ measured
    total = np.zeros((names.size, n_bins))
    variance = np.zeros_like(total)
    covariance = np.zeros((names.size, names.size))
    for index in np.flatnonzero(measured.any(axis=1)):
        angle = float(np.asarray(rotation_deg, dtype=np.float64)[index])
        gain = weight[index] * (mixing @ projector.region_gains(regions, mixing.shape[1], angle))
        if image is None:
            total += gain @ fill_holes(sinogram[index])
        if sigma is not None:
            line_variance = fill_holes(np.square(sigma[index]))
            variance += np.square(gain) @ line_variance
            covariance += (gain * line_variance.mean(axis=1, dtype=np.float64)) @ gain.T
    scale = np.divide(np.pi, covered, out=np.full(n_bins, np.nan), where=covered > 0)
    total = total * scale if image is None else mixing @ _sums(image, regions, mixing.shape[1])
    return RegionPatterns(
        label=names,
        n_pixels=sizes,
        intensity=total,
        sigma=None if sigma is None else np.sqrt(variance) * scale,
        correlation=None if sigma is None else _correlation(covariance),
    )


def blur_fwhm_px(beam_fwhm_px: float, filter_name: str = "ramp") -> float:
    """Return the FWHM of the resolution of a slice, in steps, from that of the beam.

    Right to 0.1 steps for beams of up to 2 steps; one shaped like a box of one step counts as 0.68. What
    the sample travels during an exposure belongs to the beam's width.
    """
    if not beam_fwhm_px >= 0:
        raise ProcessingError(f"the beam is {beam_fwhm_px:g} steps wide; it cannot be negative")
    check_filter(filter_name)
    return float(np.hypot(RECONSTRUCTION_FWHM_PX[filter_name], 0.9 * beam_fwhm_px))


def transfer_matrix(labels: Labels, blur_px: float) -> npt.NDArray[np.float64]:
    """Return how the blur mixes the means of regions: measured = matrix · true.

    ``(region, region)``: for each label in ascending order, then the outside within reach, in both
    axes. The resolution is taken as Gaussian. Rows sum to 1, but for what the edge of the map cuts.
    """
    if not blur_px >= 0:
        raise ProcessingError(f"the blur is {blur_px:g} pixels wide; it cannot be negative")
    sigma_px = blur_px * FWHM_TO_SIGMA
    names = np.unique(labels[labels > 0])
    surroundings = _surroundings(labels, sigma_px)
    index = np.searchsorted(names, labels).astype(np.int64)
    index[labels <= 0] = -1
    index[surroundings] = names.size
    n = names.size + 1
    sizes = np.bincount(index[index >= 0], minlength=n)
    matrix = np.eye(n)
    for j in range(n):
        if sizes[j] and sigma_px > 0:
            spread = ndimage.gaussian_filter((index == j).astype(np.float64), sigma_px, mode="constant")
            sums = np.bincount(index[index >= 0], spread[index >= 0], n)
            matrix[:, j] = np.divide(sums, sizes, out=np.zeros(n), where=sizes > 0)
    return matrix


def _check(sinogram: FloatArray, sigma: FloatArray | None, rotation_deg: npt.ArrayLike) -> None:
    if sinogram.ndim != 3 or len(sinogram) != np.size(rotation_deg):
        raise ProcessingError(
            f"a sinogram of shape {sinogram.shape} does not fit {np.size(rotation_deg)} angles; its axes are "
            "(rotation, translation, bin)"
        )
    if sigma is not None and sigma.shape != sinogram.shape:
        raise ProcessingError(f"the sigma has shape {sigma.shape}, the sinogram {sinogram.shape}")
    if not np.isfinite(sinogram).any():
        raise ProcessingError("the sinogram holds nothing that was measured; wait for its first line")


def _regions(
    labels: Labels, blur_px: float | None
) -> tuple[
    npt.NDArray[np.int64],
    npt.NDArray[np.float64],
    npt.NDArray[np.int64],
    npt.NDArray[np.float64],
]:
    """Return names and sizes of the regions, the region of each pixel, and what makes means of sums."""
    names = np.unique(labels[labels > 0]).astype(np.int64)
    if not names.size:
        raise ProcessingError("the map of labels holds no region; lower the threshold of the particles")
    regions = np.searchsorted(names, labels).astype(np.int64)
    regions[labels <= 0] = -1
    sizes = np.bincount(regions[regions >= 0]).astype(np.float64)
    if blur_px is None:
        return names, sizes, regions, np.diag(1.0 / sizes)
    matrix = transfer_matrix(labels, blur_px)
    outside = _surroundings(labels, blur_px * FWHM_TO_SIGMA)
    regions[outside] = names.size
    condition = float(np.linalg.cond(matrix))
    if condition > WORST_CONDITION:
        raise ProcessingError(
            f"a blur of {blur_px:g} pixels mixes the regions beyond recovery (condition {condition:.0f}, "
            f"at most {WORST_CONDITION:.0f}); make fewer or thicker shells"
        )
    all_sizes = np.append(sizes, float(max(1, int(np.count_nonzero(outside)))))
    return names, sizes, regions, np.linalg.inv(matrix)[: names.size] / all_sizes


def _sums(image: FloatArray, regions: npt.NDArray[np.int64], n_regions: int) -> npt.NDArray[np.float64]:
    """Return the sum of a slice over each region, ``(region, bin)``."""
    if image.shape[:2] != regions.shape:
        raise ProcessingError(f"the slice has shape {image.shape}, the labels {regions.shape}")
    sums = np.zeros((n_regions, image.shape[2]))
    for row, line in zip(regions, image, strict=True):  # a row at a time: a copy of the slice is 0.5 GB
        inside = row >= 0
        np.add.at(sums, row[inside], line[inside].astype(np.float64))
    return sums


def _surroundings(labels: Labels, sigma_px: float) -> npt.NDArray[np.bool_]:
    """Return the pixels outside of all regions from which the blur reaches into one."""
    outside = labels <= 0
    if not outside.any() or outside.all():
        return np.zeros_like(outside)
    near = np.asarray(ndimage.distance_transform_edt(outside)) <= max(1.0, REACH_SIGMA * sigma_px)
    return outside & near


def _correlation(covariance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    width = np.sqrt(np.diag(covariance))
    product = np.outer(width, width)
    return np.divide(covariance, product, out=np.eye(len(width)), where=product > 0)
