"""Lattice maps of processed files, refined anew: with other phases, ranges or instruments."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xrdct_beamline.callbacks.map_settings import MapSettings
from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.results import RefinedMaps, RefinementStatus
from xrdct_beamline.processing.refinement import BlockPool, refine
from xrdct_beamline.storage.maps import MapsHeader, write_maps_file
from xrdct_beamline.storage.nexus_reader import ProcessedSlice, read_poni, read_processed
from xrdct_beamline.storage.whole import check_free

__all__ = ["RefinedFile", "refine_file"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinedFile:
    """What was written.

    Parameters
    ----------
    output:
        The file.
    maps:
        What it holds.
    interrupted:
        Whether the refinement was stopped before its end; the voxels after that are not measured.
    """

    output: Path
    maps: RefinedMaps
    interrupted: bool

    def counts(self) -> dict[str, int]:
        """Return how many voxels came to each end."""
        return {
            status.name.lower().replace("_", " "): int((self.maps.status == status).sum())
            for status in RefinementStatus
        }


def refine_file(
    path: Path,
    output: Path,
    settings: MapSettings,
    *,
    force: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    pool: BlockPool | None = None,
) -> RefinedFile:
    """Refine each voxel of a processed file's slice, and write the maps into a file of their own.

    Parameters
    ----------
    path:
        Processed file; it stays as it is.
    output:
        New NeXus file.
    settings:
        Phases, instrument and range.
    force:
        Replace the output if it is there.
    progress, stop, pool:
        As in `processing.refinement.refine`.

    Raises
    ------
    ConfigurationError
        If the output is there already, or phases and instrument do not fit the data.
    DataError
        If the file holds no slice.
    """
    if output.exists() and path.exists() and output.samefile(path):
        raise ConfigurationError(f"{output} is the file to be refined; choose another name")
    check_free(output, force=force)
    found = read_processed(path)
    detector = DetectorGeometry(poni_text=read_poni(path))
    bins = settings.bins_of(found.radial)
    model = settings.model(found.radial[bins], detector.wavelength_A, found.unit)
    stop = stop or threading.Event()
    maps = refine(
        np.ascontiguousarray(found.intensity[..., bins]),
        model,
        np.ascontiguousarray(found.sigma[..., bins]),
        threads=threads,
        progress=progress,
        stop=stop,
        pool=pool,
    )
    write_maps_file(output, maps, _header(path, found, settings))
    return RefinedFile(output=output, maps=maps, interrupted=stop.is_set())


def _header(path: Path, found: ProcessedSlice, settings: MapSettings) -> MapsHeader:
    x0, x1, y0, y1 = found.extent_mm
    n_y, n_x = found.intensity.shape[:2]
    half = found.step_mm / 2
    return MapsHeader(
        source=path,
        y_mm=np.linspace(y1 - half, y0 + half, n_y),
        x_mm=np.linspace(x0 + half, x1 - half, n_x),
        settings=settings.to_metadata(),
    )
