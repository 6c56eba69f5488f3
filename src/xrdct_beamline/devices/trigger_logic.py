"""When a voltage on a wire means "the cell has paused". Pure: times are arguments.

::

    DISARMED ─arm─► ARMED ─level high for debounce_s─► TRIGGERED ─release─► DISARMED
"""

from __future__ import annotations

import math
from enum import StrEnum

from xrdct_beamline.domain.errors import TriggerError

from .trigger_settings import TriggerSettings

__all__ = ["TriggerLogic", "TriggerSettings", "TriggerState"]


class TriggerState(StrEnum):
    """What the line is waiting for."""

    DISARMED = "disarmed"
    ARMED = "armed"
    TRIGGERED = "triggered"


class TriggerLogic:
    """The state machine of one line.

    Parameters
    ----------
    name:
        Of the line, for messages.
    settings:
        Thresholds and times.
    is_polled:
        Whether the level is known only at the moments at which it is read, as on a serial port;
        otherwise each change is told, and a level holds until the next.
    unit:
        Of the level, for messages; none for a digital input, whose levels are 0 and 1.

    Attributes
    ----------
    edge_s:
        The source's own time of the crossing that led to TRIGGERED; None before.
    ignored_edges, ignored_edge_s:
        Crossings while the line was not armed, and the source's time of the last.
    glitches:
        Crossings while armed that did not outlast the debounce time.
    """

    def __init__(
        self, name: str, settings: TriggerSettings, *, is_polled: bool = False, unit: str = "V"
    ) -> None:
        self.name = name
        self.settings = settings
        self.state = TriggerState.DISARMED
        self.level_V = math.nan
        self.edge_s: float | None = None
        self.ignored_edges = 0
        self.ignored_edge_s = math.nan
        self.glitches = 0
        self._is_polled, self._unit = is_polled, unit
        self._is_high: bool | None = None  # unknown before the first sample
        self._risen_s: float | None = None  # a crossing that is not debounced yet
        self._stamp_s = 0.0  # the source's time of it; its clock need not be ours
        self._sampled_s = -math.inf
        self._armed_s: float | None = None
        self._fault = "it has not been read yet"

    @property
    def is_high(self) -> bool:
        """The level, after hysteresis; an unknown one is not high."""
        return bool(self._is_high)

    # -- what is seen of the wire --------------------------------------------------------------

    def sample(self, level_V: float, time_s: float, stamp_s: float) -> None:
        """Take note of a level, received at ``time_s`` and stamped by its source at ``stamp_s``."""
        if not math.isfinite(level_V):
            self.invalid(f"it reads {level_V}")
            return
        was_high, self.level_V, self._fault = self._is_high, level_V, ""
        if level_V >= self.settings.high_V:
            self._is_high = True
        elif level_V < self.settings.low_V:
            self._is_high = False
        elif was_high is None:  # a wire that floats, or a pause that began before anybody looked
            self._fault = "it has been between the thresholds since it was first read"
        if self._is_high and not was_high:
            self._rise(time_s, stamp_s, is_first=was_high is None)
        elif was_high and not self._is_high:
            self._fall(time_s, stamp_s)
        elif self._is_polled and self._risen_s is not None and self._has_gap(time_s):
            self._risen_s = time_s  # nobody knows what it was meanwhile
        self._sampled_s = time_s

    def invalid(self, reason: str) -> None:
        """Take note that the level is not known: an error while armed, never a level."""
        self._fault, self._is_high, self._risen_s = reason, None, None

    def missed(self) -> None:
        """Take note that a reading failed: what comes next does not continue what was."""
        self._sampled_s = -math.inf

    # -- what the session wants ----------------------------------------------------------------

    def arm(self, time_s: float) -> None:
        """Wait for an edge.

        Raises
        ------
        TriggerError
            If the level is unknown, or high already.
        """
        self._armed_s = time_s
        self.check(time_s)
        if self._is_high and not self.settings.may_be_high_at_arming:
            raise self.error(
                "is high already",
                "the cell paused before anybody waited; let it go on, or allow a high level at arming",
                time_s,
            )
        self.state, self.edge_s = TriggerState.ARMED, None
        self._risen_s = time_s if self._is_high else None

    def advance(self, time_s: float) -> bool:
        """Return whether the line is triggered, now that it is so late."""
        if self.is_due(time_s):
            self._accept()
        return self.state is TriggerState.TRIGGERED

    def is_due(self, time_s: float) -> bool:
        """Return whether the level has been high for long enough, as far as anybody knows."""
        if self.state is not TriggerState.ARMED or self._risen_s is None:
            return False
        known_until_s = self._sampled_s if self._is_polled else time_s
        return known_until_s - self._risen_s >= self.settings.debounce_s

    def due_s(self, time_s: float) -> float | None:
        """Return the seconds until `advance` may say something new, None if only a sample can."""
        if self.state is not TriggerState.ARMED or self._risen_s is None or self._is_polled:
            return None
        return max(self._risen_s + self.settings.debounce_s - time_s, 0.0)

    def release(self) -> None:
        """Go back to DISARMED."""
        self.state, self._risen_s = TriggerState.DISARMED, None

    # -- errors --------------------------------------------------------------------------------

    def check(self, time_s: float) -> None:
        """Raise if the level is not known."""
        if self._fault:
            raise self.error(f"has no valid level, {self._fault}", "check the wire and what reads it", time_s)

    def timed_out(self, time_s: float) -> TriggerError:
        """Return the error of having waited in vain."""
        return self.error(
            "did not rise",
            "does the cycler's programme come to a pause, and is the cable plugged in?",
            time_s,
        )

    def error(self, what: str, remedy: str, time_s: float) -> TriggerError:
        """Return an error that names line, level, thresholds and the time waited since arming."""
        level = "unknown" if math.isnan(self.level_V) else self._text(self.level_V)
        waited_s = 0.0 if self._armed_s is None else time_s - self._armed_s
        low_V, high_V = self.settings.low_V, self.settings.high_V
        thresholds = f"high from {high_V:g}, low below {low_V:g} {self._unit}".strip()
        return TriggerError(
            f"{self.name} {what}: {level} after {waited_s:.1f} s "
            f"({thresholds}, {self.glitches} glitches); {remedy}"
        )

    def _text(self, level_V: float) -> str:
        return f"{level_V:.2f} {self._unit}" if self._unit else f"level {level_V:g}"

    # -- crossings -----------------------------------------------------------------------------

    def _rise(self, time_s: float, stamp_s: float, *, is_first: bool) -> None:
        self._stamp_s = stamp_s
        if self.state is TriggerState.ARMED:
            self._risen_s = time_s
        elif not is_first:  # the first level read is no edge
            self.ignored_edges += 1
            self.ignored_edge_s = stamp_s

    def _fall(self, time_s: float, stamp_s: float) -> None:
        """Count what was high until now, if it was so for long enough; else it was a glitch."""
        if self._risen_s is None:
            return
        if self._lasted_s(self._risen_s, time_s, stamp_s) >= self.settings.debounce_s:
            self._accept()
        else:
            self.glitches += 1
        self._risen_s = None

    def _lasted_s(self, risen_s: float, time_s: float, stamp_s: float) -> float:
        if self._is_polled:
            return self._sampled_s - risen_s
        # The source's clock saw both edges; here they may have waited in a queue. The receiver's
        # times are for sources that do not stamp.
        return stamp_s - self._stamp_s if stamp_s > self._stamp_s else time_s - risen_s

    def _has_gap(self, time_s: float) -> bool:
        return time_s - self._sampled_s > self.settings.debounce_s

    def _accept(self) -> None:
        self.state, self.edge_s, self._risen_s = TriggerState.TRIGGERED, self._stamp_s, None
