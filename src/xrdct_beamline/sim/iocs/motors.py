"""Stages that behave like motor records: trapezoidal moves, put-completion, soft limits, stop."""

# mypy: disable-error-code="no-redef"
# (a putter has the name of its property: caproto's way)

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from caproto import AlarmSeverity, AlarmStatus, SkipWrite
from caproto.server import PVGroup, PvpropertyDouble, pvproperty

from xrdct_beamline.sim.beamline_state import Axis, Faults, Trajectory

from .common import Clock, publish

__all__ = ["Motor", "StageLimits"]

VELOCITY_MIN = 1e-6
SHORT = 0.9  # of the way that a stage goes which stops short
READBACK_PERIOD_S = 0.04  # a real controller is polled at 10 to 50 Hz while moving

# Bits of MSTA, from the motor record's manual.
MSTA_DIRECTION, MSTA_DONE, MSTA_ENCODER, MSTA_MOVING, MSTA_HOMED = 1, 1 << 1, 1 << 8, 1 << 10, 1 << 14


class Spmg(IntEnum):
    """The record's Stop/Pause/Move/Go."""

    STOP = 0
    PAUSE = 1
    MOVE = 2
    GO = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class StageLimits:
    """What one stage is and can do; all per second and in its own unit."""

    name: str
    unit: str
    low: float
    high: float
    velocity: float
    velocity_max: float
    ramp_s: float


async def _put_stop(fields: Any, instance: Any, value: int) -> int:
    if value:
        await fields.parent.group.halt(keep_target=False)
    return 0


async def _put_spmg(fields: Any, instance: Any, value: Any) -> None:
    index = instance.enum_strings.index(value) if isinstance(value, str) else int(value)
    await instance.write(instance.enum_strings[index], verify_value=False)
    if index in (Spmg.STOP, Spmg.PAUSE):
        await fields.parent.group.halt(keep_target=index == Spmg.PAUSE)
    else:
        await fields.parent.group.resume()
    raise SkipWrite


async def _put_velocity(fields: Any, instance: Any, value: float) -> float:
    # the record clips rather than refuses
    return min(max(float(value), VELOCITY_MIN), float(fields.max_velocity.value))


async def _put_ramp(fields: Any, instance: Any, value: float) -> float:
    return max(float(value), 0.0)


async def _put_limit(fields: Any, instance: Any, value: float) -> None:
    await instance.write(float(value), verify_value=False)
    await fields.parent.group.publish_limits()
    raise SkipWrite


class Setpoint(PvpropertyDouble):
    """A setpoint beyond the limits is not an error of the put, as caproto has it: LVIO says so."""

    async def verify_value(self, value: Any) -> Any:
        """Leave the limits to the putter."""
        return await self.putter(self, value)


class Motor(PVGroup):
    """One motor record.

    Parameters
    ----------
    prefix:
        Name of the record.
    limits:
        What the stage can do.
    clock:
        The beamline's time.
    axis:
        Where the moves are kept; who exposes a frame asks it for positions.
    on_move:
        Called with each trajectory when it starts and again when it is cut short.
    faults:
        What goes wrong with moves.
    """

    setpoint = pvproperty(
        name="",
        value=0.0,
        dtype=Setpoint,
        record="motor",
        precision=5,
        doc="Setpoint; completes when the move ends",
    )
    setpoint.fields.stop.putter(_put_stop)
    setpoint.fields.stop_pause_move_go.putter(_put_spmg)
    setpoint.fields.velocity.putter(_put_velocity)
    setpoint.fields.seconds_to_velocity.putter(_put_ramp)
    setpoint.fields.user_low_limit.putter(_put_limit)
    setpoint.fields.user_high_limit.putter(_put_limit)

    def __init__(
        self,
        prefix: str,
        *,
        limits: StageLimits,
        clock: Clock,
        axis: Axis,
        on_move: Callable[[Trajectory], None] | None = None,
        faults: Faults | None = None,
    ) -> None:
        super().__init__(prefix)
        self._limits = limits
        self._clock = clock
        self._axis = axis
        self._on_move = on_move or (lambda trajectory: None)
        self._faults = faults or Faults()
        self._changed = asyncio.Event()  # the move was stopped or replaced

    async def prepare(self) -> None:
        """Write the record's limits, unit and velocity, before the server starts."""
        limits, fields = self._limits, self.setpoint.field_inst
        for field, value in (
            (fields.user_low_limit, limits.low),
            (fields.user_high_limit, limits.high),
            (fields.dial_low_limit, limits.low),
            (fields.dial_high_limit, limits.high),
            (fields.velocity, limits.velocity),
            (fields.max_velocity, limits.velocity_max),
            (fields.seconds_to_velocity, limits.ramp_s),
            (fields.motor_step_size, 1e-6),
            (fields.engineering_units, limits.unit),
            (fields.limit_violation, 0),
            (fields.motor_status, MSTA_DONE | MSTA_ENCODER | MSTA_HOMED),
            (fields.stop_pause_move_go, Spmg.GO.name.capitalize()),
        ):
            await field.write(value, verify_value=False)
        await self.setpoint.write_metadata(units=limits.unit)
        await self.publish_limits()
        for field in (fields.user_readback_value, fields.user_low_limit, fields.user_high_limit):
            await field.write_metadata(units=limits.unit, precision=5)

    # -- the setpoint -------------------------------------------------------------------------

    @setpoint.putter
    async def setpoint(self, instance: Any, value: float) -> None:
        """Move, and complete when the stage stands."""
        target = float(value)
        if not await self._within_limits(target):
            raise SkipWrite
        await instance.write(target, verify_value=False)
        if self._spmg in (Spmg.STOP, Spmg.PAUSE):
            raise SkipWrite  # kept until Go
        await self._move(target)
        raise SkipWrite

    async def _within_limits(self, target: float) -> bool:
        fields = self.setpoint.field_inst
        low, high = fields.user_low_limit.value, fields.user_high_limit.value
        inside = low >= high or low <= target <= high  # equal limits mean none, as in the record
        await publish(fields.limit_violation, int(not inside))
        severity = AlarmSeverity.NO_ALARM if inside else AlarmSeverity.MAJOR_ALARM
        if severity != self.setpoint.alarm.severity:
            await self.setpoint.alarm.write(
                status=AlarmStatus.NO_ALARM if inside else AlarmStatus.HWLIMIT, severity=severity
            )
        return bool(inside)

    async def _move(self, target: float) -> None:
        fields, now_s = self.setpoint.field_inst, self._clock()
        if self._faults.take_short_move(self._limits.name):
            start = self._axis.position(now_s)
            target = start + SHORT * (target - start)
        move = self._axis.move(
            target,
            now_s,
            velocity=fields.velocity.value,
            ramp_s=fields.seconds_to_velocity.value,
        )
        self._interrupt()
        self._on_move(move)
        await self._publish_moving(move)
        if self._faults.take_early_done(self._limits.name):
            await asyncio.sleep((move.finished_s - now_s) / 2)
            await self._publish_standing()  # while it goes on
            return
        await self._follow(move)

    async def _follow(self, move: Trajectory) -> None:
        """Publish the readback until the move is over; whoever ended it early goes on from there."""
        readback = self.setpoint.field_inst.user_readback_value
        changed = self._changed
        while (left_s := move.finished_s - self._clock()) > 0:
            try:
                await asyncio.wait_for(changed.wait(), min(left_s, READBACK_PERIOD_S))
            except TimeoutError:
                await publish(readback, self._axis.position(min(self._clock(), move.finished_s)))
            if changed.is_set():
                break
        if not changed.is_set():
            await self._publish_standing()
            return
        await self._wait_until_standing()

    async def _wait_until_standing(self) -> None:
        while not self.setpoint.field_inst.done_moving_to_value.value:
            await asyncio.sleep(READBACK_PERIOD_S / 4)

    def _interrupt(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def halt(self, *, keep_target: bool) -> None:
        """Stop where the stage is; with ``keep_target`` the move goes on at Go."""
        fields = self.setpoint.field_inst
        if fields.done_moving_to_value.value:
            return
        move = self._axis.stop(self._clock())
        self._interrupt()
        self._on_move(move)
        await publish(fields.motor_is_moving, 0)
        if not keep_target:
            await self.setpoint.write(self._axis.position(self._clock()), verify_value=False)
            await self._publish_standing()

    async def resume(self) -> None:
        """Go to the setpoint if the stage is not there."""
        target = float(self.setpoint.value)
        if self._axis.position(self._clock()) != target and not self._axis.is_moving(self._clock()):
            await self._move(target)

    # -- what the record shows ----------------------------------------------------------------

    async def _publish_moving(self, move: Trajectory) -> None:
        fields = self.setpoint.field_inst
        forward = int(move.direction >= 0)
        await publish(fields.done_moving_to_value, 0)
        await publish(fields.motor_is_moving, 1)
        await publish(fields.direction_of_travel, forward)
        await publish(fields.motor_status, MSTA_MOVING | MSTA_ENCODER | MSTA_HOMED | forward * MSTA_DIRECTION)

    async def _publish_standing(self) -> None:
        fields = self.setpoint.field_inst
        position = self._axis.position(self._clock())
        await publish(fields.user_readback_value, position)
        await publish(fields.dial_readback_value, position)
        await publish(fields.raw_readback_value, round(position / fields.motor_step_size.value))
        await publish(fields.motor_is_moving, 0)
        await publish(fields.motor_status, MSTA_DONE | MSTA_ENCODER | MSTA_HOMED)
        await publish(fields.done_moving_to_value, 1)

    async def publish_limits(self) -> None:
        """Show the soft limits as the setpoint's control limits, where clients look."""
        fields = self.setpoint.field_inst
        limits = {
            "lower_ctrl_limit": fields.user_low_limit.value,
            "upper_ctrl_limit": fields.user_high_limit.value,
        }
        await self.setpoint.write_metadata(**limits)

    @property
    def _spmg(self) -> Spmg:
        field = self.setpoint.field_inst.stop_pause_move_go
        return Spmg(field.enum_strings.index(field.value))
