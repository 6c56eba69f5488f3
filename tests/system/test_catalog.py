"""The catalog with its real server in a process of its own, and readers in others."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
from event_model import compose_run, compose_stream_resource

from xrdct_beamline.domain.documents import CELL, IMAGE, LINES, PRIMARY
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.storage import catalog_server
from xrdct_beamline.storage.catalog import CatalogSubscriber, registered_uids, replay_into_catalog
from xrdct_beamline.storage.catalog_server import CatalogServer, write_profile
from xrdct_beamline.storage.journal import JournalWriter, read_journal

pytestmark = [pytest.mark.system, pytest.mark.slow]

SHAPE = (4, 6)
N_TRANSLATIONS = 5

READ_BY_PROFILE = """
import json, sys
from tiled.client import from_profile
from databroker import catalog
uid = sys.argv[1]
names = []
for client in (from_profile("xrdct"), catalog["xrdct"]):
    run = client[uid]
    names.append(run.metadata["start"]["sample_name"])
    frames = run["primary/pilatus_image"]
print(json.dumps({
    "names": names,
    "frames": frames[:].tolist(),
    "across": frames[4:7].tolist(),
    "captured": run["lines"].read()["line_captured"].values.tolist(),
    "documents": [name for name, _ in run.documents()],
}))
"""


class SliceRun:
    """Composes the documents of a slice, and its raw files, as the plans and the detector do."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.run = compose_run(metadata={"sample_name": name, "scale": np.float64(2.5)})
        self.uid = self.run.start_doc["uid"]
        self.frames: list[np.ndarray] = []
        image = {
            "source": "sim",
            "dtype": "array",
            "shape": list(SHAPE),
            "dtype_numpy": "<i4",
            "external": "STREAM:",
        }
        self.primary = self.run.compose_descriptor(name=PRIMARY, data_keys={IMAGE: image})
        self.lines = self.run.compose_descriptor(
            name=LINES,
            data_keys={
                "line_captured": {"source": "sim", "dtype": "integer", "shape": []},
                "line_verdict": {"source": "sim", "dtype": "string", "shape": []},
                "line_i0": {
                    "source": "sim",
                    "dtype": "array",
                    "shape": [N_TRANSLATIONS],
                    "dtype_numpy": "<f8",
                },
            },
        )

    def head(self) -> list[tuple[str, Any]]:
        return [
            ("start", self.run.start_doc),
            ("descriptor", self.primary.descriptor_doc),
            ("descriptor", self.lines.descriptor_doc),
        ]

    def line(self, n_captured: int = N_TRANSLATIONS) -> list[tuple[str, Any]]:
        done = sum(map(len, self.frames))
        first_value = 1000 * len(self.frames) + 100_000 * len(self.name)
        frames = (np.arange(n_captured * SHAPE[0] * SHAPE[1]) + first_value).reshape(-1, *SHAPE)
        path = self.folder / f"{self.name}_{len(self.frames)}.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset(
                "/entry/data/data",
                data=frames.astype("<i4"),
                chunks=(1, *SHAPE),
                **hdf5plugin.Bitshuffle(cname="lz4"),
            )
        self.frames.append(frames)
        resource = compose_stream_resource(
            mimetype="application/x-hdf5",
            uri=f"file://localhost{path}",
            data_key=IMAGE,
            parameters={"dataset": "/entry/data/data", "chunk_shape": (1, *SHAPE)},
            start=self.run.start_doc,
        )
        datum = resource.compose_stream_datum(
            indices={"start": done, "stop": done + n_captured},
            seq_nums={"start": done + 1, "stop": done + n_captured + 1},
            descriptor=self.primary.descriptor_doc,
        )
        data = {
            "line_captured": np.int64(n_captured),
            "line_verdict": "accepted" if n_captured == N_TRANSLATIONS else "retake",
            "line_i0": np.where(np.arange(N_TRANSLATIONS) < n_captured, 7.0, np.nan),
        }
        event = self.lines.compose_event(data=data, timestamps=dict.fromkeys(data, 0.0), validate=False)
        return [
            ("stream_resource", resource.stream_resource_doc),
            ("stream_datum", datum),
            ("event", event),
        ]

    def stop(self) -> list[tuple[str, Any]]:
        return [("stop", self.run.compose_stop())]


def series_documents() -> list[tuple[str, Any]]:
    run = compose_run(metadata={"sample_name": "series"})
    keys = {
        "cell_voltage": {"source": "sim", "dtype": "number", "shape": []},
        "cell_step": {"source": "sim", "dtype": "string", "shape": []},
    }
    cell = run.compose_descriptor(name=CELL, data_keys=keys)
    events = []
    for i in range(30):
        data = {"cell_voltage": 4.0 - 0.01 * i, "cell_step": "pause" if i > 20 else "discharge"}
        events.append(("event", cell.compose_event(data=data, timestamps=dict.fromkeys(data, 0.0))))
    return [
        ("start", run.start_doc),
        ("descriptor", cell.descriptor_doc),
        *events,
        ("stop", run.compose_stop()),
    ]


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """Initialise a catalog once; tests copy it, which saves each of them several seconds."""
    directory = tmp_path_factory.mktemp("template")
    command = [sys.executable, "-m", "tiled", "catalog", "init", f"sqlite:///{directory}/catalog.db"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return directory


def make_place(folder: Path, template: Path) -> Path:
    shutil.copytree(template, folder / "catalog", copy_function=shutil.copyfile)
    for path in (folder / "catalog").iterdir():
        path.chmod(0o600)
    (folder / "raw").mkdir()
    return folder


@pytest.fixture
def place(tmp_path, template) -> Path:
    return make_place(tmp_path, template)


@pytest.fixture(scope="module")
def live(tmp_path_factory, template) -> Iterator[tuple[Path, CatalogServer, Any]]:
    """Yield a place whose server runs, the server, and a client of it."""
    place = make_place(tmp_path_factory.mktemp("live"), template)
    with server_at(place) as server, closing_client(server) as client:
        yield place, server, client


@contextlib.contextmanager
def closing_client(server: CatalogServer) -> Iterator[Any]:
    client = server.connect()
    with client.context:
        yield client


def server_at(place: Path) -> CatalogServer:
    return CatalogServer(place / "catalog", [place / "raw"])


def read_by_profile(place: Path, uid: str) -> dict[str, Any]:
    result = subprocess.run(
        [sys.executable, "-c", READ_BY_PROFILE, uid],
        env={**os.environ, "TILED_PROFILES": str(place / "profiles")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_interleaved_runs_of_many_files_read_back_while_the_server_runs(live):
    place, server, client = live
    write_profile(place / "catalog", [place / "raw"], profile_directory=place / "profiles")
    slice_run, series = SliceRun(place / "raw", "slice"), series_documents()
    series_uid = series[0][1]["uid"]
    subscriber = CatalogSubscriber(server.connect)
    documents = [*slice_run.head(), *slice_run.line(), *slice_run.line(2), *slice_run.line()]
    for pair in zip(documents, series[: len(documents)], strict=True):
        for item in pair:
            subscriber(*item)
    assert subscriber.drain(60)

    seen = read_by_profile(place, slice_run.uid)  # the run is still going on
    assert seen["names"] == ["slice", "slice"]
    truth = np.concatenate(slice_run.frames)
    np.testing.assert_array_equal(seen["frames"], truth)
    np.testing.assert_array_equal(seen["across"], truth[4:7])  # the end of one file, the short one
    assert seen["captured"] == [5, 2, 5]

    for item in [*slice_run.line(), *slice_run.stop(), *series[len(documents) :]]:
        subscriber(*item)
    assert subscriber.close(60)
    assert subscriber.missing == {}
    assert {slice_run.uid, series_uid} <= set(registered_uids(client))
    frames = client[slice_run.uid]["primary/pilatus_image"][:]
    np.testing.assert_array_equal(frames, np.concatenate(slice_run.frames))
    lines = client[slice_run.uid]["lines"].read()
    np.testing.assert_array_equal(np.isnan(lines["line_i0"].values).sum(axis=1), [0, 3, 0, 0])
    cell = client[series_uid]["cell"].read()
    np.testing.assert_allclose(cell["cell_voltage"], 4.0 - 0.01 * np.arange(30))
    assert list(cell["cell_step"].values[[20, 21]]) == ["discharge", "pause"]


def test_replacing_a_partial_run_leaves_its_raw_files(live):
    place, _, client = live
    slice_run = SliceRun(place / "raw", "partial")
    documents = [*slice_run.head(), *slice_run.line(), *slice_run.line()]
    assert replay_into_catalog(documents, client) == [slice_run.uid]
    assert client[slice_run.uid]["primary/pilatus_image"].shape == (10, *SHAPE)
    assert len(client[slice_run.uid]["lines"].read()["time"]) == 2
    documents += [*slice_run.line(), *slice_run.stop()]
    assert replay_into_catalog(documents, client) == [slice_run.uid]
    frames = client[slice_run.uid]["primary/pilatus_image"][:]
    np.testing.assert_array_equal(frames, np.concatenate(slice_run.frames))
    assert replay_into_catalog(documents, client) == []


def test_a_server_that_hangs_or_dies_in_mid_run_costs_the_scan_nothing(live, place, monkeypatch):
    from bluesky import RunEngine
    from bluesky.plans import count
    from ophyd.sim import det

    monkeypatch.setattr(catalog_server, "_REPLY_S", 1.0)
    engine = RunEngine({})
    journal = JournalWriter(place / "journal.jsonl")
    server = server_at(place)
    server.start()
    server.wait_ready()
    subscriber = CatalogSubscriber(server.connect)
    blows: list[signal.Signals] = []

    def strike(name: str, document: dict) -> None:
        if name == "event" and document["seq_num"] == 10 and blows:
            assert subscriber.drain(30)
            os.kill(server.pid, blows.pop())

    for callback in (journal, subscriber, strike):
        engine.subscribe(callback)

    def seconds_of_the_events_after_the_blow() -> tuple[str, float]:
        struck: list[float] = []
        token = engine.subscribe(lambda name, document: struck.append(time.monotonic()), "event")
        (uid,) = engine(count([det], num=40))
        engine.unsubscribe(token)
        return uid, struck[-1] - struck[9]

    blows.append(signal.SIGSTOP)
    hung_uid, hung_s = seconds_of_the_events_after_the_blow()
    assert subscriber.drain(60)
    os.kill(server.pid, signal.SIGCONT)
    whole_uid, _ = seconds_of_the_events_after_the_blow()
    blows.append(signal.SIGKILL)
    dead_uid, dead_s = seconds_of_the_events_after_the_blow()
    assert subscriber.close(60)
    server.stop()
    journal.close()
    assert max(hung_s, dead_s) < 1.0
    assert list(subscriber.missing) == [hung_uid, dead_uid]

    _, _, client = live
    replayed = replay_into_catalog(read_journal(place / "journal.jsonl"), client)
    assert replayed == [hung_uid, whole_uid, dead_uid]
    assert set(replayed) <= set(registered_uids(client))
    assert len(client[dead_uid]["primary"].read()["time"]) == 40


def test_after_the_session_was_killed_the_server_is_gone_and_its_catalog_opens(place):
    import httpx

    write_profile(place / "catalog", [place / "raw"], profile_directory=place / "profiles")
    slice_run = SliceRun(place / "raw", "slice")
    documents = [
        *slice_run.head(),
        *slice_run.line(),
        *slice_run.line(2),
        *slice_run.line(),
        *slice_run.stop(),
    ]
    with JournalWriter(place / "journal.jsonl") as journal:
        for item in documents:
            journal(*item)
    script = f"""
import sys, time
from pathlib import Path
from xrdct_beamline.storage.catalog import replay_into_catalog
from xrdct_beamline.storage.catalog_server import CatalogServer
from xrdct_beamline.storage.journal import read_journal
place = Path({str(place)!r})
server = CatalogServer(place / "catalog", [place / "raw"])
server.start()
replay_into_catalog(read_journal(place / "journal.jsonl"), server.connect())
print(server.pid, server.uri, flush=True)
time.sleep(60)
"""
    session = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        pid, uri = session.stdout.readline().split()
        assert httpx.get(f"{uri}/search/").status_code == httpx.codes.UNAUTHORIZED
        files = [path for path in (place / "catalog").iterdir() if path.is_file()]
        assert [path.name for path in files if path.stat().st_mode & 0o077] == []
    finally:
        session.kill()
        session.wait()
        session.stdout.close()
    deadline = time.monotonic() + 15
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{pid}").exists()

    seen = read_by_profile(place, slice_run.uid)
    np.testing.assert_array_equal(seen["frames"], np.concatenate(slice_run.frames))
    assert seen["captured"] == [5, 2, 5]
    assert (seen["documents"][0], seen["documents"][-1]) == ("start", "stop")


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(tmp_path, monkeypatch):
    ends = tmp_path / "python"
    ends.write_text("#!/bin/sh\necho disk I/O error\nexit 3\n")
    ends.chmod(0o700)
    monkeypatch.setattr(catalog_server.sys, "executable", str(ends))
    with (
        CatalogServer(tmp_path / "catalog", []) as server,
        pytest.raises(ConfigurationError, match=r"ended \(disk I/O error\); its log is .*server.log"),
    ):
        server.wait_ready()
