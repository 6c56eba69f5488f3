"""Chords through a region of interest, as its own scan and as an outer scan see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from xrdct_beamline.domain.scan import ScanGeometry

from ._outside import Outer, OutsideProjector

__all__ = ["ChordFigure", "OuterRays", "chord_sums", "compare_chords"]

FloatArray = npt.NDArray[np.float64]

#: A line whose chords differ from the region's by more than this, relative to the others', is bad;
#: never less than five robust standard deviations of all lines.
BAD_LINE_SHARE = 0.3
BAD_LINE_SIGMAS = 5.0
#: Lags looked at, in steps of the outer scan either way.
LARGEST_LAG_STEPS = 1.5
#: Lags that are still in place, in steps of the outer scan; never below so many of the region's.
LAG_IN_PLACE_STEPS = 0.25
SMALLEST_LAG_STEPS = 2.0
#: A better correlation elsewhere counts if it is so many standard deviations (Fisher's z) better.
SHIFT_SIGMAS = 4.0


@dataclass(frozen=True, slots=True)
class ChordFigure:
    """How the chords of an outer scan compare with the region's.

    Parameters
    ----------
    slope, slope_sigma:
        Outer chords per region chord, by total least squares through the origin; 1 is right.
    lag_mm:
        Where the region's scan sees what the outer scan sees, in translation; 0 is right.
    correlation:
        Of the chords at that lag, the mean over angles of each ray taken off.
    is_shifted:
        Whether that lag is too large, and told from one in place beyond the noise.
    missing_share:
        Lines of the outer scan that are missing, or off by more than 30 %.
    n_rays:
        Rays compared.
    """

    slope: float
    slope_sigma: float
    lag_mm: float
    correlation: float
    is_shifted: bool
    missing_share: float
    n_rays: int


@dataclass(frozen=True, slots=True, eq=False)
class OuterRays:
    """The rays of an outer scan, summed over channels, on the region's scale.

    Parameters
    ----------
    geometry, axis_px:
        Where they were.
    chords:
        ``(rotation, translation)``; NaN where nothing was measured.
    are_projected:
        Whether they were computed from slices, for want of the sinogram.
    """

    geometry: ScanGeometry
    axis_px: float
    chords: FloatArray
    are_projected: bool = False

    @classmethod
    def of(cls, outers: Sequence[Outer]) -> OuterRays:
        """Return the rays of the last of some nested outer scans.

        With its sinogram they are the measured ones; without, the projection of its slice and of
        those around it.
        """
        outer = outers[-1]
        if outer.sinogram is not None:
            return cls(outer.geometry, outer.axis_px, outer.scale * chord_sums(outer.sinogram))
        columns = np.arange(outer.geometry.shape[1], dtype=np.float64)
        t_mm = (columns - outer.axis_px) * outer.geometry.step_mm
        projector = OutsideProjector(outers, t_mm, 0.0)
        lines = [projector.line(angle).sum(axis=1, dtype=np.float64) for angle in outer.geometry.rotation_deg]
        return cls(outer.geometry, outer.axis_px, np.stack(lines), are_projected=True)


def chord_sums(sinogram: npt.NDArray[np.floating[Any]]) -> FloatArray:
    """Return the sum over the last axis, the channels; NaN where nothing was measured."""
    total: FloatArray = np.nansum(sinogram, axis=-1, dtype=np.float64)
    return np.where(np.isfinite(sinogram).any(axis=-1), total, np.nan)


def compare_chords(
    roi_chords: FloatArray, roi_geometry: ScanGeometry, roi_axis_px: float, rays: OuterRays
) -> ChordFigure:
    """Compare the rays of an outer scan with the region's chords ``(rotation, translation)``.

    Lines that the region lacks are not compared. Where the outer rays are projected, the region's
    chords are blurred to the resolution of the outer pixels.
    """
    step_mm = rays.geometry.step_mm
    t_mm = (np.arange(rays.geometry.shape[1]) - rays.axis_px) * step_mm
    roi_t_mm = (np.arange(roi_geometry.shape[1]) - roi_axis_px) * roi_geometry.step_mm
    margin_mm = min(LARGEST_LAG_STEPS * step_mm, 0.5 * roi_t_mm[-1])
    within = (t_mm >= roi_t_mm[0] + margin_mm) & (t_mm <= roi_t_mm[-1] - margin_mm)
    if rays.are_projected:
        blur_steps = 0.5 * step_mm / roi_geometry.step_mm
        roi_chords = gaussian_filter1d(roi_chords, blur_steps, axis=1, mode="nearest")
    angles, matching = _at_angles(roi_chords, roi_geometry, rays.geometry)
    chords = rays.chords[angles][:, within]
    lags_mm = np.arange(-margin_mm, margin_mm + 1e-9, roi_geometry.step_mm)
    places = (t_mm[within][:, np.newaxis] + lags_mm - roi_t_mm[0]) / roi_geometry.step_mm
    columns = np.clip(places, 0, roi_t_mm.size - 1)
    below = np.minimum(columns.astype(int), roi_t_mm.size - 2)
    part = columns - below
    seen = (1 - part) * matching[:, below] + part * matching[:, below + 1]  # (rotation, ray, lag)
    in_place_mm = max(LAG_IN_PLACE_STEPS * step_mm, SMALLEST_LAG_STEPS * roi_geometry.step_mm)
    return _figure(chords, seen, lags_mm, in_place_mm, _share_of_gaps(rays.geometry))


def _share_of_gaps(geometry: ScanGeometry) -> float:
    """Return the share of lines that the angles of a half turn skip."""
    angles = np.asarray(geometry.rotation_deg)
    gaps = np.diff(angles, append=max(angles[0] + 180.0, angles[-1]))
    steps = np.round(gaps / np.median(gaps))
    return float(1 - angles.size / max(steps.sum(), angles.size))


def _at_angles(
    roi_chords: FloatArray, roi_geometry: ScanGeometry, outer_geometry: ScanGeometry
) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Return the outer lines where the region has one, and the region's chords at their angles."""
    roi_deg = np.asarray(roi_geometry.rotation_deg)
    outer_deg = np.asarray(outer_geometry.rotation_deg)
    shared = np.flatnonzero((outer_deg >= roi_deg[0] - 1e-9) & (outer_deg <= roi_deg[-1] + 1e-9))
    after = np.clip(np.searchsorted(roi_deg, outer_deg[shared]), 1, roi_deg.size - 1)
    u = (outer_deg[shared] - roi_deg[after - 1]) / (roi_deg[after] - roi_deg[after - 1])
    nearer = np.where(u < 0.5, after - 1, after)  # a mean of two rays would blur what they cross
    there = np.isfinite(roi_chords[nearer]).any(axis=1)
    return shared[there], roi_chords[nearer[there]]


def _figure(
    chords: FloatArray, seen: FloatArray, lags_mm: FloatArray, in_place_mm: float, gaps: float
) -> ChordFigure:
    """Return the figure of outer chords ``(rotation, ray)`` and the region's ``(rotation, ray, lag)``."""
    with_data = np.isfinite(chords) & np.isfinite(seen).all(axis=2)
    good_line = _good_lines(chords, seen[:, :, seen.shape[2] // 2], with_data)
    used = with_data & good_line[:, np.newaxis]
    n_rays = int(used.sum())
    if n_rays < 8:
        return ChordFigure(np.nan, np.nan, np.nan, np.nan, False, 1.0, n_rays)
    correlation = _correlations(chords, seen, used)
    best = int(np.argmax(correlation))
    lag_mm = float(lags_mm[best])
    if 0 < best < lags_mm.size - 1:
        before, peak, after = correlation[best - 1 : best + 2]
        curvature = before - 2 * peak + after
        lag_mm += 0.5 * float(before - after) / float(curvature) * float(lags_mm[1] - lags_mm[0])
    in_place = float(correlation[np.abs(lags_mm) <= in_place_mm].max())
    gain = np.arctanh(min(float(correlation[best]), 0.999)) - np.arctanh(np.clip(in_place, -0.999, 0.999))
    slope, slope_sigma = _slope(seen[:, :, best][used], chords[used])
    return ChordFigure(
        slope=slope,
        slope_sigma=slope_sigma,
        lag_mm=lag_mm,
        correlation=float(correlation[best]),
        is_shifted=bool(abs(lag_mm) > in_place_mm and gain > SHIFT_SIGMAS / np.sqrt(n_rays)),
        missing_share=1 - float(good_line.mean()) * (1 - gaps),
        n_rays=n_rays,
    )


def _good_lines(
    chords: FloatArray, seen: FloatArray, with_data: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return which lines hold data that are about as strong as the region's."""
    measured = np.flatnonzero(with_data.any(axis=1))
    good = np.zeros(len(chords), dtype=np.bool_)
    if not measured.size:
        return good
    outer = np.where(with_data, chords, 0)[measured].sum(axis=1)
    region = np.where(with_data, seen, 0)[measured].sum(axis=1)
    ratio = np.divide(outer, region, out=np.zeros_like(outer), where=region > 0)
    typical = float(np.median(ratio))
    spread = 1.4826 * float(np.median(np.abs(ratio - typical)))
    limit = max(BAD_LINE_SHARE * abs(typical), BAD_LINE_SIGMAS * spread)
    good[measured] = np.abs(ratio - typical) <= limit
    return good


def _correlations(chords: FloatArray, seen: FloatArray, used: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the correlation of the chords at each lag, the mean over angle of each ray taken off."""
    count = np.maximum(used.sum(axis=0), 1)
    a = np.where(used, chords, 0)
    a = np.where(used, a - a.sum(axis=0) / count, 0)
    b = np.where(used[:, :, np.newaxis], seen, 0)
    b = np.where(used[:, :, np.newaxis], b - b.sum(axis=0) / count[:, np.newaxis], 0)
    norm = np.sqrt(np.square(a).sum() * np.square(b).sum(axis=(0, 1)))
    return np.divide(
        (a[:, :, np.newaxis] * b).sum(axis=(0, 1)), norm, out=np.zeros_like(norm), where=norm > 0
    )


def _slope(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Return the slope of y = slope·x and its sigma, by total least squares: both have noise."""
    xx, xy, yy = x @ x, x @ y, y @ y
    if not xy:
        return np.nan, np.nan
    slope = float((yy - xx + np.hypot(yy - xx, 2 * xy)) / (2 * xy))
    residual = y - slope * x
    return slope, float(np.sqrt(residual @ residual / max(1, x.size - 1) / xx))
