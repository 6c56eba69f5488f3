"""The scans around a region of interest, from the processed files of a folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from xrdct_beamline.callbacks.region_of_interest import MeasuredScan, OuterScanSource
from xrdct_beamline.callbacks.slice_state import SliceRun
from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.processing.interior import disc_radius_mm
from xrdct_beamline.storage.interior import FinishedScan, finished_scans, read_measured

__all__ = ["ProcessedScans"]

logger = logging.getLogger(__name__)

#: Roles of outer scans, from the widest to the narrowest.
OUTER_ROLES = (Role.BROAD, Role.COARSE)


class ProcessedScans(OuterScanSource):
    """Finds outer scans among the processed files of a folder.

    A run may name its outer scans. Otherwise the newest broad and the newest coarse scan before it are
    taken: of its own state, else of its series, else of its sample.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths: dict[str, Path] = {}

    def find(self, run: SliceRun) -> Sequence[str]:
        """Return the uids of the scans that surround a run, from the widest to the narrowest."""
        scans = finished_scans(self._folder)
        self._paths = {scan.run_uid: scan.path for scan in scans}
        if run.outer_uids:
            return [uid for uid in run.outer_uids if self._is_there(run, uid)]
        own_mm = disc_radius_mm(run.geometry, run.axis_px) if _has_axis(run) else 0.0
        earlier = [s for s in scans if s.started_s <= run.started_s and s.run_uid != run.uid]
        wider = [s for s in earlier if s.radius_mm > own_mm]
        roles = [role for role in OUTER_ROLES if role != run.role]
        chosen = [_best(run, (s for s in wider if s.role == role)) for role in roles]
        by_width = sorted((s for s in chosen if s is not None), key=lambda s: -s.radius_mm)
        return [scan.run_uid for scan in by_width]

    def load(self, run_uid: str) -> MeasuredScan:
        """Return a scan that `find` has named."""
        if run_uid not in self._paths:
            self._paths = {scan.run_uid: scan.path for scan in finished_scans(self._folder)}
        if run_uid not in self._paths:
            raise DataError(f"the outer scan {run_uid} has no processed file in {self._folder}")
        found = read_measured(self._paths[run_uid])
        return MeasuredScan(
            run_uid=run_uid,
            geometry=found.geometry,
            axis_px=found.axis_px,
            sinogram=found.sinogram,
            radial=found.radial,
            monitor_reference=found.monitor_reference,
        )

    def _is_there(self, run: SliceRun, uid: str) -> bool:
        if uid not in self._paths:
            logger.warning("run %s names the outer scan %s, of which there is no slice", run.uid[:8], uid[:8])
        return uid in self._paths


def _has_axis(run: SliceRun) -> bool:
    return 0 < run.axis_px < run.geometry.shape[1] - 1


def _best(run: SliceRun, scans: Iterable[FinishedScan]) -> FinishedScan | None:
    """Return the newest scan of the run's state, else of its series, else of its sample."""

    def nearness(scan: FinishedScan) -> int:
        if run.series_uid and scan.series_uid == run.series_uid:
            return 2 + (scan.state_index == run.state_index)
        return int(bool(run.title) and scan.title == run.title)

    return max(
        (scan for scan in scans if nearness(scan)),
        key=lambda scan: (nearness(scan), scan.started_s),
        default=None,
    )
