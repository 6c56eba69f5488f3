"""The live service in a process of its own, killed in mid-scan and started again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import Attempt, Document, phantom_line, slice_documents, write_raw_line

from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.domain.documents import Verdict
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.services.live import LiveSettings
from xrdct_beamline.services.replay import replay
from xrdct_beamline.storage.journal import JournalWriter
from xrdct_beamline.storage.nexus import read_processed, read_summary

pytestmark = pytest.mark.system

GEOMETRY = ScanGeometry.raster(n_translations=9, step_mm=0.02, n_rotations=12, order="golden")
UID = "0123456789abcdef" * 2
BINS = 60

SERVICE = f"""
import logging, sys
from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.services.live import LiveSettings, run_live
logging.basicConfig(level="INFO")
settings = LiveSettings(processing=ProcessingSettings(bins={BINS}))
run_live(sys.argv[1], sys.argv[2], settings=settings, on_ready=lambda url: print("ready", flush=True))
"""


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """A slice of the phantom with a retaken line and a bad one, its raw files written."""
    folder = tmp_path_factory.mktemp("raw")
    attempts = []
    for rotation in GEOMETRY.line_order:
        raw_file = write_raw_line(folder / f"line_{rotation}.h5", phantom_line(GEOMETRY, rotation))
        i0 = 1000.0 + 10.0 * np.arange(9) + rotation
        attempts.append(Attempt(rotation_index=rotation, raw_file=raw_file, i0=i0))
    short = Attempt(
        rotation_index=attempts[3].rotation_index, raw_file="", verdict=Verdict.RETAKE, reason="short"
    )
    attempts.insert(3, short)
    return list(slice_documents(GEOMETRY, attempts, uid=UID, state_index=0))


@contextmanager
def service(journal: Path, output: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SERVICE, str(journal), str(output)]
    with (output.parent / "service.log").open("a") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", (output.parent / "service.log").read_text()
            yield process
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def scan(journal: Path, documents: list[Document], line_s: float, delays: list[float]) -> threading.Thread:
    """Write the documents as a scan does; what each took is noted, since it must not notice a thing."""

    def write() -> None:
        with JournalWriter(journal) as writer:
            for name, doc in documents:
                if name == "event":
                    time.sleep(line_s)
                started = time.monotonic()
                writer(name, doc)
                delays.append(time.monotonic() - started)

    thread = threading.Thread(target=write)
    thread.start()
    return thread


def lines_done(path: Path) -> int:
    return read_summary(path).lines_done if path.exists() else 0


def wait_for_lines(path: Path, n: int, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while lines_done(path) < n:
        assert time.monotonic() < deadline, f"{lines_done(path)} of {n} lines after {timeout_s} s"
        time.sleep(0.002)


def wait_for_end(path: Path, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists() or read_summary(path).status == "running":
        assert time.monotonic() < deadline
        time.sleep(0.01)


def arrays(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path, "r") as file:
        group = file["entry/sinogram"]
        return {name: group[name][()] for name in ("intensity", "intensity_errors", "measured", "radial")}


@pytest.fixture(scope="module")
def undisturbed(documents: list[Document], tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = LiveSettings(processing=ProcessingSettings(bins=BINS))
    [path] = replay(documents, tmp_path_factory.mktemp("undisturbed"), settings=settings)
    assert read_summary(path).complete
    return path


def assert_same(path: Path, undisturbed: Path) -> None:
    for name, expected in arrays(undisturbed).items():
        assert arrays(path)[name].tobytes() == expected.tobytes(), name
    here, there = read_processed(path), read_processed(undisturbed)
    scale = float(np.nanmax(np.abs(there.intensity)))
    np.testing.assert_allclose(here.intensity, there.intensity, rtol=0, atol=1e-5 * scale)
    assert read_summary(path) == read_summary(undisturbed)


def test_killed_in_mid_scan_and_started_again_it_writes_the_same_file(
    documents: list[Document], undisturbed: Path, tmp_path: Path
) -> None:
    journal, output = tmp_path / "journal.jsonl", tmp_path / "out"
    path = output / f"{UID[:8]}_state00.nxs"
    delays: list[float] = []
    with service(journal, output) as first:
        scanning = scan(journal, documents, line_s=0.25, delays=delays)
        wait_for_lines(path, 3)
        first.send_signal(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
    had = lines_done(path)
    assert 3 <= had < 12
    assert read_summary(path).status == "running"
    with service(journal, output):
        wait_for_lines(path, had + 1)
        scanning.join()
        wait_for_end(path)
    assert_same(path, undisturbed)
    assert max(delays) < 1.0
    assert len(delays) == len(documents)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_moment(
    documents: list[Document], undisturbed: Path, tmp_path: Path, seed: int
) -> None:
    """All lines wait in the journal, so that the service is always in the middle of one."""
    journal, output = tmp_path / "journal.jsonl", tmp_path / "out"
    path = output / f"{UID[:8]}_state00.nxs"
    scan(journal, documents, line_s=0.0, delays=[]).join()
    for moment_s in np.random.default_rng(seed).uniform(0.0, 0.4, size=3):
        with service(journal, output) as process:
            time.sleep(moment_s)
            process.kill()
    with service(journal, output):
        wait_for_end(path)
    assert_same(path, undisturbed)
    assert not list(output.glob("*damaged*"))


def test_a_torn_journal_is_followed_up_to_its_last_whole_line_and_on(
    documents: list[Document], undisturbed: Path, tmp_path: Path
) -> None:
    journal, output = tmp_path / "journal.jsonl", tmp_path / "out"
    path = output / f"{UID[:8]}_state00.nxs"
    events = [i for i, (name, _) in enumerate(documents) if name == "event"]
    scan(journal, documents[: events[4]], line_s=0.0, delays=[]).join()
    with journal.open("a") as file:  # the session dies while it writes a line
        file.write(json.dumps(["event", {"descriptor": "x"}])[:25])
    with service(journal, output):
        wait_for_lines(path, 3)
        scan(journal, documents[events[4] :], line_s=0.0, delays=[]).join()
        wait_for_end(path)
    assert_same(path, undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(documents: list[Document], tmp_path: Path, number: signal.Signals) -> None:
    journal, output = tmp_path / "journal.jsonl", tmp_path / "out"
    path = output / f"{UID[:8]}_state00.nxs"
    scan(journal, documents[:-1], line_s=0.0, delays=[]).join()
    with service(journal, output) as process:
        wait_for_lines(path, 12)
        process.send_signal(number)
        assert process.wait(20) == 0
    assert read_summary(path).status == "running"
    log = (tmp_path / "service.log").read_text()
    assert f"stopping on {number.name}" in log
    assert "Traceback" not in log
    assert "lag " in log


def test_a_second_service_is_told_whose_the_output_is(tmp_path: Path) -> None:
    journal, output = tmp_path / "journal.jsonl", tmp_path / "out"
    command = [sys.executable, "-c", SERVICE, str(journal), str(output)]
    with service(journal, output) as first:
        second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode != 0
        assert f"is held by process {first.pid} on" in second.stderr
