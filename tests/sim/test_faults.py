"""What a campaign does and when, and whether its book balances."""

from __future__ import annotations

import itertools

from xrdct_beamline.sim.faults import (
    Entry,
    Fault,
    Injection,
    Ledger,
    Place,
    ScanPlan,
    draw_scans,
    place_of,
)


def take(seed: int, count: int, **options: object) -> list[ScanPlan]:
    return list(itertools.islice(draw_scans(seed, n_lines=8, n_frames=9, **options), count))


def test_the_seed_alone_decides() -> None:
    assert take(5, 30) == take(5, 30)
    assert take(5, 30) != take(6, 30)


def test_every_kind_comes_before_any_comes_again() -> None:
    drawn = [i.fault for scan in take(3, 60) for i in scan.injections]
    n_slices_of_a_deck = next(
        n for n in range(60) if len({i.fault for s in take(3, n) for i in s.injections}) == len(Fault)
    )
    assert n_slices_of_a_deck < 25
    assert max(drawn.count(fault) for fault in Fault) - min(drawn.count(fault) for fault in Fault) <= 2


def test_faults_strike_where_they_can() -> None:
    for scan in take(1, 200):
        assert 1 <= len(scan.injections) <= 3
        waits = [i for i in scan.injections if place_of(i.fault) is Place.WAIT]
        assert len(waits) <= 1
        if {place_of(i.fault) for i in scan.injections} != {Place.LINE}:
            assert scan.in_pause
        for injection in scan.injections:
            assert -1 <= injection.line < 7  # the last line is left to show that the scan went on
            assert 0 <= injection.number < 9
        lines = [i.line for i in scan.injections]
        assert lines == sorted(lines)


def test_what_cannot_be_tried_is_left_out() -> None:
    left_out = {Fault.DISK_FULL, Fault.DISK_LOW}
    assert not left_out & {i.fault for s in take(1, 100, left_out=left_out) for i in s.injections}


def entry(**changes: object) -> Entry:
    injection = Injection(fault=Fault.BEAM_LOST, line=1, fraction=0.5, hold_s=1.0, number=0)
    scan = ScanPlan(number=0, in_pause=False, injections=(injection,))
    whole = {"scan": scan, "injected": [injection], "planned": 8, "accepted": 8}
    return Entry(**{**whole, **changes})


def test_a_book_balances_when_each_line_is_there_or_marked_with_a_reason() -> None:
    assert entry().balances
    assert entry(accepted=7, marked={3: "bad: no beam"}).balances
    assert not entry(accepted=7).balances
    assert not entry(accepted=7, marked={3: ""}).balances
    assert not entry(problems=["a process is left"]).balances


def test_one_slice_that_does_not_balance_is_enough() -> None:
    ledger = Ledger(entries=[entry(), entry(accepted=7)])
    assert not ledger.balances
    assert ledger.n_injected == 2
    assert ledger.totals()["lines_accepted"] == 15
    row = {"struck": 2, "slices complete": 1, "slices with marked lines": 0, "not balanced": 1}
    assert ledger.by_fault() == {"beam lost": row}
