from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from builders import series_documents
from event_model import compose_run

from xrdct_beamline.callbacks.cell_recorder import CellHistory, CellRecorder


def record(documents: Iterable, **options: int) -> list[CellHistory]:
    histories: list[CellHistory] = []
    recorder = CellRecorder(histories.append, **options)
    for name, doc in documents:
        recorder(name, doc)
    return histories


def samples(n: int) -> list[tuple[float, float, float, str]]:
    return [(100.0 + i, 4.2 - 0.01 * i, -0.5, "discharge") for i in range(n)]


def test_each_sample_is_in_the_history() -> None:
    histories = record(series_documents(samples(3)))
    assert [len(h.time_s) for h in histories] == [1, 2, 3]
    np.testing.assert_allclose(histories[-1].time_s, [100.0, 101.0, 102.0])
    np.testing.assert_allclose(histories[-1].voltage, [4.2, 4.19, 4.18])
    np.testing.assert_allclose(histories[-1].current, -0.5)


def test_pauses_begin_and_end_with_the_cyclers_step() -> None:
    steps = ["rest", "discharge", "pause", "pause", "discharge", "pause"]
    histories = record(series_documents([(float(i), 4.0, 0.0, step) for i, step in enumerate(steps)]))
    assert histories[1].pauses == ()
    assert histories[3].pauses == ((2.0, None),)
    assert histories[4].pauses == ((2.0, 4.0),)
    assert histories[5].pauses == ((2.0, 4.0), (5.0, None))


def test_documents_seen_twice_change_nothing() -> None:
    documents = list(series_documents(samples(5)))
    twice = record(documents + documents)
    np.testing.assert_array_equal(twice[-1].time_s, record(documents)[-1].time_s)


def test_histories_given_away_stay_as_they_were() -> None:
    histories = record(series_documents(samples(1100)))
    np.testing.assert_allclose(histories[999].time_s, 100.0 + np.arange(1000))
    assert len(histories[-1].time_s) == 1100


def test_memory_is_bounded_by_leaving_out_every_other_sample() -> None:
    histories = record(series_documents(samples(300)), max_samples=64)
    times = histories[-1].time_s
    assert max(len(h.time_s) for h in histories) <= 64
    assert times[0] == 100.0
    assert times[-1] == 399.0
    assert (np.diff(times) > 0).all()


def test_a_sample_without_all_signals_takes_the_last_known_values() -> None:
    run = compose_run()
    keys = {
        "cell_voltage": {"source": "x", "dtype": "number", "shape": []},
        "cell_step": {"source": "x", "dtype": "string", "shape": []},
    }
    cell = run.compose_descriptor(name="cell", data_keys=keys)
    event = cell.compose_event(
        data={"cell_voltage": 3.9, "cell_step": "pause"}, timestamps={"cell_voltage": 5.0, "cell_step": 5.0}
    )
    partial = {**event, "data": {"cell_step": "rest"}, "timestamps": {"cell_step": 9.0}, "time": 9.0}
    [_, last] = record(
        [("start", run.start_doc), ("descriptor", cell.descriptor_doc), ("event", event), ("event", partial)]
    )
    np.testing.assert_allclose(last.voltage, [3.9, 3.9])
    assert np.isnan(last.current).all()
    assert last.pauses == ((5.0, 9.0),)


def test_other_streams_are_not_the_cell() -> None:
    documents = list(series_documents(samples(2)))
    for name, doc in documents:
        if name == "descriptor":
            doc["name"] = "baseline"
    assert record(documents) == []
