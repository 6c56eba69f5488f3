"""The plane of the electrode that the beam crosses: what lies at each micrometre of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from xrdct_beamline.domain.errors import ConfigurationError

from .packing import Disc, Particle, pack_particles

__all__ = [
    "MATRIX",
    "OUTSIDE",
    "PAPER_MEDIAN_RADIUS_MM",
    "Disc",
    "Electrode",
    "Particle",
    "make_electrode",
    "rasterise",
]

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]

#: Regions of the raster that hold no particle: electrolyte around the disc; binder, carbon and
#: pores within it. Particles' regions follow.
OUTSIDE, MATRIX = 0, 1

#: Median radius of the particles in the published electrode (diameters up to about 20 µm).
PAPER_MEDIAN_RADIUS_MM = 0.004

#: Agglomerates of this size are still seen by rays that sample the slice every 20 µm.
DEMO_MEDIAN_RADIUS_MM = 0.05

#: Solid share of a particle; the rest is its pores.
SOLID_FRACTION = 0.95

#: Depth shells of a particle, by kind: those whose composition depends on depth have several.
_SHELLS = {"Li-rich": 12, "bulk": 4}


@dataclass(frozen=True, kw_only=True, eq=False)
class Electrode:
    """A slice of the electrode as rasters of square pixels, axes as images have them.

    Pixel ``(row, column)`` is centred on x = (column − (n−1)/2) · pixel, y = ((n−1)/2 − row) · pixel
    in the sample's frame; the rotation axis is x = y = 0.

    Parameters
    ----------
    regions:
        What each pixel belongs to: OUTSIDE, MATRIX, or a depth shell of a particle.
    labels:
        Particle of each pixel, counted from 1; 0 where there is none.
    depth_mm:
        Distance from the particle's surface; 0 outside of particles.
    particles:
        Label k belongs to ``particles[k - 1]``.
    region_particle, region_depth:
        For each region its particle (from 0; −1 for none) and the relative depth of its middle,
        0 at the surface and 1 at the core.
    """

    pixel_mm: float
    chamber_radius_mm: float
    disc: Disc
    particles: tuple[Particle, ...]
    regions: IntArray
    labels: IntArray
    depth_mm: npt.NDArray[np.float32]
    region_particle: IntArray
    region_depth: FloatArray

    @property
    def region_volume(self) -> FloatArray:
        """Pixels of each region."""
        return np.bincount(self.regions.ravel(), minlength=len(self.region_particle)).astype(np.float64)

    def density_map(self, step_mm: float, n: int) -> FloatArray:
        """Return the volume fraction of particle material, averaged over each voxel.

        Shape ``(n, n)``, axes ``(y, x)``: x = (column − (n−1)/2) · step, y = ((n−1)/2 − row) · step.
        """
        return self.average(SOLID_FRACTION * (self.region_particle >= 0), step_mm, n)

    def average(self, region_values: npt.ArrayLike, step_mm: float, n: int) -> FloatArray:
        """Return a quantity that is uniform within regions, averaged over voxels as in `density_map`."""
        values = np.asarray(region_values, dtype=np.float64)
        per_voxel = max(1, round(step_mm / self.pixel_mm))
        place = ((np.arange(n * per_voxel) + 0.5) / per_voxel - n / 2) * step_mm
        middle = self.regions.shape[0] / 2
        index = np.floor(place / self.pixel_mm + middle).astype(np.intp)
        inside = (index >= 0) & (index < self.regions.shape[0])
        fine = np.full((len(place), len(place)), values[OUTSIDE])
        rows = self.regions.shape[0] - 1 - index[::-1]  # y falls with the row
        fine[np.ix_(inside[::-1], inside)] = values[self.regions[np.ix_(rows[inside[::-1]], index[inside])]]
        return fine.reshape(n, per_voxel, n, per_voxel).mean(axis=(1, 3))


def make_electrode(
    seed: int,
    *,
    pixel_mm: float = 0.001,
    radius_mm: float = 0.5,
    chamber_radius_mm: float = 0.6,
    median_particle_radius_mm: float = DEMO_MEDIAN_RADIUS_MM,
    radius_spread: float = 0.35,
    area_fraction: float = 0.75,
    interest_radius_mm: float | None = None,
) -> Electrode:
    """Return a seeded electrode of particles of a size distribution.

    Parameters
    ----------
    seed:
        The same seed and sizes give the same electrode.
    pixel_mm:
        Pixel of the raster: about the width of the beam.
    radius_mm, chamber_radius_mm:
        Of the disc, and of the chamber in which it lies.
    median_particle_radius_mm, radius_spread:
        Log-normal distribution of the particles' radii.
    area_fraction:
        Area of the circles around the particles that are offered to the packing, over the disc's;
        those that find no place are left out.
    interest_radius_mm:
        Of Particle 1 (Particle 2 is a tenth smaller); by default 1.4 times the median.
    """
    disc = Disc(
        radius_mm=radius_mm, x_mm=0.04 * radius_mm, y_mm=-0.06 * radius_mm, chip_depth_mm=0.2 * radius_mm
    )
    particles = pack_particles(
        np.random.default_rng(seed),
        disc,
        median_mm=median_particle_radius_mm,
        spread=radius_spread,
        area_fraction=area_fraction,
        interest_mm=interest_radius_mm,
    )
    return rasterise(particles, disc=disc, pixel_mm=pixel_mm, chamber_radius_mm=chamber_radius_mm)


def rasterise(
    particles: Sequence[Particle], *, disc: Disc, pixel_mm: float = 0.001, chamber_radius_mm: float = 0.6
) -> Electrode:
    """Draw particles into rasters; where they overlap the earlier one stays.

    Raises
    ------
    ConfigurationError
        If the disc does not fit into the chamber, or the pixel is not small against it.
    """
    _check_fit(disc, pixel_mm, chamber_radius_mm)
    n = 2 * math.ceil(chamber_radius_mm / pixel_mm)
    axis: FloatArray = (np.arange(n, dtype=np.float64) - (n - 1) / 2) * pixel_mm
    labels, depth_mm = np.zeros((n, n), np.int32), np.zeros((n, n), np.float32)
    regions = np.where(disc.margin_mm(axis[None, :], -axis[:, None]) > 0, MATRIX, OUTSIDE).astype(np.int32)
    owners, depths = [-1, -1], [0.0, 0.0]
    for number, particle in enumerate(particles):
        window = _window(particle, axis)
        mask = _inside(particle, axis, window) & (labels[window] == 0)
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        shells = _SHELLS.get(particle.kind, 1)
        shell = np.minimum((depth / max(depth.max(), 1.0) * shells).astype(np.int32), shells - 1)
        labels[window][mask] = number + 1
        depth_mm[window][mask] = depth[mask] * pixel_mm
        regions[window][mask] = len(owners) + shell[mask]
        owners += [number] * shells
        depths += [(s + 0.5) / shells for s in range(shells)]
    return Electrode(
        pixel_mm=pixel_mm,
        chamber_radius_mm=chamber_radius_mm,
        disc=disc,
        particles=tuple(particles),
        regions=regions,
        labels=labels,
        depth_mm=depth_mm,
        region_particle=np.array(owners, np.int32),
        region_depth=np.array(depths),
    )


def _check_fit(disc: Disc, pixel_mm: float, chamber_radius_mm: float) -> None:
    if not 0 < pixel_mm <= chamber_radius_mm / 10:
        raise ConfigurationError(
            f"pixel_mm is {pixel_mm:g}; it must be above 0, and at most {chamber_radius_mm / 10:g}"
        )
    if disc.radius_mm + math.hypot(disc.x_mm, disc.y_mm) > chamber_radius_mm:
        raise ConfigurationError(
            f"the disc of radius {disc.radius_mm:g} mm at ({disc.x_mm:g}, {disc.y_mm:g}) mm does not fit "
            f"into the chamber of radius {chamber_radius_mm:g} mm"
        )


def _window(particle: Particle, axis: FloatArray) -> tuple[slice, slice]:
    pixel_mm, n = axis[1] - axis[0], len(axis)
    half = math.ceil(particle.radius_mm / pixel_mm) + 2
    row = round((n - 1) / 2 - particle.y_mm / pixel_mm)
    column = round((n - 1) / 2 + particle.x_mm / pixel_mm)
    return (
        slice(max(row - half, 0), min(row + half + 1, n)),
        slice(max(column - half, 0), min(column + half + 1, n)),
    )


def _inside(particle: Particle, axis: FloatArray, window: tuple[slice, slice]) -> npt.NDArray[np.bool_]:
    dy = -axis[window[0]][:, None] - particle.y_mm
    dx = axis[window[1]][None, :] - particle.x_mm
    return np.hypot(dx, dy) < particle.outline_mm(np.arctan2(dy, dx))
