"""A slice that was cut short and resumed is the slice of an uninterrupted run, bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import Attempt, Document, phantom_line, slice_documents, write_raw_line

from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.display.snapshot import SnapshotStore
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.services.live import LiveSettings
from xrdct_beamline.services.pipeline import Pipeline
from xrdct_beamline.services.replay import replay
from xrdct_beamline.storage.journal import JournalWriter
from xrdct_beamline.storage.nexus_reader import read_processed, read_summary

SETTINGS = LiveSettings(processing=ProcessingSettings(bins=20, estimator="mean", threads=1))
GEOMETRY = ScanGeometry.raster(n_translations=5, step_mm=0.02, n_rotations=6, order="interlaced")
Runs = list[list[Document]]
UIDS = [letter * 32 for letter in "abcdef"]


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory) -> list[Attempt]:
    """Each line of the phantom, in the order of acquisition."""
    folder = tmp_path_factory.mktemp("raw")
    return [
        Attempt(
            rotation_index=rotation,
            raw_file=write_raw_line(folder / f"{rotation}.h5", phantom_line(GEOMETRY, rotation)),
            i0=1000.0 + 3.0 * rotation + np.arange(5.0),
        )
        for rotation in GEOMETRY.line_order
    ]


def run(uid: str, lines: Sequence[Attempt], *, resumes: str = "", has_end: bool = False) -> list[Document]:
    return list(slice_documents(GEOMETRY, lines, uid=uid, resumes=resumes, series_uid="s", with_stop=has_end))


def killed(attempts: Sequence[Attempt], cuts: Sequence[int], *, has_end: bool = False) -> Runs:
    """Return the runs of a slice that was cut short after so many lines, and resumed each time."""
    ends = [0, *cuts, len(attempts)]
    return [
        run(UIDS[i], attempts[a:b], resumes=UIDS[0] if i else "", has_end=has_end or b == len(attempts))
        for i, (a, b) in enumerate(itertools.pairwise(ends))
    ]


def content(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path, "r") as file:
        found = {name: file[f"entry/{name}"][()] for name in ("sinogram/intensity", "sinogram/measured")}
        found["errors"] = file["entry/sinogram/intensity_errors"][()]
        found["reference"] = file["entry/monitor_reference"][()]
    return found


@pytest.fixture(scope="module")
def undisturbed(attempts: list[Attempt], tmp_path_factory: pytest.TempPathFactory) -> Path:
    [path] = replay(run(UIDS[0], attempts, has_end=True), tmp_path_factory.mktemp("whole"), settings=SETTINGS)
    return path


def assert_is_the_whole_slice(path: Path, undisturbed: Path) -> None:
    summary = read_summary(path)
    assert summary.run_uid == UIDS[0]
    assert (summary.complete, summary.exit_status, summary.lines_done) == (True, "success", 6)
    for name, values in content(undisturbed).items():
        np.testing.assert_array_equal(content(path)[name], values, err_msg=name)
    one, other = read_processed(path), read_processed(undisturbed)
    scale = np.nanmax(np.abs(other.intensity))
    np.testing.assert_allclose(one.intensity, other.intensity, atol=1e-5 * scale)


@pytest.mark.parametrize("cuts", [[0], [1], [5], [6], [1, 2, 2, 4]])
@pytest.mark.parametrize("has_end", [False, True], ids=["killed", "aborted"])
def test_replay_merges_the_runs(attempts, undisturbed, tmp_path, cuts, has_end) -> None:
    documents = itertools.chain(*killed(attempts, cuts, has_end=has_end))
    [path] = replay(documents, tmp_path, settings=SETTINGS)
    assert_is_the_whole_slice(path, undisturbed)


def test_any_of_the_runs_names_the_slice(attempts, undisturbed, tmp_path) -> None:
    with JournalWriter(tmp_path / "journal") as writer:
        for name, doc in itertools.chain(run(UIDS[5], attempts[:2]), *killed(attempts, [2, 3])):
            writer(name, doc)
    for number, uid in enumerate(UIDS[:3]):
        [path] = replay(tmp_path / "journal", tmp_path / str(number), settings=SETTINGS, run_uid=uid[:6])
        assert_is_the_whole_slice(path, undisturbed)


def test_live_processing_that_starts_again_between_the_runs_goes_on(attempts, undisturbed, tmp_path) -> None:
    runs = killed(attempts, [2, 3])
    for n_runs in (1, 2, 3, 3):
        pipeline = Pipeline(tmp_path, SETTINGS, SnapshotStore())
        for name, doc in itertools.chain(*runs[:n_runs]):
            pipeline(name, doc)
        pipeline.close()
    [path] = pipeline.paths
    assert_is_the_whole_slice(path, undisturbed)


def test_another_slice_may_have_been_measured_meanwhile(attempts, undisturbed, tmp_path) -> None:
    first, second = killed(attempts, [3])
    other = run(UIDS[4], attempts, has_end=True)
    mended, whole = replay([*first, *other, *second], tmp_path, settings=SETTINGS)
    assert_is_the_whole_slice(mended, undisturbed)
    assert read_summary(whole).run_uid == UIDS[4]


def test_a_line_that_was_bad_or_damaged_is_replaced(attempts, undisturbed, tmp_path) -> None:
    frames = phantom_line(GEOMETRY, GEOMETRY.line_order[0])
    short = Attempt(
        rotation_index=GEOMETRY.line_order[0], raw_file=write_raw_line(tmp_path / "s.h5", frames[:3])
    )
    bad = Attempt(rotation_index=GEOMETRY.line_order[1], raw_file="", verdict="bad", reason="no beam")
    documents = [
        *run(UIDS[0], [short, bad, *attempts[2:]], has_end=True),
        *run(UIDS[1], attempts[:2], resumes=UIDS[0], has_end=True),
    ]
    [path] = replay(documents, tmp_path / "out", settings=SETTINGS)
    found, expected = content(path), content(undisturbed)
    np.testing.assert_array_equal(found["sinogram/intensity"] > 0, expected["sinogram/intensity"] > 0)
    assert read_summary(path).complete


def test_the_rest_alone_makes_a_partial_slice_of_the_first_run(attempts, tmp_path) -> None:
    _, rest = killed(attempts, [2])
    [path] = replay(rest, tmp_path, settings=SETTINGS)
    summary = read_summary(path)
    assert (summary.run_uid, summary.complete, summary.lines_done) == (UIDS[0], False, 4)


def test_a_run_of_another_geometry_is_a_slice_of_its_own(attempts, tmp_path, caplog) -> None:
    other = ScanGeometry.raster(n_translations=5, step_mm=0.03, n_rotations=6)
    documents = [
        *run(UIDS[0], attempts[:2]),
        *slice_documents(other, attempts[2:3], uid=UIDS[1], resumes=UIDS[0]),
    ]
    assert len(replay(documents, tmp_path, settings=SETTINGS)) == 2
    assert "another geometry" in caplog.text
