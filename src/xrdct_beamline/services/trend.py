"""The lattice parameter over the pauses of a series, those before this process started included."""

from __future__ import annotations

import logging
from pathlib import Path

from xrdct_beamline.display.snapshot import Chemistry, StatePoint
from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.storage.maps import read_maps
from xrdct_beamline.storage.nexus_reader import read_summary

from .chemistry import state_point, well_lit

__all__ = ["Trend"]

logger = logging.getLogger(__name__)


class Trend:
    """One point per slice of a series.

    Parameters
    ----------
    folder:
        Where the processed files lie; those of the series are read once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._points: dict[str, dict[int, StatePoint]] = {}

    def of_series(self, series_uid: str, phase: str) -> dict[int, StatePoint]:
        """Return the points of a series by state; none for runs outside of a series."""
        if not series_uid:
            return {}
        if series_uid not in self._points:
            self._points[series_uid] = _read_points(self._folder, series_uid, phase)
        return self._points[series_uid]

    def add(self, series_uid: str, chemistry: Chemistry, state_index: int) -> None:
        """Keep the point of a slice that has ended."""
        point = state_point(state_index, chemistry.a_A)
        if series_uid and point is not None:
            self._points.setdefault(series_uid, {})[state_index] = point


def _read_points(folder: Path, series_uid: str, phase: str) -> dict[int, StatePoint]:
    points: dict[int, StatePoint] = {}
    for path in sorted(folder.glob("*.nxs")):
        try:
            summary = read_summary(path)
            if summary.series_uid != series_uid or summary.state_index is None:
                continue
            maps = read_maps(path)
        except DataError as error:
            logger.debug("not in the trend: %s", error)
            continue
        if phase in maps.names:
            point = state_point(summary.state_index, maps.a_A[phase][well_lit(maps, phase)])
            if point is not None:
                points[summary.state_index] = point
    return points
