"""What has to hold before a line is begun, and what becomes of lines that are begun too late."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from bluesky import plan_stubs as bps
from bluesky.utils import MsgGenerator

from xrdct_beamline.devices.beamline import Beamline
from xrdct_beamline.devices.line_record import LineValues
from xrdct_beamline.domain.documents import Verdict
from xrdct_beamline.domain.policies import CellRunning

__all__ = [
    "Condition",
    "Fate",
    "Guard",
    "until_time_is_up",
    "wait_until_fit",
    "while_cell_waits",
]

logger = logging.getLogger(__name__)

#: Returns why no line should be begun now, or an empty string.
Condition = Callable[[], str]

POLL_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of lines that are not begun yet.

    Parameters
    ----------
    verdict, reason:
        What their events say.
    is_taken:
        Whether they are measured all the same.
    """

    verdict: Verdict
    reason: str
    is_taken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What is looked at between lines, besides the beam.

    Parameters
    ----------
    conditions:
        Are waited for: the disk, say.
    fates:
        Each says what becomes of further lines, None while they are as planned; the first that does counts.
    inspect:
        Looks at a line that was accepted and returns what its frames warn of, or an empty string.
    """

    conditions: tuple[Condition, ...] = ()
    fates: tuple[Callable[[], Fate | None], ...] = ()
    inspect: Callable[[LineValues], str] = lambda values: ""

    def fate(self) -> Fate | None:
        """Return what becomes of a line that is begun now; None if it is as planned."""
        return next((fate for look in self.fates if (fate := look()) is not None), None)


def while_cell_waits(beamline: Beamline, policy: CellRunning) -> Callable[[], Fate | None]:
    """Return the fate of lines that are begun after the trigger line has fallen."""
    reason = "the cell ran on before the slice was done"

    def look() -> Fate | None:
        if policy is CellRunning.IGNORE or not beamline.trigger.has_been_low.get():
            return None
        is_taken = policy is CellRunning.MARK
        return Fate(
            verdict=Verdict.CELL_RUNNING,
            reason=reason if is_taken else f"not taken: {reason}",
            is_taken=is_taken,
        )

    return look


def until_time_is_up(
    deadline_s: float, clock: Callable[[], float], line_s: float
) -> Callable[[], Fate | None]:
    """Return the fate of lines that would not be over by a deadline."""

    def look() -> Fate | None:
        if clock() + line_s <= deadline_s:
            return None
        return Fate(verdict=Verdict.BAD, reason="not taken: the pause of the cell is over", is_taken=False)

    return look


def wait_until_fit(beamline: Beamline, guard: Guard) -> MsgGenerator[tuple[float, str]]:
    """Wait, with checkpoints and the shutter closed, for beam, disk and what else a line needs.

    Ends early if the line is not to be taken any more. Returns the seconds waited, and what for.
    """
    waited_s, said = 0.0, ""
    conditions = (beamline.beam.problem, *guard.conditions)
    while problem := next((found for condition in conditions if (found := condition())), ""):
        fate = guard.fate()
        if fate is not None and not fate.is_taken:
            break
        if not said:
            logger.warning("waiting between lines: %s", problem)
        said = said or problem
        yield from bps.checkpoint()
        yield from bps.sleep(POLL_S)
        waited_s += POLL_S
    return waited_s, said
