"""What a line takes besides its frames, on the simulated beamline.

    python benchmarks/lines.py [--lines N] [--points N] [--output DIR]

One slice with live processing and catalog running. Start to start of lines less frames × period is
overhead: rotation and translation between lines, ramps and run-up, what the file takes to close, and the
rest, which is the software's. The last line is the summary; the exit code is 0 if that share is at most 2 %.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _fault_checks import Watch
from _fault_rig import Rig, run_in_folder

from xrdct_beamline.plans.motion import STEADY_S
from xrdct_beamline.storage.journal import JournalFollower

PERIOD_S, RAMP_S = 0.0112, 0.05  # of the configuration; of the simulated translation
SHARE = 0.02
SCAN_S = 600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 0 if the software's share is small enough."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lines", type=int, default=51)
    parser.add_argument("--points", type=int, default=313, help="frames of a line (default: 3.5 s)")
    parser.add_argument("--no-catalog", action="store_true")
    parser.add_argument("--output", type=Path, help="folder that is kept (default: a temporary one)")
    options = parser.parse_args(arguments)
    return run_in_folder(_run, options)


def _run(options: argparse.Namespace, folder: Path) -> int:
    rig = Rig(folder, lines=options.lines, points=options.points)
    watch = Watch(JournalFollower(rig.configuration.paths.journal))
    try:
        rig.start()
        rig.start_session(catalog=not options.no_catalog)
        rig.live.wait_for_line("page:", timeout_s=200)
        rig.session.order("slice")
        answer = rig.session.answer(SCAN_S)
        watch.look()
    finally:
        rig.close()
    lines = sorted(watch.newest.values(), key=lambda line: line["line_started_s"])
    if answer != "done" or watch.attempts != options.lines:
        print(f"the session says {answer!r} after {watch.attempts} attempts of {options.lines} lines")
        return 1
    summary = _summary(lines, options.points)
    passed = summary["software_share"] <= SHARE
    print(json.dumps({**summary, "passed": passed}))
    return 0 if passed else 1


def _summary(lines: Sequence[dict[str, Any]], points: int) -> dict[str, float]:
    started = np.array([line["line_started_s"] for line in lines])
    in_line_s = np.array([line["line_ended_s"] for line in lines]) - started
    move_s = np.array([line["line_move_s"] for line in lines])
    line_s, frames_s, ramps_s = np.diff(started), points * PERIOD_S, RAMP_S + STEADY_S
    software_s = line_s - in_line_s[:-1] - move_s[1:]
    return {
        "lines": len(lines),
        "line_s": round(float(np.median(line_s)), 4),
        "frames_s": round(frames_s, 4),
        "moves_s": round(float(np.median(move_s[1:])), 4),
        "ramps_s": round(ramps_s, 4),
        "file_s": round(float(np.median(in_line_s)) - ramps_s - frames_s, 4),
        "software_s": round(float(np.median(software_s)), 4),
        "software_s_p95": round(float(np.quantile(software_s, 0.95)), 4),
        "overhead_share": round(float(np.median(line_s)) / frames_s - 1, 4),
        "software_share": round(float(np.median(software_s) / np.median(line_s)), 5),
    }


if __name__ == "__main__":
    sys.exit(main())
