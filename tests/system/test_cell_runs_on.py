"""A cell that waits a fixed time: the slice shrinks to it, or is marked where the cell ran on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xrdct_beamline.startup.configuration import load_configuration
from xrdct_beamline.startup.processes import ChildProcess, epics_environment, free_port
from xrdct_beamline.storage.journal import read_journal

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(280)]

PAUSE_S, N_LINES, N_FRAMES = 6.0, 20, 11

DRIVER = """
import json, sys
from pathlib import Path
from xrdct_beamline.startup.configuration import load_configuration
from xrdct_beamline.startup.processes import confine_to_loopback
confine_to_loopback()
from ophyd import EpicsSignal
from xrdct_beamline.startup.session import Session

configuration = load_configuration(Path(sys.argv[1]))
with Session(configuration, say=lambda text: None) as session:
    cycler = EpicsSignal(f"{configuration.beamline.prefix}SIM:CellRun", name="cycler")
    cycler.wait_for_connection(timeout=10.0)
    cycler.set(1).wait(timeout=10.0)
    session.RE(session.operando(1, timeout_s=60.0, done_pulse=False, **json.loads(sys.argv[2])))
"""

CONFIG = """
[beamline]
name = "test"
prefix = "R{port}:"
[paths]
data = "data{case}"
[calibration]
poni = "package:demo.poni"
[scan]
n_translations = 11
step_mm = 0.1
n_rotations = 20
[operando]
on_cell_running = "{policy}"
[catalog]
enabled = false
"""


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    folder = tmp_path_factory.mktemp("sim")
    environment = epics_environment(free_port(), free_port())
    config = folder / "sim.toml"
    port = environment["EPICS_CA_SERVER_PORT"]
    config.write_text(CONFIG.format(port=port, case="", policy="mark"))
    arguments = ["sim", "--config", str(config), "--time-scale", "2000", "--pause-at", "0.5"]
    process = ChildProcess([*arguments, "--pause-s", str(PAUSE_S)], folder / "sim.log", environment)
    process.wait_for_line("ready:", timeout_s=200)
    yield folder, environment
    process.stop()


def run(sim: tuple[Path, dict[str, str]], policy: str, **options: Any) -> tuple[list[dict[str, Any]], Any]:
    """Return the lines of the slice, and the state that was recorded."""
    folder, environment = sim
    config = folder / f"{policy}.toml"
    port = environment["EPICS_CA_SERVER_PORT"]
    config.write_text(CONFIG.format(port=port, case=policy, policy=policy))
    command = [sys.executable, "-c", DRIVER, str(config), json.dumps(options)]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    journal = load_configuration(config).paths.journal
    events = [doc["data"] for name, doc in read_journal(journal) if name == "event"]
    [state] = [event for event in events if "state_index" in event]
    return [event for event in events if "line_verdict" in event], state


def test_lines_begun_after_the_cell_ran_on_are_told_apart(sim: Any) -> None:
    lines, state = run(sim, "mark", pause_s=3600.0)
    verdicts = [line["line_verdict"] for line in lines]
    n_accepted = verdicts.index("cell_running")
    assert 0 < n_accepted < N_LINES
    assert verdicts == ["accepted"] * n_accepted + ["cell_running"] * (N_LINES - n_accepted)
    assert Counter(line["line_rotation_index"] for line in lines) == Counter(range(N_LINES))
    assert {line["line_captured"] for line in lines} == {N_FRAMES}
    assert lines[n_accepted - 1]["line_started_s"] < state["state_edge_s"] + PAUSE_S + 1.0
    assert state["state_cell_ran_on"]
    assert state["state_open_s"] > 0


def test_a_slice_shrinks_to_the_pause_and_is_done_in_it(sim: Any) -> None:
    lines, state = run(sim, "ignore", pause_s=PAUSE_S, may_shrink=True)
    assert 4 <= len(lines) < N_LINES
    taken = [line for line in lines if line["line_captured"]]
    late = lines[len(taken) :]  # a busy machine is slower than the estimate: that costs lines, not the pause
    assert taken
    assert {line["line_verdict"] for line in taken} == {"accepted"}
    assert all("the pause of the cell is over" in line["line_reason"] for line in late)
    assert all(line["line_started_s"] < state["state_edge_s"] + PAUSE_S for line in taken)
    assert state["state_budget_s"] == PAUSE_S
