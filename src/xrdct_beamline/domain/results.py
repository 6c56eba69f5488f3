"""What processing hands on: arrays with their axes, their sigma and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["AxisEstimate", "LatticeHistogram", "Particles", "Pattern", "RegionPatterns"]

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A powder pattern.

    Parameters
    ----------
    radial:
        Bin centres in ``unit``, shape ``(bin,)``.
    intensity, sigma:
        Counts per pixel, normalised; NaN where a bin has no valid pixel.
    n_pixels:
        Valid pixels of each bin, before any rejection.
    unit:
        pyFAI's name of the radial unit.
    """

    radial: npt.NDArray[np.float64]
    intensity: FloatArray
    sigma: FloatArray
    n_pixels: npt.NDArray[np.int64]
    unit: str = "2th_deg"


@dataclass(frozen=True, slots=True, kw_only=True)
class AxisEstimate:
    """Column of the rotation axis in a sinogram, in pixels, and whether two estimators agree on it."""

    axis_px: float
    uncertainty_px: float
    agrees: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Particles:
    """Properties of the particles of one map, one entry each, in the order of ``label``.

    Parameters
    ----------
    label:
        Number of the particle in the map of labels.
    n_pixels, area_mm2:
        Its size.
    x_mm, y_mm:
        Its centroid from the rotation axis: x to the right, y up in the slice.
    radius_mm:
        Of the circle of the same area.
    touches_edge:
        Whether it reaches the edge of the map, so that some of it may be missing.
    a_A, a_esd_A, a_spread_A:
        Mean lattice parameter, esd of the mean, standard deviation over the pixels; NaN where
        unknown.
    scale, scale_esd, width, width_esd:
        Means over the pixels and their esds from the scatter; NaN where unknown.
    """

    label: npt.NDArray[np.int64]
    n_pixels: npt.NDArray[np.int64]
    area_mm2: npt.NDArray[np.float64]
    x_mm: npt.NDArray[np.float64]
    y_mm: npt.NDArray[np.float64]
    radius_mm: npt.NDArray[np.float64]
    touches_edge: npt.NDArray[np.bool_]
    a_A: npt.NDArray[np.float64]
    a_esd_A: npt.NDArray[np.float64]
    a_spread_A: npt.NDArray[np.float64]
    scale: npt.NDArray[np.float64]
    scale_esd: npt.NDArray[np.float64]
    width: npt.NDArray[np.float64]
    width_esd: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.label.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionPatterns:
    """Mean patterns of regions of a slice, with the sigma of the region.

    Parameters
    ----------
    label:
        Number of each region.
    n_pixels:
        Its size; the sum of the region is the mean times this.
    intensity, sigma:
        ``(region, bin)``, of the mean; sigma is None where the sinogram had none.
    correlation:
        ``(region, region)``: of the noise of the regions, averaged over the bins. Neighbours are
        anti-correlated in a slice from filtered back-projection.
    """

    label: npt.NDArray[np.int64]
    n_pixels: npt.NDArray[np.float64]
    intensity: npt.NDArray[np.float64]
    sigma: npt.NDArray[np.float64] | None
    correlation: npt.NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatticeHistogram:
    """How often lattice parameters occur.

    Parameters
    ----------
    edges_A:
        Of the bins, ascending.
    counts, by_scale, by_precision:
        Voxels, sum of their scales, and sum of their 1/esd² in each bin; the last two are NaN where
        the maps were not given.
    below, above:
        Voxels beyond the first and the last edge.
    window_A:
        The range that is watched: the paper's non-characteristic one.
    fraction, fraction_esd, fraction_by_scale, fraction_by_precision:
        Share of the voxels within the window, its esd from the esds of the voxels, and the weighted
        shares; NaN where unknown.
    """

    edges_A: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    by_scale: npt.NDArray[np.float64]
    by_precision: npt.NDArray[np.float64]
    below: int
    above: int
    window_A: tuple[float, float]
    fraction: float
    fraction_esd: float
    fraction_by_scale: float
    fraction_by_precision: float

    @property
    def n_voxels(self) -> int:
        """Voxels with a lattice parameter, those beyond the edges included."""
        return int(self.counts.sum()) + self.below + self.above


class RefinementStatus(IntEnum):
    """What became of one voxel's fit."""

    CONVERGED = 0
    #: No phase stands out of the noise.
    NO_SIGNAL = 1
    #: A cell ended on one of its limits; its numbers are those at the limit.
    AT_LIMIT = 2
    #: The fit did not settle, or the voxel has too few numbers.
    FAILED = 3
    #: The voxel holds no number, or the refinement was stopped before it.
    NOT_MEASURED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinedMaps:
    """What a refinement found, voxel by voxel; every array has the leading shape of the patterns.

    Parameters
    ----------
    names:
        The phases, in the order of the model; the keys of all mappings.
    cell, cell_esd:
        ``(…, 6)``: lengths in ångström, angles in degrees. NaN where the phase does not stand out of the
        noise; the esd is NaN also of what was held.
    scale, scale_esd:
        Factor of the phase's calculated pattern; 0 where the fit found none of it.
    mass_fraction, mass_fraction_esd:
        Share of the crystalline mass, Hill and Howard (1987); NaN where all scales are 0.
    background:
        Chebyshev coefficients ``(…, n)`` over the range of the pattern.
    width, width_esd:
        Lorentzian width of the sample in degrees, NaN unless it was free.
    rwp:
        Weighted profile R-factor, as a fraction, of the weights used.
    status:
        `RefinementStatus` as int8.
    """

    names: tuple[str, ...]
    cell: Mapping[str, npt.NDArray[np.float64]]
    cell_esd: Mapping[str, npt.NDArray[np.float64]]
    scale: Mapping[str, npt.NDArray[np.float64]]
    scale_esd: Mapping[str, npt.NDArray[np.float64]]
    mass_fraction: Mapping[str, npt.NDArray[np.float64]]
    mass_fraction_esd: Mapping[str, npt.NDArray[np.float64]]
    background: npt.NDArray[np.float64]
    width: npt.NDArray[np.float64]
    width_esd: npt.NDArray[np.float64]
    rwp: npt.NDArray[np.float64]
    status: npt.NDArray[np.int8]

    @property
    def shape(self) -> tuple[int, ...]:
        """Leading shape of the patterns."""
        return self.status.shape

    @property
    def a_A(self) -> Mapping[str, npt.NDArray[np.float64]]:  # noqa: N802
        """Lattice parameter a by phase, in ångström."""
        return {name: self.cell[name][..., 0] for name in self.names}

    @property
    def a_esd_A(self) -> Mapping[str, npt.NDArray[np.float64]]:  # noqa: N802
        """Its standard deviation by phase, in ångström."""
        return {name: self.cell_esd[name][..., 0] for name in self.names}
