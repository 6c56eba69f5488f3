"""When a voltage on a wire means "the cell has paused". Pure: times are arguments.

::

    DISARMED ─arm─► ARMED ─level high for debounce_s─► TRIGGERED ─release─► DISARMED
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from xrdct_beamline.domain.errors import ConfigurationError, TriggerError

__all__ = ["TriggerLogic", "TriggerSettings", "TriggerState"]


class TriggerState(StrEnum):
    """What the line is waiting for."""

    DISARMED = "disarmed"
    ARMED = "armed"
    TRIGGERED = "triggered"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerSettings:
    """How a level is told from noise.

    Parameters
    ----------
    low_V, high_V:
        Thresholds of the hysteresis: the level is high from ``high_V`` up, until it is below ``low_V``.
    debounce_s:
        For how long the level has to stay high to count.
    may_be_high_at_arming:
        Whether a level that is high already at arming is an edge; otherwise arming refuses.
    """

    low_V: float = 0.8
    high_V: float = 2.0
    debounce_s: float = 0.05
    may_be_high_at_arming: bool = False

    def __post_init__(self) -> None:
        if not self.low_V < self.high_V:
            raise ConfigurationError(
                f"the trigger's low threshold is {self.low_V:g} V and its high one {self.high_V:g} V; "
                "the low one must be lower"
            )
        if self.debounce_s < 0:
            raise ConfigurationError(f"the trigger's debounce time is {self.debounce_s:g} s; use 0 or more")


class TriggerLogic:
    """The state machine of one line.

    Parameters
    ----------
    name:
        Of the line, for messages.

    Attributes
    ----------
    edge_s:
        The source's own time of the crossing that led to TRIGGERED; None before.
    ignored_edges:
        Crossings while the line was not armed.
    glitches:
        Crossings while armed that did not outlast the debounce time.
    """

    def __init__(self, name: str, settings: TriggerSettings) -> None:
        self.name = name
        self.settings = settings
        self.state = TriggerState.DISARMED
        self.level_V = math.nan
        self.edge_s: float | None = None
        self.ignored_edges = 0
        self.glitches = 0
        self._is_high: bool | None = None  # unknown before the first sample
        self._risen_s: float | None = None  # a crossing that is not debounced yet
        self._stamp_s = 0.0  # the source's time of it; its clock need not be ours
        self._armed_s = 0.0
        self._fault = "no level has been read yet"

    @property
    def is_high(self) -> bool:
        """The level, after hysteresis; an unknown one is not high."""
        return bool(self._is_high)

    def sample(self, level_V: float, time_s: float, stamp_s: float) -> None:
        """Take note of a level, received at ``time_s`` and stamped by its source at ``stamp_s``."""
        if not math.isfinite(level_V):
            self.invalid(f"it reads {level_V}")
            return
        was_high, self.level_V, self._fault = self._is_high, level_V, ""
        threshold_V = self.settings.low_V if was_high else self.settings.high_V
        self._is_high = level_V >= threshold_V
        if self._is_high and not was_high:
            self._rise(time_s, stamp_s, is_first=was_high is None)
        elif was_high and not self._is_high:
            self._fall(time_s)

    def invalid(self, reason: str) -> None:
        """Take note that the level is not known: an error while armed, never a level."""
        self._fault, self._is_high, self._risen_s = reason, None, None

    def arm(self, time_s: float) -> None:
        """Wait for an edge.

        Raises
        ------
        TriggerError
            If the level is unknown, or high already.
        """
        self.check()
        if self._is_high and not self.settings.may_be_high_at_arming:
            raise TriggerError(
                f"{self.name} is high already ({self.level_V:.2f} V, threshold {self.settings.high_V:g} V): "
                "the cell paused before anybody waited; let it go on, or allow a high level at arming"
            )
        self.state, self.edge_s, self._armed_s = TriggerState.ARMED, None, time_s
        self._risen_s = time_s if self._is_high else None

    def advance(self, time_s: float) -> bool:
        """Return whether the line is triggered, now that it is so late."""
        risen_s = self._risen_s
        is_due = risen_s is not None and time_s - risen_s >= self.settings.debounce_s
        if self.state is TriggerState.ARMED and is_due:
            self.state, self.edge_s, self._risen_s = TriggerState.TRIGGERED, self._stamp_s, None
        return self.state is TriggerState.TRIGGERED

    def due_s(self, time_s: float) -> float | None:
        """Return the seconds until `advance` may say something new, None if only a sample can."""
        if self.state is not TriggerState.ARMED or self._risen_s is None:
            return None
        return max(self._risen_s + self.settings.debounce_s - time_s, 0.0)

    def check(self) -> None:
        """Raise if the level is not known."""
        if self._fault:
            raise TriggerError(
                f"{self.name} has no valid level: {self._fault}; check the wire and its server"
            )

    def timed_out(self, time_s: float) -> TriggerError:
        """Return the error of having waited in vain."""
        return TriggerError(
            f"{self.name} did not rise: {self.level_V:.2f} V after {time_s - self._armed_s:.1f} s "
            f"(thresholds {self.settings.low_V:g} and {self.settings.high_V:g} V, {self.glitches} glitches); "
            "does the cycler's programme come to a pause, and is the cable plugged in?"
        )

    def release(self) -> None:
        """Go back to DISARMED."""
        self.state, self._risen_s = TriggerState.DISARMED, None

    def _rise(self, time_s: float, stamp_s: float, *, is_first: bool) -> None:
        self._stamp_s = stamp_s
        if self.state is TriggerState.ARMED:
            self._risen_s = time_s
        elif not is_first:  # the first level read is no edge
            self.ignored_edges += 1

    def _fall(self, time_s: float) -> None:
        # the level was high until now: long enough, or a glitch
        if not self.advance(time_s) and self._risen_s is not None:
            self.glitches += 1
        self._risen_s = None
