"""Whether the sample changed while a slice was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ProcessingError

__all__ = ["half_patterns", "lattice_drift"]

FloatArray = npt.NDArray[np.floating[Any]]


def half_patterns(
    sinogram: FloatArray, line_order: Sequence[int], variance: FloatArray | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
    """Return the mean pattern of the first and of the second half of the lines in time, ``(2, bin)``.

    The sum over a projection of a sample that lies within the field is the same at every angle, so
    the two differ only if the sample changed, or the beam.

    Parameters
    ----------
    sinogram, variance:
        ``(rotation, translation, bin)``; NaN where not measured. Lines that are NaN are left out.
    line_order:
        Rotation indices in the order in which they were measured.

    Raises
    ------
    ProcessingError
        If fewer than two lines are there.
    """
    measured = [index for index in line_order if np.isfinite(sinogram[index]).any()]
    if len(measured) < 2:
        raise ProcessingError(f"{len(measured)} lines are measured; a drift needs two at least")
    halves = measured[: len(measured) // 2], measured[len(measured) // 2 :]
    mean = np.array([_line_means(sinogram, half) for half in halves])
    if variance is None:
        return mean, None
    n_cells = [len(half) * sinogram.shape[1] for half in halves]
    spread = [_line_means(variance, half) / n for half, n in zip(halves, n_cells, strict=True)]
    return mean, np.sqrt(np.array(spread))


def lattice_drift(
    patterns: FloatArray, sigma: FloatArray | None, radial: FloatArray, unit: str, a_A: float
) -> tuple[float, float]:
    """Return how far the lattice parameter moved from the first pattern to the second, and its esd, in Å.

    All reflections of a cubic phase move by δ2θ = −2 tanθ δa/a, whatever the distribution of a in the
    sample. The second pattern is fitted as the first one scaled, shifted so, and on another constant
    background; linear in the shift, which must be small against a width. Phases that do not move pull
    the result towards 0 by their share of the intensity's gradient.

    Parameters
    ----------
    patterns, sigma:
        From `half_patterns`, ``(2, bin)``. Without sigma the esd comes from the residual.
    radial, unit:
        Bin centres, "2th_deg", "q_A^-1" or "q_nm^-1".
    a_A:
        Lattice parameter from which the drift is told.

    Raises
    ------
    ProcessingError
        If the unit is another one, or fewer than 10 bins are measured in both.
    """
    measured = np.isfinite(patterns).all(axis=0)
    if sigma is not None:
        measured &= (sigma > 0).all(axis=0)
    if measured.sum() < 10:
        raise ProcessingError(f"{measured.sum()} bins are measured in both halves; a drift needs 10 at least")
    middle = patterns.mean(axis=0)
    slope = np.gradient(np.where(measured, middle, 0.0), radial)
    shift = slope * _shift_per_strain(radial, unit)
    terms = np.stack([shift, middle, np.ones_like(middle)])[:, measured]
    difference = (patterns[1] - patterns[0])[measured]
    weight = np.ones_like(difference) if sigma is None else 1 / np.hypot(sigma[0], sigma[1])[measured]
    design = (terms * weight).T
    normal = design.T @ design
    found = np.linalg.solve(normal, design.T @ (difference * weight))
    variance = float(np.linalg.inv(normal)[0, 0])
    if sigma is None:
        residual = difference * weight - design @ found
        variance *= float(residual @ residual) / (residual.size - 3)
    return float(found[0]) * a_A, float(np.sqrt(variance)) * a_A


def _shift_per_strain(radial: FloatArray, unit: str) -> npt.NDArray[np.float64]:
    """Return minus how far a reflection moves on the axis per δa/a: what multiplies the slope."""
    if unit == "2th_deg":
        return np.degrees(2 * np.tan(np.radians(radial) / 2))
    if unit in ("q_A^-1", "q_nm^-1"):
        return np.asarray(radial, dtype=np.float64)
    raise ProcessingError(f"a drift over {unit} is not known; process with 2th_deg, q_A^-1 or q_nm^-1")


def _line_means(values: FloatArray, indices: Sequence[int]) -> npt.NDArray[np.float64]:
    """Return the mean over lines and translations per bin, a line at a time: the whole may be a gigabyte."""
    total = np.zeros(values.shape[-1])
    count = np.zeros(values.shape[-1])
    for index in indices:
        finite = np.isfinite(values[index])
        total += np.where(finite, values[index], 0.0).sum(axis=0)
        count += finite.sum(axis=0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
