"""Whether an attempt of a line may be used. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.documents import Verdict

__all__ = ["LineEvidence", "padded", "reason_to_reject", "verdict_on"]

FloatArray = npt.NDArray[np.float64]

#: Of the line's median monitor count, below which a frame had no beam to speak of.
DIP = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEvidence:
    """What was counted and measured in one attempt.

    Parameters
    ----------
    problem:
        Why the attempt was given up, or empty.
    planned, pulses, exposed, captured, dropped:
        Frames asked for; pulses sent; frames that the detector counted, None where it counts each
        frame by itself; frames in the file; arrays lost by the file writer.
    write_error:
        The file writer's complaint, or empty.
    position_mm, i0, i1:
        One value per gate, in the order of acquisition.
    """

    planned: int
    pulses: int
    exposed: int | None
    captured: int
    dropped: int
    write_error: str
    position_mm: FloatArray
    i0: FloatArray
    i1: FloatArray
    problem: str = ""


def reason_to_reject(evidence: LineEvidence, grid_mm: FloatArray, *, minimum_i0: float = 0.0) -> str:
    """Return why an attempt cannot be used, or an empty string.

    Parameters
    ----------
    grid_mm:
        Where the frames should have been taken; a deviation of half a step is too much.
    minimum_i0:
        Counts of the upstream monitor that mean no beam, or fewer.
    """
    return (
        evidence.problem
        or _miscount(evidence)
        or _lost_in_writing(evidence)
        or _misplaced(evidence.position_mm, grid_mm)
        or _without_beam(evidence, minimum_i0)
    )


def verdict_on(reason: str, *, failures: int, max_attempts: int, was_interrupted: bool) -> Verdict:
    """Return the verdict on an attempt.

    Parameters
    ----------
    failures:
        Attempts of this line that were rejected before, interrupted ones not counted.
    was_interrupted:
        Whether a pause, not a fault, spoilt it; such a line is always taken again.
    """
    if not reason:
        return Verdict.ACCEPTED
    if was_interrupted or failures + 1 < max_attempts:
        return Verdict.RETAKE
    return Verdict.BAD


def padded(values: FloatArray, length: int) -> FloatArray:
    """Return values in an array of one length, NaN where nothing was captured."""
    array = np.full(length, np.nan)
    array[: len(values)] = values[:length]
    return array


def _miscount(evidence: LineEvidence) -> str:
    counts = {
        "pulses sent": evidence.pulses,
        "frames exposed": evidence.planned if evidence.exposed is None else evidence.exposed,
        "frames captured": evidence.captured,
        "positions captured": len(evidence.position_mm),
        "monitor counts captured": min(len(evidence.i0), len(evidence.i1)),
    }
    wrong = [f"{count} {what}" for what, count in counts.items() if count != evidence.planned]
    return f"{', '.join(wrong)}, {evidence.planned} planned" if wrong else ""


def _lost_in_writing(evidence: LineEvidence) -> str:
    if evidence.write_error:
        return f"the file writer reports {evidence.write_error!r}"
    return f"{evidence.dropped} frames dropped by the file writer" if evidence.dropped else ""


def _misplaced(position_mm: FloatArray, grid_mm: FloatArray) -> str:
    if not np.all(np.isfinite(position_mm)):
        return "a captured position is not a number"
    allowed_mm = abs(grid_mm[-1] - grid_mm[0]) / (len(grid_mm) - 1) / 2 if len(grid_mm) > 1 else np.inf
    off_mm = np.abs(position_mm - grid_mm)
    worst = int(np.argmax(off_mm))
    if off_mm[worst] <= allowed_mm:
        return ""
    return (
        f"frame {worst} was taken {1e3 * off_mm[worst]:.3g} µm off its position, "
        f"{1e3 * allowed_mm:.3g} µm are allowed"
    )


def _without_beam(evidence: LineEvidence, minimum_i0: float) -> str:
    if not (np.all(np.isfinite(evidence.i0)) and np.all(np.isfinite(evidence.i1))):
        return "a monitor reading is not a number"
    # a frame far below its neighbours lost its beam too, whatever the dark current
    least = max(minimum_i0, DIP * float(np.median(evidence.i0)))
    dark = int(np.count_nonzero(evidence.i0 <= least))
    if dark:
        return f"no beam in {dark} of {evidence.planned} frames (upstream monitor ≤ {least:.3g})"
    if not np.any(evidence.i1 > 0):  # no sample takes everything along a whole line
        return f"the beamstop diode counted nothing in {evidence.planned} frames"
    return ""
