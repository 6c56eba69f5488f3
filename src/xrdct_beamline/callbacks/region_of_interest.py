"""Lines of a region of interest, freed of what outer scans say lies around it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.errors import DataError, XrdctError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.processing.interior_lines import OuterScan, RegionCorrector

from .slice_state import LineResult, SliceRun, SliceState

__all__ = ["MeasuredScan", "OuterScanSource", "RegionOfInterest"]

logger = logging.getLogger(__name__)

#: Scans that others surround, and by which.
SURROUNDED = frozenset({Role.ROI, Role.COARSE})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredScan:
    """The sinogram of a scan that was processed before.

    Parameters
    ----------
    sinogram:
        ``(rotation, translation, bin)``, normalised by the monitor, nothing subtracted.
    radial:
        Bin centres.
    monitor_reference:
        Counts of I0 to which it is normalised.
    """

    run_uid: str
    geometry: ScanGeometry
    axis_px: float
    sinogram: npt.NDArray[np.floating[Any]]
    radial: npt.NDArray[np.float64]
    monitor_reference: float


class OuterScanSource(Protocol):
    """Finds the scans that surround a run."""

    def find(self, run: SliceRun) -> Sequence[str]:
        """Return the uids of the scans that surround a run, from the widest to the narrowest."""

    def load(self, run_uid: str) -> MeasuredScan:
        """Return one of them; a `DataError` if it cannot be read."""


class RegionOfInterest:
    """Corrects the lines of runs that other scans surround; without such scans they stay as they are.

    Parameters
    ----------
    source:
        Where outer scans come from; None corrects nothing.
    """

    def __init__(self, source: OuterScanSource | None) -> None:
        self._source = source

    def with_outer_scans(self, run: SliceRun) -> SliceRun:
        """Return a run that names the scans by which it will be corrected."""
        if self._source is None or run.role not in SURROUNDED:
            return run
        try:
            found = tuple(self._source.find(run))
        except Exception:  # what lies in a folder must not cost the run
            logger.exception("run %s: its outer scans could not be looked for", run.uid[:8])
            found = ()
        if not found and run.role == Role.ROI:
            logger.warning(
                "run %s: no broad or coarse scan of its sample was processed before; "
                "what lies outside of the region stays in its slice",
                run.uid[:8],
            )
        return replace(run, outer_uids=found)

    def freed(self, state: SliceState, line: LineResult) -> LineResult:
        """Return a line together with what of it lies outside of the region."""
        if not state.run.outer_uids or state.uncorrected:
            return line
        if state.interior is None:
            try:
                state.interior = self._corrector(state)
            except XrdctError as error:
                state.uncorrected = str(error)
                logger.warning("run %s is not corrected for what lies outside: %s", state.run.uid[:8], error)
                return line
        return replace(line, outside=state.interior.outside(line.rotation_index, line.intensity))

    def conclude(self, state: SliceState) -> None:
        """Settle and tell how good the correction of a slice is."""
        if state.interior is None:
            return
        figures = state.figures = state.interior.figures()
        logger.log(
            logging.INFO if figures.verdict == "good" else logging.WARNING,
            "run %s: the correction for what lies outside is %s%s; chord slopes %s, corrected mass varies "
            "by %.1f %%",
            state.run.uid[:8],
            figures.verdict,
            f" ({'; '.join(figures.reasons)})" if figures.reasons else "",
            ", ".join(f"{f.slope:.3f} ± {f.slope_sigma:.3f}" for f in figures.chords),
            100 * figures.moment_spread,
        )

    def _corrector(self, state: SliceState) -> RegionCorrector:
        run = state.run
        if self._source is None or state.monitor_reference is None:
            raise DataError("its beam monitor has no reference yet")
        scans = []
        for uid in run.outer_uids:
            scan = self._source.load(uid)
            if not np.array_equal(scan.radial, state.radial):
                raise DataError(
                    f"the outer scan {uid[:8]} was integrated into other bins than the region; replay both "
                    "with one radial range"
                )
            scale = state.monitor_reference / scan.monitor_reference
            scans.append(OuterScan(scan.sinogram, scan.geometry, scan.axis_px, scale))
        logger.info("run %s is freed of what %s see outside", run.uid[:8], ", ".join(run.outer_uids))
        return RegionCorrector(run.geometry, run.axis_px, scans)
