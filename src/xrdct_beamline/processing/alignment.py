"""Where the rotation axis is, and how well the lines of a sinogram fit each other.

Two estimators that share no assumption: the mirror (a projection half a turn later is the same one
reversed) looks at two directions only; the second one looks at all: the centre of mass of a sample
that lies within the field runs along a sine around the axis, and where the sample sticks out, the
reconstruction is sharpest at the right axis: it has the least total variation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize_scalar

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.results import AxisEstimate

from ._angles import check_angles
from ._batch import filtered_back_projection
from .sinogram import fill_holes, without_bad_lines

__all__ = ["Estimate", "find_axis", "from_centre_of_mass", "from_mirror", "from_sharpness"]

FloatArray = npt.NDArray[np.float64]

#: Share of the translations that both halves must keep in common about a candidate axis.
SMALLEST_OVERLAP = 0.4
#: Outermost share of the translations at each end that must be empty for a centre of mass.
EDGE_SHARE = 0.03
#: Edge level and change of mass over the angles above which the sample is not within the field.
LARGEST_EDGE = 0.03
LARGEST_MASS_CHANGE = 0.03
#: Standard deviation of the smoothing before lines are shifted against each other.
SMOOTHING_PX = 1.5
#: Standard deviation of the sharpest axis of less than half a turn.
WEDGE_SIGMA_PX = 0.5
#: Estimators agree within this, or within three joint standard deviations.
AGREEMENT_PX = 0.25


@dataclass(frozen=True, slots=True)
class Estimate:
    """One estimator's answer: the axis and its standard deviation, in pixels."""

    axis_px: float
    sigma_px: float


def find_axis(sinogram: npt.NDArray[np.floating[Any]], rotation_deg: npt.ArrayLike) -> AxisEstimate:
    """Return the column of the rotation axis of a sinogram ``(rotation, translation[, bin])``.

    Works on half a turn with or without its end, on a whole turn, and on any order of lines; lines
    that are NaN as a whole are left out. Of less than half a turn the mirror says nothing: the centre
    of mass and the sharpness answer then. The answer is the mean of two independent estimators by
    their precision; ``agrees`` says whether they do within 0.25 px or three standard deviations, and
    the uncertainty is at least half their difference. A single estimator agrees with nobody.

    Raises
    ------
    ProcessingError
        If there are fewer than 8 lines or translations.
    """
    profiles, angles = channel_mean(sinogram, rotation_deg)
    estimates = []
    if reaches_half_turn(angles):
        estimates.append(from_mirror(profiles, angles))
    if is_within_field(profiles):
        estimates.append(from_centre_of_mass(profiles, angles))
    if len(estimates) < 2:
        near_px = estimates[0].axis_px if estimates else (profiles.shape[1] - 1) / 2
        reach_px = 4.0 if estimates else 0.1 * profiles.shape[1]
        estimates.append(from_sharpness(profiles, angles, near_px=near_px, reach_px=reach_px))
    return _combined(estimates)


def _combined(estimates: list[Estimate]) -> AxisEstimate:
    axes = np.array([e.axis_px for e in estimates])
    sigmas = np.array([e.sigma_px for e in estimates])
    weights = sigmas**-2.0
    difference = float(np.ptp(axes))
    joint = float(np.hypot.reduce(sigmas))
    return AxisEstimate(
        axis_px=float(np.average(axes, weights=weights)),
        uncertainty_px=max(float(weights.sum() ** -0.5), difference / 2),
        agrees=len(estimates) > 1 and difference <= max(AGREEMENT_PX, 3 * joint),
    )


def reaches_half_turn(rotation_deg: FloatArray) -> bool:
    """Whether ascending angles reach half a turn within one and a half steps."""
    step = float(np.median(np.diff(rotation_deg)))
    return bool(rotation_deg[0] + 180.0 - rotation_deg[-1] <= 1.5 * step)


def channel_mean(
    sinogram: npt.NDArray[np.floating[Any]], rotation_deg: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Return the mean over channels ``(rotation, translation)`` without holes, by ascending angle."""
    channels, angles = without_bad_lines(sinogram, check_angles(rotation_deg))
    if min(channels.shape[:2]) < 8:
        raise ProcessingError(
            f"{channels.shape[0]} measured lines of {channels.shape[1]} translations do not show an axis; "
            "at least 8 of each are needed"
        )
    order = np.argsort(angles)
    profiles = np.stack([fill_holes(channels[r]).mean(axis=1, dtype=np.float64) for r in order])
    return profiles, angles[order]


def is_within_field(profiles: FloatArray) -> bool:
    """Whether the sample lies within the field at every angle: empty edges, constant mass."""
    edge = max(1, round(EDGE_SHARE * profiles.shape[1]))
    level = np.median(np.hstack([profiles[:, :edge], profiles[:, -edge:]]))
    ends = np.abs(np.hstack([profiles[:, :edge].mean(1), profiles[:, -edge:].mean(1)]) - level)
    mass = (profiles - level).sum(axis=1)
    height = profiles.max() - level
    return bool(
        height > 0
        and abs(level) < LARGEST_EDGE * height
        and ends.max() < LARGEST_EDGE * height
        and mass.std() < LARGEST_MASS_CHANGE * abs(mass.mean())
    )


def from_mirror(profiles: FloatArray, rotation_deg: FloatArray) -> Estimate:
    """Return the axis about which lines mirror those half a turn later.

    The lines are smoothed first: interpolating between translations smooths noise most half-way
    between them, which would draw the axis there.
    """
    pairs = _opposite_pairs(gaussian_filter1d(profiles, SMOOTHING_PX, axis=1), rotation_deg)
    n = profiles.shape[1]
    columns = np.arange(n, dtype=np.float64)
    spline = CubicSpline(columns, np.stack([line for line, _ in pairs]), axis=1)
    opposite = np.stack([later for _, later in pairs])
    floor = 1e-3 * n * float(opposite.var())

    def overlap(axis_px: float) -> tuple[FloatArray, FloatArray]:
        source = 2 * axis_px - columns
        inside = (source >= 0) & (source <= n - 1)
        return spline(source[inside]), opposite[:, inside]

    def cost(axis_px: float) -> float:
        # relative to what the overlap shows, or an overlap of empty air would fit best
        mirrored, later = overlap(axis_px)
        shown = mirrored.var(axis=1).sum() + later.var(axis=1).sum()
        missed = np.square(mirrored - later).mean(axis=1).sum()
        return float((missed + floor / n) / (shown + floor / n))

    reach = SMALLEST_OVERLAP * n / 2
    candidates = np.arange(np.ceil(2 * reach), np.floor(2 * (n - 1 - reach)) + 1) / 2
    best = float(candidates[np.argmin([cost(a) for a in candidates])])
    axis_px = float(minimize_scalar(cost, bounds=(best - 0.75, best + 0.75), method="bounded").x)
    mirrored, later = overlap(axis_px)
    slope = 2 * np.gradient(mirrored, axis=1)
    return Estimate(axis_px, _sigma_of_shift((mirrored - later).ravel(), slope.ravel()))


def _sigma_of_shift(residual: FloatArray, slope: FloatArray) -> float:
    """Return the standard deviation of a least-squares shift whose residuals are correlated."""
    spread = residual.std()
    if spread == 0:
        return 1e-3
    centred = residual - residual.mean()
    neighbour = float(np.clip(centred[1:] @ centred[:-1] / (centred @ centred), 0.0, 0.99))
    inflation = (1 + neighbour) / (1 - neighbour)
    information = np.mean(np.square(slope)) * residual.size
    return max(1e-3, float(spread * np.sqrt(inflation / information)))


def _opposite_pairs(profiles: FloatArray, rotation_deg: FloatArray) -> list[tuple[FloatArray, FloatArray]]:
    """Return lines with what was measured half a turn later.

    Where a half turn stops within one and a half steps of its end, both sides are extrapolated
    linearly to the middle of what is missing: their errors of second order are equal and cancel.
    """
    first, last = rotation_deg[0], rotation_deg[-1]
    missing = first + 180.0 - last
    if not reaches_half_turn(rotation_deg):
        raise ProcessingError(
            f"the lines from {first:g}° to {last:g}° do not reach half a turn within one and a half steps; "
            "measure 180°, or give the axis"
        )
    if missing > 0:
        from_start = _at_angle(profiles[:2], rotation_deg[:2], first - missing / 2)
        return [(from_start, _at_angle(profiles[-2:], rotation_deg[-2:], last + missing / 2))]
    pairs = []
    for line, angle in zip(profiles, rotation_deg + 180.0, strict=True):
        if angle <= last:
            k = min(int(np.searchsorted(rotation_deg, angle, side="right")) - 1, rotation_deg.size - 2)
            pairs.append((line, _at_angle(profiles[k : k + 2], rotation_deg[k : k + 2], angle)))
    return pairs


def _at_angle(two: FloatArray, angles: FloatArray, angle: float) -> FloatArray:
    u = (angle - angles[0]) / (angles[1] - angles[0])
    return (1 - u) * two[0] + u * two[1]


def from_centre_of_mass(profiles: FloatArray, rotation_deg: FloatArray) -> Estimate:
    """Return the axis around which the centre of mass runs along a sine.

    The straight line between each profile's ends is taken off before; lines that do not fit count
    less (Huber).
    """
    edge = max(1, round(EDGE_SHARE * profiles.shape[1]))
    left, right = profiles[:, :edge].mean(axis=1), profiles[:, -edge:].mean(axis=1)
    mass = profiles - np.linspace(left, right, profiles.shape[1], axis=1)
    centre = mass @ np.arange(profiles.shape[1]) / mass.sum(axis=1)
    theta = np.radians(rotation_deg)
    design = np.stack([np.ones_like(theta), np.cos(theta), np.sin(theta)], axis=1)
    weight = np.ones_like(theta)
    for _ in range(10):
        root = np.sqrt(weight)
        solution = np.linalg.lstsq(design * root[:, np.newaxis], centre * root, rcond=None)[0]
        residual = centre - design @ solution
        spread = max(1e-9, 1.4826 * float(np.median(np.abs(residual))))
        weight = np.minimum(1.0, 1.5 * spread / np.maximum(np.abs(residual), 1e-12))
    covariance = np.linalg.inv(design.T @ (design * weight[:, np.newaxis])) * spread**2
    return Estimate(float(solution[0]), max(1e-3, float(np.sqrt(covariance[0, 0]))))


def from_sharpness(
    profiles: FloatArray, rotation_deg: FloatArray, *, near_px: float, reach_px: float = 4.0
) -> Estimate:
    """Return the axis whose reconstruction has the least total variation, near a first guess.

    Of a whole turn the first half is taken: a wrong axis makes its second half cancel errors of the
    first. The candidates are reconstructed together, as channels of one sinogram shifted against
    each other.
    """
    half = rotation_deg < rotation_deg[0] + 180.0
    n = profiles.shape[1]
    columns = np.arange(n, dtype=np.float64)
    middle = (n - 1) / 2
    offsets = np.linspace(-reach_px, reach_px, 33)
    spline = CubicSpline(columns, gaussian_filter1d(profiles[half], SMOOTHING_PX, axis=1), axis=1)
    shifted = [spline(np.clip(columns + near_px + d - middle, 0, n - 1)) for d in offsets]
    images = filtered_back_projection(np.stack(shifted, axis=-1), rotation_deg[half], middle)
    y, x = np.mgrid[1:n, 1:n] - middle
    disc = np.hypot(x, y) < 0.9 * middle - reach_px
    slope = np.hypot(np.diff(images, axis=0)[:, 1:], np.diff(images, axis=1)[1:])
    variation = slope[disc].sum(axis=0, dtype=np.float64)
    k = int(np.clip(np.argmin(variation), 2, offsets.size - 3))
    curve = np.polyfit(offsets[k - 2 : k + 3], variation[k - 2 : k + 3], 2)
    best = float(np.clip(-curve[1] / (2 * curve[0]), -reach_px, reach_px)) if curve[0] > 0 else offsets[k]
    # what a missing wedge blurs looks sharper off the axis, by up to a pixel
    sigma_px = float(offsets[1] - offsets[0]) / 2 if reaches_half_turn(rotation_deg) else WEDGE_SIGMA_PX
    return Estimate(near_px + best, sigma_px)
