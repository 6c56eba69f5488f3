"""Sequences of a cycler: what a text means, and what is said of one that means nothing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.sim.cell_sequence import parse_sequence
from xrdct_beamline.sim.sequence_steps import Cutoff, Fault, Repeat, Step, StepKind
from xrdct_beamline.sim.voltage_curves import Chemistry

HEAD = "capacity 0.0143 mAh\n"


def steps(text: str) -> tuple[Step | Repeat, ...]:
    return parse_sequence(HEAD + text).steps


def test_settings_of_the_cell() -> None:
    settings = parse_sequence(
        """
        cell LMO/graphite      # a comment
        capacity 45 mAh
        graphite 0.047 Ah
        start x 0.8
        resistance 1.5 ohm
        relaxation 5 min
        fade 0.1 % per cycle
        leak 2 uA
        rest 1 h
        """
    ).settings
    assert settings.electrodes.chemistry is Chemistry.LMO_GRAPHITE
    assert settings.electrodes.graphite_per_x == pytest.approx(45 / 0.742 / 47)
    assert (settings.capacity_mAh, settings.start_x, settings.resistance_ohm) == (45.0, 0.8, 1.5)
    assert (settings.relaxation_s, settings.fade_per_cycle) == (300.0, pytest.approx(0.001))
    assert settings.leak_mA == pytest.approx(0.002)


@pytest.mark.parametrize(
    ("text", "current_mA"),
    [("8 uA", 0.008), ("8 µA", 0.008), ("1.12 mA", 1.12), ("C/2", 0.00715), ("2C", 0.0286), ("C", 0.0143)],
)
def test_current_may_be_a_rate(text: str, current_mA: float) -> None:
    [step] = steps(f"discharge {text} until 3.0 V")
    assert isinstance(step, Step)
    assert step.current_mA == pytest.approx(current_mA)


@pytest.mark.parametrize(
    ("line", "step"),
    [
        (
            "charge 4 uA until 4.2 V or 0.01 mAh or 2 h",
            {
                "kind": StepKind.CHARGE,
                "current_mA": 0.004,
                "until": Cutoff(voltage_V=4.2, charge_mAh=0.01, time_s=7200.0),
            },
        ),
        (
            "discharge 1 mA for 90 s",
            {"kind": StepKind.DISCHARGE, "current_mA": 1.0, "until": Cutoff(time_s=90.0)},
        ),
        (
            "hold 4200 mV until 0.4 uA",
            {"kind": StepKind.HOLD, "level_V": 4.2, "until": Cutoff(current_mA=0.0004)},
        ),
        ("rest 10 min", {"kind": StepKind.REST, "until": Cutoff(time_s=600.0)}),
        ("pause 3.3 V for 25 min", {"kind": StepKind.PAUSE, "level_V": 3.3, "until": Cutoff(time_s=1500.0)}),
        ("pause 5 V until done", {"kind": StepKind.PAUSE, "level_V": 5.0, "waits_for_done": True}),
    ],
)
def test_steps(line: str, step: dict[str, object]) -> None:
    [found] = steps(line)
    assert found == Step(line=2, **step)  # type: ignore[arg-type]


def test_loops_nest() -> None:
    [outer] = steps("repeat 3\n  rest 1 s\n  repeat 2\n    rest 2 s\n  end\nend")
    assert isinstance(outer, Repeat)
    assert (outer.line, outer.count, len(outer.steps)) == (2, 3, 2)
    inner = outer.steps[1]
    assert isinstance(inner, Repeat)
    assert inner.count == 2


def test_faults() -> None:
    faults = ("pause 2 silent", "pause 3 stuck", "pause 4 resumes after 60 s", "open circuit after 1 h")
    text = "".join(f"fault {fault}\n" for fault in faults)
    assert parse_sequence(f"{HEAD}{text}rest 1 s").settings.faults == (
        Fault(kind="silent", pause=2),
        Fault(kind="stuck", pause=3),
        Fault(kind="resumes", pause=4, time_s=60.0),
        Fault(kind="open circuit", time_s=3600.0),
    )


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("dischrage C/2 until 3 V", 2, r"'dischrage' is not a step or setting; did you mean 'discharge'\?"),
        ("fly 3 V", 2, "known are cell, capacity"),
        ("discharge 8 uA", 2, "'discharge' has no end; add 'until 3.0 V' or 'for 30 min'"),
        ("discharge 8 uA to 3.0 V", 2, "'to' is not understood here; write until or for"),
        ("discharge until 3.0 V", 2, "'until' is no number; write 8 uA or C/2"),
        ("discharge 8 until 3.0 V", 2, "'until' is not a unit that fits here; use one of A, mA, uA"),
        ("discharge 8", 2, "the line ends too early; add a unit, as in 8 uA or C/2"),
        ("discharge 8 uA until 3.0 V or", 2, "the line ends too early; add 3.0 V or 0.0143 mAh or 25 min"),
        ("discharge 8 uA until 3.0 V and 1 h", 2, "'and' is not understood here; write or"),
        ("discharge 0 uA until 3.0 V", 2, "0 uA is not more than zero"),
        ("discharge -8 uA until 3.0 V", 2, "-8 is out of range; write 0 or more"),
        ("discharge C/0 until 3.0 V", 2, "C/0 is not a rate; write C/2 or 2C"),
        ("charge 4 uA until 4.2 A", 2, "'A' is not a unit that fits here; use one of V, mV, Ah"),
        ("hold 4.2 V", 2, "'hold' has no end; add 'until 0.4 uA' or 'for 30 min'"),
        ("pause 3.3 V", 2, "'pause' has no end; write 'until done', or 'for 25 min'"),
        ("pause 3.3 V until DONE", 2, "'DONE' is not understood here; write done"),
        ("rest 10 minutes", 2, "'minutes' is not a unit that fits here; use one of s, min, h, d"),
        ("rest 10 min now", 2, "'now' is too much; take it out"),
        ("repeat 0\nrest 1 s\nend", 2, "0 is out of range; write 1 or more"),
        ("repeat 2\nend", 2, "nothing is repeated"),
        ("rest 1 s\nend", 3, "'end' without 'repeat'"),
        ("rest 1 s\n\nrepeat 2\nrest 1 s", 4, "'repeat' without 'end'"),
        ("rest 1 s\ncell LMO/Li", 3, "'cell' comes after the first step; put it above all steps"),
        ("cell LCO/Li\nrest 1 s", 2, "'LCO/Li' is not understood here; write LMO/Li or LMO/graphite"),
        ("start x 1.5\nrest 1 s", 2, "1.5 is out of range; write 0 to 1"),
        ("fade 1 mAh\nrest 1 s", 2, "'mAh' is not understood here; write %"),
        (
            "fault pause 1 sleeps\nrest 1 s",
            2,
            "'sleeps' is not understood here; write silent or stuck or resumes",
        ),
    ],
)
def test_mistake_is_told_with_its_line_and_a_remedy(text: str, line: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as raised:
        parse_sequence(HEAD + text, source="my.cell")
    assert str(raised.value).startswith(f"my.cell, line {line}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "my.cell: the cell has no capacity"),
        (HEAD, "my.cell: there is no step"),
        ("rest 1 s", "my.cell: the cell has no capacity"),
        ("charge C/2 until 4.2 V", "my.cell, line 1: C/2 needs a capacity"),
    ],
)
def test_text_that_lacks_something(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_sequence(text, source="my.cell")


WORDS = "charge discharge hold rest pause until or 0.5 C/2 C/ . uA V min end repeat 2 fault x \n #".split(" ")


@given(st.lists(st.sampled_from(WORDS), max_size=30))
def test_words_in_any_order_are_a_sequence_or_refused(words: list[str]) -> None:
    with contextlib.suppress(ConfigurationError):
        assert parse_sequence(HEAD + " ".join(words)).steps


def test_time_scale_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="time_scale"):
        parse_sequence(HEAD + "rest 1 s", time_scale=0.0)
