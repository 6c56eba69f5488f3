from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest

from xrdct_beamline.display.snapshot import Snapshot, SnapshotStore


def test_a_snapshot_before_any_data_is_complete_and_waits():
    snapshot = SnapshotStore().latest()
    assert (snapshot.version, snapshot.phase, snapshot.sinogram) == (0, "waiting", None)
    assert np.isnan(snapshot.lag_s)


def test_publishing_changes_only_what_is_named_and_counts_up():
    store = SnapshotStore()
    store.publish(title="disc", lines_planned=60)
    newer = store.publish(lines_done=3)
    assert store.latest() is newer
    assert (newer.title, newer.lines_planned, newer.lines_done) == ("disc", 60, 3)
    assert store.version == newer.version == 2


def test_an_earlier_snapshot_stays_what_it_was():
    store = SnapshotStore()
    old = store.publish(lines_done=1)
    store.publish(lines_done=2)
    assert old.lines_done == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        old.lines_done = 5  # type: ignore[misc]


def test_a_name_that_is_no_field_is_refused_and_nothing_is_published():
    store = SnapshotStore()
    with pytest.raises(TypeError, match="lines_don"):
        store.publish(lines_don=1)
    assert store.version == 0


def test_arrays_are_referred_to_not_copied():
    sinogram = np.zeros((2, 3, 4), np.float32)
    store = SnapshotStore()
    store.publish(sinogram=sinogram)
    assert store.latest().sinogram is sinogram


def test_no_publication_is_lost_between_threads():
    store = SnapshotStore()

    def work(name: str) -> None:
        for i in range(200):
            store.publish(**{name: i + 1})

    names = ["lines_done", "frames_done", "lines_retaken", "slices_done"]
    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    latest = store.latest()
    assert [getattr(latest, name) for name in names] == [200] * 4
    assert latest.version == 800


def test_every_default_is_its_own():
    assert Snapshot().phase_ticks is not Snapshot().phase_ticks
