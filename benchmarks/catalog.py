"""A catalog that is killed, or hangs, while lines are taken: what they notice, and what is missing then.

    python benchmarks/catalog.py [--lines N] [--points N] [--output DIR]

Four slices: undisturbed; the catalog's server hangs (SIGSTOP) from the middle on; it goes on (SIGCONT) in
mid-scan; it is killed in the middle. Then `xrdct replay --catalog` brings in what is missing, and each run is
compared with the one that was written live. The last line is the summary; the exit code is 0 if the lines
after the blow took no more than 5 % longer, and the catalog holds every run whole.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _fault_checks import Watch
from _fault_rig import Rig, run_in_folder

from xrdct_beamline.storage.catalog import registered_uids
from xrdct_beamline.storage.catalog_server import CatalogServer
from xrdct_beamline.storage.journal import JournalFollower

SCAN_S = 300.0
SLOWER = 1.05
BLOWS = {
    "undisturbed": None,
    "hangs": signal.SIGSTOP,
    "goes on": signal.SIGCONT,
    "killed": signal.SIGKILL,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; return 0 if no line noticed and nothing is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lines", type=int, default=20)
    parser.add_argument("--points", type=int, default=90, help="frames of a line (default: 1 s)")
    parser.add_argument("--output", type=Path, help="folder that is kept (default: a temporary one)")
    options = parser.parse_args(arguments)
    return run_in_folder(_run, options)


def _run(options: argparse.Namespace, folder: Path) -> int:
    rig = Rig(folder, lines=options.lines, points=options.points)
    watch = Watch(JournalFollower(rig.configuration.paths.journal))
    try:
        rig.start_sim()
        rig.start_session(catalog=True)
        server = rig.catalog_pid()
        taken = {name: _slice(rig, watch, server, blow) for name, blow in BLOWS.items()}
        rig.close_session()
        filled = _fill(rig)
        found = _compare(rig, {name: uid for name, (uid, _) in taken.items()})
    finally:
        rig.close()
    usual_s = float(np.median(np.concatenate(taken["undisturbed"][1])))
    lines_s = {name: float(np.median(after)) for name, (_, (_, after)) in taken.items()}
    ratio = {name: round(line_s / usual_s, 4) for name, line_s in lines_s.items()}
    passed = max(ratio.values()) <= SLOWER and all(found.values()) and not rig.processes()
    summary = {"line_s": round(usual_s, 4), "after_the_blow": ratio, "brought_in": filled, "equal": found}
    print(json.dumps({**summary, "passed": passed}))
    return 0 if passed else 1


def _slice(
    rig: Rig, watch: Watch, server: int | None, blow: signal.Signals | None
) -> tuple[str, tuple[Any, Any]]:
    """Take a slice, strike in its middle; return its run, and start to start of lines before and after."""
    watch.begin()
    rig.session.order("slice")
    deadline_s, middle, n_before = time.monotonic() + SCAN_S, rig.configuration.scan.n_rotations // 2, 0
    while not (answer := rig.session.answer()) and time.monotonic() < deadline_s:
        watch.look()
        if not n_before and watch.n_over >= middle:
            n_before = watch.n_over
            if blow is not None and server is not None:
                os.kill(server, blow)
        time.sleep(0.02)
    watch.look()
    if answer != "done":
        raise SystemExit(f"the session says {answer!r}; see {rig.folder}/session.log")
    line_s = np.diff(sorted(line["line_started_s"] for line in watch.newest.values()))
    return watch.runs[0], (line_s[:n_before], line_s[n_before:])


def _fill(rig: Rig) -> int:
    """Bring in what is missing, by the command; return how many runs that were."""
    command = [
        "replay",
        str(rig.configuration.paths.journal),
        "--catalog",
        "--config",
        str(rig.configs[True]),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "xrdct_beamline.cli", *command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"xrdct {' '.join(command)}: {done.stderr[-500:]}")
    return done.stdout.count("in the catalog: ")


def _compare(rig: Rig, uids: dict[str, str]) -> dict[str, bool]:
    """Return whether each run is whole, and like the one written live, frames included."""
    paths = rig.configuration.paths
    with CatalogServer(paths.catalog, [paths.raw]) as server:
        client = server.connect()
        with client.context:
            whole = set(registered_uids(client))
            live = _form(client[uids["undisturbed"]])
            frames = np.asarray(client[uids["undisturbed"]]["primary/pilatus_image"][:])
            return {
                name: uid in whole
                and _form(client[uid]) == live
                and np.array_equal(np.asarray(client[uid]["primary/pilatus_image"][:]), frames)
                for name, uid in uids.items()
            }


def _form(run: Any) -> dict[str, Any]:
    """Return what does not differ from run to run: keys, shapes, and values that do not depend on time."""
    lines = run["lines"].read()
    steady = ("line_rotation_deg", "line_verdict", "line_captured", "line_i0", "line_i1", "line_position_mm")
    return {
        "streams": sorted(run),
        "start": sorted(run.metadata["start"]),
        "stop": {key: run.metadata["stop"][key] for key in ("exit_status",)},
        "lines": sorted(str(key) for key in lines),
        "values": {key: np.asarray(lines[key].values).tolist() for key in steady},
        "frames": list(run["primary/pilatus_image"].shape),
    }


if __name__ == "__main__":
    sys.exit(main())
