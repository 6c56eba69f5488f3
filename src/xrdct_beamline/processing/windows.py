"""The net intensity of a reflection: what stands above its own surroundings."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ProcessingError

__all__ = ["net_intensity"]


def net_intensity(
    patterns: npt.NDArray[Any], radial: npt.NDArray[np.float64], *, low: float, high: float, side: float
) -> npt.NDArray[np.float64]:
    """Sum a window of each pattern above the straight line through its two sides.

    Linear in the patterns, so that it may be taken before or after a reconstruction.

    Parameters
    ----------
    patterns:
        Intensities, shape ``(..., bin)``.
    radial:
        Bin centres, shape ``(bin,)``.
    low, high:
        Ends of the window, in the unit of ``radial``.
    side:
        Width of the background window on either side, same unit.

    Returns
    -------
    Net sum, shape ``(...)``; NaN where a bin of the window is NaN.

    Raises
    ------
    ProcessingError
        If the window or one of its sides holds no bin.
    """
    peak = (radial >= low) & (radial <= high)
    left = (radial >= low - side) & (radial < low)
    right = (radial > high) & (radial <= high + side)
    if not (peak.any() and left.any() and right.any()):
        raise ProcessingError(
            f"window {low:g} to {high:g} with sides of {side:g} is not inside of the radial range "
            f"{radial[0]:g} to {radial[-1]:g}, or is narrower than a bin"
        )
    weights = peak.astype(float)
    at_left, at_right = radial[left].mean(), radial[right].mean()
    # The background under bin r is the line through the mean of each side.
    share = (radial[peak] - at_left) / (at_right - at_left)
    weights[left] -= (1 - share).sum() / left.sum()
    weights[right] -= share.sum() / right.sum()
    used = peak | left | right  # a bin without pixels elsewhere is NaN and does not matter
    return np.asarray(patterns[..., used] @ weights[used], dtype=np.float64)
