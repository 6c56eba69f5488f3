"""A disk that fills up in mid-scan: the scan waits between lines, says so, and goes on when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from xrdct_beamline.startup.configuration import Configuration, load_configuration
from xrdct_beamline.startup.processes import ChildProcess, epics_environment, free_port
from xrdct_beamline.startup.resume import find_unfinished
from xrdct_beamline.storage.journal import read_journal

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(280)]

DRIVER = Path(__file__).with_name("experiment_driver.py")
DISK_MB, RESERVE_MB = 80, 10

CONFIG = f"""
[beamline]
name = "test"
prefix = "D{{port}}:"
[paths]
data = "{{data}}"
[calibration]
poni = "package:demo.poni"
[scan]
n_translations = 15
step_mm = 0.08
n_rotations = 10
[disk]
reserve_MB = {RESERVE_MB}
[processing]
bins = 50
[catalog]
enabled = false
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def scan(disk: Path, tmp_path: Path) -> Iterator[tuple[Configuration, subprocess.Popen[bytes]]]:
    """A slice under way on a small disk."""
    environment = epics_environment(free_port(), free_port())
    config = tmp_path / "test.toml"
    config.write_text(CONFIG.format(port=environment["EPICS_CA_SERVER_PORT"], data=disk))
    sim = ChildProcess(["sim", "--config", str(config)], tmp_path / "sim.log", environment)
    sim.wait_for_line("ready:", timeout_s=200)
    with (tmp_path / "session.log").open("wb") as log:
        session = subprocess.Popen(
            [sys.executable, str(DRIVER), str(config), "slice"],
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
        )
    yield load_configuration(config), session
    session.kill()
    session.wait()
    sim.stop()


def lines(configuration: Configuration) -> list[dict[str, Any]]:
    journal = configuration.paths.journal
    documents = read_journal(journal) if journal.exists() else ()
    return [d["data"] for name, d in documents if name == "event" and "line_verdict" in d["data"]]


def wait_for(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def fill(disk: Path, leave_MB: float) -> Path:
    filler = disk / "filler"
    with filler.open("wb") as file:
        file.write(b"\1" * int(shutil.disk_usage(disk).free - 1e6 * leave_MB))
    return filler


def test_a_scan_waits_for_room_and_is_whole(
    disk: Path, scan: tuple[Configuration, Any], tmp_path: Path
) -> None:
    configuration, session = scan
    wait_for(lambda: len(lines(configuration)) >= 3)
    filler = fill(disk, leave_MB=RESERVE_MB - 2)
    log = tmp_path / "session.log"
    wait_for(lambda: "waiting between lines: the disk of" in log.read_text())
    n_lines = len(lines(configuration))
    time.sleep(2.0)
    assert len(lines(configuration)) == n_lines
    filler.unlink()
    assert session.wait(60) == 0
    assert [line["line_verdict"] for line in lines(configuration)] == ["accepted"] * 10
    [noted] = [line for line in lines(configuration) if line["line_note"]]
    assert "MB free" in noted["line_note"]
    assert noted["line_waited_s"] >= 2.0
    assert find_unfinished(configuration, "last").missing == ()
