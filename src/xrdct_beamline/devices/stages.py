"""Motor records whose moves are believed only when the readback agrees."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ophyd import Component, EpicsMotor, EpicsSignal, EpicsSignalRO
from ophyd.status import DeviceStatus, MoveStatus, Status
from ophyd.utils import DisconnectedError

from xrdct_beamline.domain.errors import MoveFailed

from ._status import finished, put_if_connected, settle, then

__all__ = ["Stage"]

# Bits of MSTA that say that a move cannot be trusted; from the motor record's manual.
FAULTS = {1 << 6: "slip or stall", 1 << 9: "driver problem", 1 << 12: "no communication"}
READY_MODES = ("Go", "Move")  # of SPMG
RELATIVE_VELOCITY_ERROR = 0.01


class VerifiedMove(DeviceStatus):
    """A move; done when the record says so and the readback is where it should be.

    Parameters
    ----------
    target, unit:
        Where the stage was sent.
    """

    def __init__(self, stage: Stage, target: float, unit: str) -> None:
        super().__init__(stage, call_stop_on_failure=False)
        self.target, self.unit = target, unit
        self.is_cut_short = False  # by the RunEngine, which calls that a success
        self.moved: MoveStatus | None = None

    def watch(self, func: Callable[..., None]) -> None:
        """Report progress to a bar."""
        if self.moved is not None:
            self.moved.watch(func)


class Stage(EpicsMotor):
    """A stage that verifies its moves.

    `set` refuses a target outside of the soft limits, has a timeout from distance and velocity, and
    fails with `MoveFailed` if the stage ends elsewhere, in a fault, or loses its server on the way.
    A move that the RunEngine cuts short for a pause counts as done, as bluesky wants it: whoever goes
    on after a pause asks `is_at`.

    Parameters
    ----------
    tolerance:
        Largest accepted distance of readback and target, in the record's unit.
    margin_s:
        Added to the time that a move should take.
    """

    velocity = Component(EpicsSignal, ".VELO", kind="config", auto_monitor=True, put_complete=True)
    motor_state = Component(EpicsSignalRO, ".MSTA", kind="omitted", auto_monitor=True)
    run_mode = Component(EpicsSignalRO, ".SPMG", kind="omitted", auto_monitor=True, string=True)

    def __init__(
        self, prefix: str, *, name: str, tolerance: float, margin_s: float = 5.0, **kwargs: Any
    ) -> None:
        self.tolerance = tolerance
        self.margin_s = margin_s
        self._move: VerifiedMove | None = None
        self._staged_velocity = 0.0
        super().__init__(prefix, name=name, **kwargs)
        self.user_readback.subscribe(self._connection_changed, event_type=EpicsSignalRO.SUB_META, run=False)

    # -- moving --------------------------------------------------------------------------------

    def set(self, new_position: float, *, timeout: float | None = None, **kwargs: Any) -> DeviceStatus:
        """Move, and verify. A stage that already stands at the target is left alone."""
        target = float(new_position)
        self.check_value(target)
        self._refuse_if_unable(target)
        move = self._move = VerifiedMove(self, target, self.egu)
        if self._stands_at(target):
            settle(move)
            return move
        if timeout is None:
            timeout = 1.5 * self.travel_time_s(target) + self.margin_s
        move.moved = self.move(target, wait=False, timeout=timeout, **kwargs)
        move.moved.add_callback(partial(self._verify, move))
        return move

    def stop(self, *, success: bool = False) -> None:
        """Stop. With ``success`` (a pause) the move in progress counts as done."""
        if success and self._move is not None:
            self._move.is_cut_short = True
        if put_if_connected(self.motor_stop, 1):
            self._done_moving(success=success)

    def prepare(self, velocity: float) -> Status:
        """Set the velocity of the next move, and verify that the record took it."""
        written = self.velocity.set(velocity)
        return then(written, partial(self._verify_velocity, velocity))

    def stage(self) -> list[object]:
        """Remember the velocity."""
        self._staged_velocity = self.velocity.get(use_monitor=False)  # the monitor may lag a restoration
        return super().stage()

    def unstage(self) -> list[object]:
        """Restore the velocity; the RunEngine does this after a halt, too."""
        if self._staged_velocity:
            put_if_connected(self.velocity, self._staged_velocity)
            self._staged_velocity = 0.0
        return super().unstage()

    def travel_time_s(self, target: float) -> float:
        """Return the time that a move from here should take, ramps included."""
        return abs(target - self.position) / self.velocity.get() + 2 * self.acceleration.get()

    def is_at(self, target: float) -> bool:
        """Whether the readback is within the tolerance of a target."""
        return abs(self.user_readback.get() - target) <= self.tolerance

    def check_value(self, pos: float) -> None:
        """Refuse a target outside of the soft limits."""
        low, high = self.low_limit_travel.get(), self.high_limit_travel.get()
        if low < high and not low <= pos <= high:
            raise MoveFailed(
                f"{self.name} cannot go to {pos:g} {self.egu}: its soft limits are {low:g} and {high:g} "
                f"{self.egu}; choose another target, or move the limits ({self.prefix}.LLM, .HLM)"
            )

    # -- verifying -----------------------------------------------------------------------------

    def _stands_at(self, target: float) -> bool:
        is_still = self.motor_done_move.get() == 1
        return bool(is_still and self.user_setpoint.get() == target and self.is_at(target))

    def _refuse_if_unable(self, target: float) -> None:
        mode = self.run_mode.get()
        if mode not in READY_MODES:
            raise MoveFailed(
                f"{self.name} cannot go to {target:g} {self.egu}: {self.prefix}.SPMG is {mode}; set it to Go"
            )

    def _verify(self, move: VerifiedMove, moved: MoveStatus) -> None:
        """Judge a move that the record calls finished; runs in the thread of its status."""
        if move.done:
            return  # failed when the server went away
        try:
            problem = "" if move.is_cut_short else self._problem(move, moved)
        except (TimeoutError, DisconnectedError) as error:
            problem = f"its readback does not answer ({error})"
        if problem:
            self._fail(move, problem)
        else:
            settle(move)

    def _problem(self, move: VerifiedMove, moved: MoveStatus) -> str:
        error = moved.exception(timeout=0)
        if isinstance(error, TimeoutError):  # its status has stopped the stage
            return f"it did not arrive within {moved.timeout:.1f} s and was stopped"
        if faults := [name for bit, name in FAULTS.items() if int(self.motor_state.get()) & bit]:
            return f"the record reports {', '.join(faults)}"
        if error is not None:
            return "the record ended the move (limit switch, alarm or stop)"
        position = self.user_readback.get(use_monitor=False)
        if abs(position - move.target) > self.tolerance:
            distance = abs(position - move.target)
            return f"the record calls the move finished {distance:.3g} {move.unit} away"
        return ""

    def _fail(self, move: VerifiedMove, problem: str) -> None:
        # no reads here: the server may be gone
        settle(
            move,
            MoveFailed(
                f"{self.name} was sent to {move.target:g} {move.unit} and is at {self._position:g} "
                f"(tolerance {self.tolerance:g}): {problem}; check the stage, then repeat the move"
            ),
        )

    def _connection_changed(self, *, connected: bool = True, **kwargs: Any) -> None:
        """Fail the move in progress: after a restart the record claims that it has ended."""
        move = self._move
        if not connected and move is not None and not move.done:
            self._fail(move, "its server went away in mid-move")

    def _verify_velocity(self, asked: float) -> Status:
        taken = self.velocity.get(use_monitor=False)
        if abs(taken - asked) > RELATIVE_VELOCITY_ERROR * asked:
            raise MoveFailed(
                f"{self.name} was given a velocity of {asked:g} {self.egu}/s and took {taken:g}; "
                "use a smaller step or a longer period"
            )
        return finished()
