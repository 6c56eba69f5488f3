"""What a journal knows of the runs that make one slice."""

from __future__ import annotations

import json

import numpy as np
import pytest
from builders import Attempt, phantom_line, slice_documents, write_raw_line

from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.domain.scan import ScanGeometry, missing_lines
from xrdct_beamline.storage.journal import JournalWriter
from xrdct_beamline.storage.raw import Hdf5Frames
from xrdct_beamline.storage.runs import checked_lines, find_run, journaled_runs, recorded_lines, slice_runs

GEOMETRY = ScanGeometry.raster(n_translations=5, step_mm=0.02, n_rotations=4)
FIRST, SECOND, OTHER = "a" * 32, "ab" * 16, "c" * 32


def attempt(folder, rotation, name, n_frames=5, **kwargs):
    frames = phantom_line(GEOMETRY, rotation)[:n_frames]
    return Attempt(rotation_index=rotation, raw_file=write_raw_line(folder / f"{name}.h5", frames), **kwargs)


@pytest.fixture
def journal(tmp_path):
    """A killed run with a line that later turns out to be short, and one that resumes it; another slice."""
    first = [attempt(tmp_path, 0, "0"), attempt(tmp_path, 1, "1", n_frames=3)]
    second = [
        attempt(tmp_path, 2, "2"),
        Attempt(rotation_index=3, raw_file="", verdict="bad", reason="no beam"),
    ]
    runs = [
        slice_documents(GEOMETRY, first, uid=FIRST, with_stop=False),
        slice_documents(GEOMETRY, second, uid=SECOND, resumes=FIRST, with_stop=False),
        slice_documents(GEOMETRY, [attempt(tmp_path, 3, "3")], uid=OTHER),
    ]
    path = tmp_path / "journal.jsonl"
    with JournalWriter(path) as writer:
        for run in runs:
            for name, doc in run:
                writer(name, doc)
    return path


def test_runs_with_and_without_an_end(journal):
    runs = journaled_runs(journal)
    assert [(run.uid, run.resumes, run.stop is None) for run in runs] == [
        (FIRST, "", True),
        (SECOND, FIRST, True),
        (OTHER, "", False),
    ]


def test_runs_that_make_one_slice(journal):
    runs = journaled_runs(journal)
    for run in runs[:2]:
        assert [member.uid for member in slice_runs(runs, run)] == [FIRST, SECOND]
    assert [member.uid for member in slice_runs(runs, runs[2])] == [OTHER]


def test_a_run_is_found_by_how_its_uid_begins(journal):
    runs = journaled_runs(journal)
    assert find_run(runs, "aaa").uid == FIRST
    assert find_run(runs, "last").uid == OTHER
    with pytest.raises(DataError, match="2 runs of the journal begin with 'a'"):
        find_run(runs, "a")
    with pytest.raises(DataError, match=r"no run 9; the newest slices are aaaaaaaa, abababab, cccccccc"):
        find_run(runs, "9")


def test_what_is_missing_follows_from_verdicts_and_raw_files(journal, tmp_path):
    lines = recorded_lines(journal, {FIRST, SECOND})
    assert {index: line.verdict for index, line in lines.items()} == {
        0: "accepted",
        1: "accepted",
        2: "accepted",
        3: "bad",
    }
    (tmp_path / "2.h5").write_bytes((tmp_path / "2.h5").read_bytes()[:500])
    checked = checked_lines(lines, Hdf5Frames())
    assert "holds 3 of 5 frames" in checked[1].problem
    assert "cannot be opened" in checked[2].problem
    assert missing_lines(GEOMETRY, {i: line.verdict for i, line in checked.items()}) == [1, 2, 3]


def test_an_attempt_without_monitors_does_not_count(tmp_path):
    lacking = attempt(tmp_path, 0, "0", i0=np.array([1.0, 2.0, np.nan, 4.0, 5.0]))
    with JournalWriter(tmp_path / "j") as writer:
        for name, doc in slice_documents(GEOMETRY, [lacking], uid=FIRST):
            writer(name, doc)
    [line] = checked_lines(recorded_lines(tmp_path / "j", {FIRST}), Hdf5Frames()).values()
    assert line.problem == "line_i0 has values that were not captured"


def test_a_later_run_wins(journal, tmp_path):
    with JournalWriter(journal) as writer:
        again = slice_documents(GEOMETRY, [attempt(tmp_path, 1, "again")], uid="d" * 32, resumes=FIRST)
        for name, doc in again:
            writer(name, doc)
    runs = journaled_runs(journal)
    lines = recorded_lines(journal, {run.uid for run in slice_runs(runs, runs[0])})
    assert lines[1].raw_file.endswith("again.h5")


def test_torn_lines_are_passed_over(journal):
    with journal.open("ab") as file:
        file.write(b'["start",{"uid":"torn\n' + json.dumps(["start", {"uid": "e"}])[:-1].encode())
    assert len(journaled_runs(journal)) == 3


def test_a_missing_journal_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no journal"):
        journaled_runs(tmp_path / "nowhere")
