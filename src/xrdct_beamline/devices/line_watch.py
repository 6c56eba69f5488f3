"""What is known of a line in flight, and when it has gone wrong. Pure: times are arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from xrdct_beamline.domain.errors import ConfigurationError

__all__ = ["AcquisitionMode", "LineLimits", "LineOutcome", "LineProgress", "LineRequest"]

LONGEST_WAIT_S = 60.0


class AcquisitionMode(StrEnum):
    """Who starts an exposure."""

    FLY = "fly"  # the position compare, one pulse per frame
    STEP = "step"  # `trigger`, one internal exposure per call


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRequest:
    """One attempt of a line: so many frames into one file.

    Parameters
    ----------
    directory:
        Folder of the file, as the detector's computer sees it.
    file_name, file_number:
        The file is ``<file_name>_<file_number>.h5``; the number is the attempt.
    """

    n_frames: int
    exposure_s: float
    period_s: float
    directory: str
    file_name: str
    file_number: int = 0
    mode: AcquisitionMode = AcquisitionMode.FLY


@dataclass(frozen=True, slots=True, kw_only=True)
class LineLimits:
    """How long a line may take where nothing should hold it up.

    Parameters
    ----------
    arm_s:
        From kickoff to armed and capturing.
    stall_s:
        Between two frames, once the first has come.
    close_s:
        From the last frame, or from giving up, to the closed file.
    margin_s:
        Added to frames × period.
    """

    arm_s: float = 10.0
    stall_s: float = 2.0
    close_s: float = 10.0
    margin_s: float = 10.0

    def __post_init__(self) -> None:
        for name in ("arm_s", "stall_s", "close_s", "margin_s"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name):g} s; a line would fail at once, give a positive time"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class LineOutcome:
    """What became of an attempt, read back after its file was closed.

    Parameters
    ----------
    raw_file:
        Absolute path, empty if no frame was written.
    captured, exposed:
        Frames in the file, and frames that the detector counted.
    dropped:
        Arrays that the file writer lost to a full queue.
    write_error:
        The file writer's complaint, or empty.
    closed_s:
        Epoch seconds.
    """

    raw_file: str
    captured: int
    exposed: int
    dropped: int
    write_error: str
    closed_s: float


@dataclass(slots=True, kw_only=True)
class LineProgress:
    """The states of detector and file writer since a kickoff, as monitors report them."""

    request: LineRequest
    limits: LineLimits
    kicked_off_s: float
    has_opened: bool = False
    has_closed: bool = False
    has_acquired: bool = False
    is_idle: bool = False
    has_armed: bool = False
    captured: int = 0
    changed_s: float = field(default=0.0, init=False)
    deadline_s: float = field(default=0.0, init=False)  # 0: nobody waits yet
    given_up: str = field(default="", init=False)

    def note_capturing(self, is_capturing: bool, now_s: float) -> None:
        """Take note of the file writer's state."""
        self.has_closed = self.has_opened and not is_capturing
        self.has_opened = self.has_opened or is_capturing
        self.changed_s = now_s

    def note_acquiring(self, is_acquiring: bool, now_s: float) -> None:
        """Take note of the detector's state."""
        self.is_idle = self.has_acquired and not is_acquiring
        self.has_acquired = self.has_acquired or is_acquiring
        self.changed_s = now_s

    def note_armed(self, is_armed: bool) -> None:
        """Take note that the detector waits for pulses."""
        self.has_armed = self.has_armed or is_armed

    def note_captured(self, count: int, now_s: float) -> None:
        """Take note of the number of frames in the file, which only grows."""
        if self.has_opened and count > self.captured:
            self.captured, self.changed_s = count, now_s

    def expect_completion(self, now_s: float) -> None:
        """Start the clock of the whole line."""
        self.deadline_s = now_s + self.request.n_frames * self.request.period_s + self.limits.margin_s
        self.changed_s = now_s

    def give_up(self, reason: str) -> None:
        """End the line; the first reason stays."""
        self.given_up = self.given_up or reason

    @property
    def is_ready(self) -> bool:
        """Whether pulses may be sent."""
        return self.has_opened and (self.has_armed or self.request.mode is AcquisitionMode.STEP)

    @property
    def is_over(self) -> bool:
        """Whether the file is closed and the detector idle."""
        may_be_busy = self.has_acquired and not self.is_idle
        return self.has_closed and not may_be_busy

    def problem(self, now_s: float) -> str:
        """Return why the line should be given up, or an empty string."""
        if self.given_up:
            return self.given_up
        if self.has_closed and self.captured < self.request.n_frames:
            return "the file was closed early"
        if not self.is_ready and now_s - self.kicked_off_s > self.limits.arm_s:
            missing = "armed" if self.has_opened else "capturing"
            return f"it was not {missing} {self.limits.arm_s:g} s after the kickoff"
        if not self.deadline_s:
            return ""
        if now_s > self.deadline_s:
            return f"the line's {self.request.n_frames * self.request.period_s:.1f} s are long over"
        return self._stall(now_s)

    def due_s(self, now_s: float) -> float:
        """Return for how long nothing but news can change `problem`."""
        dues = [self.kicked_off_s + self.limits.arm_s] if not self.is_ready else []
        if self.deadline_s:
            dues += [self.deadline_s, self.changed_s + self._patience_s]
        return min(max(min(dues, default=now_s + LONGEST_WAIT_S) - now_s, 0.0) + 1e-3, LONGEST_WAIT_S)

    @property
    def _patience_s(self) -> float:
        if self.captured >= self.request.n_frames:
            return self.limits.close_s
        # in step mode the last frame has been read out when somebody asks for completion
        is_running = self.captured > 0 or self.request.mode is AcquisitionMode.STEP
        return max(self.limits.stall_s, 3 * self.request.period_s) if is_running else float("inf")

    def _stall(self, now_s: float) -> str:
        waited_s = now_s - self.changed_s
        if waited_s <= self._patience_s:
            return ""
        if self.captured >= self.request.n_frames:
            return f"all frames came, but the file was not closed {waited_s:.1f} s later"
        return f"no frame came for {waited_s:.2f} s"
