"""What a set of rotation angles weighs in a back-projection."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ProcessingError

__all__ = ["angle_weights", "check_angles"]

#: Angles closer than this are the same.
SAME_ANGLE_DEG = 1e-6

#: A gap beyond this many median gaps is a part of the turn that nobody planned to measure.
WIDEST_GAP = 3.0


def check_angles(rotation_deg: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the angles as an array; refuse fewer than two, a NaN, or the same one twice."""
    angles = np.asarray(rotation_deg, dtype=np.float64)
    if angles.ndim != 1 or angles.size < 2:
        raise ProcessingError(
            f"{angles.size} rotation angle{'s' if angles.size != 1 else ''} cannot be reconstructed; "
            "at least two are needed, and about as many as translations for a sharp slice"
        )
    if not np.isfinite(angles).all():
        raise ProcessingError(f"rotation {np.flatnonzero(~np.isfinite(angles))[0]} has no finite angle")
    order = np.argsort(angles)
    same = np.flatnonzero(np.diff(angles[order]) < SAME_ANGLE_DEG)
    if same.size:
        first, second = sorted((order[same[0]], order[same[0] + 1]))
        raise ProcessingError(
            f"rotations {first} and {second} have the same angle {angles[first]:g}°; keep the better line"
        )
    return angles


def angle_weights(rotation_deg: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the weight of each angle in radians: half the gap to each neighbour, modulo 180°.

    Regular angles get π/n each; θ and θ + 180° share the weight of their direction, and where the
    end of a half turn was measured as well as its start, both get half. A gap wider than three
    median gaps is left out of the weights: the angles beside it do not speak for it.
    """
    angles = check_angles(rotation_deg) % 180.0
    order = np.argsort(angles, kind="stable")
    gap = np.diff(angles[order], append=angles[order[0]] + 180.0)
    gap[gap < SAME_ANGLE_DEG] = 0.0
    gap = np.minimum(gap, WIDEST_GAP * np.median(gap[gap > 0]))
    share = 0.5 * (gap + np.roll(gap, 1))
    weights = np.empty_like(share)
    weights[order] = _shared_among_equals(angles[order], share)
    return np.radians(weights)


def _shared_among_equals(
    ascending: npt.NDArray[np.float64], share: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Give angles that are equal modulo 180° the mean of their shares."""
    group = np.cumsum(np.diff(ascending, prepend=ascending[0]) >= SAME_ANGLE_DEG)
    if group[-1] + 1 > 1 and ascending[0] + 180.0 - ascending[-1] < SAME_ANGLE_DEG:
        group[group == group[-1]] = 0  # 180° − ε is 0°
    return (np.bincount(group, share) / np.bincount(group))[group]
