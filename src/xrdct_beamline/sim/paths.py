"""What the beam meets along every ray of a line: path lengths through each material, at each depth.

As `rays`, but for whole lines and for a beam that has a width; a stretch within one region of the
electrode costs one look at the raster per step, and is shared out to materials at its end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit, prange
from scipy import special

from xrdct_beamline.domain.errors import ConfigurationError

from .electrode import Electrode
from .rays import MU_PEEK, PEEK_RADIUS_MM, Tables

__all__ = ["BeamProfile", "LinePaths", "line_paths"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamProfile:
    """A beam of a width that moves during an exposure, as thin rays side by side.

    Parameters
    ----------
    fwhm_mm:
        Of the Gaussian focus.
    travel_mm:
        How far the sample moves in an exposure: 10 of the 11.2 ms that a step of 1 µm takes.
    n_rays:
        Rays, up to where the profile has fallen to about a twentieth.
    """

    fwhm_mm: float = 0.001
    travel_mm: float = 0.00089
    n_rays: int = 8

    def __post_init__(self) -> None:
        if self.n_rays < 1 or not all(math.isfinite(v) and v >= 0 for v in (self.fwhm_mm, self.travel_mm)):
            raise ConfigurationError(
                f"a beam of {self.fwhm_mm:g} mm that travels {self.travel_mm:g} mm in {self.n_rays} rays: it "
                "needs lengths of at least 0 and at least one ray"
            )

    def rays(self) -> tuple[FloatArray, FloatArray]:
        """Return where the rays lie across the beam, in mm, and their shares of the intensity."""
        if self.n_rays == 1:
            return np.zeros(1), np.ones(1)
        reach = self.fwhm_mm + 0.5 * self.travel_mm
        offset = ((np.arange(self.n_rays) + 0.5) / self.n_rays - 0.5) * 2.0 * reach
        sigma = max(self.fwhm_mm, 1e-9) / (2.0 * math.sqrt(2.0 * math.log(2.0)))
        travel = max(self.travel_mm, 1e-9)
        edges = np.stack([offset + 0.5 * travel, offset - 0.5 * travel]) / sigma
        weight = special.ndtr(edges[0]) - special.ndtr(edges[1])
        return offset, weight / weight.sum()


@dataclass(frozen=True, slots=True, eq=False)
class LinePaths:
    """Path lengths in µm along the rays of one line.

    Parameters
    ----------
    weights:
        Shape ``(translation, material)``: spinel by ``(depth, a)``, LiMnO2, Li2MnO3 and the disc
        as a whole by depth, electrolyte outside of the disc, walls.
    transmission:
        Share of the beam that leaves the sample, ``(translation,)``.
    """

    weights: npt.NDArray[np.float32]
    transmission: FloatArray


def line_paths(
    electrode: Electrode,
    tables: Tables,
    depth_mm: FloatArray,
    n_lattices: int,
    *,
    rotation_deg: float,
    translation_mm: FloatArray,
    beam: BeamProfile,
    walls: bool = True,
) -> LinePaths:
    """Sum along the rays of one line, t = x cosθ + y sinθ = translation.

    ``depth_mm`` and ``n_lattices`` are the pattern bank's; ``walls`` adds the body of the cell.
    """
    n_depths = len(depth_mm)
    offsets, share = beam.rays()
    weights = np.zeros((len(translation_mm), n_depths * (n_lattices + 3) + 2))
    optical = np.zeros(len(translation_mm))
    _sum_line(
        electrode.regions, electrode.pixel_mm, math.radians(rotation_deg), translation_mm,
        offsets, share, electrode.chamber_radius_mm, depth_mm[0], depth_mm[1] - depth_mm[0],
        n_depths, n_lattices, tables.bins, tables.weights, tables.minor, tables.mu_per_um,
        weights, optical,
    )  # fmt: skip
    if walls:
        inside = _chord(electrode.chamber_radius_mm, translation_mm)
        weights[:, -1] = 1e3 * (_chord(PEEK_RADIUS_MM, translation_mm) - inside)
        optical += MU_PEEK * weights[:, -1]
    return LinePaths(weights.astype(np.float32), np.exp(-optical))


def _chord(radius_mm: float, offset_mm: FloatArray) -> FloatArray:
    return 2.0 * np.sqrt(np.maximum(radius_mm**2 - offset_mm**2, 0.0))


@njit(cache=True, nogil=True, parallel=True)
def _sum_line(
    regions, pixel, theta, t_mm, offsets, share, chamber, depth_0, depth_step, n_depths, n_lattices,
    bins, shares, minor, mu, out, optical,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Walk along every ray in steps of at most a pixel; add path lengths to ``out``, ∫µ to ``optical``."""
    n = regions.shape[0]
    cosine, sine = math.cos(theta), math.sin(theta)
    for i in prange(len(t_mm)):
        for j in range(len(offsets)):
            t, weight = t_mm[i] + offsets[j], 1e3 * share[j]
            if abs(t) >= chamber:
                continue
            half = math.sqrt(chamber * chamber - t * t)
            steps = math.ceil(2.0 * half / pixel)
            length = 2.0 * half / steps
            current, first = -1, 0
            for k in range(steps + 1):
                region = -2
                if k < steps:
                    s = (k + 0.5) * length - half
                    column = math.floor((t * cosine - s * sine) / pixel + 0.5 * n)
                    row = n - 1 - math.floor((t * sine + s * cosine) / pixel + 0.5 * n)
                    inside = 0 <= row < n and 0 <= column < n
                    region = regions[row, column] if inside else 0
                if region == current:
                    continue
                if current >= 0:
                    path = (k - first) * length * weight
                    middle = 0.5 * (k + first) * length - half
                    optical[i] += mu[current] * path
                    _share_out(
                        out[i], path, (middle - depth_0) / depth_step, current,
                        n_depths, n_lattices, bins, shares, minor,
                    )  # fmt: skip
                current, first = region, k


@njit(cache=True, nogil=True)
def _share_out(row, path, place, region, n_depths, n_lattices, bins, shares, minor):  # type: ignore[no-untyped-def]
    """Add a stretch of one region to the materials it holds, at the two depths around its middle."""
    others = n_depths * n_lattices
    if region == 0:
        row[others + 3 * n_depths] += path
        return
    place = min(max(place, 0.0), n_depths - 1.0)
    low = min(int(place), n_depths - 2)
    upper = (place - low) * path
    lower = path - upper
    row[others + 2 * n_depths + low] += lower
    row[others + 2 * n_depths + low + 1] += upper
    if region == 1:
        return
    for j in range(4):
        row[low * n_lattices + bins[region, j]] += shares[region, j] * lower
        row[(low + 1) * n_lattices + bins[region, j]] += shares[region, j] * upper
    for j in range(2):
        row[others + j * n_depths + low] += minor[region, j] * lower
        row[others + j * n_depths + low + 1] += minor[region, j] * upper
