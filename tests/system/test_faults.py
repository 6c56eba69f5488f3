"""A small campaign of faults, and a short soak; the large ones are in docs/reliability.md."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(280)]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def summary_of(script: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=270, check=False)
    assert done.stdout, done.stderr[-3000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["passed"], done.stdout[-3000:]
    assert done.returncode == 0
    return summary


def test_a_campaign_of_a_few_faults_balances(tmp_path: Path) -> None:
    summary = summary_of(
        "faults.py", "--seed", "3", "--count", "5", "--lines", "4", "--output", str(tmp_path)
    )
    assert summary["faults"] >= 5
    assert summary["lines_accepted"] + summary["lines_marked"] == summary["lines_planned"]
    assert summary["not_balanced"] == summary["processes_left"] == 0
    assert summary["same_when_replayed"]


def test_a_short_soak_counts_every_frame_once(tmp_path: Path) -> None:
    options = ["--pauses", "12", "--lines", "2", "--points", "4", "--short", "--output", str(tmp_path)]
    summary = summary_of("soak.py", *options)
    assert summary["frames_planned"] == 12 * 2 * 4
    assert summary["exact"]
    assert all(summary[name]["files_grown"] <= 3 for name in ("session", "live", "sim"))
