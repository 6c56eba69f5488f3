from __future__ import annotations

import datetime
import json
import math
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xrdct_beamline.domain.errors import ConfigurationError, DataError, OwnerError
from xrdct_beamline.storage.journal import JournalFollower, JournalWriter, line_verdicts, read_journal

START = ("start", {"uid": "a", "time": 1.0})
STOP = ("stop", {"run_start": "a", "uid": "z"})


def write(path: Path, *documents: tuple[str, dict]) -> None:
    with JournalWriter(path) as journal:
        for name, doc in documents:
            journal(name, doc)


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """Let files grow to ``size`` bytes, as a full disk does: what fits is written, the rest refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_documents_come_back_in_order_one_per_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    write(path, START, ("event", {"descriptor": "d", "data": {"x": 1}}), STOP)
    assert [name for name, _ in read_journal(path)] == ["start", "event", "stop"]
    lines = path.read_bytes().splitlines()
    assert len(lines) == 3
    assert json.loads(lines[0]) == ["start", {"uid": "a", "time": 1.0}]


def test_numpy_and_friends_become_plain_and_nan_survives(tmp_path: Path) -> None:
    doc = {
        "array": np.array([1.5, np.nan, np.inf]),
        "scalar": np.float32(0.5),
        "integer": np.int64(7),
        "flag": np.bool_(True),
        "text": np.str_("µm"),
        "path": Path("/raw/line.h5"),
        "day": datetime.date(2020, 1, 2),
        "names": {"b", "a"},
    }
    write(tmp_path / "j", ("event", {"descriptor": "d", "data": doc}))
    [(_, back)] = read_journal(tmp_path / "j")
    data = back["data"]
    assert data["array"][0] == 1.5
    assert math.isnan(data["array"][1])
    assert data["array"][2] == math.inf
    assert data["scalar"] == 0.5
    assert data["integer"] == 7
    assert data["flag"] is True
    assert data["text"] == "µm"
    assert data["path"] == "/raw/line.h5"
    assert data["day"] == "2020-01-02"
    assert data["names"] == ["a", "b"]


@pytest.mark.parametrize("value", [object(), b"bytes", {(1, 2): 3}])
def test_a_value_without_json_form_is_refused_and_leaves_no_trace(tmp_path: Path, value: object) -> None:
    with JournalWriter(tmp_path / "j") as journal:
        journal(*START)
        with pytest.raises(DataError, match="the event document cannot be journaled"):
            journal("event", {"descriptor": "d", "data": {"x": value}})
        journal(*STOP)
    assert [name for name, _ in read_journal(tmp_path / "j")] == ["start", "stop"]


def test_torn_last_line_is_ignored_by_readers_and_cut_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, START)
    whole = path.read_bytes()
    path.write_bytes(whole + b'["event",{"descriptor":"d","da')
    assert list(read_journal(path)) == [START]
    write(path, STOP)
    assert list(read_journal(path)) == [START, STOP]
    assert path.read_bytes().startswith(whole + b'["stop"')


def test_a_journal_that_is_one_torn_line_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_bytes(b"x" * 200_000)
    write(path, START)
    assert list(read_journal(path)) == [START]


def test_a_damaged_line_in_between_is_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "j"
    write(path, START)
    with path.open("ab") as file:
        file.write(b"\x00\x00\x00\n[1]\n")
    write(path, STOP)
    follower = JournalFollower(path)
    assert follower.poll() == [START, STOP]
    assert follower.damaged_lines == 2
    assert "are no document; skipped" in caplog.text


def test_damaged_lines_do_not_end_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j"
    path.write_bytes(b"garbage garbage garbage\n" * 4)
    write(path, STOP)
    monkeypatch.setattr(JournalFollower.poll, "__defaults__", (24,))
    assert list(read_journal(path)) == [STOP]


def test_second_writer_is_refused_with_the_holders_name(tmp_path: Path) -> None:
    with JournalWriter(tmp_path / "j"), pytest.raises(OwnerError, match=f"process {os.getpid()} on"):
        JournalWriter(tmp_path / "j")
    write(tmp_path / "j", START)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        JournalWriter(tmp_path / "absent" / "j")
    with pytest.raises(ConfigurationError, match="cannot write the journal"):
        JournalWriter(tmp_path)  # a folder, not a file


def test_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "j")
    journal.close()
    journal.close()
    with pytest.raises(DataError, match="is closed"):
        journal(*START)


def test_full_disk_is_one_clear_error_and_no_torn_middle(tmp_path: Path) -> None:
    path = tmp_path / "j"
    big = ("event", {"descriptor": "d", "data": {"x": "y" * 1000}})
    with JournalWriter(path) as journal:
        journal(*START)
        with disk_of(path.stat().st_size + 500):
            with pytest.raises(DataError, match=r"did not take the event of 10.. bytes.*free space"):
                journal(*big)
            assert list(read_journal(path)) == [START]
        journal(*big)
        journal(*STOP)
    assert list(read_journal(path)) == [START, big, STOP]


def test_half_a_line_that_could_not_be_cut_at_once_is_cut_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j"

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with JournalWriter(path) as journal:
        journal(*START)
        with monkeypatch.context() as patch, disk_of(path.stat().st_size + 20):
            patch.setattr(os, "ftruncate", refuse)
            with pytest.raises(DataError):
                journal("event", {"descriptor": "d", "data": {"x": "y" * 100}})
        assert path.read_bytes()[-1:] != b"\n"
        journal(*STOP)
    assert list(read_journal(path)) == [START, STOP]


def test_milestones_are_on_the_disk_when_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    now = {"step": ""}
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        synced.append(now["step"])
        fsync(descriptor)

    with JournalWriter(tmp_path / "j") as journal:
        monkeypatch.setattr(os, "fsync", noting)
        for step, name, doc in [
            ("start", "start", {"uid": "a"}),
            ("descriptor lines", "descriptor", {"uid": "l", "run_start": "a", "name": "lines"}),
            ("descriptor cell", "descriptor", {"uid": "c", "run_start": "a", "name": "cell"}),
            ("cell", "event", {"descriptor": "c"}),
            ("resource", "stream_resource", {"uid": "r"}),
            ("line", "event", {"descriptor": "l"}),
            ("line page", "event_page", {"descriptor": "l"}),
            ("stop", "stop", {"run_start": "a"}),
            ("late", "event", {"descriptor": "l"}),
        ]:
            now["step"] = step
            journal(name, doc)
        assert synced == ["start", "descriptor lines", "descriptor cell", "line", "line page", "stop"]


def test_follower_waits_for_the_file_and_for_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "j"
    follower = JournalFollower(path)
    assert follower.poll() == []
    line = json.dumps(list(START)).encode() + b"\n"
    with path.open("ab", buffering=0) as file:
        file.write(line[:10])
        assert follower.poll() == []
        file.write(line[10:] + line[:3])
        assert follower.poll() == [START]
        assert follower.poll() == []
        file.write(line[3:])
        assert follower.poll() == [START]


def test_follower_reads_in_bounded_pieces_and_long_lines_whole(tmp_path: Path) -> None:
    path = tmp_path / "j"
    documents = [("event", {"i": i, "pad": "x" * (500 if i == 3 else 5)}) for i in range(8)]
    write(path, *documents)
    follower = JournalFollower(path)
    polls = []
    while got := follower.poll(max_bytes=100):
        polls.append(got)
    assert [d for got in polls for d in got] == documents
    assert len(polls) > 3


def test_a_replaced_journal_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "j"
    write(path, START, STOP)
    follower = JournalFollower(path)
    assert len(follower.poll()) == 2
    path.unlink()
    write(path, START)
    assert follower.poll() == [START]


def test_reading_a_journal_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no journal"):
        list(read_journal(tmp_path / "absent"))


def test_newest_verdict_of_each_line_of_the_run_asked_for() -> None:
    def line(descriptor: str, rotation: int, verdict: str) -> tuple[str, dict]:
        data = {"line_rotation_index": rotation, "line_verdict": verdict}
        return "event", {"descriptor": descriptor, "data": data}

    documents = [
        ("descriptor", {"uid": "l", "run_start": "a", "name": "lines"}),
        ("descriptor", {"uid": "m", "run_start": "b", "name": "lines"}),
        line("l", 0, "retake"),
        line("m", 1, "accepted"),
        line("l", 0, "accepted"),
        line("l", 2, "bad"),
    ]
    assert line_verdicts(documents, "a") == {0: "accepted", 2: "bad"}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(docs=st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=4), cut=st.integers(1, 40))
def test_whatever_is_cut_off_the_end_only_the_last_line_is_lost(
    tmp_path: Path, docs: list[dict], cut: int
) -> None:
    path = tmp_path / "j"
    path.unlink(missing_ok=True)
    documents = [("resource", doc) for doc in [*docs, {"pad": "x" * 50}]]
    write(path, *documents)
    os.truncate(path, path.stat().st_size - cut)
    assert list(read_journal(path)) == documents[:-1]


def test_documents_from_several_threads_stay_whole(tmp_path):
    path = tmp_path / "journal.jsonl"
    payload = "x" * 20_000
    with JournalWriter(path) as journal:

        def write(k):
            for n in range(50):
                journal("event", {"uid": f"{k}-{n}", "descriptor": "d", "payload": payload})

        threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    uids = [doc["uid"] for _, doc in read_journal(path)]
    assert len(uids) == 200
    assert [u for u in uids if u.startswith("2-")] == [f"2-{n}" for n in range(50)]
