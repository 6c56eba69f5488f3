"""Mass fractions of regions, and how a quantity changes with depth.

Patterns of regions come from `regions.region_patterns` with the sigma of the region; the refinement
weighs by it, and its mass fractions are those of Hill and Howard (J. Appl. Cryst. 20 (1987) 467).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.results import RefinedMaps, RegionPatterns

from .particles import depth_below_surface
from .refinement import PatternModel, refine
from .regions import region_patterns

__all__ = [
    "Gradient",
    "Quantified",
    "gradient",
    "mass_fractions",
    "region_depths",
    "region_patterns",
]

FloatArray = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.integer[Any]]

#: Below this probability of chance a quantity is not constant.
_SIGNIFICANT = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient:
    """A straight line through a quantity over depth, beside a constant.

    Parameters
    ----------
    slope, slope_esd:
        Per unit of depth, towards the core.
    surface, surface_esd:
        The line at depth 0.
    mean, mean_esd:
        The best constant.
    chance_of_constant:
        How likely a constant quantity scatters this much or more (χ²).
    chance_of_line:
        The same of one that follows a line; NaN for two points.
    """

    slope: float
    slope_esd: float
    surface: float
    surface_esd: float
    mean: float
    mean_esd: float
    chance_of_constant: float
    chance_of_line: float

    @property
    def is_flat(self) -> bool:
        """Whether a constant explains the values, at 1 %."""
        return self.chance_of_constant > _SIGNIFICANT


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantified:
    """Phases of regions.

    Parameters
    ----------
    label, n_pixels:
        Of each region, as in the patterns.
    maps:
        What was refined, one entry per region: mass fractions, cells, scales with their esds.
    correlation:
        ``(region, region)`` of the noise, for `gradient`.
    """

    label: npt.NDArray[np.int64]
    n_pixels: npt.NDArray[np.float64]
    maps: RefinedMaps
    correlation: npt.NDArray[np.float64] | None

    def weight_percent(self, phase: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the mass fraction of a phase in each region and its esd, in percent."""
        return 100.0 * self.maps.mass_fraction[phase], 100.0 * self.maps.mass_fraction_esd[phase]


def mass_fractions(
    patterns: RegionPatterns, model: PatternModel, *, stop: threading.Event | None = None
) -> Quantified:
    """Refine the patterns of regions with all phases of a model, weighed by the regions' own sigma.

    Where lattice parameters vary within a region, give the model a free width. Mass fractions share
    out what the model's phases explain; what is amorphous or not in the model does not count. Their
    esds hold counting noise alone: structures that differ from the CIFs add errors that they do not show.
    """
    maps = refine(patterns.intensity, model, sigma=patterns.sigma, stop=stop)
    return Quantified(
        label=patterns.label, n_pixels=patterns.n_pixels, maps=maps, correlation=patterns.correlation
    )


def region_depths(regions: Labels, particles: Labels) -> npt.NDArray[np.float64]:
    """Return the mean depth of each region below the surface of its particle, in pixels.

    In the order of the labels of the regions, ``(y, x)`` both; the depth of a pixel is that of its centre.
    """
    if regions.shape != particles.shape:
        raise ProcessingError(
            f"regions of shape {regions.shape} and particles of {particles.shape} do not match"
        )
    depth = depth_below_surface(particles)
    names = np.unique(regions[regions > 0])
    index = np.searchsorted(names, regions[regions > 0])
    return np.bincount(index, depth[regions > 0]) / np.bincount(index)


def gradient(
    depth: npt.ArrayLike,
    value: npt.ArrayLike,
    esd: npt.ArrayLike,
    correlation: npt.ArrayLike | None = None,
) -> Gradient:
    """Fit a line and a constant to values over depth, by generalised least squares.

    Parameters
    ----------
    depth:
        Of each shell, in any unit: that of the slope.
    value, esd:
        Shells with a NaN are left out.
    correlation:
        ``(shell, shell)`` of the values' noise, such as `Quantified.correlation`; none without.
    """
    x, y, s = (np.asarray(v, dtype=np.float64) for v in (depth, value, esd))
    if not x.shape == y.shape == s.shape or x.ndim != 1:
        raise ProcessingError(f"depth, value and esd need one shape, got {x.shape}, {y.shape}, {s.shape}")
    known = np.isfinite(x) & np.isfinite(y) & np.isfinite(s) & (s > 0)
    if known.sum() < 2 or np.ptp(x[known]) == 0:
        raise ProcessingError(
            f"a gradient needs two depths with a value and its esd, {int(known.sum())} are known; "
            "make fewer or larger shells"
        )
    full = np.eye(x.size) if correlation is None else np.asarray(correlation, dtype=np.float64)
    if full.shape != (x.size, x.size):
        raise ProcessingError(
            f"the correlation has shape {full.shape}, {x.size} values need {x.size} × {x.size}"
        )
    covariance = full[np.ix_(known, known)] * np.outer(s[known], s[known])
    line, line_cov, line_chi2 = _least_squares(
        np.column_stack([np.ones(known.sum()), x[known]]), y[known], covariance
    )
    flat, flat_cov, flat_chi2 = _least_squares(np.ones((int(known.sum()), 1)), y[known], covariance)
    n = int(known.sum())
    return Gradient(
        slope=float(line[1]),
        slope_esd=float(np.sqrt(line_cov[1, 1])),
        surface=float(line[0]),
        surface_esd=float(np.sqrt(line_cov[0, 0])),
        mean=float(flat[0]),
        mean_esd=float(np.sqrt(flat_cov[0, 0])),
        chance_of_constant=float(chdtrc(n - 1, flat_chi2)),
        chance_of_line=float(chdtrc(n - 2, line_chi2)) if n > 2 else np.nan,
    )


def _least_squares(
    design: npt.NDArray[np.float64], y: npt.NDArray[np.float64], covariance: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Return parameters, their covariance and χ²."""
    weighted = np.linalg.solve(covariance, design)
    own = np.linalg.inv(design.T @ weighted)
    found = own @ (weighted.T @ y)
    residual = y - design @ found
    return found, own, float(residual @ np.linalg.solve(covariance, residual))
