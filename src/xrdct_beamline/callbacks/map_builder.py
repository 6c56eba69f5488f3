"""Lattice maps of a slice that grows: refined a piece at a time, while no line is waiting.

The maps follow the slice on the same thread. A piece takes a fraction of a second and is only begun
when nothing else is to be done, so a line hardly waits for the maps, and no voxel is read while a
line is being added. The rows of a piece lie spread over the slice: a map that cannot be finished
between two lines is coarse, not cut off.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.documents import Role, Verdict
from xrdct_beamline.domain.errors import ProcessingError, XrdctError
from xrdct_beamline.domain.results import RefinedMaps
from xrdct_beamline.processing.drift import half_patterns, lattice_drift
from xrdct_beamline.processing.reconstruction import IncrementalFBP
from xrdct_beamline.processing.refinement import PatternModel, refine

from .calibration import detector_of
from .growing_maps import GrowingMaps
from .map_settings import MapSettings
from .slice_state import LineResult, SliceSink, SliceState

__all__ = ["MapBuilder"]

logger = logging.getLogger(__name__)

#: Voxels refined in one go: about a tenth of a second on two cores.
VOXELS_AT_ONCE = 4000

#: Share of the lines below which a slice is all streaks, and its maps would be too.
ENOUGH_LINES = 0.2

OnMaps = Callable[[SliceState, RefinedMaps, bool], None]


class MapBuilder(SliceSink):
    """Keeps the maps of the newest slice current.

    It stands before the sinks that write maps: when a slice is closed, its final maps lie in
    ``state.maps``.

    Parameters
    ----------
    settings:
        Phases and profile.
    on_maps:
        Called with the slice, its maps and whether they are final, whenever each voxel was refined anew.
    """

    def __init__(self, settings: MapSettings, on_maps: OnMaps) -> None:
        self._settings = settings
        self._on_maps = on_maps
        self._slice: _RefinedSlice | None = None

    def opened(self, state: SliceState) -> None:
        """Begin with a new slice."""
        self._slice = _RefinedSlice(state, self._settings)

    def line_done(self, state: SliceState, line: LineResult) -> None:
        """Nothing to do now: `step` sees that the slice has grown, when there is time."""

    def line_marked(self, state: SliceState, rotation_index: int, verdict: Verdict, reason: str) -> None:
        """Nothing to do: the slice stays as it is."""

    def step(self) -> bool:
        """Refine a piece of the map if the slice has changed; return whether there was anything to do."""
        current = self._slice
        if current is None or not current.is_due:
            return False
        try:
            if current.refine_piece():
                self._on_maps(current.state, current.maps.as_result(), False)
        except XrdctError as error:
            self._give_up(current, error)
        return True

    def closed(self, state: SliceState) -> None:
        """Refine the whole slice once more, all lines in it; what goes wrong is logged, never raised."""
        current, self._slice = self._slice, None
        if current is None or current.state is not state or state.fbp is None or not state.fbp.n_lines:
            return
        try:
            current.begin()
            while not current.refine_piece():
                pass
            state.maps = current.maps.as_result()
            state.drift_A = current.drift()
            self._on_maps(state, state.maps, True)
        except XrdctError as error:
            self._give_up(current, error)

    def _give_up(self, current: _RefinedSlice, error: XrdctError) -> None:
        """Say it once: a slice whose model cannot be made has none for any of its lines."""
        logger.error("run %s gets no lattice maps: %s", current.state.run.uid[:8], error)
        self._slice = None


class _RefinedSlice:
    """The maps of one slice, and which of their pieces are still to be refined."""

    def __init__(self, state: SliceState, settings: MapSettings) -> None:
        self.state = state
        self._settings = settings
        self._model: PatternModel | None = None
        self._maps: GrowingMaps | None = None
        self._n_pieces = 1
        self._pieces: list[int] = []
        self._lines_seen = 0

    @property
    def maps(self) -> GrowingMaps:
        """The maps as far as they are."""
        if self._maps is None:
            self._maps = GrowingMaps(_inside(self._fbp, self.state.run.axis_px))
        return self._maps

    @property
    def is_due(self) -> bool:
        """Whether a pass is under way, or lines have come since the last."""
        if self.state.fbp is None:
            return False
        enough = len(self.state.done) >= ENOUGH_LINES * self.state.run.geometry.shape[0]
        return bool(self._pieces) or (enough and len(self.state.done) > self._lines_seen)

    def begin(self) -> None:
        """Start a pass over the whole slice."""
        self._n_pieces = max(1, -(-int(self.maps.inside.sum()) // VOXELS_AT_ONCE))
        self._pieces = list(range(self._n_pieces))[::-1]
        self._lines_seen = len(self.state.done)

    def refine_piece(self) -> bool:
        """Refine the next piece, weighted by the slice's sigma; return whether the pass is over."""
        if not self._pieces:
            self.begin()
        rows = slice(self._pieces.pop(), None, self._n_pieces)
        bins, model = self._model_and_bins()
        inside = self.maps.inside[rows]
        patterns = self._fbp.slice(bins, rows)[inside]
        sigma = self._fbp.slice_sigma(bins, rows)[inside]
        if len(patterns):
            found = refine(patterns, model, sigma, threads=self.state.run.settings.threads)
            self.maps.place(rows, found)
        return not self._pieces

    def drift(self) -> tuple[float, float]:
        """Return how far the mean lattice parameter moved within the scan, and its esd, in Å.

        NaN for a region of interest whose lines came in order of angle: what lies outside of it is not
        the same in both halves.
        """
        run, fbp = self.state.run, self._fbp
        order = run.geometry.line_order
        in_order = list(order) == sorted(order)
        if (run.role == Role.ROI and in_order) or len(self.state.done) < 2:
            return float("nan"), float("nan")
        bins, model = self._model_and_bins()
        a_A = float(np.nanmedian(self.maps.as_result().a_A[model.names[0]]))
        variance = None if fbp.variance is None else fbp.variance[:, :, bins]
        try:
            patterns, sigma = half_patterns(fbp.sinogram[:, :, bins], order, variance)
            return lattice_drift(patterns, sigma, self.state.radial[bins], run.settings.unit, a_A)
        except ProcessingError as error:  # the maps are good without it
            logger.warning("run %s: no drift is told: %s", run.uid[:8], error)
            return float("nan"), float("nan")

    @property
    def _fbp(self) -> IncrementalFBP:
        fbp = self.state.fbp
        if fbp is None:
            raise RuntimeError("no line has been added yet")
        return fbp

    def _model_and_bins(self) -> tuple[slice, PatternModel]:
        """Return the model, made when it is first needed, and the bins that it covers."""
        radial = self.state.radial
        bins = self._settings.bins_of(radial)
        if self._model is None:
            run = self.state.run
            wavelength_A = detector_of(run.calibration).wavelength_A
            self._model = self._settings.model(radial[bins], wavelength_A, run.settings.unit)
        return bins, self._model


def _inside(fbp: IncrementalFBP, axis_px: float) -> npt.NDArray[np.bool_]:
    """Return the voxels ``(y, x)`` that every ray bundle has seen: a disc around the axis."""
    n_translations = fbp.sinogram.shape[1]
    radius = min(axis_px, n_translations - 1 - axis_px) + 0.5
    image: npt.NDArray[Any] = fbp.state()["image"]
    row, column = np.ogrid[: image.shape[0], : image.shape[1]]
    return np.asarray(np.hypot(axis_px - row, column - axis_px) <= radius)
