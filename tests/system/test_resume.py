"""A session that is killed in its lines, and resumed: the slice is that of an uninterrupted one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(280)]

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "resume.py"


def test_three_kills_cost_three_lines_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--seed", "7", "--count", "3", "--lines", "6", "--points", "15"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], capture_output=True, text=True, timeout=270, check=False
    )
    assert done.stdout, done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["kills"] == 3
    assert summary["runs"] == 4
    assert summary["lines_accepted_once"]
    assert summary["same_frames"]
    assert summary["same_sinogram"]
    assert summary["slice_deviation"] < 1e-5
    assert summary["complete"]
    assert summary["processes_left"] == 0
    assert done.returncode == 0
