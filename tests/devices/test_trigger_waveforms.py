"""A thousand random waveforms against an oracle that knows nothing of the state machine.

The oracle sees the whole waveform on a grid of half milliseconds: it fills the band between the thresholds
from the last decided level, and looks for runs of high samples. The state machine sees what a control
system would send: changes, one after another, and the clock; or readings at moments of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from xrdct_beamline.devices.trigger_logic import TriggerLogic, TriggerSettings, TriggerState
from xrdct_beamline.domain.errors import TriggerError

TICK_S = 0.0005
SETTINGS = TriggerSettings(low_V=0.8, high_V=2.0, debounce_s=0.050125)  # between two ticks
DEBOUNCE = 101  # ticks that are long enough
CLOCK_OFFSET_S = 1.7e9  # the source's clock is not ours
WAVEFORMS = 1000
LONGEST_GAP = 25  # ticks between two readings
KINDS = ("pause", "glitches", "early", "stuck high", "stuck low", "ramp", "noise", "disconnect", "alarm")

Levels = npt.NDArray[np.float64]


@dataclass
class Waveform:
    """Levels on the grid; NaN where there is none. The session arms at ``armed`` and gives up at the end."""

    kind: str
    levels_V: Levels
    armed: int
    reason: str = ""


@dataclass
class Truth:
    """What must come of a waveform."""

    outcome: str  # triggered, refused, invalid, timed out
    at: int = -1  # tick of the edge, or of what went wrong
    glitches: int = 0
    ignored: int = 0


# -- waveforms -------------------------------------------------------------------------------------


def make_waveform(seed: int) -> Waveform:
    rng = np.random.default_rng([20200203, seed])
    kind = KINDS[seed % len(KINDS)]
    n = int(rng.integers(1600, 2400))
    armed = int(rng.integers(200, 500))
    levels = np.full(n, float(rng.uniform(0.0, 0.3)))
    high_V = float(rng.uniform(2.5, 5.0))
    rise = int(rng.integers(armed + 20, n - 4 * DEBOUNCE))
    waveform = Waveform(kind=kind, levels_V=levels, armed=armed)
    if kind in ("pause", "glitches", "alarm", "disconnect"):
        levels[rise : rise + int(rng.integers(2, 8)) * DEBOUNCE] = high_V
    if kind in ("pause", "glitches", "stuck low", "disconnect"):
        add_glitches(levels, rng, until=rise if kind != "stuck low" else n, high_V=high_V)
    if kind == "early":
        levels[int(rng.integers(20, armed)) : armed + int(rng.integers(-40, 200))] = high_V
    if kind == "stuck high":
        levels[int(rng.integers(0, armed - 10)) :] = high_V
    if kind == "ramp":
        end = min(rise + int(rng.integers(50, 900)), n)
        levels[rise:end] = np.linspace(levels[0], high_V, end - rise)
        levels[end:] = high_V
    if kind == "noise":
        levels += rng.normal(0.0, rng.uniform(0.2, 0.9), n)
        if rng.random() < 0.5:
            levels[rise:] += high_V
    if kind in ("disconnect", "alarm"):
        begin = int(rng.integers(0, n - 60))
        levels[begin : begin + int(rng.integers(1, 60))] = np.nan
        waveform.reason = {"disconnect": "its server went away", "alarm": "its alarm severity is INVALID"}[
            kind
        ]
    return waveform


def add_glitches(levels: Levels, rng: np.random.Generator, *, until: int, high_V: float) -> None:
    """Add spikes up, some of which have a notch into the band or below it."""
    for _ in range(int(rng.integers(0, 8))):
        start, width = int(rng.integers(0, until)), int(rng.integers(1, DEBOUNCE))
        levels[start : min(start + width, until - 1)] = high_V
        if rng.random() < 0.3:
            levels[min(start + width // 2, until - 1)] = float(rng.uniform(0.0, 1.9))


# -- the oracle ------------------------------------------------------------------------------------


def decide(levels_V: Levels) -> npt.NDArray[np.int8]:
    """Return 1 for high, 0 for low, -1 for unknown, at each tick."""
    decided = np.full(levels_V.size, -2, dtype=np.int8)  # in the band: as before
    decided[levels_V >= SETTINGS.high_V] = 1
    decided[levels_V < SETTINGS.low_V] = 0
    decided[np.isnan(levels_V)] = -1
    decided[0] = -1 if decided[0] == -2 else decided[0]
    last = np.maximum.accumulate(np.where(decided == -2, 0, np.arange(decided.size)))
    return decided[last]


def runs(mask: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first tick of each run of True, and the tick after its last."""
    padded = np.concatenate([[False], mask, [False]]).astype(np.int8)
    return list(zip(np.flatnonzero(np.diff(padded) == 1), np.flatnonzero(np.diff(padded) == -1), strict=True))


def oracle(waveform: Waveform) -> Truth:
    state, armed = decide(waveform.levels_V), waveform.armed
    ignored = sum(
        1 for first, _ in runs(state[: armed + 1] == 1) if 0 < first <= armed and state[first - 1] == 0
    )
    if state[armed] == -1:
        return Truth("invalid", armed, ignored=ignored)
    if state[armed] == 1:
        return Truth("refused", armed, ignored=ignored)
    lost = np.flatnonzero(state[armed:] == -1)
    first_lost = armed + int(lost[0]) if lost.size else state.size
    glitches = 0
    for first, end in runs(state == 1):
        if first <= armed:
            continue
        if first > first_lost:
            break
        if end - first >= DEBOUNCE and first + DEBOUNCE < state.size:
            return Truth("triggered", int(first), glitches, ignored)
        glitches += end < min(first_lost, state.size)
    if lost.size:
        return Truth("invalid", first_lost, glitches, ignored)
    return Truth("timed out", state.size, glitches, ignored)


# -- what the state machine makes of it ------------------------------------------------------------


def told_of_changes(waveform: Waveform, line: TriggerLogic) -> str:
    """Feed changes, as a monitor does, and let timers go off in between, as late as they may."""
    levels = waveform.levels_V
    is_lost = np.isnan(levels)
    differs = (np.diff(levels) != 0) & ~(is_lost[1:] & is_lost[:-1])
    ticks = sorted({0, waveform.armed, *(np.flatnonzero(differs) + 1).tolist(), levels.size})
    previous_s = 0.0
    for tick in ticks:
        now_s = tick * TICK_S
        due_s = line.due_s(previous_s)
        if due_s is not None and previous_s + due_s < now_s - TICK_S / 2 and line.advance(now_s - TICK_S / 2):
            return "triggered"
        if tick == levels.size:
            break
        if is_lost[tick]:
            line.invalid(waveform.reason)
        else:
            line.sample(float(levels[tick]), now_s, now_s + CLOCK_OFFSET_S)
        if acted(line, tick, waveform.armed):
            return "triggered"
        previous_s = now_s
    return "timed out"


def acted(line: TriggerLogic, tick: int, armed: int) -> bool:
    """Arm when it is time; afterwards look, as the device does at each update."""
    now_s = tick * TICK_S
    if tick == armed:
        line.arm(now_s)
    if tick <= armed:
        return False
    line.check(now_s)
    return line.advance(now_s)


def outcome_of(waveform: Waveform, line: TriggerLogic) -> tuple[str, str]:
    """Return what became of it, and the error's text."""
    end_s = waveform.levels_V.size * TICK_S
    try:
        outcome = told_of_changes(waveform, line)
    except TriggerError as error:
        return ("refused" if "high already" in str(error) else "invalid"), str(error)
    return outcome, str(line.timed_out(end_s)) if outcome == "timed out" else ""


SHAPE_OF_ERROR = re.compile(
    r"^the line .+: (unknown|-?\d+\.\d\d V) after \d+\.\d s "
    r"\(high from 2, low below 0\.8 V, \d+ glitches\); .+"
)


def test_thousand_waveforms() -> None:
    seen: dict[str, int] = {}
    for seed in range(WAVEFORMS):
        waveform = make_waveform(seed)
        truth, line = oracle(waveform), TriggerLogic("the line", SETTINGS)
        outcome, text = outcome_of(waveform, line)
        where = f"waveform {seed} ({waveform.kind})"
        assert outcome == truth.outcome, where
        seen[outcome] = seen.get(outcome, 0) + 1
        assert line.ignored_edges == truth.ignored, where
        assert line.glitches == truth.glitches, where
        if outcome == "triggered":
            assert line.state is TriggerState.TRIGGERED
            assert line.edge_s == pytest.approx(truth.at * TICK_S + CLOCK_OFFSET_S, abs=1e-6), where
        else:
            assert SHAPE_OF_ERROR.match(text), f"{where}: {text}"
            waited_s = truth.at * TICK_S - waveform.armed * TICK_S
            assert f" after {waited_s:.1f} s" in text, f"{where}: {text}"
        if outcome == "invalid":
            assert "no valid level" in text
    assert set(seen) == {"triggered", "refused", "invalid", "timed out"}
    assert min(seen.values()) >= 50, seen


def test_thousand_waveforms_read_at_moments() -> None:
    """Readings every 5 to 12 ms: what is too short to be seen is nobody's business, the rest is certain."""
    certain = 0
    for seed in range(WAVEFORMS):
        waveform = make_waveform(seed)
        if np.isnan(waveform.levels_V).any():
            continue
        where = f"waveform {seed} ({waveform.kind})"
        line = TriggerLogic("the line", SETTINGS, is_polled=True)
        outcome = read_at_moments(waveform, line, np.random.default_rng([1, seed]))
        # Two spikes that meet two readings look like one pulse: noise decides nothing here.
        if waveform.kind == "noise":
            continue
        certain += 1
        if outcome == "triggered":  # a notch may fall between two readings
            longest_s = longest_high_s(waveform, fill=LONGEST_GAP)
            assert longest_s >= SETTINGS.debounce_s, f"{where}: false start"
        if outcome != "refused" and longest_high_s(waveform) > SETTINGS.debounce_s + 0.025:
            assert outcome == "triggered", f"{where}: missed pause"
    assert certain > WAVEFORMS // 2


def longest_high_s(waveform: Waveform, fill: int = 0) -> float:
    """Return the longest run of high after arming, shorter notches than ``fill`` taken for high."""
    high = decide(waveform.levels_V) == 1
    for first, end in runs(~high):
        if end - first < fill and first > 0:
            high[first:end] = True
    spans = [(max(first, waveform.armed), end) for first, end in runs(high) if end > waveform.armed]
    return max((end - first for first, end in spans), default=0) * TICK_S


def read_at_moments(waveform: Waveform, line: TriggerLogic, rng: np.random.Generator) -> str:
    tick, is_armed = 0, False
    while tick < waveform.levels_V.size:
        now_s = tick * TICK_S
        line.sample(float(waveform.levels_V[tick]), now_s, now_s + CLOCK_OFFSET_S)
        if tick >= waveform.armed and not is_armed:
            try:
                line.arm(now_s)
            except TriggerError:
                return "refused"
            is_armed = True
        if is_armed and line.advance(now_s):
            return "triggered"
        tick += int(rng.integers(10, LONGEST_GAP))
    return "timed out"
