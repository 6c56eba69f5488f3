"""A region of interest inside a larger sample, freed of what surrounds it.

Rays of a region's scan pass through all of the sample. Wider and coarser scans of the same plane say
what lies outside: each is blanked within the next one's field, projected onto the region's rays in
every channel, and subtracted. Scans nest: a coarse scan that is itself narrower than the sample is
corrected by the same call, and its slice is then an `Outer` of the region.

The result carries figures of merit. The primary one compares rays that coincide in the region's and
an outer scan: their chords, summed over channels, must be the same (slope 1) at the same place
(no lag). The constancy of the corrected mass over angle is nearly blind to a wrong scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.scan import ScanGeometry

from ._batch import filtered_back_projection
from ._chords import ChordFigure, OuterRays, chord_sums, compare_chords
from ._outside import Outer, OutsideProjector, disc_radius_mm
from .sinogram import as_channels, fill_holes

__all__ = [
    "ChordFigure",
    "InteriorResult",
    "Outer",
    "OutsideProjector",
    "disc_radius_mm",
    "region_projector",
    "subtract_outside",
]

#: Verdict: largest departure of a chord slope from 1, beyond two standard deviations.
LARGEST_SLOPE_ERROR = 0.04
#: Verdict: largest share of an outer scan's lines that may be missing or bad.
LARGEST_MISSING_SHARE = 0.01
#: Verdict: largest spread of the corrected mass over angle, relative to its mean.
LARGEST_MOMENT_SPREAD = 0.1
#: Verdict: largest mean in parts declared empty, relative to the region's mean.
LARGEST_EMPTY_RESIDUAL = 0.1


@dataclass(frozen=True, slots=True)
class InteriorFigures:
    """What speaks for and against a corrected region of interest.

    Parameters
    ----------
    chords:
        One figure per outer scan, in the order given.
    moment_spread:
        Standard deviation over mean of the corrected mass per line, less the noise between lines.
    empty_residual:
        Mean of the corrected slice, summed over channels, in the parts declared empty, relative to
        its mean over the region; None where nothing was declared.
    reasons:
        What is wrong, a sentence each; empty for a good result.
    """

    chords: tuple[ChordFigure, ...]
    moment_spread: float
    empty_residual: float | None
    reasons: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Return "good" or "bad"."""
        return "bad" if self.reasons else "good"


@dataclass(frozen=True, slots=True, eq=False)
class InteriorResult:
    """A corrected region of interest, and its figures of merit.

    Parameters
    ----------
    sinogram:
        What was measured less what lies outside, ``(rotation, translation, bin)``.
    outside:
        What was subtracted, same shape.
    figures:
        What speaks for and against it.
    """

    sinogram: npt.NDArray[np.float32]
    outside: npt.NDArray[np.float32]
    figures: InteriorFigures

    @property
    def chords(self) -> tuple[ChordFigure, ...]:
        """One figure per outer scan, in the order given."""
        return self.figures.chords

    @property
    def moment_spread(self) -> float:
        """Relative spread of the corrected mass over angle."""
        return self.figures.moment_spread

    @property
    def empty_residual(self) -> float | None:
        """Relative mean in the parts declared empty; None where nothing was declared."""
        return self.figures.empty_residual

    @property
    def reasons(self) -> tuple[str, ...]:
        """What is wrong, a sentence each."""
        return self.figures.reasons

    @property
    def verdict(self) -> str:
        """Return "good" or "bad"."""
        return self.figures.verdict


def region_projector(
    roi_geometry: ScanGeometry, roi_axis_px: float, outers: Sequence[Outer]
) -> OutsideProjector:
    """Return the projector that corrects the lines of a region as they arrive.

    ``line - projector.line(rotation_deg)`` is a corrected line ``(translation, bin)``.
    """
    radius_mm = disc_radius_mm(roi_geometry, roi_axis_px)
    return OutsideProjector(outers, _from_axis_mm(roi_geometry, roi_axis_px), radius_mm)


def subtract_outside(
    roi_sinogram: npt.NDArray[np.floating[Any]],
    roi_geometry: ScanGeometry,
    roi_axis_px: float,
    outers: Sequence[Outer],
    *,
    empty: npt.NDArray[np.bool_] | None = None,
) -> InteriorResult:
    """Subtract from a region's sinogram what outer scans say lies outside of it.

    Parameters
    ----------
    roi_sinogram:
        ``(rotation, translation, bin)``, normalised by its monitor, nothing else subtracted.
    roi_geometry, roi_axis_px:
        Its scan; the axis is the same as the outer scans'.
    outers:
        From the widest to the narrowest; between them they hold the whole sample.
    empty:
        Pixels ``(y, x)`` of the region's slice in which there is known to be nothing.
    """
    measured = as_channels(roi_sinogram, roi_geometry.rotation_deg)
    if measured.shape[:2] != roi_geometry.shape:
        raise ProcessingError(f"the sinogram has shape {measured.shape}, its scan needs {roi_geometry.shape}")
    projector = region_projector(roi_geometry, roi_axis_px, outers)
    if projector.n_bins != measured.shape[2]:
        raise ProcessingError(
            f"the region has {measured.shape[2]} bins, the outer slices {projector.n_bins}; "
            "integrate them alike"
        )
    outside = np.stack([projector.line(angle) for angle in roi_geometry.rotation_deg])
    corrected = (measured - outside).astype(np.float32)
    figures = interior_figures(
        chord_sums(measured),
        chord_sums(corrected).sum(axis=1),
        roi_geometry,
        roi_axis_px,
        [OuterRays.of(outers[: k + 1]) for k in range(len(outers))],
        None if empty is None else _empty_residual(corrected, roi_geometry, roi_axis_px, empty),
    )
    return InteriorResult(sinogram=corrected, outside=outside, figures=figures)


def interior_figures(
    chords: npt.NDArray[np.float64],
    mass: npt.NDArray[np.float64],
    roi_geometry: ScanGeometry,
    roi_axis_px: float,
    rays: Sequence[OuterRays],
    empty_residual: float | None = None,
) -> InteriorFigures:
    """Return the figures of a region, of the lines that are there.

    Parameters
    ----------
    chords:
        Of the region as measured, summed over channels, ``(rotation, translation)``.
    mass:
        Corrected mass of each line, ``(rotation,)``.
    roi_geometry, roi_axis_px:
        The region's scan.
    rays:
        Of each outer scan.
    empty_residual:
        As in `InteriorFigures`.
    """
    compared = tuple(compare_chords(chords, roi_geometry, roi_axis_px, r) for r in rays)
    spread = _moment_spread(mass)
    return InteriorFigures(compared, spread, empty_residual, _reasons(compared, spread, empty_residual))


def _from_axis_mm(geometry: ScanGeometry, axis_px: float) -> npt.NDArray[np.float64]:
    columns = np.arange(geometry.shape[1], dtype=np.float64)
    return (columns - axis_px) * geometry.step_mm


def _moment_spread(mass: npt.NDArray[np.float64]) -> float:
    """Return the relative spread of the mass per line, less that from one line to the next.

    What an outer scan gets wrong lasts for several of the region's finer angles; counting noise does not.
    """
    mass = mass[np.isfinite(mass)]
    if mass.size < 3 or not mass.any():
        return 0.0
    noise = 0.5 * float(np.mean(np.square(np.diff(mass))))
    return float(np.sqrt(max(0.0, mass.var() - noise)) / abs(mass.mean()))


def _empty_residual(
    corrected: npt.NDArray[np.float32],
    geometry: ScanGeometry,
    axis_px: float,
    empty: npt.NDArray[np.bool_],
) -> float:
    n = geometry.shape[1]
    if empty.shape != (n, n) or not empty.any():
        raise ProcessingError(f"the empty part has shape {empty.shape}; give some pixels of ({n}, {n})")
    total = np.stack([fill_holes(line).sum(axis=1) for line in corrected])[:, :, np.newaxis]
    image = filtered_back_projection(total, geometry.rotation_deg, axis_px)[:, :, 0]
    y, x = np.mgrid[:n, :n] - axis_px
    disc = np.hypot(x, y) < 0.9 * min(axis_px, n - 1 - axis_px)
    return float(image[empty].mean() / image[disc].mean())


def _reasons(
    chords: Sequence[ChordFigure],
    moment_spread: float,
    empty_residual: float | None,
) -> tuple[str, ...]:
    reasons = []
    for k, figure in enumerate(chords, start=1):
        if not abs(figure.slope - 1) <= LARGEST_SLOPE_ERROR + 2 * figure.slope_sigma:
            reasons.append(
                f"outer scan {k}: its chords are {figure.slope:.3f} of the region's, not within "
                f"{LARGEST_SLOPE_ERROR:g} of 1; check exposure, monitor and scale"
            )
        if figure.is_shifted:
            reasons.append(
                f"outer scan {k}: it is shifted by {1e3 * figure.lag_mm:.1f} µm against the region; "
                "check the axis of both"
            )
        if figure.missing_share > LARGEST_MISSING_SHARE:
            reasons.append(
                f"outer scan {k}: {100 * figure.missing_share:.1f} % of its lines are missing or do not "
                "match; retake them"
            )
    if moment_spread > LARGEST_MOMENT_SPREAD:
        reasons.append(f"the corrected mass varies by {100 * moment_spread:.0f} % over the angles")
    if empty_residual is not None and abs(empty_residual) > LARGEST_EMPTY_RESIDUAL:
        reasons.append(f"parts declared empty hold {100 * empty_residual:.0f} % of the region's mean")
    return tuple(reasons)
