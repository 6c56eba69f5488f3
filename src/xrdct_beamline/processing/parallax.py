"""Rings of what lies nearer to the detector than the axis are smaller: parallax of the sample.

A voxel that lies ``depth`` beyond the axis along the beam is that much nearer to the detector, and
its rings have tan 2θ too small by depth/distance. Over a half turn the depth does not average out:
its mean over the angles is ∓2/π of the distance from the axis in one direction, so that a lattice
parameter is tilted across the slice. The depth of every voxel at every angle is known, and so is the
mean; what remains is a slight broadening of the rings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from xrdct_beamline.domain.errors import ProcessingError

from ._angles import angle_weights
from ._checks import check_distance
from ._projector import OutputField

__all__ = ["correct_map", "correct_slice", "mean_depth_px"]

FloatArray = npt.NDArray[np.float64]


def mean_depth_px(rotation_deg: npt.ArrayLike, field: OutputField) -> FloatArray:
    """Return how far each pixel ``(y, x)`` lay beyond the axis along the beam, on average, in steps.

    The depth of (x, y) at θ is y cos θ − x sin θ; lines count as in the back-projection.
    """
    theta = np.radians(np.asarray(rotation_deg, dtype=np.float64))
    weight = angle_weights(rotation_deg)
    weight /= weight.sum()
    x_px = field.x_px + field.pixel_px * np.arange(field.shape[1])
    y_px = field.y_px - field.pixel_px * np.arange(field.shape[0])
    cosine, sine = float(weight @ np.cos(theta)), float(weight @ np.sin(theta))
    return y_px[:, np.newaxis] * cosine - x_px * sine


def correct_map(
    lattice_A: npt.NDArray[np.floating[Any]],
    mean_depth_mm: FloatArray,
    distance_mm: float,
    two_theta_deg: float = 0.0,
) -> FloatArray:
    """Return a map ``(y, x)`` of lattice parameters freed of the parallax, to first order.

    Parameters
    ----------
    lattice_A, mean_depth_mm:
        Same shape.
    distance_mm:
        From the axis to the detector.
    two_theta_deg:
        Where the reflections lie that told the lattice parameter; the effect falls with the angle.
    """
    check_distance(distance_mm)
    theta = np.radians(two_theta_deg) / 2
    # a ∝ 1/sin θ and δ(2θ) = −½ sin 4θ · depth/distance, hence δa/a = ¼ cot θ sin 4θ · depth/distance
    response = 1.0 if theta == 0 else 0.25 * np.sin(4 * theta) / np.tan(theta)
    return np.asarray(lattice_A / (1 + response * mean_depth_mm / distance_mm), dtype=np.float64)


def correct_slice(
    slice_: npt.NDArray[np.floating[Any]],
    two_theta_deg: FloatArray,
    mean_depth_mm: FloatArray,
    distance_mm: float,
) -> npt.NDArray[np.float32]:
    """Return a slice ``(y, x, bin)`` whose patterns are those of a sample at the axis.

    Each pattern is read, linearly interpolated, where the voxel's rings fell; beyond the ends of the
    radial range the end's value is taken.

    Parameters
    ----------
    two_theta_deg:
        Bin centres, equidistant.
    mean_depth_mm:
        ``(y, x)``.
    """
    check_distance(distance_mm)
    if two_theta_deg.shape != slice_.shape[2:] or mean_depth_mm.shape != slice_.shape[:2]:
        raise ProcessingError(
            f"a slice of shape {slice_.shape} needs {slice_.shape[2]} angles and depths of shape "
            f"{slice_.shape[:2]}, got {two_theta_deg.shape} and {mean_depth_mm.shape}"
        )
    corrected = np.empty(slice_.shape, np.float32)
    tangent = np.tan(np.radians(two_theta_deg))
    _read_where_it_fell(
        slice_, corrected, tangent, 1 - mean_depth_mm / distance_mm, two_theta_deg[0],
        (two_theta_deg[-1] - two_theta_deg[0]) / (two_theta_deg.size - 1),
    )  # fmt: skip
    return corrected


@njit(cache=True, nogil=True, parallel=True, error_model="numpy")
def _read_where_it_fell(
    slice_: npt.NDArray[Any],
    corrected: npt.NDArray[np.float32],
    tangent: FloatArray,
    share: FloatArray,
    first_deg: float,
    step_deg: float,
) -> None:
    n_y, n_x, n_bins = slice_.shape
    for row in prange(n_y):
        for column in range(n_x):
            for b in range(n_bins):
                at = (np.degrees(np.arctan(tangent[b] * share[row, column])) - first_deg) / step_deg
                at = min(max(at, 0.0), n_bins - 1.0)
                below = min(int(at), n_bins - 2)
                u = at - below
                corrected[row, column, b] = (1 - u) * slice_[row, column, below] + u * slice_[
                    row, column, below + 1
                ]
