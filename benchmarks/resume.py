"""A slice whose session is killed again and again, and resumed each time, against an uninterrupted one.

    python benchmarks/resume.py [--seed N] [--count N] [--lines N] [--points N] [--output DIR]

The simulated beamline is frozen, so that frames depend on positions alone. The session's process is
killed (SIGKILL) in `count` different lines at random moments, and `xrdct resume last` goes on at once,
while live processing follows. The last line is the summary; the exit code is 0 only if every line was
accepted once, and raw frames and sinogram equal the uninterrupted slice's bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xrdct_beamline.services.replay import replay
from xrdct_beamline.startup.configuration import Configuration, load_configuration
from xrdct_beamline.startup.live import live_settings
from xrdct_beamline.startup.processes import ChildProcess, epics_environment, free_port
from xrdct_beamline.storage.journal import JournalFollower, read_journal
from xrdct_beamline.storage.nexus_reader import read_processed, read_summary

SESSION = """
import sys
from pathlib import Path
from xrdct_beamline.startup.configuration import load_configuration
from xrdct_beamline.startup.processes import confine_to_loopback
confine_to_loopback()
from xrdct_beamline.startup.session import Session
with Session(load_configuration(Path(sys.argv[1])), print) as session:
    session.RE(session.slice())
"""

CONFIG = """
[beamline]
name = "{name}"
prefix = "K{port}:"
[paths]
data = "{name}"
[calibration]
poni = "package:demo.poni"
[scan]
n_translations = {points}
step_mm = {step_mm}
n_rotations = {lines}
order = "interlaced"
[processing]
bins = 600
[catalog]
enabled = false
"""

START_S, LINE_S = 60.0, 30.0  # patience


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """What one kill has cost: the part of a line that was under way, and starting again."""

    line: int
    in_line_s: float
    start_up_s: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; return 0 if the two slices are the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20, help="kills")
    parser.add_argument("--lines", type=int, default=24, help="lines of the slice")
    parser.add_argument("--points", type=int, default=41, help="frames of a line")
    parser.add_argument("--output", type=Path, help="folder that is kept (default: a temporary one)")
    options = parser.parse_args(arguments)
    if not 0 < options.count < options.lines:
        parser.error(f"--count must lie between 1 and the {options.lines} lines less one")
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        return _run(options, options.output.absolute())
    with tempfile.TemporaryDirectory() as folder:
        return _run(options, Path(folder))


def _run(options: argparse.Namespace, folder: Path) -> int:
    ports = free_port(), free_port()
    os.environ.update(epics_environment(*ports))
    whole, killed = (
        _configuration(folder, name, options, ports[0]) for name in ("uninterrupted", "interrupted")
    )
    sim = ChildProcess(["sim", "--config", whole.source, "--freeze"], folder / "sim.log")
    live = ChildProcess(["live", "--config", killed.source, "--no-page"], folder / "live.log")
    try:
        sim.wait_for_line("ready:", timeout_s=START_S)
        live.wait_for_line("page:", timeout_s=200)
        _start(whole, []).wait()
        kills = _kill_and_resume(killed, options)
        _wait_for_live(killed)
    finally:
        live.stop()
        sim.stop()
    summary = {
        "seed": options.seed,
        "kills": len(kills),
        **_costs(kills, _line_events(whole)),
        **_compare(whole, killed),
        "processes_left": _processes_left(folder),
    }
    is_good = summary["lines_accepted_once"] and summary["same_frames"] and summary["same_sinogram"]
    is_good = is_good and summary["complete"] and not summary["processes_left"]
    print(json.dumps({**summary, "passed": bool(is_good)}))
    return 0 if is_good else 1


def _configuration(folder: Path, name: str, options: argparse.Namespace, port: int) -> Configuration:
    path = folder / f"{name}.toml"
    path.write_text(
        CONFIG.format(
            name=name, port=port, lines=options.lines, points=options.points, step_mm=1.2 / options.points
        )
    )
    (folder / name).mkdir(exist_ok=True)
    return load_configuration(path)


def _start(configuration: Configuration, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a session on a new slice, or with the command line's arguments."""
    command = [sys.executable, "-c", SESSION, configuration.source]
    if arguments:
        command = [sys.executable, "-m", "xrdct_beamline.cli", *arguments, "--config", configuration.source]
    log = (configuration.paths.data / "session.log").open("ab")
    with log:
        return subprocess.Popen(command, stdout=log, stderr=log)


class _Watch:
    """The accepted lines so far, read as the journal grows: reading it whole would slow down the scan."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._follower = JournalFollower(configuration.paths.journal)
        self._has_begun = False
        self.lines: list[dict[str, Any]] = []

    def look(self) -> None:
        """Take what has been written since the last look."""
        for name, doc in self._follower.poll():
            self._has_begun = self._has_begun or name == "descriptor"  # just before the first line
            if name == "event" and doc["data"].get("line_verdict") == "accepted":
                self.lines.append(doc["data"])

    def wait_for(self, n_lines: int, session: subprocess.Popen[bytes]) -> None:
        """Wait until so many lines are there, or the first one is about to begin."""
        deadline = time.monotonic() + START_S + LINE_S
        while len(self.lines) < n_lines or not self._has_begun:
            has_ended = session.poll() is not None
            self.look()
            if has_ended and len(self.lines) < n_lines:
                raise SystemExit(f"the session ended early; see {self._configuration.paths.data}/session.log")
            if time.monotonic() > deadline:
                raise SystemExit(f"no line for {START_S + LINE_S:g} s; see {self._configuration.paths.data}")
            time.sleep(0.01)


def _kill_and_resume(configuration: Configuration, options: argparse.Namespace) -> list[Kill]:
    rng = random.Random(options.seed)
    targets = sorted(rng.sample(range(options.lines - 1), options.count))
    kills: list[Kill] = []
    watch, session = _Watch(configuration), _start(configuration, [])
    for target in targets:
        watch.wait_for(target, session)
        line_s = _duration_s(watch.lines[-1]) if watch.lines else 1.0
        time.sleep(rng.uniform(0.05, 0.9) * line_s)
        session.send_signal(signal.SIGKILL)
        killed_s = time.time()
        session.wait()
        watch.look()
        n_done = len(watch.lines)
        last_s = watch.lines[-1]["line_ended_s"] if watch.lines else killed_s
        session = _start(configuration, ["resume", "last"])
        watch.wait_for(n_done + 1, session)
        kill = Kill(
            line=target,
            in_line_s=max(0.0, killed_s - last_s),
            start_up_s=watch.lines[n_done]["line_started_s"] - killed_s,
        )
        print(f"killed after {n_done} lines, {kill.in_line_s:.2f} s into the next; "
              f"going on {kill.start_up_s:.2f} s later", flush=True)  # fmt: skip
        kills.append(kill)
    if session.wait(LINE_S * options.lines):
        raise SystemExit(f"the last resume failed; see {configuration.paths.data}/session.log")
    return kills


def _line_events(configuration: Configuration) -> list[dict[str, Any]]:
    """Return the accepted lines so far."""
    if not configuration.paths.journal.exists():
        return []
    documents = read_journal(configuration.paths.journal)
    return [
        doc["data"]
        for name, doc in documents
        if name == "event" and doc["data"].get("line_verdict") == "accepted"
    ]


def _duration_s(line: dict[str, Any]) -> float:
    return float(line["line_ended_s"] - line["line_started_s"] + line["line_move_s"])


def _costs(kills: Sequence[Kill], whole: Sequence[dict[str, Any]]) -> dict[str, float]:
    starts = [line["line_started_s"] for line in whole]
    line_s = statistics.median(np.diff(starts))
    return {
        "line_s": round(float(line_s), 3),
        "line_s_max": round(float(np.diff(starts).max()), 3),
        "lost_in_line_s_max": round(max(kill.in_line_s for kill in kills), 3),
        "start_up_s_median": round(statistics.median(kill.start_up_s for kill in kills), 2),
        "start_up_s_max": round(max(kill.start_up_s for kill in kills), 2),
    }


def _wait_for_live(configuration: Configuration) -> None:
    deadline = time.monotonic() + LINE_S
    while time.monotonic() < deadline:
        files = list(configuration.paths.processed.glob("*.nxs"))
        if files and read_summary(files[0]).complete:
            return
        time.sleep(0.1)


def _compare(whole: Configuration, killed: Configuration) -> dict[str, Any]:
    (undisturbed,) = replay(whole.paths.journal, whole.paths.processed, settings=live_settings(whole))
    (mended,) = killed.paths.processed.glob("*.nxs")
    (again,) = replay(killed.paths.journal, killed.paths.data / "replayed", settings=live_settings(killed))
    counts = Counter(line["line_rotation_index"] for line in _line_events(killed))
    one, other, replayed = read_processed(undisturbed), read_processed(mended), read_processed(again)
    return {
        "lines_accepted_once": set(counts.values()) == {1} and len(counts) == one.sinogram.shape[0],
        "runs": sum(name == "start" for name, _ in read_journal(killed.paths.journal)),
        "complete": read_summary(mended).complete,
        "same_frames": _frames(whole) == _frames(killed),
        "same_sinogram": bool(
            np.array_equal(one.sinogram, other.sinogram, equal_nan=True)
            and np.array_equal(one.sinogram, replayed.sinogram, equal_nan=True)
        ),
        "slice_deviation": float(
            np.nanmax(np.abs(one.intensity - other.intensity)) / np.nanmax(np.abs(one.intensity))
        ),
    }


def _frames(configuration: Configuration) -> dict[int, bytes]:
    """Return a digest of the accepted frames of each line."""
    found = {}
    for line in _line_events(configuration):
        with h5py.File(line["line_raw_file"], "r") as file:
            dataset = file["entry/data/data"]
            chunks = [dataset.id.read_direct_chunk((i, 0, 0))[1] for i in range(dataset.shape[0])]
        found[line["line_rotation_index"]] = b"".join(chunks)
    return found


def _processes_left(folder: Path) -> int:
    """Return how many processes still have a file of the folder on their command line."""
    count = 0
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes()
        except OSError:
            continue
        count += f"{folder}/".encode() in command
    return count


if __name__ == "__main__":
    sys.exit(main())
