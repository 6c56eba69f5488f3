"""Refusals that need a socket: a port in use, an IOC that does not answer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from xrdct_beamline.startup.processes import epics_environment, free_port

pytestmark = pytest.mark.system


def xrdct(*arguments, environment=None, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "xrdct_beamline.cli", *map(str, arguments)],
        env={**os.environ, **epics_environment(free_port(), free_port()), **(environment or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_a_page_on_a_port_in_use(tmp_path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = xrdct("live", tmp_path / "journal.jsonl", "--output", tmp_path / "p", "--port", port)
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_simulated_iocs_on_a_port_in_use():
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        done = xrdct("sim", environment={"EPICS_CA_SERVER_PORT": port})
    assert done.returncode == 2
    assert port in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_check_names_what_does_not_answer(tmp_path):
    done = xrdct("check", "--timeout", "1", cwd=tmp_path)
    assert done.returncode == 2
    assert "ok   calibration" in done.stdout
    (bad,) = [line for line in done.stdout.splitlines() if line.startswith("BAD")]
    assert "XRDCT:m1" in bad
    assert list(tmp_path.iterdir()) == []
