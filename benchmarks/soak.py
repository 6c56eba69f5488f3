"""Hundreds of pauses of a cell in a row, one small slice in each: memory, open files, and counts.

    python benchmarks/soak.py [--pauses N] [--minutes M] [--lines N] [--points N] [--output DIR]

Session, live processing and simulated beamline run all the time. Memory, open files and threads of each are
read every few seconds, and a line is fitted to the second half. The last line is the summary; the exit
code is 0 only if every frame was counted once, each slice is complete, and nothing grows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from _fault_rig import Rig, run_in_folder

from xrdct_beamline.storage.journal import read_journal
from xrdct_beamline.storage.nexus_reader import read_summary

SAMPLE_S = 2.0
ARM_S, PAUSE_S, SCAN_S = 20.0, 120.0, 60.0
#: Below this the trigger line is low for the devices, V.
LOW_V = 0.8

#: What may be left of growth: kB per pause, files in all.
MEMORY_KB, FILES = 40.0, 3


@dataclass(slots=True)
class Usage:
    """What a process uses, over time."""

    pid: int
    pauses: list[int] = field(default_factory=list)
    memory_kB: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def sample(self, pause: int) -> None:
        """Read what it uses now."""
        process = Path(f"/proc/{self.pid}")
        status = dict(
            line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
        )
        self.pauses.append(pause)
        self.memory_kB.append(int(status["VmRSS"].split()[0]))
        self.threads.append(int(status["Threads"]))
        self.files.append(len(list((process / "fd").iterdir())))

    def summary(self) -> dict[str, float]:
        """Return ends and slopes of the second half: what is made on first use is over by then."""
        half = len(self.pauses) // 2
        pauses, memory = np.array(self.pauses[half:]), np.array(self.memory_kB[half:])
        slope = np.polyfit(pauses, memory, 1)[0] if np.ptp(pauses) else float("nan")
        return {
            "memory_MB": round(self.memory_kB[-1] / 1e3, 1),
            "slope_kB_per_pause": round(float(slope), 2),
            "files": self.files[-1],
            "files_grown": max(self.files[half:]) - max(self.files[:half]),
            "threads_grown": max(self.threads[half:]) - max(self.threads[:half]),
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak; return 0 if nothing grows and nothing is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pauses", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=60.0, help="end after so long, whatever was done")
    parser.add_argument("--lines", type=int, default=4, help="lines of a slice")
    parser.add_argument("--points", type=int, default=9, help="frames of a line")
    parser.add_argument("--short", action="store_true", help="too short for a slope of the memory to count")
    parser.add_argument("--output", type=Path, help="folder that is kept (default: a temporary one)")
    options = parser.parse_args(arguments)
    if options.pauses < 4:
        parser.error("--pauses is at least 4: a slope takes some")
    return run_in_folder(_run, options)


def _run(options: argparse.Namespace, folder: Path) -> int:
    rig = Rig(folder, lines=options.lines, points=options.points)
    try:
        rig.start()
        rig.start_session()
        rig.live.wait_for_line("page:", timeout_s=200)
        began_s = time.monotonic()
        usage, pauses = _soak(rig, options)
        minutes = (time.monotonic() - began_s) / 60
        counts = _counts(rig, pauses, options)
    finally:
        rig.close()
    used = {name: one.summary() for name, one in usage.items()}
    is_flat = all(
        (options.short or one["slope_kB_per_pause"] <= MEMORY_KB)
        and one["files_grown"] <= FILES
        and one["threads_grown"] <= FILES
        for one in used.values()
    )
    passed = is_flat and counts["exact"] and not rig.processes()
    summary = {"pauses": pauses, "minutes": round(minutes, 1), **counts, **used, "passed": passed}
    print(json.dumps(summary))
    return 0 if passed else 1


def _soak(rig: Rig, options: argparse.Namespace) -> tuple[dict[str, Usage], int]:
    """Let pause follow pause; return what was used meanwhile, and how many there were."""
    usage = {name: Usage(getattr(rig, name).pid) for name in ("session", "live", "sim")}
    end_s, sampled_s, number = time.monotonic() + 60 * options.minutes, 0.0, 0
    while number < options.pauses and (time.monotonic() < end_s or number < 4):
        _one_pause(rig)
        number += 1
        if time.monotonic() - sampled_s > SAMPLE_S or number <= 4:
            sampled_s = time.monotonic()
            for one in usage.values():
                one.sample(number)
        if number % 50 == 0:
            memory = {name: round(one.memory_kB[-1] / 1e3) for name, one in usage.items()}
            print(f"{number} pauses, MB: {memory}", flush=True)
    return usage, number


def _one_pause(rig: Rig) -> None:
    rig.session.order(f"pause {PAUSE_S}")
    deadline_s = time.monotonic() + ARM_S
    while rig.get("TRIG:READY") != "High":
        if time.monotonic() > deadline_s:
            raise SystemExit(f"the session does not wait for the cell; see {rig.folder}/session.log")
        time.sleep(0.005)
    rig.set_level("Stuck high")
    answer = rig.session.answer(SCAN_S)
    rig.set_level("Stuck low")
    _wait_for_low(rig)
    if answer != "done":
        raise SystemExit(f"the session says {answer!r}; see {rig.folder}/session.log")


def _wait_for_low(rig: Rig) -> None:
    """Wait until the line has fallen: armed before, it would rightly be refused as high already."""
    deadline_s = time.monotonic() + ARM_S
    while float(rig.get("TRIG:LEVEL")) > LOW_V:
        if time.monotonic() > deadline_s:
            raise SystemExit(f"the trigger line stays above {LOW_V} V, told to be stuck low")
        time.sleep(0.005)


def _counts(rig: Rig, pauses: int, options: argparse.Namespace) -> dict[str, object]:
    """Return whether journal and processed files have every frame of every pause once."""
    verdicts: Counter[str] = Counter()
    captured = 0
    for name, doc in read_journal(rig.configuration.paths.journal):
        if name == "event" and "line_verdict" in doc["data"]:
            line = doc["data"]
            verdicts[line["line_verdict"]] += 1
            captured += line["line_captured"] * (line["line_verdict"] == "accepted")
    planned = pauses * options.lines * options.points
    deadline_s, complete, integrated = time.monotonic() + 120, 0, 0
    while complete < pauses and time.monotonic() < deadline_s:
        summaries = [read_summary(path) for path in rig.configuration.paths.processed.glob("*.nxs")]
        complete = sum(summary.complete for summary in summaries)
        integrated = sum(summary.frames_integrated for summary in summaries)
        time.sleep(0.5)
    return {
        **_first_lines(rig),
        "frames_planned": planned,
        "frames_captured": captured,
        "frames_integrated": integrated,
        "slices_complete": complete,
        "retakes": verdicts["retake"],
        "exact": captured == planned == integrated and complete == pauses,
    }


def _first_lines(rig: Rig) -> dict[str, float]:
    """Return the time from an edge that has lasted to the first exposures, moves apart."""
    edge_s, taken_s = 0.0, []
    for name, doc in read_journal(rig.configuration.paths.journal):
        data = doc["data"] if name == "event" else {}
        edge_s = data.get("trigger_edge_s", edge_s)
        if edge_s and "line_started_s" in data:
            settled_s = edge_s + rig.configuration.devices.trigger_settings.debounce_s
            taken_s.append(data["line_started_s"] - data["line_move_s"] - settled_s)
            edge_s = 0.0
    return {
        "edge_to_first_line_s": round(float(np.median(taken_s)), 3),
        "edge_to_first_line_s_p95": round(float(np.quantile(taken_s, 0.95)), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
