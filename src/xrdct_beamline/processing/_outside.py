"""What lies outside of a region of interest, projected onto its rays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange
from scipy.interpolate import CubicSpline

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.scan import ScanGeometry

__all__ = ["NODES_PER_PIXEL", "Outer", "OutsideProjector", "Ring", "disc_radius_mm", "ring_limits"]

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]

#: Nodes per pixel of the outer slice, across and along the rays.
NODES_PER_PIXEL = 2


@dataclass(frozen=True, slots=True, eq=False)
class Outer:
    """A wider and coarser scan around a region of interest, about the same rotation axis.

    Parameters
    ----------
    slice:
        Its slice ``(y, x, bin)``, one pixel per translation step, already freed of what lies
        outside of its own field.
    geometry, axis_px:
        Where its rays were.
    sinogram:
        What was measured, ``(rotation, translation, bin)``, nothing subtracted: with it the verdict
        compares measured rays, and sees missing lines.
    scale:
        Counts of the region's scan per count of this one: exposure and monitor.
    """

    slice: npt.NDArray[np.floating[Any]]
    geometry: ScanGeometry
    axis_px: float
    sinogram: npt.NDArray[np.floating[Any]] | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        n = self.geometry.shape[1]
        if self.slice.ndim != 3 or self.slice.shape[:2] != (n, n):
            raise ProcessingError(
                f"the outer slice has shape {self.slice.shape}, its scan of {n} translations needs "
                f"({n}, {n}, bin)"
            )
        if self.sinogram is not None and self.sinogram.shape != (*self.geometry.shape, self.slice.shape[2]):
            raise ProcessingError(
                f"the outer sinogram has shape {self.sinogram.shape}, its scan needs "
                f"{(*self.geometry.shape, self.slice.shape[2])}"
            )
        if not np.isfinite(self.slice).all():
            raise ProcessingError("the outer slice holds NaN; give the bins that all scans have measured")
        if not self.scale > 0:
            raise ProcessingError(f"the scale of an outer scan is {self.scale:g}; it must be positive")

    @property
    def radius_mm(self) -> float:
        """Radius of the disc that every line of this scan covers."""
        return disc_radius_mm(self.geometry, self.axis_px)


def disc_radius_mm(geometry: ScanGeometry, axis_px: float) -> float:
    """Return the radius of the disc around the axis that every line of a scan covers."""
    last = geometry.shape[1] - 1
    if not 0 < axis_px < last:
        raise ProcessingError(f"the rotation axis at {axis_px:g} px is outside of the field (0 to {last})")
    return (min(axis_px, last - axis_px) + 0.5) * geometry.step_mm


def ring_limits(outers: Sequence[Outer], inner_radius_mm: float) -> list[float]:
    """Return the inner radius of the part of each nested slice that counts; refuse another order."""
    if not outers:
        raise ProcessingError("a region of interest needs at least one outer scan around it")
    radii = [*(o.radius_mm for o in outers), inner_radius_mm]
    if any(b >= a for a, b in pairwise(radii)):
        raise ProcessingError(
            "outer scans must be given from the widest to the narrowest, and be wider than the region; "
            f"their radii are {', '.join(f'{r:.4g} mm' for r in radii)}"
        )
    return radii[1:]


class OutsideProjector:
    """Projects nested outer slices, each without the disc of the next one, onto the rays of a scan.

    Parameters
    ----------
    outers:
        From the widest to the narrowest.
    translation_mm:
        Distance of the rays from the axis.
    inner_radius_mm:
        Radius of the disc that is left out of the narrowest slice; 0 for none.
    """

    def __init__(self, outers: Sequence[Outer], translation_mm: FloatArray, inner_radius_mm: float) -> None:
        limits = ring_limits(outers, inner_radius_mm)
        if len({o.slice.shape[2] for o in outers}) > 1:
            raise ProcessingError("the outer slices have different numbers of bins; integrate them alike")
        self._rings = [
            Ring(outer, inner_mm, translation_mm) for outer, inner_mm in zip(outers, limits, strict=True)
        ]
        self.n_bins = outers[0].slice.shape[2]

    def line(self, rotation_deg: float) -> Float32Array:
        """Return what lies outside, as seen by one line: ``(translation, bin)``."""
        total = self._rings[0].line(rotation_deg)
        for ring in self._rings[1:]:
            total += ring.line(rotation_deg)
        return total


#: A projection without depths needs no means over the angles.
NO_MEANS = np.zeros(5)


class Ring:
    """The ring of one outer slice between two radii."""

    def __init__(self, outer: Outer, inner_mm: float, translation_mm: FloatArray) -> None:
        step_mm = outer.geometry.step_mm
        n = outer.slice.shape[0]
        y, x = np.mgrid[:n, :n] - outer.axis_px
        radius_px = np.hypot(x, y)
        # pixels on an edge count by the part of them that lies within
        inside = np.clip(outer.radius_mm / step_mm - radius_px + 0.5, 0, 1)
        if inner_mm > 0:
            inside *= np.clip(radius_px - inner_mm / step_mm + 0.5, 0, 1)
        self.image = (outer.slice * (inside * outer.scale)[:, :, np.newaxis]).astype(np.float32)
        self.counts = inside > 0
        self.axis_px = outer.axis_px
        self.reach_px = outer.radius_mm / step_mm + 1
        rays_px = translation_mm / step_mm
        first = np.floor(rays_px.min() * NODES_PER_PIXEL) - 2
        last = np.ceil(rays_px.max() * NODES_PER_PIXEL) + 2
        self.nodes_px = np.arange(first, last + 1) / NODES_PER_PIXEL
        # the projection of pixels has no detail finer than they are: a spline leads to the finer rays
        spline = CubicSpline(self.nodes_px, np.eye(self.nodes_px.size))
        self.to_rays = np.ascontiguousarray(spline(rays_px), dtype=np.float32)
        self._step_mm = step_mm

    def line(self, rotation_deg: float) -> Float32Array:
        return self.moment(rotation_deg, 0, NO_MEANS)

    def moment(self, rotation_deg: float, order: int, means: FloatArray) -> Float32Array:
        """Return the projection with each point times a power of its depth, as `_project` has it."""
        nodes = np.zeros((self.nodes_px.size, self.image.shape[2]), np.float32)
        theta = np.radians(rotation_deg)
        _project(
            self.image, self.counts, nodes, self.nodes_px, self.axis_px, self.reach_px,
            np.cos(theta), np.sin(theta), 1.0 / NODES_PER_PIXEL, order, means, self._step_mm,
        )  # fmt: skip
        return self.to_rays @ nodes


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract"}, error_model="numpy")
def _project(
    image: Float32Array,
    counts: npt.NDArray[np.bool_],
    nodes: Float32Array,
    nodes_px: FloatArray,
    axis_px: float,
    reach_px: float,
    cosine: float,
    sine: float,
    step_px: float,
    order: int,
    means: FloatArray,
    step_mm: float,
) -> None:
    """Add the integrals of a bilinearly interpolated image along one direction to the nodes.

    With order 1 each point counts times its depth, in mm, less that depth's mean over the angles; with
    order 2 times the square of that less its mean. ``means`` are those of cosine, sine, their squares
    and their product.
    """
    n_y, n_x, n_bins = image.shape
    for k in prange(nodes_px.size):
        t = nodes_px[k]
        half = np.sqrt(max(reach_px * reach_px - t * t, 0.0))
        n_steps = int(2 * half / step_px) + 1
        for i in range(n_steps):
            depth = (i - 0.5 * (n_steps - 1)) * step_px
            x, y = t * cosine - depth * sine, t * sine + depth * cosine
            column, row = axis_px + x, axis_px - y
            if row < 0 or column < 0 or row >= n_y - 1 or column >= n_x - 1:
                continue
            r, c = int(row), int(column)
            if not (counts[r, c] or counts[r, c + 1] or counts[r + 1, c] or counts[r + 1, c + 1]):
                continue
            weight = step_px
            if order > 0:
                mean = y * means[0] - x * means[1]
                power = (depth - mean) * step_mm
                if order == 2:
                    square = y * y * means[2] + x * x * means[3] - 2.0 * x * y * means[4]
                    power = power * power - (square - mean * mean) * step_mm * step_mm
                weight = power * step_px
            v, u = row - r, column - c
            a = np.float32((1 - v) * (1 - u) * weight)
            b = np.float32((1 - v) * u * weight)
            d = np.float32(v * (1 - u) * weight)
            e = np.float32(v * u * weight)
            for m in range(n_bins):
                nodes[k, m] += (a * image[r, c, m] + b * image[r, c + 1, m]) + (
                    d * image[r + 1, c, m] + e * image[r + 1, c + 1, m]
                )
