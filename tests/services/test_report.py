from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import made_maps, series_documents, tiny_calibration

from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.services.report import gather_report, write_report
from xrdct_beamline.storage.journal import JournalWriter
from xrdct_beamline.storage.nexus import ProcessedFile, ProcessedHeader

GEOMETRY = ScanGeometry.raster(n_translations=9, step_mm=0.01, n_rotations=2)
RADIAL = np.linspace(1, 10, 7)


def slice_file(folder: Path, state: int, a_A: float) -> None:
    header = ProcessedHeader(
        run_uid=f"run-{state}", geometry=GEOMETRY, calibration=tiny_calibration(), axis_px=4.0,
        settings={"unit": "2th_deg"}, phases=("LiMn2O4",), n_background=4, title="cell 1",
        series_uid="series", state_index=state, role="broad", started_s=1.7e9 + state,
    )  # fmt: skip
    file = ProcessedFile.create(folder / f"run_state{state:02d}.nxs", header, RADIAL)
    line = np.full((9, 7), 2.0, np.float32)
    for index in range(2):
        file.write_line(
            index, intensity=line, sigma=line / 10, measured=np.ones(9, bool), raw_file="x", attempt=0
        )
    file.write_slice(lambda bins: (np.ones((9, 9, len(RADIAL[bins]))),) * 2, 180.0)
    file.write_maps(made_maps(("LiMn2O4",), (9, 9), a_A=a_A))
    file.finish(exit_status="success", lines_retaken=1)
    file.close()


@pytest.fixture
def session(tmp_path) -> Path:
    """What a session leaves behind: a journal with the cell, and two processed slices."""
    processed = tmp_path / "processed"
    processed.mkdir()
    slice_file(processed, 0, 8.10)
    slice_file(processed, 1, 8.20)
    with JournalWriter(tmp_path / "journal.jsonl") as journal:
        for name, doc in series_documents([(1.0, 4.1, -0.1, "discharge"), (2.0, 4.0, 0.0, "pause")]):
            journal(name, doc)
    return tmp_path


def test_the_states_of_a_series_are_gathered_in_order_with_the_cell(session):
    values = gather_report(session)
    assert values.title == "cell 1"
    assert len(values.states) == 2
    assert values.cell is not None
    assert values.cell.voltage_V.tolist() == [4.1, 4.0]


@pytest.mark.slow
def test_a_report_appears_whole_and_replaces_nothing_unasked(session):
    folder = write_report(session)
    page = (folder / "index.html").read_text()
    assert "cell 1" in page
    assert "81 of 81 refined voxels converged" in page
    assert "median esd 0.30 mÅ" in page
    assert "100.0 ± 0.0 % in the window 8.076 to 8.145 Å" in page  # the slice at 8.10 Å
    for figure in ("lattice", "trend"):
        assert (folder / f"{figure}.png").stat().st_size > 1000
        assert (folder / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ConfigurationError, match="there already"):
        write_report(session)
    write_report(session, force=True)


def test_a_folder_without_slices_is_told(tmp_path):
    with pytest.raises(DataError, match="no slice has ended"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []
