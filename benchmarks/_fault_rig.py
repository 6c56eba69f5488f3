"""The processes of a campaign: simulated IOCs, live service and session, on a small disk of their own."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from xrdct_beamline.startup.configuration import Configuration, load_configuration
from xrdct_beamline.startup.processes import ChildProcess, epics_environment, free_port

PONI = """poni_version: 2
Detector: Detector
Detector_config: {"pixel1": 0.002, "pixel2": 0.002, "max_shape": [32, 32]}
Distance: 0.3
Poni1: 0.0
Poni2: 0.032
Rot1: 0.0
Rot2: 0.0
Rot3: 0.0
Wavelength: 2.47968e-11
"""

CONFIG = """
[beamline]
name = "campaign"
prefix = "{prefix}"
[devices.line_limits]
arm_s = 1.0
stall_s = 0.8
close_s = 3.0
margin_s = 2.0
[devices.trigger_settings]
heartbeat_s = 0.4
[paths]
data = "data"
[calibration]
poni = "tiny.poni"
[scan]
n_translations = {points}
step_mm = 0.02
n_rotations = {lines}
order = "interlaced"
[processing]
bins = 20
[refinement]
phases = []
[disk]
reserve_MB = {reserve_MB}
[catalog]
enabled = {catalog}
profile = "xrdct-{prefix_word}"
"""

DISK_MB, RESERVE_MB = 400, 5
WATCHDOG_S = 2.0
START_S = 90.0
HERE = Path(__file__).parent
OUTPUTS = ("TRIG:READY", "TRIG:BUSY", "TRIG:DONE")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG of linux/prctl.h


class Talker:
    """A script in a process of its own that answers in lines."""

    def __init__(self, script: str, arguments: Sequence[str], log: Path) -> None:
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / script), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                preexec_fn=_die_with_parent,
                start_new_session=True,
            )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def order(self, text: str) -> None:
        """Send a line, which a process that has died does not hear."""
        with contextlib.suppress(OSError):
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()

    def answer(self, timeout_s: float = 0.0) -> str:
        """Return the next line, empty if none comes."""
        try:
            return self._answers.get(timeout=timeout_s) if timeout_s else self._answers.get_nowait()
        except queue.Empty:
            return ""

    def kill(self) -> None:
        """End it at once, stopped or not."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()

    def _read(self) -> None:
        with self.process.stdout as lines:
            for line in lines:
                self._answers.put(line.rstrip("\n"))


class Rig:
    """A beamline in a folder, with its programs."""

    def __init__(self, folder: Path, *, lines: int, points: int) -> None:
        self.folder = folder
        port, repeater = free_port(), free_port()
        os.environ.update(epics_environment(port, repeater))  # before libca is imported, below
        os.environ.update(TILED_PROFILES=str(folder / "profiles"), NUMBA_NUM_THREADS="1")
        self.prefix = f"F{port}:"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tiny.poni").write_text(PONI)
        self.configs = {}
        for catalog in (False, True):
            path = folder / f"campaign{'-catalog' * catalog}.toml"
            path.write_text(
                CONFIG.format(
                    prefix=self.prefix,
                    prefix_word=self.prefix.rstrip(":"),
                    lines=lines,
                    points=points,
                    reserve_MB=RESERVE_MB,
                    catalog=str(catalog).lower(),
                )
            )
            self.configs[catalog] = path
        self.configuration: Configuration = load_configuration(self.configs[False])
        self.raw = self.configuration.paths.raw
        self.raw.mkdir(parents=True, exist_ok=True)
        self.has_small_disk = self._mount()
        self.sim: Talker | None = None
        self.live: ChildProcess | None = None
        self.session: Talker | None = None
        self.has_catalog = False
        self._pvs: dict[str, Any] = {}
        self.level = "Cell"

    # -- processes -----------------------------------------------------------------------------

    def start(self, *, live: bool = True) -> None:
        """Start what runs all the time."""
        self.start_sim()
        if live:
            self.start_live()

    def start_sim(self) -> None:
        """Serve the IOCs, the level of the trigger line as it was."""
        self.sim = Talker("_fault_server.py", [self.prefix, f"{self.folder}/"], self.folder / "sim.log")
        if self.sim.answer(START_S) != "ready":
            raise SystemExit(f"the simulated IOCs did not start; see {self.folder}/sim.log")
        self.put("TRIG:WATCHDOG", WATCHDOG_S)
        self.put("SIM:LineMode", self.level)

    def start_live(self) -> None:
        """Start live processing, without waiting for it."""
        arguments = ["live", "--config", str(self.configs[False]), "--no-page"]
        self.live = ChildProcess(arguments, self.folder / "live.log")

    def start_session(self, *, catalog: bool = False) -> None:
        """Start a session and wait until it takes orders."""
        self.session = Talker("_fault_session.py", [str(self.configs[catalog])], self.folder / "session.log")
        self.has_catalog = catalog
        if self.session.answer(START_S) != "ready":
            raise SystemExit(f"no session; see {self.folder}/session.log")
        if catalog:
            self._wait_for_catalog()

    def close_session(self) -> None:
        """End the session politely."""
        session, self.session = self.session, None
        if session is None:
            return
        session.order("close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            session.process.wait(45)
        session.kill()

    def close(self) -> None:
        """End everything."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self.close_session()
        if self.live is not None:
            self.live.stop()
        if self.sim is not None:
            self.sim.kill()
        if self.has_small_disk:
            subprocess.run(["/bin/umount", "--lazy", str(self.raw)], check=False)

    def processes(self) -> dict[int, str]:
        """Return the processes that have a file of the folder on their command line."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if f"{self.folder}/" in command and int(entry.parent.name) != os.getpid():
                    found[int(entry.parent.name)] = command
        return found

    def catalog_pid(self) -> int | None:
        """Return the process id of the catalog's server, None without one."""
        servers = [pid for pid, command in self.processes().items() if "_catalog_process" in command]
        return servers[-1] if servers else None

    def _wait_for_catalog(self) -> None:
        log = self.configuration.paths.catalog / "server.log"
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if log.exists() and "startup complete" in log.read_text(errors="replace"):
                return
            time.sleep(0.1)

    # -- process variables ---------------------------------------------------------------------

    def pv(self, name: str) -> Any:
        """Return a channel."""
        if name not in self._pvs:
            from epics import PV

            self._pvs[name] = PV(self.prefix + name, auto_monitor=False)
        return self._pvs[name]

    def put(self, name: str, value: Any) -> None:
        """Write, and wait until it has been taken."""
        channel = self.pv(name)
        channel.wait_for_connection(timeout=10)
        channel.put(value, wait=True, timeout=5)

    def get(self, name: str) -> str:
        """Return a value as text, empty if nobody answers."""
        channel = self.pv(name)
        if not channel.wait_for_connection(timeout=5):
            return ""
        return str(channel.get(as_string=True, use_monitor=False, timeout=3))

    def set_level(self, level: str) -> None:
        """Set what the trigger line does."""
        self.level = level
        self.put("SIM:LineMode", level)

    def unsafe_outputs(self, patience_s: float = 1.0) -> dict[str, str]:
        """Return outputs that are not in their safe state, and their levels."""
        deadline = time.monotonic() + patience_s
        while True:
            levels = {name: self.get(name) for name in (*OUTPUTS, "SHUTTER:OPEN_RBV")}
            unsafe = {name: level for name, level in levels.items() if level not in ("Low", "Closed")}
            if not unsafe or time.monotonic() > deadline:
                return unsafe
            time.sleep(0.05)

    # -- the disk ------------------------------------------------------------------------------

    def fill_disk(self, leave_MB: float) -> None:
        """Leave so much room for raw files."""
        free = shutil.disk_usage(self.raw).free - int(1e6 * leave_MB)
        with (self.raw / "filler").open("wb") as filler, contextlib.suppress(OSError):
            os.posix_fallocate(filler.fileno(), 0, max(free, 1))

    def free_disk(self) -> None:
        """Make room again."""
        (self.raw / "filler").unlink(missing_ok=True)

    def _mount(self) -> bool:
        command = ["/bin/mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(self.raw)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def run_in_folder(run: Callable[[argparse.Namespace, Path], int], options: argparse.Namespace) -> int:
    """Run a benchmark in the folder of its options, which is kept, or in a temporary one."""
    if options.output is not None:
        return run(options, options.output.absolute())
    with tempfile.TemporaryDirectory() as folder:
        return run(options, Path(folder))
