"""A campaign of random faults over short slices, and the book that is kept of it.

    xrdct bench faults --seed N --count M [--lines N] [--points N] [--output DIR]

Slices are taken one after another, each with one to three faults drawn with the seed. After each of
them its lines are counted, its frames and its sinogram compared bit for bit with those of a slice that
nothing was done to, and outputs and processes looked at. The last line is the summary; the exit code is
0 only if every slice balances: each planned line is in the processed file, or marked with a reason.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from _fault_actions import inject, relieve
from _fault_checks import Reference, Watch, check, make_reference
from _fault_rig import WATCHDOG_S, Rig, run_in_folder

from xrdct_beamline.sim.faults import Entry, Fault, Injection, Ledger, Place, ScanPlan, draw_scans, place_of
from xrdct_beamline.storage.journal import JournalFollower

SCAN_S = 120.0  # patience with one slice
ARMED_S, PAUSE_S, SHORT_PAUSE_S = 15.0, 60.0, 1.5
LEVEL_S = 0.2  # until the session has seen a level
MAX_RESUMES = 6
ENDS_WITH_ERROR = (Fault.WIRE_HIGH, Fault.WIRE_LOW, Fault.WIRE_ALARM, Fault.WIRE_AWAY)
CATALOG_FAULTS = {Fault.CATALOG_KILLED, Fault.CATALOG_STOPPED}


@dataclass(slots=True)
class _Active:
    """A fault that holds."""

    injection: Injection
    until_s: float


@dataclass(slots=True)
class Campaign:
    """One after another, in a rig."""

    rig: Rig
    watch: Watch
    reference: Reference | None = None
    ledger: Ledger = field(default_factory=Ledger)
    _active: list[_Active] = field(default_factory=list)
    _waiting: list[Injection] = field(default_factory=list)

    def prepare(self) -> None:
        """Start everything and take a slice that nothing is done to."""
        self.rig.start()
        self.rig.start_session()
        self.rig.live.wait_for_line("page:", timeout_s=200)
        entry = Entry(scan=ScanPlan(number=-1, in_pause=False, injections=()))
        self.watch.begin()
        self._take(entry)
        self.reference = make_reference(self.rig, self.watch)

    def run(self, scan: ScanPlan) -> Entry:
        """Take a slice, do to it what is planned, and keep the book."""
        entry, began_s = Entry(scan=scan), time.monotonic()
        self._ensure_session(scan)
        self.watch.begin()
        is_ended = False
        try:
            is_ended = self._take(entry)
        finally:
            self._relieve(everything=True)
        if not is_ended:
            entry.problems.append(f"no end after {time.monotonic() - began_s:.0f} s")
            self._replace_session()
        if scan.in_pause:
            self.rig.set_level("Cell")
        check(self.rig, self.watch, self.reference, entry, is_ended=is_ended)
        entry.seconds = time.monotonic() - began_s
        self.ledger.entries.append(entry)
        return entry

    # -- a slice -------------------------------------------------------------------------------

    def _take(self, entry: Entry) -> bool:
        """Give the order and follow it to its end; return whether it came."""
        scan, deadline_s = entry.scan, time.monotonic() + SCAN_S
        self._waiting = [i for i in scan.injections if place_of(i.fault) is not Place.WAIT]
        self._order(entry)
        while time.monotonic() < deadline_s:
            self.watch.look()
            self._strike(entry)
            self._relieve()
            session = self.rig.session
            if session is None or not session.is_running:
                if not self._active and not self._go_on(entry):
                    return False
            elif answer := session.answer():
                if answer == "done":
                    self.watch.look()
                    return True
                self._relieve(everything=True)
                if not self._go_on(entry, answer):
                    return False
            time.sleep(0.005)
        return False

    def _order(self, entry: Entry) -> None:
        if not entry.scan.in_pause:
            self.rig.session.order("slice")
            return
        wait = next((i for i in entry.scan.injections if place_of(i.fault) is Place.WAIT), None)
        if wait is not None and wait not in entry.injected:
            entry.injected.append(wait)
            entry.problems += self._disturb_waiting(wait)
            if wait.fault not in ENDS_WITH_ERROR:
                return  # it still waits, or has begun
        self._wait_for_pause(PAUSE_S)
        self.rig.set_level("Stuck high")

    def _wait_for_pause(self, timeout_s: float) -> None:
        """Order a slice in a pause, and wait until the session waits for it."""
        self.rig.set_level("Stuck low")
        time.sleep(LEVEL_S)
        self.rig.session.order(f"pause {timeout_s}")
        deadline_s = time.monotonic() + ARMED_S
        while self.rig.get("TRIG:READY") != "High" and time.monotonic() < deadline_s:
            time.sleep(0.02)

    def _disturb_waiting(self, injection: Injection) -> list[str]:
        """Do something to the wire while the cell is waited for; return what should not have happened."""
        rig, fault = self.rig, injection.fault
        if fault is Fault.WIRE_HIGH:
            inject(rig, injection)
            time.sleep(LEVEL_S)
            rig.session.order(f"pause {PAUSE_S}")
        else:
            self._wait_for_pause(SHORT_PAUSE_S if fault is Fault.WIRE_LOW else PAUSE_S)
            inject(rig, injection)
        problems = []
        if fault in ENDS_WITH_ERROR:
            answer = rig.session.answer(20)
            if "TriggerError" not in answer:
                problems.append(f"{fault}: the session says {answer!r}")
        else:
            time.sleep(injection.hold_s)
            if rig.get("TRIG:BUSY") != "Low":
                problems.append(f"{fault}: a false start")
        relieve(rig, injection)
        if fault not in ENDS_WITH_ERROR:
            rig.set_level("Stuck high")
        return problems

    def _go_on(self, entry: Entry, answer: str = "") -> bool:
        """Start a session where there is none, and let it take what the slice lacks; false if it cannot."""
        rig = self.rig
        if rig.session is None or not rig.session.is_running:
            struck = [i for i in entry.injected if i.fault is Fault.SESSION_KILLED]
            if struck and struck[-1].number % 2:
                unsafe = rig.unsafe_outputs(WATCHDOG_S + 1.0)
                entry.problems += [f"after the kill {name} is {level}" for name, level in unsafe.items()]
            rig.start_session()
        if len(self.watch.runs) > MAX_RESUMES:
            entry.problems.append(f"it does not come to an end: {answer}")
            return False
        if self.watch.runs:
            rig.session.order(f"resume {self.watch.runs[0]}")
        else:
            self._order(entry)
        return True

    def _strike(self, entry: Entry) -> None:
        """Inject what is due."""
        waited_s = time.monotonic() - self.watch.changed_s
        line_s = self.reference.line_s if self.reference else 1.0
        for injection in list(self._waiting):
            is_due = self.watch.n_over > injection.line or (
                self.watch.n_over == injection.line and waited_s >= injection.fraction * line_s
            )
            if not self.watch.runs or not is_due or not self._can_strike(injection):
                return
            inject(self.rig, injection)
            self._waiting.remove(injection)
            entry.injected.append(injection)
            self._active.append(_Active(injection, time.monotonic() + injection.hold_s))

    def _can_strike(self, injection: Injection) -> bool:
        """Whether what it strikes is there, and nothing holds that it would undo."""
        session = self.rig.session
        is_alone = not any(
            {active.injection.fault, injection.fault} & _OF_PROCESSES for active in self._active
        )
        return is_alone and session is not None and session.is_running

    def _relieve(self, *, everything: bool = False) -> None:
        """Undo what has held long enough."""
        for active in list(self._active):
            if everything or time.monotonic() >= active.until_s:
                self._active.remove(active)
                relieve(self.rig, active.injection)

    # -- sessions ------------------------------------------------------------------------------

    def _ensure_session(self, scan: ScanPlan) -> None:
        """Have a session, with a catalog that runs where that is to be struck."""
        rig = self.rig
        needs_catalog = any(i.fault in CATALOG_FAULTS for i in scan.injections)
        is_there = rig.session is not None and rig.session.is_running
        if is_there and (not needs_catalog or (rig.has_catalog and rig.catalog_pid())):
            return
        rig.close_session()
        rig.start_session(catalog=needs_catalog)

    def _replace_session(self) -> None:
        if self.rig.session is not None:
            self.rig.session.kill()
        self.rig.start_session()
        self.rig.unsafe_outputs(WATCHDOG_S + 1.0)


#: Faults after which commands are not heard; nothing else strikes while they hold.
_OF_PROCESSES = {
    *(Fault.IOC_KILLED, Fault.IOC_STOPPED, Fault.SESSION_KILLED, Fault.SESSION_STOPPED),
    *(Fault.LIVE_KILLED, Fault.LIVE_STOPPED, Fault.CATALOG_KILLED, Fault.CATALOG_STOPPED),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign; return 0 if its book balances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=40, help="faults")
    parser.add_argument("--lines", type=int, default=8, help="lines of a slice")
    parser.add_argument("--points", type=int, default=9, help="frames of a line")
    parser.add_argument("--only", nargs="*", metavar="WORD", help="kinds whose names contain a word")
    parser.add_argument("--output", type=Path, help="folder that is kept (default: a temporary one)")
    options = parser.parse_args(arguments)
    if options.count < 1 or options.lines < 3 or options.points < 4:
        parser.error("--count is at least 1, --lines at least 3, --points at least 4")
    return run_in_folder(_run, options)


def _run(options: argparse.Namespace, folder: Path) -> int:
    began_s = time.monotonic()
    rig = Rig(folder, lines=options.lines, points=options.points)
    left_out = [] if rig.has_small_disk else [Fault.DISK_LOW, Fault.DISK_FULL]
    chosen = [f for f in Fault if not options.only or any(word in f for word in options.only)]
    campaign = Campaign(rig, Watch(JournalFollower(rig.configuration.paths.journal)))
    try:
        campaign.prepare()
        scans = draw_scans(
            options.seed,
            n_lines=options.lines,
            n_frames=options.points,
            left_out=[*left_out, *(fault for fault in Fault if fault not in chosen)],
        )
        while campaign.ledger.n_injected < options.count:
            print(_told(campaign.run(next(scans))), flush=True)
        is_replayed = _replayed(rig)
    finally:
        rig.close()
    ledger, left = campaign.ledger, rig.processes()
    for name, row in ledger.by_fault().items():
        print(f"{name}: " + ", ".join(f"{count} {what}" for what, count in row.items()))
    passed = ledger.balances and not left and is_replayed
    summary = {
        "seed": options.seed,
        **ledger.totals(),
        "left_out": [str(fault) for fault in left_out],
        "same_when_replayed": is_replayed,
        "processes_left": len(left),
        "minutes": round((time.monotonic() - began_s) / 60, 1),
        "passed": passed,
    }
    print(json.dumps(summary))
    return 0 if passed else 1


def _told(entry: Entry) -> str:
    faults = "; ".join(f"{i.fault} (line {i.line}, {i.hold_s:g} s)" for i in entry.injected) or "nothing"
    became = f"{entry.accepted} of {entry.planned} lines"
    became += "".join(f", {index} {why}" for index, why in sorted(entry.marked.items()))
    if entry.retakes:
        became += f", {entry.retakes} retakes"
    if entry.resumes:
        became += f", {entry.resumes} resumes"
    wrong = "".join(f"\n    WRONG: {problem}" for problem in entry.problems)
    return f"{entry.scan.number:3d} {faults}: {became}, {entry.seconds:.1f} s{wrong}"


def _replayed(rig: Rig) -> bool:
    """Whether the whole journal, processed again, gives the files that live processing has made."""
    import numpy as np

    from xrdct_beamline.storage.nexus_reader import read_processed

    again = rig.folder / "replayed"
    journal = rig.configuration.paths.journal
    command = ["replay", str(journal), "--config", str(rig.configs[False]), "--output", str(again)]
    done = subprocess.run(
        [sys.executable, "-m", "xrdct_beamline.cli", *command], capture_output=True, text=True, check=False
    )
    (rig.folder / "replay.log").write_text(done.stdout + done.stderr)
    files = {path.name for path in rig.configuration.paths.processed.glob("*.nxs")}
    if done.returncode or files != {path.name for path in again.glob("*.nxs")}:
        print(f"the replay made other files; see {rig.folder}/replay.log")
        return False
    for name in sorted(files):
        one, other = (
            read_processed(place / name).sinogram for place in (rig.configuration.paths.processed, again)
        )
        if not np.array_equal(one, other, equal_nan=True):
            print(f"{name} comes out otherwise when it is replayed")
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
