"""How the lines of a sinogram fit each other: jitter, backlash, a zigzag recorded the wrong way round.

Measured and told, never erased: shifting lines until they look smooth would also shift the sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from xrdct_beamline.domain.errors import ProcessingError

from .alignment import channel_mean

__all__ = ["LineFit", "inspect_lines"]

FloatArray = npt.NDArray[np.float64]

#: Standard deviation of the smoothing before lines are compared.
SMOOTHING_PX = 1.5
#: A backlash is told from this on, where it is also three times its uncertainty.
SMALLEST_BACKLASH_PX = 0.1
#: Steps of Newton towards the shift of a line; each gains where the shift is below the smoothing.
ITERATIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LineFit:
    """How each line sits between its neighbours in angle.

    Parameters
    ----------
    shift_px:
        Of each line against the mean of its two neighbours, by ascending angle; NaN at the ends.
    jitter_px:
        Standard deviation of the position of a line, the backlash taken out.
    backlash_px:
        Position of forward lines minus that of backward ones; 0 without backward lines.
    backlash_sigma_px:
        Its standard deviation.
    is_reversed:
        Whether backward lines fit their neighbours better the other way round.
    findings:
        What is wrong, a sentence each.
    """

    shift_px: FloatArray
    jitter_px: float
    backlash_px: float
    backlash_sigma_px: float
    is_reversed: bool
    findings: tuple[str, ...]


def inspect_lines(
    sinogram: npt.NDArray[np.floating[Any]],
    rotation_deg: npt.ArrayLike,
    runs_backwards: npt.ArrayLike | None = None,
) -> LineFit:
    """Compare each line of a sinogram ``(rotation, translation[, bin])`` with its neighbours.

    Parameters
    ----------
    sinogram, rotation_deg:
        Lines that are NaN as a whole are left out.
    runs_backwards:
        Whether each line was taken from the last translation to the first; none by default.
    """
    angles = np.asarray(rotation_deg, dtype=np.float64)
    backwards = np.zeros(angles.size, bool) if runs_backwards is None else np.asarray(runs_backwards, bool)
    if backwards.shape != angles.shape:
        raise ProcessingError(
            f"{backwards.size} directions were given for {angles.size} lines; give one each"
        )
    profiles, ascending = channel_mean(sinogram, angles)
    direction = dict(zip(angles.tolist(), backwards.tolist(), strict=True))
    backwards = np.array([direction[a] for a in ascending.tolist()])
    smooth = gaussian_filter1d(profiles, SMOOTHING_PX, axis=1)
    is_reversed = _fit_better_reversed(smooth, backwards)
    if is_reversed:
        smooth[backwards] = smooth[backwards, ::-1]
    shift = _shifts(smooth)
    sign = np.where(backwards, -1.0, 1.0)
    alternates = np.full(shift.size, False)
    alternates[1:-1] = (sign[1:-1] != sign[:-2]) & (sign[1:-1] != sign[2:])
    told = alternates & np.isfinite(shift)
    # between neighbours of the other direction a line is off by the whole backlash
    backlash = float(np.mean(sign[told] * shift[told])) if told.any() else 0.0
    rest = shift[np.isfinite(shift)] - np.where(told, sign * backlash, 0.0)[np.isfinite(shift)]
    jitter = float(rest.std() * np.sqrt(2 / 3)) if rest.size else 0.0  # one line and half of two others
    sigma = float(rest.std() / np.sqrt(max(1, told.sum())))
    return LineFit(
        shift_px=shift,
        jitter_px=jitter,
        backlash_px=backlash,
        backlash_sigma_px=sigma,
        is_reversed=is_reversed,
        findings=_findings(backlash, sigma, is_reversed),
    )


def _fit_better_reversed(profiles: FloatArray, backwards: npt.NDArray[np.bool_]) -> bool:
    """Whether most backward lines are nearer to their forward neighbours when reversed."""
    votes = []
    for k in np.flatnonzero(backwards):
        others = [i for i in (k - 1, k + 1) if 0 <= i < len(profiles) and not backwards[i]]
        if others:
            expected = profiles[others].mean(axis=0)
            as_is = np.square(profiles[k] - expected).sum()
            votes.append(np.square(profiles[k, ::-1] - expected).sum() < as_is)
    return bool(votes) and bool(np.mean(votes) > 0.5)


def _shifts(profiles: FloatArray) -> FloatArray:
    """Return the shift of each line that brings the mean of its neighbours onto it, least squares."""
    columns = np.arange(profiles.shape[1], dtype=np.float64)
    shift = np.full(len(profiles), np.nan)
    for k in range(1, len(profiles) - 1):
        expected = 0.5 * (profiles[k - 1] + profiles[k + 1])
        at = 0.0
        for _ in range(ITERATIONS):
            moved = np.interp(columns - at, columns, expected)
            slope = np.gradient(moved)
            steepness = float(slope @ slope)
            at -= float(slope @ (profiles[k] - moved)) / steepness if steepness > 0 else 0.0
        shift[k] = at
    return shift


def _findings(backlash_px: float, sigma_px: float, is_reversed: bool) -> tuple[str, ...]:
    findings = []
    if is_reversed:
        findings.append(
            "backward lines fit their neighbours only when reversed: the zigzag was recorded the wrong way "
            "round"
        )
    if abs(backlash_px) > max(SMALLEST_BACKLASH_PX, 3 * sigma_px):
        findings.append(
            f"forward lines lie {backlash_px:+.2f} ± {sigma_px:.2f} px from backward ones: backlash, or "
            "positions that are not those of mid-exposure"
        )
    return tuple(findings)
