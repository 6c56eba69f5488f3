"""A region of interest freed of what surrounds it while it is measured, line by line.

Outer scans come first. From their sinograms the corrector makes their slices once, each freed of what
the wider ones say lies outside of it, and projects them on each line of the region as it arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.scan import ScanGeometry

from ._batch import filtered_back_projection
from ._chords import OuterRays, chord_sums
from .interior import InteriorFigures, Outer, interior_figures, region_projector
from .sinogram import measured_bins, without_bad_lines

__all__ = ["OuterScan", "RegionCorrector"]

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class OuterScan:
    """A wider scan around a region, as it was measured.

    Parameters
    ----------
    sinogram:
        ``(rotation, translation, bin)``, nothing subtracted; NaN where not measured.
    geometry, axis_px:
        Where its rays were.
    scale:
        Counts of the region's scan per count of this one.
    """

    sinogram: npt.NDArray[np.floating[Any]]
    geometry: ScanGeometry
    axis_px: float
    scale: float = 1.0


class RegionCorrector:
    """Says of each line of a region what lies outside, and keeps the figures of merit.

    Memory: the outer slices in float32 (81 × 81 × 1000: 26 MB each), one number per ray of the region,
    and while it is made 0.2 GB for two such scans. Bins that an outer scan has not measured are NaN
    in what lies outside.

    Parameters
    ----------
    geometry, axis_px:
        The region's scan.
    scans:
        From the widest to the narrowest.
    """

    def __init__(self, geometry: ScanGeometry, axis_px: float, scans: Sequence[OuterScan]) -> None:
        self._geometry = geometry
        self._axis_px = axis_px
        if not scans:
            raise ProcessingError("a region of interest needs at least one outer scan around it")
        if len({scan.sinogram.shape[2] for scan in scans}) > 1:
            raise ProcessingError("the outer scans have different numbers of bins; integrate them alike")
        self._bins = np.logical_and.reduce([measured_bins(s.sinogram).any(axis=0) for s in scans])
        if not self._bins.any():
            raise ProcessingError("no bin was measured by all outer scans; integrate them alike")
        outers: list[Outer] = []
        self._rays: list[OuterRays] = []
        for scan in scans:
            outers.append(_as_outer(scan, self._bins, outers))
            self._rays.append(OuterRays.of(outers[-1:]))
        self._projector = region_projector(geometry, axis_px, outers)
        self._chords = np.full(geometry.shape, np.nan)
        self._mass = np.full(geometry.shape[0], np.nan)

    def outside(self, rotation_index: int, line: npt.NDArray[np.floating[Any]]) -> Float32Array:
        """Return what lies outside in a measured line ``(translation, bin)``: subtract it.

        The line counts in the figures; the same one again replaces it.
        """
        if line.shape != (self._geometry.shape[1], self._bins.size):
            raise ProcessingError(
                f"the region's line has shape {line.shape}, its outer scans need "
                f"{(self._geometry.shape[1], self._bins.size)} (translation, bin); integrate them alike"
            )
        known = self._projector.line(self._geometry.rotation_deg[rotation_index])
        chords = chord_sums(line if self._bins.all() else line[:, self._bins])
        self._chords[rotation_index] = chords
        self._mass[rotation_index] = (chords - known.sum(axis=1, dtype=np.float64)).sum()
        if self._bins.all():
            return known
        outside = np.full(line.shape, np.nan, np.float32)
        outside[:, self._bins] = known
        return outside

    def figures(self) -> InteriorFigures:
        """Return the figures of merit of the lines so far."""
        return interior_figures(self._chords, self._mass, self._geometry, self._axis_px, self._rays)


def _as_outer(scan: OuterScan, bins: npt.NDArray[np.bool_], wider: Sequence[Outer]) -> Outer:
    """Return an outer scan with its slice, freed of what the wider ones say lies outside of it."""
    measured = scan.sinogram[:, :, bins]
    lines, angles = without_bad_lines(measured, scan.geometry.rotation_deg)
    if wider:
        on_its_scale = [replace(outer, scale=outer.scale / scan.scale) for outer in wider]
        projector = region_projector(scan.geometry, scan.axis_px, on_its_scale)
        lines = np.stack([line - projector.line(a) for line, a in zip(lines, angles, strict=True)])
    image = filtered_back_projection(lines, angles, scan.axis_px)
    return Outer(image, scan.geometry, scan.axis_px, measured, scan.scale)
