"""A broad and a coarse scan around a region of interest, as frames of the tiny detector."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from builders import rings_frame
from disc_phantom import cell, chords

from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.scan import ScanGeometry

SCANS = {
    Role.BROAD: ScanGeometry.raster(23, 0.06, 18),
    Role.COARSE: ScanGeometry.raster(21, 0.035, 20, order="interlaced"),
    Role.ROI: ScanGeometry.raster(19, 0.015, 24),
}
COUNTS_PER_MM = 40000.0
DISC_MM = 0.1


@cache
def rays(role: str) -> npt.NDArray[Any]:
    """Path through the sample in mm, ``(rotation, translation)``."""
    discs, per_mm = spinel()
    geometry = SCANS[Role(role)]
    return chords(discs, per_mm, geometry.rotation_deg, np.asarray(geometry.translation_mm))[:, :, 0]


@cache
def spinel() -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the discs of a 1 mm electrode, and their one channel."""
    particles, _, _ = cell(60, 0.045, 0.9, peaks=False)
    return particles, np.ones((len(particles), 1))


def line_frames(role: str, rotation_index: int, beam: float = 1.0) -> npt.NDArray[np.int32]:
    """Return the frames of a line, in the order of acquisition."""
    path_mm = rays(role)[rotation_index][SCANS[Role(role)].line_translations(rotation_index)]
    return np.array([rings_frame(beam * COUNTS_PER_MM * path) for path in path_mm])


def mean_in_disc(image: npt.NDArray[Any], role: str) -> float:
    """Return the mean of a slice, summed over bins, within 0.1 mm of the axis."""
    total = np.nansum(image, axis=-1)
    t_mm = np.asarray(SCANS[Role(role)].translation_mm)
    x, y = np.meshgrid(t_mm, -t_mm)
    return float(total[np.hypot(x, y) < DISC_MM].mean())


def true_share_in_disc() -> float:
    """Return which share of that disc is spinel, sampled finely."""
    grid = np.arange(-DISC_MM, DISC_MM, 0.001)
    x, y = np.meshgrid(grid, grid)
    discs, _ = spinel()
    filled = (np.hypot(x[..., None] - discs[:, 0], y[..., None] - discs[:, 1]) < discs[:, 2]).any(axis=2)
    return float(filled[np.hypot(x, y) < DISC_MM].mean())
