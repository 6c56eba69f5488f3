from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import Attempt, phantom_line, series_documents, slice_documents, write_raw_line

from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.callbacks.slice_state import SliceRun
from xrdct_beamline.display.snapshot import SnapshotStore
from xrdct_beamline.domain.documents import Verdict
from xrdct_beamline.domain.errors import ConfigurationError, DataError, OwnerError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.services.alerts import AlertSender, AlertSettings
from xrdct_beamline.services.live import LiveSettings, run_live
from xrdct_beamline.services.pipeline import Pipeline
from xrdct_beamline.services.replay import replay
from xrdct_beamline.storage.journal import JournalWriter
from xrdct_beamline.storage.nexus import read_processed, read_summary

GEOMETRY = ScanGeometry.raster(n_translations=5, step_mm=0.03, n_rotations=4)
SETTINGS = LiveSettings(processing=ProcessingSettings(bins=20, estimator="mean", threads=1), poll_s=0.005)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw files of one slice of the phantom."""
    folder = tmp_path_factory.mktemp("raw")
    for rotation in range(4):
        write_raw_line(folder / f"line_{rotation}.h5", phantom_line(GEOMETRY, rotation))
    return folder


def attempts(raw: Path, rotations: Iterable[int] = range(4)) -> list[Attempt]:
    return [Attempt(rotation_index=r, raw_file=str(raw / f"line_{r}.h5")) for r in rotations]


def write_journal(path: Path, documents: Iterable) -> Path:
    with JournalWriter(path) as journal:
        for name, doc in documents:
            journal(name, doc)
    return path


def sinogram(path: Path) -> bytes:
    with h5py.File(path, "r", locking=False) as file:
        return b"".join(file["entry/sinogram"][name][()].tobytes() for name in
                        ("intensity", "intensity_errors", "measured"))  # fmt: skip


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.005)


@contextmanager
def live(journal: Path, output: Path, settings: LiveSettings = SETTINGS) -> Iterator[threading.Thread]:
    stop, ready = threading.Event(), threading.Event()
    service = threading.Thread(
        target=run_live,
        args=(journal, output),
        kwargs={"settings": settings, "stop": stop, "on_ready": lambda url: ready.set()},
    )
    service.start()
    try:
        assert ready.wait(20)
        yield service
    finally:
        stop.set()
        service.join(20)
    assert not service.is_alive()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[str], bool]:
    """Whether the service has logged something: one process cannot read a file that it is writing."""
    caplog.set_level("INFO", logger="xrdct_beamline")
    return lambda text: any(text in record.getMessage() for record in list(caplog.records))


def test_a_growing_journal_becomes_a_processed_file(
    raw: Path, tmp_path: Path, said: Callable[[str], bool]
) -> None:
    documents = list(slice_documents(GEOMETRY, attempts(raw), uid="a" * 32, state_index=1))
    output = tmp_path / "out"
    path = output / "aaaaaaaa_state01.nxs"
    with live(tmp_path / "j", output), JournalWriter(tmp_path / "j") as journal:
        for name, doc in documents:
            journal(name, doc)
            if name == "event":
                n_lines = doc["seq_num"]
                wait_for(lambda n=n_lines: said(f"line {n} of 4"))
        wait_for(lambda: said("4 lines in"))
    found = read_processed(path)
    brightest = np.unravel_index(np.nansum(found.intensity, axis=-1).argmax(), (5, 5))
    assert brightest == (1, 3)  # the heaviest blob lies at x = +0.04, y = +0.02 mm
    assert read_summary(path).frames_integrated == 20


def test_replay_gives_what_live_gave(raw: Path, tmp_path: Path, said: Callable[[str], bool]) -> None:
    journal = write_journal(tmp_path / "j", slice_documents(GEOMETRY, attempts(raw), uid="b" * 32))
    with live(journal, tmp_path / "live"):
        wait_for(lambda: said("4 lines in"))
    [path] = replay(journal, tmp_path / "replayed", settings=SETTINGS)
    assert path.name == "bbbbbbbb.nxs"
    assert sinogram(path) == sinogram(tmp_path / "live" / "bbbbbbbb.nxs")


@pytest.mark.parametrize("n_before", [0, 1, 3])
def test_stopped_and_started_again_it_ends_with_the_same_numbers(
    raw: Path, tmp_path: Path, n_before: int, said: Callable[[str], bool], caplog: pytest.LogCaptureFixture
) -> None:
    beam = np.linspace(900.0, 1100.0, 5)
    tried = [replace(a, i0=beam * (1 + a.rotation_index)) for a in attempts(raw)]
    documents = list(slice_documents(GEOMETRY, tried, uid="c" * 32))
    [undisturbed] = replay(write_journal(tmp_path / "whole", documents), tmp_path / "one", settings=SETTINGS)
    caplog.clear()
    end_of_line = [i for i, (name, _) in enumerate(documents) if name == "event"]
    cut = end_of_line[n_before - 1] + 1 if n_before else 1
    path = tmp_path / "two" / "cccccccc.nxs"
    with JournalWriter(tmp_path / "j") as journal:
        for name, doc in documents[:cut]:
            journal(name, doc)
        with live(tmp_path / "j", tmp_path / "two"):
            wait_for(path.exists)
            wait_for(lambda: not n_before or said(f"line {n_before} of 4"))
        assert read_summary(path).status == "running"
        assert read_summary(path).lines_done == n_before
        for name, doc in documents[cut:]:
            journal(name, doc)
    with live(tmp_path / "j", tmp_path / "two"):
        wait_for(lambda: said("4 lines in"))
    assert read_summary(path).complete
    assert sinogram(path) == sinogram(undisturbed)
    np.testing.assert_allclose(
        read_processed(path).intensity, read_processed(undisturbed).intensity, rtol=1e-4, atol=1e-4
    )


def test_lines_that_are_there_are_not_computed_again(raw: Path, tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "j", slice_documents(GEOMETRY, attempts(raw), uid="d" * 32))
    [path] = replay(journal, tmp_path / "out", settings=SETTINGS)
    before = path.stat().st_mtime_ns, path.read_bytes()
    hidden = raw.rename(raw.with_name("hidden"))
    try:
        assert replay(journal, tmp_path / "out", settings=SETTINGS) == [path]
    finally:
        hidden.rename(raw)
    assert read_summary(path).complete
    assert (path.stat().st_mtime_ns, path.read_bytes()) == before


def test_a_line_that_failed_for_want_of_its_file_is_filled_in_later(raw: Path, tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "j", slice_documents(GEOMETRY, attempts(raw), uid="e" * 32))
    hidden = (raw / "line_2.h5").rename(raw / "hidden.h5")
    try:
        [path] = replay(journal, tmp_path / "out", settings=SETTINGS)
        assert (read_summary(path).status, read_summary(path).lines_bad) == ("partial", 1)
    finally:
        hidden.rename(raw / "line_2.h5")
    replay(journal, tmp_path / "out", settings=SETTINGS)
    [whole] = replay(journal, tmp_path / "whole", settings=SETTINGS)
    assert read_summary(path).complete
    assert sinogram(path) == sinogram(whole)


def test_other_settings_begin_anew_and_keep_the_old_file(raw: Path, tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "j", slice_documents(GEOMETRY, attempts(raw), uid="f" * 32))
    replay(journal, tmp_path, settings=SETTINGS)
    finer = replace(SETTINGS, processing=replace(SETTINGS.processing, bins=25))
    [path] = replay(journal, tmp_path, settings=finer)
    assert read_processed(path).radial.size == 25
    assert read_processed(tmp_path / "ffffffff.other-settings-1.nxs").radial.size == 20


def test_runs_of_a_journal_are_told_apart(raw: Path, tmp_path: Path) -> None:
    cell = list(series_documents([(float(i), 4.0, -0.1, "rest") for i in range(30)], uid="5" * 32))
    aborted = list(slice_documents(GEOMETRY, attempts(raw, [0, 1]), uid="1" * 32, with_stop=False))
    whole = list(slice_documents(GEOMETRY, attempts(raw), uid="2" * 32))
    slices = [*aborted, *whole]
    between = [d for pair in zip(slices, cell, strict=False) for d in pair] + slices[len(cell) :]
    one, two = replay(write_journal(tmp_path / "j", between), tmp_path / "out", settings=SETTINGS)
    assert (read_summary(one).status, read_summary(one).exit_status) == ("partial", "abandoned")
    assert read_summary(one).lines_done == 2
    assert read_summary(two).complete
    [only] = replay(tmp_path / "j", tmp_path / "other", settings=SETTINGS, run_uid="2222")
    assert sinogram(only) == sinogram(two)
    with pytest.raises(DataError, match="no run 9"):
        replay(tmp_path / "j", tmp_path / "other", settings=SETTINGS, run_uid="9")


def test_replay_finds_raw_files_that_were_moved(raw: Path, tmp_path: Path) -> None:
    elsewhere = [replace(a, raw_file=f"/beamline/{Path(a.raw_file).name}") for a in attempts(raw)]
    journal = write_journal(tmp_path / "j", slice_documents(GEOMETRY, elsewhere))
    [path] = replay(journal, tmp_path / "out", settings=SETTINGS, search=[raw])
    assert read_summary(path).complete


def test_no_document_ends_the_service(raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = list(slice_documents(GEOMETRY, attempts(raw), uid="a" * 32))
    nonsense = [
        ("start", {"uid": "x", "time": 0.0, "xrdct": {"role": "broad"}}),
        ("start", {}),
        ("unheard-of", {}),
        ("event", {"descriptor": "nobody's"}),
        ("event", {}),
        ("stop", {}),
    ]
    store = SnapshotStore()
    pipeline = Pipeline(tmp_path, SETTINGS, store)
    for name, doc in [*whole[:3], *nonsense, *whole[3:]]:
        pipeline(name, doc)
    pipeline.close()
    [path] = pipeline.paths
    assert read_summary(path).complete
    assert "run x has no geometry" in caplog.text


def test_the_page_is_told_what_there_is(raw: Path, tmp_path: Path) -> None:
    tried = attempts(raw)
    tried.insert(1, replace(tried[1], verdict=Verdict.RETAKE, reason="4 of 5 frames", attempt=0))
    tried[2] = replace(tried[2], attempt=1)
    cell = [(10.0, 4.1, -0.1, "discharge"), (11.0, 4.0, 0.0, "pause")]
    store = SnapshotStore()
    pipeline = Pipeline(tmp_path, replace(SETTINGS, title="demo"), store)
    messages, lines = [], []
    for name, doc in [
        *series_documents(cell),
        *slice_documents(GEOMETRY, tried, uid="a" * 32, state_index=3),
    ]:
        pipeline(name, doc)
        messages.append(store.latest().message)
        lines.append(store.latest().lines_done)
    shot = store.latest()
    pipeline.close()
    assert (shot.run_uid, shot.title, shot.state_index, shot.phase) == ("a" * 32, "demo · cell 1", 3, "done")
    assert (shot.lines_done, shot.lines_planned, shot.frames_done, shot.frames_planned) == (4, 4, 20, 20)
    assert (shot.lines_retaken, shot.slices_done) == (1, 1)
    assert "line 1 is taken again: 4 of 5 frames" in messages
    assert sorted(set(lines)) == [0, 1, 2, 3, 4]
    assert 0 <= shot.lag_s < 60
    assert shot.cell_voltage.tolist() == [4.1, 4.0]
    assert list(shot.pauses) == [(11.0, None)]
    assert shot.sinogram is not None
    assert shot.slice_ is not None
    assert shot.sinogram.shape == (4, 5, 20)
    assert shot.slice_.shape == (5, 5, 20)
    assert shot.pattern.shape == shot.radial.shape == (20,)
    assert shot.span_deg == 180.0
    np.testing.assert_allclose(shot.extent_mm, (-0.075, 0.075, -0.075, 0.075))
    written = read_processed(pipeline.paths[0])
    np.testing.assert_allclose(shot.slice_ * shot.slice_scale, written.intensity, rtol=1e-6)
    assert set(shot.phase_ticks) == {"LiMn2O4", "lambda-MnO2", "Al"}
    # 111 of a = 8.2441 Å at 0.248 Å: 2 asin(λ √3 / 2a)
    expected = 2 * np.degrees(np.arcsin(0.248 * np.sqrt(3) / (2 * 8.2441)))
    assert abs(shot.phase_ticks["LiMn2O4"][0] - expected) < 1e-3


def test_a_page_that_starts_after_the_run_shows_what_the_file_holds(raw: Path, tmp_path: Path) -> None:
    documents = list(slice_documents(GEOMETRY, attempts(raw), uid="a" * 32))
    replay(documents, tmp_path, settings=SETTINGS)
    store = SnapshotStore()
    pipeline = Pipeline(tmp_path, SETTINGS, store)
    for name, doc in documents:
        pipeline(name, doc)
    assert store.latest().slice_ is None
    pipeline.idle()
    pipeline.close()
    shot = store.latest()
    assert shot.phase == "done"
    assert shot.lines_done == 4
    np.testing.assert_array_equal(shot.slice_, read_processed(pipeline.paths[0]).intensity)
    version = store.version
    pipeline.idle()
    assert store.version == version


def test_a_second_service_on_the_same_output_is_refused(raw: Path, tmp_path: Path) -> None:
    with live(tmp_path / "j", tmp_path / "out"):
        with pytest.raises(OwnerError, match=r"output folder .* is held by process"):
            run_live(tmp_path / "j", tmp_path / "out", settings=SETTINGS)
        with pytest.raises(OwnerError):
            replay([], tmp_path / "out", settings=SETTINGS)


def test_what_cannot_be_used_is_refused_at_the_door(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"output folder .* cannot be written"):
        run_live(tmp_path / "j", tmp_path / "file" / "out")
    with pytest.raises(ConfigurationError, match="cannot be a journal"):
        run_live(tmp_path, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="cannot be a journal"):
        run_live(tmp_path / "absent" / "j", tmp_path / "out")
    with pytest.raises(DataError, match="there is no journal"):
        replay(tmp_path / "absent", tmp_path / "out")


@pytest.mark.parametrize("values", [{"poll_s": 0.5}, {"poll_s": 0.0}, {"slice_every_lines": 0}])
def test_settings_that_cannot_be_are_refused(values: dict) -> None:
    with pytest.raises(ConfigurationError):
        LiveSettings(**values)


def test_waiting_costs_next_to_nothing(tmp_path: Path) -> None:
    with live(tmp_path / "j", tmp_path / "out", replace(SETTINGS, poll_s=0.02)):
        before = time.process_time()
        time.sleep(0.5)
        assert time.process_time() - before < 0.2


def test_a_run_is_plain_json_in_the_journal(raw: Path, tmp_path: Path) -> None:
    journal = write_journal(tmp_path / "j", slice_documents(GEOMETRY, attempts(raw)))
    name, doc = json.loads(journal.read_text().splitlines()[0])
    assert name == "start"
    assert SliceRun.from_start(doc, SETTINGS.processing).geometry == GEOMETRY


def test_a_scan_that_has_ended_gets_a_master_beside_its_lines(tmp_path, raw):
    own = tmp_path / "raw"
    own.mkdir()
    for path in raw.glob("line_*.h5"):
        (own / path.name).write_bytes(path.read_bytes())
    documents = slice_documents(GEOMETRY, attempts(own), uid="0123456789")
    replay(write_journal(tmp_path / "journal.jsonl", documents), tmp_path / "out", settings=SETTINGS)
    with h5py.File(own / "01234567_master.nxs") as file:
        assert file["entry/data/data"].shape[0] == 20
        assert file["entry/measured"][()].all()
        first = file["entry/rotation_index"][0]
        with h5py.File(own / f"line_{first}.h5") as line:
            np.testing.assert_array_equal(file["entry/data/data"][0], line["entry/data/data"][0])


def test_a_line_given_up_is_told_while_the_journal_is_followed(tmp_path, raw, monkeypatch):
    sent = []
    monkeypatch.setattr(AlertSender, "_channels", lambda _: [("list", sent.append)])
    settings = replace(SETTINGS, alerts=AlertSettings(webhook="http://127.0.0.1:9/", min_free_GB=0.0))
    bad = Attempt(rotation_index=2, raw_file="", verdict=Verdict.BAD, reason="two frames short")
    with live(tmp_path / "journal.jsonl", tmp_path / "out", settings):
        write_journal(tmp_path / "journal.jsonl", slice_documents(GEOMETRY, [*attempts(raw, [0, 1]), bad]))
        wait_for(lambda: bool(sent))
    assert "line 2 was given up: two frames short" in sent[0].text
