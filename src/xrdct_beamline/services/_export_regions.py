"""Which patterns an export holds: of voxels, particles, shells or the whole slice."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.results import Particles, RefinedMaps, RefinementStatus
from xrdct_beamline.processing.particles import depth_shells, measure, regions_of, segment
from xrdct_beamline.processing.regions import region_patterns
from xrdct_beamline.storage.export import PatternSet
from xrdct_beamline.storage.maps import read_maps
from xrdct_beamline.storage.nexus_reader import ProcessedRays, ProcessedSlice, read_processed, read_rays

__all__ = ["ParticleSettings", "Source"]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int32]

#: The lowest fifth of a pattern's bins is taken as its background, to find particles by what is left.
_BACKGROUND_PERCENTILE = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ParticleSettings:
    """How particles are found; see `processing.particles.segment`.

    Parameters
    ----------
    phase:
        Whose refined scale shows them; the first refined one by default, and what stands out of the
        background where nothing is refined.
    """

    phase: str | None = None
    threshold: float | None = None
    min_size_px: int = 12


class Source:
    """A processed file as exports see it."""

    def __init__(self, path: Path, settings: ParticleSettings) -> None:
        self.path, self._settings = path, settings
        self.data: ProcessedSlice = read_processed(path)

    @cached_property
    def rays(self) -> ProcessedRays:
        """What is known of the rays."""
        return read_rays(self.path)

    @cached_property
    def maps(self) -> RefinedMaps | None:
        """Refined maps, where there are any."""
        try:
            return read_maps(self.path)
        except DataError as error:
            logger.info("%s", error)
            return None

    @property
    def phase(self) -> str | None:
        """The phase that shows the particles; None where nothing is refined."""
        wanted = self._settings.phase
        if self.maps is None:
            if wanted is not None:
                raise DataError(f"{self.path} holds no refined maps of {wanted}; refine it, or name no phase")
            return None
        if wanted is not None and wanted not in self.maps.names:
            raise ConfigurationError(f"no maps of {wanted}; there are {', '.join(self.maps.names)}")
        return wanted or self.maps.names[0]

    @cached_property
    def labels(self) -> Labels:
        """The particles, ``(y, x)``."""
        settings = self._settings
        labels = segment(self._particle_map(), threshold=settings.threshold, min_size_px=settings.min_size_px)
        if not labels.any():
            raise DataError(
                f"no particle of {settings.min_size_px} pixels stands out in {self.path}; lower --threshold"
            )
        return labels

    def particles(self) -> Particles:
        """Return the table of the particles, with means of the refined maps where there are any."""
        maps, phase = self.maps, self.phase
        a_A = a_esd_A = scale = width = None
        if maps is not None and phase is not None:
            good = maps.status == RefinementStatus.CONVERGED
            a_A, scale, width = (
                np.where(good, values, np.nan) for values in (maps.a_A[phase], maps.scale[phase], maps.width)
            )
            a_esd_A = maps.a_esd_A[phase]
        return measure(
            self.labels,
            axis_px=self.axis_px,
            step_mm=self.data.step_mm,
            a_A=a_A,
            a_esd_A=a_esd_A,
            scale=scale,
            width=width,
        )

    @property
    def axis_px(self) -> float:
        """Column of the rotation axis, where x is 0."""
        return -(self.data.extent_mm[0] / self.data.step_mm + 0.5)

    def voxels(self, *, everything: bool) -> PatternSet:
        """Return the patterns of the voxels in particles, or of all that were measured."""
        data, axis = self.data, self.axis_px
        wanted = np.isfinite(data.intensity).any(axis=2)
        labels = np.zeros(wanted.shape, dtype=np.int32) if everything else self.labels
        if not everything:
            wanted &= labels > 0
        rows, columns = np.nonzero(wanted)
        table: dict[str, Any] = {
            "row": rows,
            "column": columns,
            "x_mm": np.round((columns - axis) * data.step_mm, 9),
            "y_mm": np.round((axis - rows) * data.step_mm, 9),
            "particle": labels[rows, columns],
        }
        names = [f"voxel_{row:04d}_{column:04d}" for row, column in zip(rows, columns, strict=True)]
        return self._set(names, data.intensity[rows, columns], data.sigma[rows, columns], table)

    def whole(self) -> PatternSet:
        """Return the mean pattern of the disc that every projection saw."""
        n, axis = self.data.intensity.shape[0], self.axis_px
        rows, columns = np.indices((n, n))
        disc = np.hypot(columns - axis, axis - rows) <= min(axis, n - 1 - axis)
        return self._regions(disc.astype(np.int32), ["slice"], {"n_pixels": [int(disc.sum())]}, None)

    def each_particle(self, blur_px: float | None) -> PatternSet:
        """Return the mean pattern of each particle."""
        found = measure(self.labels, axis_px=self.axis_px, step_mm=self.data.step_mm)
        table = {name: getattr(found, name) for name in ("label", "n_pixels", "x_mm", "y_mm", "radius_mm")}
        return self._regions(self.labels, [f"particle_{label:04d}" for label in found.label], table, blur_px)

    def each_shell(self, n_shells: int, blur_px: float | None) -> PatternSet:
        """Return the mean pattern of each depth shell of each particle."""
        shells = depth_shells(self.labels, n_shells)
        n = int(shells.max())
        regions = regions_of(self.labels, shells)
        present = np.unique(regions[regions > 0])
        particle, shell = (present - 1) // n + 1, (present - 1) % n + 1
        names = [f"particle_{p:04d}_shell_{s}" for p, s in zip(particle, shell, strict=True)]
        table: dict[str, Any] = {
            "particle": particle,
            "shell_from_surface": shell,
            "n_pixels": np.bincount(regions.ravel())[present],
        }
        return self._regions(regions, names, table, blur_px)

    def _regions(
        self, labels: Labels, names: Sequence[str], table: dict[str, Any], blur_px: float | None
    ) -> PatternSet:
        """Return mean patterns of regions with the sigma that the rays give them."""
        found = region_patterns(
            self.data.sinogram,
            labels,
            rotation_deg=self.rays.rotation_deg,
            axis_px=self.rays.axis_px,
            sigma=self.rays.sigma,
            blur_px=blur_px,
            image=self.data.intensity,
        )
        sigma = np.full_like(found.intensity, np.nan) if found.sigma is None else found.sigma
        return self._set(names, found.intensity, sigma, table)

    def _set(
        self, names: Sequence[str], intensity: FloatArray, sigma: FloatArray, table: dict[str, Any]
    ) -> PatternSet:
        return PatternSet(
            names=names,
            radial=np.asarray(self.data.radial, dtype=np.float64),
            unit=self.data.unit,
            intensity=intensity,
            sigma=sigma,
            columns=table,
            source=self.path.name,
        )

    def _particle_map(self) -> FloatArray:
        phase = self.phase
        if self.maps is not None and phase is not None:
            return self.maps.scale[phase]
        bins = np.isfinite(self.data.intensity).all(axis=(0, 1))
        if not bins.any():
            raise DataError(f"{self.path} has no bin that every voxel has; wait for the end of the slice")
        intensity = self.data.intensity[:, :, bins]
        background = np.percentile(intensity, _BACKGROUND_PERCENTILE, axis=2)
        return np.asarray(intensity.mean(axis=2) - background)
