from __future__ import annotations

import numpy as np
from builders import Attempt, slice_documents

from xrdct_beamline.callbacks.cell_recorder import CellHistory
from xrdct_beamline.callbacks.scan_recorder import ScanRecorder
from xrdct_beamline.domain.scan import ScanGeometry

GEOMETRY = ScanGeometry.raster(n_translations=3, step_mm=0.01, n_rotations=4)


def attempts(indices, **changes):
    return [Attempt(rotation_index=index, raw_file=f"/raw/{index}.h5", **changes) for index in indices]


def recorded(documents, **options):
    records = []
    recorder = ScanRecorder(records.append, **options)
    for name, doc in documents:
        recorder(name, doc)
    return records


def test_accepted_lines_are_recorded_and_the_last_attempt_counts():
    documents = slice_documents(
        GEOMETRY,
        [
            *attempts([0, 1]),
            Attempt(rotation_index=2, raw_file="/raw/2a.h5", verdict="retake", reason="short"),
            Attempt(rotation_index=2, raw_file="/raw/2b.h5", attempt=1),
            Attempt(rotation_index=3, raw_file="", verdict="bad", reason="dead"),
        ],
    )
    (record,) = recorded(documents)
    assert {line.rotation_index: line.raw_file.name for line in record.lines} == {
        0: "0.h5", 1: "1.h5", 2: "2b.h5",
    }  # fmt: skip
    assert record.exit_status == "success"
    assert record.geometry == GEOMETRY
    np.testing.assert_allclose(record.lines[0].i0, 1000.0)


def test_a_resumed_scan_holds_the_lines_of_both_runs():
    first = list(slice_documents(GEOMETRY, attempts([0, 1]), uid="first", with_stop=False))
    second = list(slice_documents(GEOMETRY, attempts([2, 3]), uid="second"))
    second[0][1]["xrdct"]["resumes"] = "first"
    (record,) = recorded([*first, *second])
    assert sorted(line.rotation_index for line in record.lines) == [0, 1, 2, 3]
    assert record.start["uid"] == "second"


def test_the_cell_is_recorded_during_the_scan_alone():
    documents = list(slice_documents(GEOMETRY, attempts([0])))
    ended_s = documents[-1][1]["time"]
    history = CellHistory(
        time_s=ended_s + np.array([-100.0, -0.5, 100.0]),
        voltage=np.array([4.0, 4.1, 4.2]),
        current=np.zeros(3),
        pauses=(),
    )
    (record,) = recorded(documents, cell=lambda: history)
    assert record.cell["voltage"].tolist() == [4.1]


def test_a_run_without_any_line_gives_no_record():
    assert recorded(slice_documents(GEOMETRY, [])) == []
