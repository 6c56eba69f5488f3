"""One step of a cycler on a cell: how lithium content and overpotential move, and when it ends.

The overpotential η obeys τ dη/dt = R·I − η, the voltage is U(x) − η, and 3600·Q dx/dt = I; a current that
discharges is positive here. Times are the cell's own seconds, charges mAh, currents mA.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .voltage_curves import OCV_RANGE

__all__ = ["CellModel", "Course", "constant_current", "held_voltage", "resting"]

GRID = 400  # points on which a voltage limit is looked for, before it is bisected
BISECTIONS = 50
STEP = 0.02  # relative change of the overpotential in a step of the integration
LONGEST_INTEGRATION = 4000
NEGLIGIBLE_V = 1e-7
SLOPE_X = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class CellModel:
    """The cell in its present state of health."""

    voltage: Callable[[npt.ArrayLike], npt.NDArray[np.float64]]
    capacity_per_x_mAh: float
    resistance_ohm: float
    relaxation_s: float
    leak_mA: float

    def x_per_s(self, current_mA: float) -> float:
        """Return how fast the content moves; the leak discharges, too."""
        return (current_mA + self.leak_mA) / 3600.0 / self.capacity_per_x_mAh


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a step goes: functions of the seconds since its beginning, up to ``duration_s``."""

    duration_s: float
    x: Callable[[float], float]
    overpotential_V: Callable[[float], float]
    current_mA: Callable[[float], float]
    charge_mAh: Callable[[float], float]


def _relaxing(model: CellModel, start_V: float, target_V: float) -> Callable[[float], float]:
    return lambda s: target_V + (start_V - target_V) * math.exp(-s / model.relaxation_s)


def _moving(model: CellModel, x: float, current_mA: float) -> Callable[[float], float]:
    rate = model.x_per_s(current_mA)
    return lambda s: min(max(x + rate * s, 0.0), 1.0)


def resting(model: CellModel, x: float, overpotential_V: float, duration_s: float) -> Course:
    """Return a course without current."""
    return Course(
        duration_s=duration_s,
        x=_moving(model, x, 0.0),
        overpotential_V=_relaxing(model, overpotential_V, 0.0),
        current_mA=lambda s: 0.0,
        charge_mAh=lambda s: 0.0,
    )


def constant_current(
    model: CellModel,
    x: float,
    overpotential_V: float,
    current_mA: float,
    *,
    cutoff_V: float | None = None,
    charge_mAh: float | None = None,
    time_s: float | None = None,
) -> Course:
    """Return a course at one current, until whichever limit comes first; the last is the electrode's own."""
    rate = model.x_per_s(current_mA)
    way = (OCV_RANGE[1] - x) / rate if rate > 0 else (OCV_RANGE[0] - x) / rate if rate < 0 else math.inf
    ends = [max(way, 0.0), math.inf if time_s is None else time_s]
    if charge_mAh is not None:
        ends.append(charge_mAh / abs(current_mA) * 3600.0)
    duration_s = min(ends)
    loss = _relaxing(model, overpotential_V, model.resistance_ohm * current_mA * 1e-3)
    content = _moving(model, x, current_mA)
    if cutoff_V is not None and math.isfinite(duration_s):

        def is_beyond(s: float) -> bool:
            voltage_V = float(model.voltage(content(s))) - loss(s)
            return voltage_V <= cutoff_V if current_mA > 0 else voltage_V >= cutoff_V

        duration_s = _first(is_beyond, duration_s)
    return Course(
        duration_s=duration_s,
        x=content,
        overpotential_V=loss,
        current_mA=lambda s: current_mA,
        charge_mAh=lambda s: abs(current_mA) * s / 3600.0,
    )


def _first(is_beyond: Callable[[float], bool], end_s: float) -> float:
    """Return the first time at which something holds, or the end."""
    previous_s = 0.0
    for s in np.linspace(0.0, end_s, GRID):
        if is_beyond(float(s)):
            low, high = previous_s, float(s)
            for _ in range(BISECTIONS):
                middle = 0.5 * (low + high)
                low, high = (low, middle) if is_beyond(middle) else (middle, high)
            return high
        previous_s = float(s)
    return end_s


def held_voltage(
    model: CellModel,
    x: float,
    voltage_V: float,
    *,
    cutoff_mA: float | None = None,
    charge_mAh: float | None = None,
    time_s: float | None = None,
) -> Course:
    """Return a course at one voltage, until the current is small enough or another limit comes first.

    With V held, η = U(x) − V; inserting that in the law of η leaves one equation for x.
    """
    times, contents, currents, charges = [0.0], [x], [_holding(model, x, voltage_V)], [0.0]
    end_s = math.inf if time_s is None else time_s
    for _ in range(LONGEST_INTEGRATION):
        current_mA, s = currents[-1], times[-1]
        loss_V = float(model.voltage(contents[-1])) - voltage_V
        is_small = cutoff_mA is not None and abs(current_mA) <= cutoff_mA
        is_full = charge_mAh is not None and charges[-1] >= charge_mAh
        if is_small or is_full or s >= end_s or abs(loss_V) < NEGLIGIBLE_V:
            break
        step_s = min(_pace(model, contents[-1], current_mA, loss_V), end_s - s)
        halfway = contents[-1] + model.x_per_s(current_mA) * step_s / 2
        middle_mA = _holding(model, halfway, voltage_V)
        contents.append(contents[-1] + model.x_per_s(middle_mA) * step_s)
        times.append(s + step_s)
        currents.append(_holding(model, contents[-1], voltage_V))
        charges.append(charges[-1] + abs(middle_mA) * step_s / 3600.0)
    # a hold for a time goes on when nothing flows any more
    duration_s = times[-1] if time_s is None or times[-1] >= end_s or cutoff_mA is not None else end_s

    def at(values: list[float]) -> Callable[[float], float]:
        return lambda s: float(np.interp(s, times, values))

    content = at(contents)
    return Course(
        duration_s=duration_s,
        x=content,
        overpotential_V=lambda s: float(model.voltage(content(s))) - voltage_V,
        current_mA=at(currents),
        charge_mAh=at(charges),
    )


def _slope(model: CellModel, x: float) -> float:
    """Return dU/dx, which is negative."""
    low, high = max(x - SLOPE_X, OCV_RANGE[0]), min(x + SLOPE_X, OCV_RANGE[1])
    if not low < high:
        return 0.0
    return float(model.voltage(high) - model.voltage(low)) / (high - low)


def _holding(model: CellModel, x: float, voltage_V: float) -> float:
    """Return the current that keeps the voltage, in mA."""
    loss_mV = (float(model.voltage(x)) - voltage_V) * 1e3
    stiffness = model.relaxation_s * _slope(model, x) * 1e3 / 3600.0 / model.capacity_per_x_mAh
    return loss_mV / (model.resistance_ohm - stiffness)


def _pace(model: CellModel, x: float, current_mA: float, loss_V: float) -> float:
    """Return the time in which the overpotential changes a little."""
    change = abs(_slope(model, x) * model.x_per_s(current_mA))
    lasting = abs(loss_V) / change if change > 0 else math.inf
    return STEP * min(lasting, 50.0 * model.relaxation_s)
