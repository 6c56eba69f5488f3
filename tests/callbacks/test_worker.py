from __future__ import annotations

import threading
import time

import pytest

from xrdct_beamline.callbacks.worker import BoundedWorker


class Gate:
    """A callback that waits until it may go on."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Event()
        self.seen: list[tuple[str, dict]] = []

    def __call__(self, name: str, doc: dict) -> None:
        self.entered.set()
        assert self.open.wait(10)
        self.seen.append((name, doc))


def test_documents_arrive_in_order_in_another_thread() -> None:
    seen: list[tuple[str, int, int]] = []
    worker = BoundedWorker(lambda name, doc: seen.append((name, doc["i"], threading.get_ident())))
    for i in range(100):
        worker("event", {"i": i})
    assert worker.close(10)
    assert [i for _, i, _ in seen] == list(range(100))
    assert threading.get_ident() not in {thread for *_, thread in seen}
    assert worker.dropped == worker.failures == 0


def test_a_slow_callback_holds_nobody_up_and_the_newest_events_are_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate()
    worker = BoundedWorker(gate, maxsize=3)
    worker("start", {"i": 0})
    assert gate.entered.wait(10)  # one is under way, so exactly three more fit
    started = time.monotonic()
    for i in range(1, 10):
        worker("event", {"i": i})
    assert time.monotonic() - started < 1.0
    gate.open.set()
    assert worker.close(10)
    assert [doc["i"] for _, doc in gate.seen] == [0, 1, 2, 3]
    assert worker.dropped == 6
    assert "3 documents wait; 4 dropped so far" in caplog.text


def test_what_gives_a_run_its_shape_is_never_dropped() -> None:
    gate = Gate()
    worker = BoundedWorker(gate, maxsize=1)
    worker("event", {})
    assert gate.entered.wait(10)
    for name in ("event", "event", "start", "descriptor", "stream_resource", "stream_datum", "stop"):
        worker(name, {})
    gate.open.set()
    assert worker.close(10)
    assert [name for name, _ in gate.seen] == [
        "event",
        "event",
        "start",
        "descriptor",
        "stream_resource",
        "stop",
    ]
    assert worker.dropped == 2


def test_a_failing_callback_is_logged_counted_and_called_again(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def callback(name: str, doc: dict) -> None:
        if doc["i"] == 1:
            raise RuntimeError("no such luck")
        seen.append(doc["i"])

    worker = BoundedWorker(callback)
    for i in range(3):
        worker("event", {"i": i})
    assert worker.close(10)
    assert seen == [0, 2]
    assert worker.failures == 1
    assert "no such luck" in caplog.text


def test_closing_in_time_is_told_from_closing_too_late(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    worker = BoundedWorker(gate)
    worker("event", {})
    worker("event", {})
    assert not worker.close(0.05)
    assert "still waiting" in caplog.text
    gate.open.set()
    assert worker.close(10)


def test_a_closed_worker_takes_nothing_and_raises_nothing() -> None:
    seen: list[str] = []
    worker = BoundedWorker(lambda name, doc: seen.append(name))
    worker.close(10)
    worker("start", {})
    assert seen == []
    assert worker.dropped == 1


def test_later_changes_of_a_document_do_not_reach_the_callback() -> None:
    gate = Gate()
    worker = BoundedWorker(gate)
    doc = {"i": 1}
    worker("event", doc)
    doc["i"] = 2
    gate.open.set()
    assert worker.close(10)
    assert gate.seen[0][1]["i"] == 1


def test_a_worker_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BoundedWorker(print, maxsize=0)
