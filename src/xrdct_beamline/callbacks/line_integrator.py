"""Who turns the frames of a line into patterns: this process, or others."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.frames import FrameSource
from xrdct_beamline.processing.integration import Integrator

from .calibration import detector_of
from .slice_state import SliceRun, SliceState

__all__ = ["LineIntegrator", "LocalIntegrator"]

Patterns = tuple[npt.NDArray[Any], npt.NDArray[Any]]


class LineIntegrator(Protocol):
    """Integrates whole lines; it may begin with those that it knows will come."""

    def radial(self, run: SliceRun) -> npt.NDArray[np.float64]:
        """Return the bin centres ``(bin,)`` of a run's patterns."""
        ...

    def begin(self, state: SliceState) -> None:
        """Learn that a slice begins or goes on; lines in ``state.done`` are not asked for again."""
        ...

    def patterns(self, run: SliceRun, raw_file: str, n_frames: int) -> Patterns:
        """Return intensity and sigma ``(frame, bin)`` of a line, in the order of acquisition.

        One frame more than ``n_frames`` is integrated if the file holds it, so that the caller can
        tell a file that is too long.

        Raises
        ------
        DataError
            If the file cannot be opened or holds no frames.
        ProcessingError
            If its frames do not fit the detector.
        """
        ...


class LocalIntegrator:
    """Integrates each line in this process when it is asked for.

    Parameters
    ----------
    frame_source:
        Reads the raw files.
    make_integrator:
        Stands in for `Integrator` in tests.
    """

    def __init__(self, frame_source: FrameSource, make_integrator: Callable[..., Any] = Integrator) -> None:
        self._frames = frame_source
        self._make_integrator = make_integrator
        self._integrator_of: tuple[Any, Any, Any] | None = None

    def radial(self, run: SliceRun) -> npt.NDArray[np.float64]:
        """Return the bin centres ``(bin,)``."""
        radial: npt.NDArray[np.float64] = self._integrator(run).radial
        return radial

    def begin(self, state: SliceState) -> None:
        """Prepare nothing: a line is integrated when it is asked for."""

    def patterns(self, run: SliceRun, raw_file: str, n_frames: int) -> Patterns:
        """Return intensity and sigma ``(frame, bin)`` of a line, as `LineIntegrator`."""
        # A source that can leave the decoding to the integrator's threads is asked to.
        read = getattr(self._frames, "deferred", self._frames.frames)
        patterns: Patterns = self._integrator(run).many(itertools.islice(read(raw_file), n_frames + 1))
        return patterns

    def _integrator(self, run: SliceRun) -> Any:
        """Return the integrator of a run; only the newest is kept, runs of one calibration share it."""
        detector = detector_of(run.calibration)
        if self._integrator_of is None or self._integrator_of[:2] != (detector, run.settings):
            integrator = self._make_integrator(detector, **run.settings.integrator_arguments())
            self._integrator_of = detector, run.settings, integrator
        return self._integrator_of[2]
