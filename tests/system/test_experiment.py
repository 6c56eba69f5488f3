"""The whole way, each part in its own process: cell, IOCs, scan, journal, live processing, catalog."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from xrdct_beamline.demo import _spinel_intensity
from xrdct_beamline.services.replay import replay
from xrdct_beamline.sim.electrode import make_electrode
from xrdct_beamline.startup.configuration import load_configuration
from xrdct_beamline.startup.live import live_settings
from xrdct_beamline.startup.processes import ChildProcess, epics_environment, free_port
from xrdct_beamline.storage.journal import read_journal
from xrdct_beamline.storage.nexus_reader import read_processed, read_slice, read_summary

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300)]

DRIVER = Path(__file__).with_name("experiment_driver.py")
N, STEP_MM = 25, 0.05

CONFIG = """
[beamline]
name = "test"
prefix = "T{port}:"
[paths]
data = "data"
[calibration]
poni = "package:demo.poni"
[scan]
exposure_s = 0.010
period_s = 0.0112
n_translations = 25
step_mm = 0.05
n_rotations = 24
order = "{order}"
zigzag = true
[processing]
bins = 600
[catalog]
enabled = {catalog}
profile = "xrdct-test"
"""


class Experiment:
    """A simulated beamline and live processing, with a folder and ports of their own."""

    def __init__(self, folder: Path, *, order: str, catalog: bool = False) -> None:
        self.folder = folder
        self.environment = epics_environment(free_port(), free_port())
        self.environment["TILED_PROFILES"] = str(folder / "profiles")
        self.config = folder / "test.toml"
        port = self.environment["EPICS_CA_SERVER_PORT"]
        self.config.write_text(CONFIG.format(port=port, order=order, catalog=str(catalog).lower()))
        self.configuration = load_configuration(self.config)
        (folder / "data").mkdir()
        self.sim = self._start("sim", "--time-scale", "2000", "--pause-at", "0.5")
        self.live = self.start_live()

    def start_live(self) -> ChildProcess:
        live = self._start("live", "--no-page")
        live.wait_for_line("page:", timeout_s=200)
        return live

    def scan(self, what: str) -> subprocess.Popen[str]:
        self.sim.wait_for_line("ready:", timeout_s=200)
        return subprocess.Popen(
            [sys.executable, str(DRIVER), str(self.config), what],
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def accepted_lines(self) -> int:
        journal = self.configuration.paths.journal
        docs = read_journal(journal) if journal.exists() else ()
        return sum(d["data"].get("line_verdict") == "accepted" for name, d in docs if name == "event")

    def processed(self) -> Path:
        deadline = time.monotonic() + 60
        while not self.live.count_lines("slice:"):
            assert self.live.is_running
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (path,) = self.configuration.paths.processed.glob("*.nxs")
        return path

    def stop(self) -> None:
        self.live.stop()
        self.sim.stop()

    def _start(self, command: str, *arguments: str) -> ChildProcess:
        options = [command, "--config", str(self.config), *arguments]
        return ChildProcess(options, self.folder / f"{command}.log", self.environment)


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output[-3000:]
    return output


def likeness(path: Path) -> tuple[float, float]:
    """Return Pearson's r with the simulated electrode, and the best with one of its mirror images."""
    patterns, radial, _ = read_slice(path)
    image = _spinel_intensity(patterns, radial, 0.247968)
    truth = make_electrode(1).density_map(STEP_MM, N)
    centred = np.arange(N) - (N - 1) / 2
    disc = np.hypot(centred[:, None], centred[None, :]) <= N / 2
    wrong = [truth[::-1], truth[:, ::-1], truth.T, np.rot90(truth), np.rot90(truth, 2), np.rot90(truth, 3)]
    right, *others = (np.corrcoef(image[disc], t[disc])[0, 1] for t in [truth, *wrong])
    return float(right), float(max(others))


def test_a_slice_at_the_cells_pause_reaches_file_and_catalog_the_right_way_round(tmp_path, monkeypatch):
    experiment = Experiment(tmp_path, order="sequential", catalog=True)
    try:
        finish(experiment.scan("operando"))
        path = experiment.processed()
    finally:
        experiment.stop()
    summary = read_summary(path)
    assert summary.complete
    assert summary.frames_integrated == summary.frames_planned == N * 24
    right, wrong = likeness(path)
    assert right > 0.8
    assert right > wrong + 0.15

    starts = {
        d["plan_name"]: d["uid"]
        for name, d in read_journal(experiment.configuration.paths.journal)
        if name == "start"
    }
    docs = list(read_journal(experiment.configuration.paths.journal))
    steps = {d["data"]["cell_step"] for name, d in docs if name == "event" and "cell_step" in d["data"]}
    assert {"discharge", "pause"} <= steps
    check = (
        "from databroker import catalog; import sys; run = catalog['xrdct-test'][sys.argv[1]]; "
        "print(run['primary/pilatus_image'].shape, int(run['primary/pilatus_image'][30].sum()))"
    )
    env = {**os.environ, "TILED_PROFILES": str(tmp_path / "profiles")}
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", check, starts["slice_scan"]],
        env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr[-2000:]
    line = next(d["data"] for name, d in docs if name == "event" and d["data"].get("line_first_frame") == 25)
    with h5py.File(line["line_raw_file"]) as raw:
        expected = int(raw["entry/data/data"][5].sum(dtype=np.int64))
    assert found.stdout.strip().endswith(f"(600, 619, 487) {expected}")


def test_live_processing_killed_in_mid_scan_ends_with_the_same_file_and_the_scan_does_not_notice(tmp_path):
    experiment = Experiment(tmp_path, order="interlaced")
    try:
        scan = experiment.scan("slice")
        while experiment.accepted_lines() < 8:
            assert scan.poll() is None, scan.stdout.read()
            time.sleep(0.05)
        os.kill(experiment.live.pid, signal.SIGKILL)
        time.sleep(2.0)
        experiment.live.stop()  # it is gone; this collects what is left of it
        experiment.live = experiment.start_live()
        finish(scan)
        path = experiment.processed()
    finally:
        experiment.stop()
    assert experiment.accepted_lines() == 24
    right, wrong = likeness(path)
    assert right > 0.8
    assert right > wrong + 0.15

    settings = live_settings(experiment.configuration)
    (undisturbed,) = replay(experiment.configuration.paths.journal, tmp_path / "again", settings=settings)
    killed, whole = read_processed(path), read_processed(undisturbed)
    np.testing.assert_array_equal(killed.sinogram, whole.sinogram)
    np.testing.assert_allclose(killed.intensity, whole.intensity, atol=1e-5 * np.nanmax(whole.intensity))
