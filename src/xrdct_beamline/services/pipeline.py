"""The callbacks of live processing and of a replay, wired together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xrdct_beamline.callbacks.cell_recorder import CellHistory, CellRecorder
from xrdct_beamline.callbacks.line_integrator import LineIntegrator
from xrdct_beamline.callbacks.map_builder import MapBuilder
from xrdct_beamline.callbacks.map_settings import MapSettings
from xrdct_beamline.callbacks.scan_recorder import ScanRecorder
from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.callbacks.sinks import Sinks
from xrdct_beamline.callbacks.slice_processor import SliceProcessor
from xrdct_beamline.display.snapshot import SnapshotStore
from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.errors import ConfigurationError, XrdctError
from xrdct_beamline.processing import reconstruction
from xrdct_beamline.processing.integration import Integrator
from xrdct_beamline.storage.raw import Hdf5Frames

from .alerts import AlertSettings
from .masters import write_beside_lines
from .outer_scans import ProcessedScans
from .sinks import NexusSink, SnapshotSink

__all__ = ["LiveSettings", "Pipeline", "checked_output", "warm_up"]

logger = logging.getLogger(__name__)

#: Any detector serves to compile the kernels; this one is small.
_SMALL_PONI = """poni_version: 2
Detector: Detector
Detector_config: {"pixel1": 0.001, "pixel2": 0.001, "max_shape": [8, 8]}
Distance: 0.1
Poni1: 0.004
Poni2: 0.004
Rot1: 0
Rot2: 0
Rot3: 0
Wavelength: 2.5e-11
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSettings:
    """What live processing does.

    Parameters
    ----------
    processing:
        What becomes of the frames.
    phases:
        Shipped phases whose reflections the page marks.
    title:
        What the page calls the experiment.
    poll_s:
        How often the journal is looked at while nothing happens.
    slice_every_lines:
        How often the growing slice is written.
    maps:
        What is refined in each voxel; None refines nothing.
    alerts:
        Who is told of what goes wrong; None tells nobody.
    search:
        Folders in which raw files are looked for when their recorded path is gone.
    """

    processing: ProcessingSettings = field(default_factory=ProcessingSettings)
    phases: tuple[str, ...] = ("LiMn2O4", "lambda-MnO2", "Al")
    title: str = ""
    poll_s: float = 0.02
    slice_every_lines: int = 50
    maps: MapSettings | None = None
    alerts: AlertSettings | None = None
    search: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not 0.001 <= self.poll_s <= 0.05:
            raise ConfigurationError(f"poll_s is {self.poll_s:g} s; it must lie between 0.001 and 0.05 s")
        if self.slice_every_lines < 1:
            raise ConfigurationError(f"slice_every_lines is {self.slice_every_lines}; at least 1 is needed")


class Pipeline:
    """Takes documents, gives processed files and snapshots; never raises on a document.

    Parameters
    ----------
    output_dir:
        Folder of the processed files; `checked_output` has seen it.
    settings:
        What is done.
    store:
        Where snapshots go.
    on_slice:
        Called with the path of each processed file that has been ended.
    integrator:
        Who integrates the lines; by default this process.
    """

    def __init__(
        self,
        output_dir: Path,
        settings: LiveSettings,
        store: SnapshotStore,
        on_slice: Callable[[Path], None] | None = None,
        integrator: LineIntegrator | None = None,
    ) -> None:
        self._files = NexusSink(output_dir, settings.slice_every_lines, on_slice, settings.maps)
        self._page = SnapshotSink(store, output_dir, settings.phases, settings.title, settings.maps)
        self._maps = None if settings.maps is None else MapBuilder(settings.maps, self._page.refined)
        maps = [] if self._maps is None else [self._maps]
        self._slices = SliceProcessor(
            Hdf5Frames(settings.search),
            Sinks([*maps, self._files, self._page]),
            settings.processing,
            outer_scans=ProcessedScans(output_dir),
            integrator=integrator,
        )
        self._cell = CellRecorder(self._see_cell)
        self._history: CellHistory | None = None
        self._scans = ScanRecorder(write_beside_lines, lambda: self._history)

    @property
    def paths(self) -> Sequence[Path]:
        """Processed files, in the order in which their runs began."""
        return tuple(self._files.paths)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Process one document; what goes wrong is logged and shown."""
        for callback in (self._cell, self._slices, self._scans):
            try:
                callback(name, doc)
            except XrdctError as error:
                logger.error("%s", error)
                self._page.message(str(error))
            except Exception as error:  # one document must not end the service
                logger.exception("a %s could not be processed", name)
                self._page.message(f"a {name} could not be processed ({type(error).__name__}: {error})")

    def idle(self) -> bool:
        """Nothing is waiting: show what catching up has skipped, refine a piece of the newest slice.

        Returns whether there was something to do, and may be more.
        """
        self._page.show_last_finished()
        return self._maps is not None and self._maps.step()

    def _see_cell(self, history: CellHistory) -> None:
        self._history = history
        self._page.cell(history)

    def finish(self) -> None:
        """No more documents will ever come: close the slices that have no end, as they are."""
        self._slices.close()

    def close(self) -> None:
        """Stop here; slices that still grow are gone on with by the next process."""
        self._files.close()


def warm_up(settings: LiveSettings) -> None:
    """Compile the kernels, or load them, before the first line needs them."""
    detector = DetectorGeometry(poni_text=_SMALL_PONI)
    arguments = {**settings.processing.integrator_arguments(), "bins": 4, "radial_range": None}
    Integrator(detector, **arguments).warm_up()
    reconstruction.warm_up()
    if settings.maps is not None:
        settings.maps.warm_up()


def checked_output(output_dir: Path | str) -> Path:
    """Make the output folder and prove that it can be written.

    Raises
    ------
    ConfigurationError
        If it cannot.
    """
    folder = Path(output_dir)
    probe = folder / ".xrdct-write-test"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"the output folder {folder} cannot be written: {error.strerror}; choose another"
        ) from error
    return folder
