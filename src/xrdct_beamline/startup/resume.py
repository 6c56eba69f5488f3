"""What a slice lacks, from the journal and the raw files, and the plan that measures it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xrdct_beamline.domain.documents import Verdict
from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.registration import SampleOffset
from xrdct_beamline.domain.scan import ScanGeometry, missing_lines
from xrdct_beamline.processing.registration import profile_shift
from xrdct_beamline.storage.raw import Hdf5Frames
from xrdct_beamline.storage.runs import (
    RecordedLine,
    Run,
    checked_lines,
    find_run,
    journaled_runs,
    recorded_lines,
    slice_runs,
)

from .configuration import Configuration
from .disk import check_disk
from .registration import transmission

if TYPE_CHECKING:
    from bluesky.utils import MsgGenerator

    from .session import Session

__all__ = ["UnfinishedSlice", "find_unfinished", "resume", "run_cut_short"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedSlice:
    """A slice as its runs have left it.

    Parameters
    ----------
    start:
        Start document of the first run.
    runs:
        All of them, oldest first.
    lines:
        The newest attempt of each line, its raw file looked at.
    missing:
        Rotation indices that are to be taken, in the order of acquisition.
    """

    start: Mapping[str, Any]
    runs: tuple[Run, ...]
    lines: Mapping[int, RecordedLine]
    missing: tuple[int, ...]

    @property
    def geometry(self) -> ScanGeometry:
        """Which frame is which."""
        return ScanGeometry.from_metadata(self.start["xrdct"]["geometry"])

    @property
    def damaged(self) -> dict[int, str]:
        """Lines that were accepted and cannot be used after all, and why."""
        return {index: line.problem for index, line in self.lines.items() if line.problem}

    def __str__(self) -> str:
        planned = len(self.geometry.rotation_deg)
        text = f"slice {self.start['uid'][:8]}: {planned - len(self.missing)} of {planned} lines are there"
        if len(self.runs) > 1:
            text += f", from {len(self.runs)} runs"
        return text + "".join(f"; line {i} is taken again: {why}" for i, why in self.damaged.items())


def run_cut_short(configuration: Configuration) -> Run | None:
    """Return the newest run of a slice if it has no end: its session was killed."""
    try:
        runs = journaled_runs(configuration.paths.journal)
    except DataError:  # no journal yet
        return None
    slices = [run for run in runs if run.start.get("xrdct", {}).get("geometry")]
    return slices[-1] if slices and slices[-1].stop is None else None


def find_unfinished(configuration: Configuration, uid: str) -> UnfinishedSlice:
    """Return what is there of a slice and what is missing.

    Parameters
    ----------
    uid:
        Of any of its runs, or how that begins; "last" is the newest.

    Raises
    ------
    DataError
        If the journal has no such run.
    ConfigurationError
        If it is no slice.
    """
    journal = configuration.paths.journal
    runs = journaled_runs(journal)
    chain = slice_runs(runs, find_run(runs, uid))
    start = chain[0].start
    metadata = start.get("xrdct", {}).get("geometry")
    if not metadata:
        raise ConfigurationError(
            f"run {start['uid'][:8]} is no slice and cannot be resumed; name a slice's run"
        )
    frames = Hdf5Frames((configuration.paths.raw,))
    lines = checked_lines(recorded_lines(journal, [run.uid for run in chain]), frames)
    missing = missing_lines(
        ScanGeometry.from_metadata(metadata), {index: line.verdict for index, line in lines.items()}
    )
    return UnfinishedSlice(start=start, runs=tuple(chain), lines=lines, missing=tuple(missing))


def resume(
    session: Session,
    uid: str,
    *,
    find_axis: bool = False,
    limit_mm: float | None = None,
    say: Callable[[str], None] = logger.info,
    **options: Any,
) -> MsgGenerator[str]:
    """Measure what a slice lacks; return the new run's uid, or the old one's if nothing is missing.

    Parameters
    ----------
    find_axis:
        Whether the stages were homed anew: a line that is there is taken once more, and the stages follow
        the shift between the two.
    limit_mm:
        Largest shift that is followed; half a line by default.
    say:
        Takes what is found.
    options:
        Go to `slice_scan`.
    """
    from xrdct_beamline.plans.resume import repeat_line, resume_slice

    found = find_unfinished(session.configuration, uid)
    say(str(found))
    if not found.missing:
        return str(found.start["uid"])
    check_disk(session.configuration, found.geometry, session.n_pixels, n_lines=len(found.missing))
    guard = session.guard(found.geometry, exposure_s=found.start["xrdct"]["exposure_s"])
    options = {"directory": session.configuration.paths.raw, "guard": guard, **options}
    offset = None
    if find_axis:
        reference = _reference_line(found)
        before = SampleOffset.from_metadata(found.start["xrdct"].get("offset"))
        repeated = yield from repeat_line(
            session.beamline, found.start, reference.rotation_index, offset=before, **options
        )
        again = recorded_lines(session.configuration.paths.journal, [repeated])[reference.rotation_index]
        offset = _offset(found, reference, again, limit_mm, say)
    return (yield from resume_slice(session.beamline, found.start, found.missing, offset=offset, **options))


def _reference_line(found: UnfinishedSlice) -> RecordedLine:
    good = [line for line in found.lines.values() if line.verdict == Verdict.ACCEPTED]
    if not good:
        raise ConfigurationError(
            f"slice {found.start['uid'][:8]} has no line with which the axis could be found again; "
            "measure the slice anew"
        )
    return good[-1]


def _offset(
    found: UnfinishedSlice,
    reference: RecordedLine,
    again: RecordedLine,
    limit_mm: float | None,
    say: Callable[[str], None],
) -> SampleOffset:
    """Return the offset of the first run, corrected by the shift of a line against its repetition."""
    if again.verdict != Verdict.ACCEPTED:
        raise ConfigurationError(
            f"the line that should tell of the axis was not accepted ({again.data['line_reason']}); "
            "resume again"
        )
    geometry, before = found.geometry, SampleOffset.from_metadata(found.start["xrdct"].get("offset"))
    shift = profile_shift(transmission(reference), transmission(again))
    direction = -1.0 if geometry.runs_backwards(reference.rotation_index) else 1.0
    shift_mm = direction * shift.steps * geometry.step_mm
    limit_mm = geometry.shape[1] * geometry.step_mm / 2 if limit_mm is None else limit_mm
    say(
        f"the axis is {1e3 * shift_mm:+.2f} µm from where it was "
        f"(± {1e3 * shift.sigma * geometry.step_mm:.2f} µm); the stages follow"
    )
    if abs(shift_mm) > limit_mm:
        raise ConfigurationError(
            f"the axis is {shift_mm:.4g} mm from where it was, {limit_mm:.4g} mm are followed; "
            "home the translation again, or allow more (limit_mm)"
        )
    return SampleOffset(
        x_mm=before.x_mm, y_mm=before.y_mm, z_mm=before.z_mm, axis_mm=before.axis_mm + shift_mm
    )
