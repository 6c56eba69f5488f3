"""A cycler at work on a sequence: its state at any time, and what DONE does."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .cell_state import CellState
from .cell_steps import CellModel, Course, constant_current, held_voltage, resting
from .sequence_steps import CellSettings, Fault, Repeat, Step, StepKind

__all__ = ["SequenceRun"]

HISTORY = 64  # steps that are remembered: states are asked for within seconds
DIRECTION = {StepKind.CHARGE: -1, StepKind.DISCHARGE: 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stretch:
    """A step in the laboratory's time."""

    name: str
    start_s: float
    end_s: float
    course: Course
    started_mAh: float
    level_V: float = 0.0
    pause_index: int = -1
    waits_for_done: bool = False


class SequenceRun:
    """One run of a sequence, from its beginning.

    Its state is a function of the time that is asked for and of the times of DONE. Steps are worked out when
    the time comes to them.

    Parameters
    ----------
    settings, steps, time_scale:
        As in `CellSequence`.
    """

    def __init__(self, settings: CellSettings, steps: Sequence[Step | Repeat], time_scale: float) -> None:
        self._settings, self._scale = settings, time_scale
        self._steps = _flat(steps)
        self._lock = threading.Lock()  # the event loop and the renderer ask
        self._cycles = 0
        self._pauses = 0
        self._direction = 0
        self._cell_s = 0.0
        self._is_open = False  # a wire is off: no current any more
        self._stretches: deque[_Stretch] = deque(maxlen=HISTORY)

    def at(self, elapsed_s: float) -> CellState:
        """Return the state so many laboratory seconds after the start; negative before it."""
        if elapsed_s < 0:
            return self._before(elapsed_s)
        with self._lock:
            return self._state(self._stretch(elapsed_s), elapsed_s)

    def done(self, elapsed_s: float) -> bool:
        """End the pause that waits for it; return whether one did."""
        if elapsed_s < 0:
            return False
        with self._lock:
            current = self._stretch(elapsed_s)
            if not current.waits_for_done or elapsed_s >= current.end_s:
                return False
            self._stretches[-1] = replace(current, end_s=elapsed_s, waits_for_done=False)
            return True

    # -- in time -------------------------------------------------------------------------------

    def _stretch(self, elapsed_s: float) -> _Stretch:
        while not self._stretches or elapsed_s >= self._stretches[-1].end_s:
            self._stretches.append(self._next())
        for stretch in reversed(self._stretches):
            if elapsed_s >= stretch.start_s:
                return stretch
        return self._stretches[0]  # older than anybody remembers

    def _state(self, stretch: _Stretch, elapsed_s: float) -> CellState:
        s = max(min(elapsed_s, stretch.end_s) - stretch.start_s, 0.0) * self._scale
        s = min(s, stretch.course.duration_s)
        x = stretch.course.x(s)
        current_mA = stretch.course.current_mA(s)
        return CellState(
            step=stretch.name,
            lithium_content=x,
            voltage_V=float(self._settings.electrodes.voltage(x)) - stretch.course.overpotential_V(s),
            current_mA=-current_mA if current_mA else 0.0,
            capacity_mAh=stretch.started_mAh + stretch.course.charge_mAh(s),
            trigger_level_V=stretch.level_V,
            elapsed_s=elapsed_s,
            pause_index=stretch.pause_index,
        )

    def _before(self, elapsed_s: float) -> CellState:
        x = self._settings.start_x
        return CellState(
            step="rest",
            lithium_content=x,
            voltage_V=float(self._settings.electrodes.voltage(x)),
            current_mA=0.0,
            capacity_mAh=0.0,
            trigger_level_V=0.0,
            elapsed_s=0.0,
        )

    # -- from step to step ---------------------------------------------------------------------

    def _next(self) -> _Stretch:
        """Work out the step after the last one."""
        x, loss_V, start_s, passed_mAh = self._end_of_last()
        step = next(self._steps, None)
        if step is None or self._is_open:
            name = "open circuit" if self._is_open else "end"
            course = resting(self._model(), x, loss_V, math.inf)
            return _Stretch(name=name, start_s=start_s, end_s=math.inf, course=course, started_mAh=passed_mAh)
        if step.kind is StepKind.PAUSE:
            return self._pause(step, x, loss_V, start_s, passed_mAh)
        direction = DIRECTION.get(step.kind, self._direction)
        if direction != self._direction:
            self._cycles += direction < 0 < self._direction
            self._direction, passed_mAh = direction, 0.0
        course = self._broken(_course(self._model(), step, x, loss_V))
        return _Stretch(
            name=step.kind.value,
            start_s=start_s,
            end_s=start_s + course.duration_s / self._scale,
            course=course,
            started_mAh=passed_mAh,
            level_V=self._level_beside_pauses(),
        )

    def _end_of_last(self) -> tuple[float, float, float, float]:
        if not self._stretches:
            return self._settings.start_x, 0.0, 0.0, 0.0
        last = self._stretches[-1]
        s = min((last.end_s - last.start_s) * self._scale, last.course.duration_s)
        self._cell_s += s
        passed_mAh = last.started_mAh + last.course.charge_mAh(s)
        return last.course.x(s), last.course.overpotential_V(s), last.end_s, passed_mAh

    def _pause(self, step: Step, x: float, loss_V: float, start_s: float, passed_mAh: float) -> _Stretch:
        """Return a pause; its length is the laboratory's, its relaxation the cell's."""
        self._pauses += 1
        resumes = self._fault("resumes")
        lasting_s = step.until.time_s if step.until.time_s is not None else math.inf
        if resumes is not None:
            lasting_s = min(lasting_s, resumes.time_s)
        return _Stretch(
            name="pause",
            start_s=start_s,
            end_s=start_s + lasting_s,
            course=resting(self._model(), x, loss_V, math.inf),
            started_mAh=passed_mAh,
            level_V=0.0 if self._fault("silent") else step.level_V,
            pause_index=self._pauses - 1,
            waits_for_done=step.waits_for_done,
        )

    def _level_beside_pauses(self) -> float:
        """Return the line's level while the cell runs: low, unless it stuck after the last pause."""
        return self._stretches[-1].level_V if self._stretches and self._fault("stuck") else 0.0

    def _fault(self, kind: str) -> Fault | None:
        for fault in self._settings.faults:
            if fault.kind == kind and fault.pause == self._pauses:
                return fault
        return None

    def _broken(self, course: Course) -> Course:
        """Return the course, cut where the circuit opens."""
        for fault in self._settings.faults:
            left_s = fault.time_s - self._cell_s
            if fault.kind == "open circuit" and left_s <= course.duration_s:
                self._is_open = True
                return replace(course, duration_s=max(left_s, 0.0))
        return course

    def _model(self) -> CellModel:
        settings = self._settings
        return CellModel(
            voltage=settings.electrodes.voltage,
            capacity_per_x_mAh=settings.charge_per_x * (1.0 - settings.fade_per_cycle) ** self._cycles,
            resistance_ohm=settings.resistance_ohm,
            relaxation_s=settings.relaxation_s,
            leak_mA=settings.leak_mA,
        )


def _flat(steps: Sequence[Step | Repeat]) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, Repeat):
            for _ in range(step.count):
                yield from _flat(step.steps)
        else:
            yield step


def _course(model: CellModel, step: Step, x: float, loss_V: float) -> Course:
    until = step.until
    if step.kind is StepKind.REST:
        return resting(model, x, loss_V, until.time_s or 0.0)
    if step.kind is StepKind.HOLD:
        return held_voltage(
            model,
            x,
            step.level_V,
            cutoff_mA=until.current_mA,
            charge_mAh=until.charge_mAh,
            time_s=until.time_s,
        )
    return constant_current(
        model,
        x,
        loss_V,
        DIRECTION[step.kind] * step.current_mA,
        cutoff_V=until.voltage_V,
        charge_mAh=until.charge_mAh,
        time_s=until.time_s,
    )
