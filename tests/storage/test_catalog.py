from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from event_model import compose_run

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.storage import catalog
from xrdct_beamline.storage.catalog import CatalogSubscriber, registered_uids, replay_into_catalog
from xrdct_beamline.storage.catalog_server import CatalogServer, profiled_catalog, write_profile


def run_documents(n_events: int = 2, **metadata: Any) -> list[tuple[str, dict]]:
    run = compose_run(metadata=metadata)
    keys = {"cell_voltage": {"source": "sim", "dtype": "number", "shape": []}}
    stream = run.compose_descriptor(name="cell", data_keys=keys)
    events = [
        stream.compose_event(data={"cell_voltage": float(i)}, timestamps={"cell_voltage": 0.0})
        for i in range(n_events)
    ]
    return [
        ("start", run.start_doc),
        ("descriptor", stream.descriptor_doc),
        *(("event", event) for event in events),
        ("stop", run.compose_stop()),
    ]


class Client:
    """Stands for a tiled client."""

    def __init__(self) -> None:
        self.closed = False
        self.context = SimpleNamespace(close=lambda: setattr(self, "closed", True))


class Recorder:
    """Stands for the writer of one run."""

    def __init__(self, refuse: set[str]) -> None:
        self.documents: list[tuple[str, dict]] = []
        self.refuse = refuse
        self.flushed = 0

    def __call__(self, name: str, document: dict) -> None:
        if name in self.refuse:
            raise OSError("connection refused")
        self.documents.append((name, document))

    def flush(self) -> None:
        if "flush" in self.refuse:
            raise OSError("connection refused")
        self.flushed += 1


class Recorded:
    """Keeps what each run's recorder was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.recorders: list[Recorder] = []
        self.refuse: set[str] = set()
        monkeypatch.setattr(catalog, "_recorder", self._recorder)

    @property
    def runs(self) -> list[list[tuple[str, dict]]]:
        return [recorder.documents for recorder in self.recorders]

    def _recorder(self, client: Any, interval_s: float) -> Recorder:
        self.recorders.append(Recorder(self.refuse))
        return self.recorders[-1]


@pytest.fixture
def recorded(monkeypatch):
    return Recorded(monkeypatch)


def test_interleaved_runs_reach_a_recorder_each_over_one_connection(recorded):
    first, second = run_documents(2), run_documents(2)
    clients: list[Client] = []
    subscriber = CatalogSubscriber(lambda: clients.append(Client()) or clients[-1])
    for pair in zip(first, second, strict=True):
        for name, document in pair:
            subscriber(name, document)
    assert subscriber.close(5)
    assert recorded.runs == [first, second]
    assert [client.closed for client in clients] == [True]
    assert subscriber.missing == {}


def test_numpy_values_arrive_plain_and_the_document_stays_as_it_was(recorded):
    documents = run_documents(1)
    documents[2][1]["data"]["cell_voltage"] = np.arange(3)
    subscriber = CatalogSubscriber(Client)
    for name, document in documents:
        subscriber(name, document)
    assert subscriber.close(5)
    assert recorded.runs[0][2][1]["data"]["cell_voltage"] == [0, 1, 2]
    assert isinstance(documents[2][1]["data"]["cell_voltage"], np.ndarray)


def test_a_server_that_refuses_costs_its_run_and_no_other(recorded):
    subscriber = CatalogSubscriber(Client)
    broken, whole = run_documents(), run_documents()
    recorded.refuse.add("event")
    for name, document in broken:
        subscriber(name, document)
    subscriber.drain(5)
    recorded.refuse.clear()
    for name, document in whole:
        subscriber(name, document)
    assert subscriber.close(5)
    assert list(subscriber.missing) == [broken[0][1]["uid"]]
    assert "connection refused" in subscriber.missing[broken[0][1]["uid"]]
    assert [name for name, _ in recorded.runs[0]] == ["start", "descriptor"]
    assert recorded.runs[1] == whole


def test_the_connection_is_made_anew_after_it_failed(recorded):
    attempts = []

    def connect() -> Client:
        attempts.append(len(attempts))
        if len(attempts) == 1:
            raise OSError("nobody listens")
        return Client()

    subscriber = CatalogSubscriber(connect)
    runs = [run_documents() for _ in range(3)]
    for name, document in [item for run in runs for item in run]:
        subscriber(name, document)
    assert subscriber.close(5)
    assert list(subscriber.missing) == [runs[0][0][1]["uid"]]
    assert len(attempts) == 2


def test_a_hung_server_neither_blocks_nor_raises_and_the_run_is_given_up(recorded):
    asked, hung = threading.Event(), threading.Event()
    subscriber = CatalogSubscriber(lambda: asked.set() or (hung.wait() and Client()), queue_size=50)
    documents = run_documents(500)
    subscriber(*documents[0])
    assert asked.wait(5)
    started = time.monotonic()
    for name, document in documents[1:]:
        subscriber(name, document)
    assert time.monotonic() - started < 0.5
    assert "50 documents" in subscriber.missing[documents[0][1]["uid"]]
    assert not subscriber.drain(0.05)
    hung.set()
    assert subscriber.close(5)


def test_replay_writes_what_is_absent_replaces_what_is_partial_and_leaves_what_is_whole(recorded):
    absent, partial, whole = run_documents(), run_documents(), run_documents()
    uids = [documents[0][1]["uid"] for documents in (absent, partial, whole)]

    class Run:
        def __init__(self, *parts: str) -> None:
            self.metadata = dict.fromkeys(parts)

    class Held(dict):
        deleted: list[str] = []  # noqa: RUF012

        def delete_contents(self, uid: str, *, recursive: bool, external_only: bool) -> None:
            assert recursive
            assert not external_only
            self.deleted.append(uid)

    client = Held({uids[1]: Run("start"), uids[2]: Run("start", "stop")})
    assert registered_uids(client) == [uids[2]]
    assert replay_into_catalog([*absent, *partial, *whole], client) == uids[:2]
    assert recorded.runs == [absent, partial]
    assert client.deleted == [uids[1]]


def test_replay_of_a_run_without_its_end_keeps_nothing_back(recorded):
    replay_into_catalog(run_documents()[:-1], {})
    assert recorded.recorders[0].flushed == 1


def test_what_a_run_keeps_back_is_written_when_nothing_comes(recorded):
    subscriber = CatalogSubscriber(Client, interval_s=0.01)
    for name, document in run_documents()[:-1]:
        subscriber(name, document)
    subscriber.drain(5)
    flushed = recorded.recorders[0].flushed
    assert flushed >= 1
    deadline = time.monotonic() + 5
    while recorded.recorders[0].flushed == flushed:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert subscriber.close(5)


def test_a_failure_to_write_what_was_kept_back_costs_the_run(recorded):
    recorded.refuse.add("flush")
    subscriber = CatalogSubscriber(Client)
    documents = run_documents()[:-1]
    for name, document in documents:
        subscriber(name, document)
    assert subscriber.close(5)
    assert list(subscriber.missing) == [documents[0][1]["uid"]]


def test_the_profile_is_one_that_tiled_accepts_and_points_at_the_files(tmp_path):
    from tiled.profiles import gather_profiles

    path = write_profile(tmp_path / "catalog", [tmp_path / "raw"], profile_directory=tmp_path / "profiles")
    assert path.stat().st_mode & 0o777 == 0o600
    ((_, content),) = gather_profiles([path.parent], strict=True)[0].items()
    arguments = content["xrdct"]["direct"]["trees"][0]["args"]
    assert arguments["uri"] == f"sqlite:///{tmp_path}/catalog/catalog.db"
    assert arguments["readable_storage"] == [str(tmp_path / "raw")]


def test_the_catalog_of_a_profile_is_found(tmp_path):
    write_profile(tmp_path / "catalog", [], profile_directory=tmp_path / "profiles")
    assert profiled_catalog("xrdct", tmp_path / "profiles") == tmp_path / "catalog"
    assert profiled_catalog("other", tmp_path / "profiles") is None
    (tmp_path / "profiles" / "other.yml").write_text("other: {uri: 'http://somebody'}")
    assert profiled_catalog("other", tmp_path / "profiles") is None


def test_our_own_profile_is_replaced(tmp_path):
    write_profile(tmp_path / "old", [], profile_directory=tmp_path)
    path = write_profile(tmp_path / "new", [], profile_directory=tmp_path)
    assert "old" not in yaml.safe_dump(yaml.safe_load(path.read_text()))


@pytest.mark.parametrize(
    ("file_name", "text"),
    [
        ("xrdct.yml", "xrdct: {uri: 'http://somewhere.example'}\n"),
        ("xrdct.yml", "{broken"),
        ("everything.yaml", "other: {uri: 'http://a.example'}\nxrdct: {uri: 'http://b.example'}\n"),
    ],
)
def test_somebody_elses_profile_is_left_alone(tmp_path, file_name, text):
    (tmp_path / file_name).write_text(text)
    with pytest.raises(ConfigurationError, match=f"{file_name} already defines .*another profile name"):
        write_profile(tmp_path / "catalog", [], profile_directory=tmp_path)
    assert [(p.name, p.read_text()) for p in tmp_path.glob("*.y*ml")] == [(file_name, text)]


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    server = CatalogServer(tmp_path / "file" / "catalog", [])
    with pytest.raises(ConfigurationError, match="writable directory"):
        server.start()
    assert server.pid is None
