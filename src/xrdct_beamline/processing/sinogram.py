"""Placing lines in a sinogram, normalising them, and filling holes for the transform.

A sinogram has the axes ``(rotation, translation, bin)``. What was not measured is NaN there and
stays NaN: `fill_holes` fills holes for the transform, in a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from xrdct_beamline.domain.errors import ProcessingError

__all__ = [
    "as_channels",
    "empty_sinogram",
    "fill_holes",
    "measured_bins",
    "measured_mask",
    "normalise_by_monitor",
    "place_line",
    "without_bad_lines",
]

#: A monitor reading below this share of the reference is a dead monitor, not a weak beam.
DEAD_MONITOR_SHARE = 0.01


def empty_sinogram(n_rotations: int, n_translations: int, n_bins: int) -> npt.NDArray[np.float32]:
    """Return a sinogram ``(rotation, translation, bin)`` in which nothing is measured."""
    shape = (n_rotations, n_translations, n_bins)
    if min(shape) < 1:
        raise ProcessingError(f"a sinogram of shape {shape} is empty; each axis needs at least one entry")
    return np.full(shape, np.nan, dtype=np.float32)


def place_line(
    sinogram: npt.NDArray[np.floating[Any]],
    rotation_index: int,
    translation_indices: Sequence[int] | npt.NDArray[np.integer[Any]],
    patterns: npt.NDArray[np.floating[Any]],
) -> None:
    """Write the patterns of one line into their cells; the last write wins.

    Parameters
    ----------
    sinogram:
        Changed in place, ``(rotation, translation, bin)``.
    rotation_index:
        Row of the line.
    translation_indices:
        Cell of each pattern, in the order of acquisition.
    patterns:
        ``(frame, bin)``.
    """
    n_rotations, n_translations, n_bins = sinogram.shape
    places = np.asarray(translation_indices, dtype=np.intp)
    if not 0 <= rotation_index < n_rotations:
        raise ProcessingError(f"rotation {rotation_index} is outside of the sinogram's {n_rotations} rows")
    if patterns.shape != (places.size, n_bins):
        raise ProcessingError(
            f"a line of {places.size} frames needs patterns of shape {(places.size, n_bins)}, "
            f"got {patterns.shape}; bins and frames must match the scan's"
        )
    if places.size and not (0 <= places.min() and places.max() < n_translations):
        raise ProcessingError(
            f"translations {places.min()} to {places.max()} are outside of the sinogram's "
            f"{n_translations} columns"
        )
    sinogram[rotation_index, places] = patterns


def measured_mask(sinogram: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Return which cells ``(rotation, translation)`` hold at least one measured bin."""
    return np.isfinite(sinogram).any(axis=-1)


def as_channels(
    sinogram: npt.NDArray[np.floating[Any]], rotation_deg: npt.ArrayLike
) -> npt.NDArray[np.floating[Any]]:
    """Return a sinogram of one or many channels as ``(rotation, translation, bin)``.

    Refused where it does not fit the angles, or where a line was not measured at all.
    """
    channels = _with_channels(sinogram, rotation_deg)
    unmeasured = np.flatnonzero(~measured_bins(channels).any(axis=1))
    if unmeasured.size:
        raise ProcessingError(
            f"{unmeasured.size} of {channels.shape[0]} lines are NaN in every cell, the first at "
            f"{np.asarray(rotation_deg)[unmeasured[0]]:g}°; retake them, or leave them and their angles out"
        )
    return channels


def without_bad_lines(
    sinogram: npt.NDArray[np.floating[Any]], rotation_deg: npt.ArrayLike
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.float64]]:
    """Return the lines of a sinogram that hold anything measured, and their angles."""
    channels = _with_channels(sinogram, rotation_deg)
    good = measured_bins(channels).any(axis=1)
    return channels[good], np.asarray(rotation_deg, dtype=np.float64)[good]


def _with_channels(
    sinogram: npt.NDArray[np.floating[Any]], rotation_deg: npt.ArrayLike
) -> npt.NDArray[np.floating[Any]]:
    n_angles = np.size(np.asarray(rotation_deg))
    if sinogram.ndim not in (2, 3) or sinogram.shape[0] != n_angles:
        raise ProcessingError(
            f"a sinogram of shape {sinogram.shape} does not fit {n_angles} angles; its axes are "
            "(rotation, translation, bin)"
        )
    if 0 in sinogram.shape:
        raise ProcessingError(
            f"a sinogram of shape {sinogram.shape} (rotation, translation, bin) is empty; take at least one "
            "of each"
        )
    return sinogram if sinogram.ndim == 3 else sinogram[:, :, np.newaxis]


def measured_bins(
    sinogram: npt.NDArray[np.floating[Any]],
) -> npt.NDArray[np.bool_]:
    """Return which bins ``(rotation, bin)`` are measured anywhere along a line."""
    measured = np.zeros((sinogram.shape[0], sinogram.shape[2]), dtype=np.bool_)
    for k in range(sinogram.shape[1]):  # the first translation settles it, mostly
        if measured.all():
            break
        measured |= np.isfinite(sinogram[:, k])
    return measured


def normalise_by_monitor(
    intensity: npt.NDArray[np.floating[Any]],
    monitor: npt.NDArray[np.floating[Any]],
    *,
    reference: float | None = None,
    sigma: npt.NDArray[np.floating[Any]] | None = None,
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]] | None]:
    """Divide intensities by ``monitor / reference``, so that the scale of counts stays.

    Parameters
    ----------
    intensity:
        ``(frame, bin)`` of a line or ``(rotation, translation, bin)`` of a sinogram.
    monitor:
        Beam monitor of each frame: the leading shape of ``intensity``.
    reference:
        The monitor reading that leaves intensities as they are; the mean by default. Lines of one
        sinogram must share it.
    sigma:
        Scaled alike; the monitor's own noise is not added.

    Raises
    ------
    ProcessingError
        If the monitor is missing or dead in a frame that was measured; the message names the
        lines, or the frames of a line.
    """
    monitor = np.asarray(monitor, dtype=np.float64)
    if monitor.shape != intensity.shape[:-1]:
        raise ProcessingError(
            f"the monitor has shape {monitor.shape}, the intensities need {intensity.shape[:-1]}: "
            "one reading per frame"
        )
    measured = measured_mask(intensity)
    level = float(np.nanmean(monitor[measured])) if np.isfinite(monitor[measured]).any() else np.nan
    scale = level if reference is None else reference
    if not (np.isfinite(scale) and scale > 0):
        raise ProcessingError(
            f"the monitor's reference is {scale:g}; it must be positive: is the monitor connected?"
        )
    dead = measured & ~(monitor > DEAD_MONITOR_SHARE * scale)
    if dead.any():
        raise ProcessingError(_dead_monitor_message(dead, scale))
    factor = (scale / np.where(measured, monitor, np.nan))[..., np.newaxis]
    normalised = (intensity * factor).astype(intensity.dtype)
    return normalised, None if sigma is None else (sigma * factor).astype(sigma.dtype)


def _dead_monitor_message(dead: npt.NDArray[np.bool_], reference: float) -> str:
    kind = "frame" if dead.ndim == 1 else "line"
    places = np.flatnonzero(dead if dead.ndim == 1 else dead.any(axis=1))
    named = ", ".join(str(p) for p in places[:8]) + (", …" if places.size > 8 else "")
    return (
        f"the beam monitor is missing or below {DEAD_MONITOR_SHARE:g} of its reference {reference:g} in "
        f"{places.size} {kind}{'s' if places.size > 1 else ''} ({named}); retake them or normalise by "
        "another monitor"
    )


def fill_holes(projection: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Return a projection ``(translation, bin)`` without NaN, for the transform only.

    Holes are filled linearly along the translation, beyond the outermost measured cells with
    their value; a bin without any measured cell becomes 0. The data are never changed: a float32
    projection without holes is returned itself, any other as a copy.
    """
    filled = np.ascontiguousarray(projection, dtype=np.float32)
    if filled.ndim != 2:
        raise ProcessingError(f"a projection has two axes (translation, bin), got shape {filled.shape}")
    if np.isfinite(filled.sum()):  # most lines have no hole
        return filled
    filled = np.array(projection, dtype=np.float32, order="C")
    _fill_columns(filled)
    return filled


@njit(cache=True, nogil=True)
def _fill_columns(filled: npt.NDArray[np.float32]) -> None:
    n_translations, n_bins = filled.shape
    last = np.full(n_bins, -1, np.int64)
    for i in range(n_translations):
        for b in range(n_bins):
            if not np.isfinite(filled[i, b]):
                continue
            if last[b] < 0:
                for k in range(i):
                    filled[k, b] = filled[i, b]
            else:
                step = (filled[i, b] - filled[last[b], b]) / (i - last[b])
                for k in range(last[b] + 1, i):
                    filled[k, b] = filled[last[b], b] + step * (k - last[b])
            last[b] = i
    for b in range(n_bins):
        value = filled[last[b], b] if last[b] >= 0 else np.float32(0)
        for k in range(last[b] + 1, n_translations):
            filled[k, b] = value
