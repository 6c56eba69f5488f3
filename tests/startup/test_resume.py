"""What a slice lacks, from journal and raw files; the stages follow an axis that was homed anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from builders import tiny_calibration, write_raw_line
from fakes import FakeBeamline

from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.registration import SampleOffset
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.plans.conditions import Guard
from xrdct_beamline.plans.slice_scan import slice_scan
from xrdct_beamline.startup.configuration import load_configuration
from xrdct_beamline.startup.registration import Fiducial
from xrdct_beamline.startup.resume import find_unfinished, resume, run_cut_short
from xrdct_beamline.storage.journal import JournalWriter

N = 41
GEOMETRY = ScanGeometry.raster(n_translations=N, step_mm=0.02, n_rotations=6)


class Session:
    """A session on devices that obey at once, with a journal and raw files on the disk.

    Attributes
    ----------
    shift_mm:
        How far the sample is from where the stage's coordinate has it, at (rotation_deg).
    """

    def __init__(self, folder: Path) -> None:
        self.configuration = load_configuration().with_data(folder)
        self.configuration.paths.raw.mkdir(parents=True)
        self.hardware = FakeBeamline()
        self.beamline = self.hardware.beamline
        self.hardware.spoil = self._expose
        self.shift_mm = lambda rotation_deg: 0.0
        self.n_pixels = 12
        self.said: list[str] = []
        self.middles_mm: list[float] = []
        self.journal = JournalWriter(self.configuration.paths.journal)
        self.RE = RunEngine({}, call_returns_result=True)
        self.RE.subscribe(self.journal)
        self.starts: list[dict[str, Any]] = []
        self.RE.subscribe(lambda name, doc: self.starts.append(doc), "start")

    def guard(self, geometry: ScanGeometry, *, exposure_s: float) -> Guard:
        return Guard()

    def slice(self, geometry: ScanGeometry = GEOMETRY, **options: Any) -> Any:
        given = {"directory": self.configuration.paths.raw, "calibration": tiny_calibration(), **options}
        return slice_scan(self.beamline, geometry, monitor_cell=False, **given)

    def resume(self, uid: str = "last", **options: Any) -> Any:
        return self.RE(resume(self, uid, say=self.said.append, monitor_cell=False, **options)).plan_result

    def _expose(self, positions_mm: np.ndarray) -> int:
        self.middles_mm.append(float(positions_mm.mean()))
        sample_mm = positions_mm - self.shift_mm(self.beamline.rotation.position)
        inside = np.clip((0.15 - np.abs(sample_mm)) / 0.03, 0, 1)
        self.beamline.compare.i1.sim_put(5e5 * np.exp(-0.4 * inside))
        path = Path(self.beamline.detector.file.full_file_name.get())
        write_raw_line(path, np.ones((len(positions_mm), 4, 3), dtype=np.int32))
        return len(positions_mm)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    session = Session(tmp_path / "data")
    yield session
    session.journal.close()


def test_what_is_there_and_what_is_missing(session: Session) -> None:
    session.RE(session.slice(lines=[0, 1, 3]))
    found = find_unfinished(session.configuration, "last")
    assert found.missing == (2, 4, 5)
    assert str(found) == f"slice {session.starts[0]['uid'][:8]}: 3 of 6 lines are there"


def test_a_raw_file_that_is_lost_or_short_is_measured_again(session: Session) -> None:
    session.RE(session.slice())
    lost, short, *_ = sorted(session.configuration.paths.raw.glob("*.h5"))
    lost.unlink()
    write_raw_line(short, np.ones((N - 1, 4, 3), dtype=np.int32))
    found = find_unfinished(session.configuration, "last")
    assert found.missing == (0, 1)
    assert f"line 1 is taken again: {short} holds 40 of 41 frames" in str(found)
    session.resume()
    assert find_unfinished(session.configuration, "last").missing == ()


def test_a_chain_of_runs_is_one_slice_by_any_of_their_names(session: Session) -> None:
    session.RE(session.slice(lines=[0]))
    session.RE(resume_part(session, [1, 2]))
    uid = session.resume(session.starts[1]["uid"][:10])
    assert uid == session.starts[2]["uid"]
    assert {start["xrdct"].get("resumes") for start in session.starts[1:]} == {session.starts[0]["uid"]}
    for start in session.starts:
        assert find_unfinished(session.configuration, start["uid"]).missing == ()
    assert session.resume() == session.starts[0]["uid"]
    assert len(session.starts) == 3
    assert session.said[-1].endswith("6 of 6 lines are there, from 3 runs")


def resume_part(session: Session, lines: list[int]) -> Any:
    return session.slice(lines=lines, resumes=session.starts[0]["uid"])


def test_a_run_without_an_end_is_told_of(session: Session) -> None:
    assert run_cut_short(session.configuration) is None
    session.RE(session.slice(lines=[0]))
    assert run_cut_short(session.configuration) is None
    text = session.configuration.paths.journal.read_text().splitlines(keepends=True)
    session.configuration.paths.journal.write_text("".join(line for line in text if '["stop"' not in line))
    cut = run_cut_short(session.configuration)
    assert cut is not None
    assert cut.uid == session.starts[0]["uid"]


def test_stages_that_were_homed_anew_follow_the_axis(session: Session) -> None:
    session.RE(session.slice(lines=[0, 1, 2]))
    session.shift_mm = lambda rotation_deg: 0.093
    session.middles_mm.clear()
    session.resume(find_axis=True)
    repeated, rest = session.starts[1:]
    assert repeated["xrdct"]["role"] == Role.POINT
    assert rest["xrdct"]["offset"]["axis_mm"] == pytest.approx(0.093, abs=2e-4)
    assert session.middles_mm[0] == pytest.approx(0.0, abs=1e-9)
    assert session.middles_mm[1:] == pytest.approx([0.093] * 3, abs=2e-4)
    assert any("the axis is +93" in text for text in session.said)
    assert find_unfinished(session.configuration, "last").missing == ()


def test_an_axis_that_is_too_far_away_is_not_followed(session: Session) -> None:
    session.RE(session.slice(lines=[0, 1, 2]))
    session.shift_mm = lambda rotation_deg: 0.1
    with pytest.raises(ConfigurationError, match=r"from where it was, 0\.05 mm are followed"):
        session.resume(find_axis=True, limit_mm=0.05)
    assert len(session.starts) == 2


def test_what_cannot_be_resumed_is_named(session: Session) -> None:
    with pytest.raises(DataError, match="the journal holds no slice"):
        session.resume()
    session.RE(session.slice(lines=[0]))
    with pytest.raises(DataError, match="has no run zzz"):
        session.resume("zzz")


def test_a_sample_that_moved_is_found_again(session: Session) -> None:
    x_mm, y_mm = 0.051, -0.034
    fiducial = Fiducial(session, GEOMETRY)

    def find(index: int, offset: SampleOffset) -> SampleOffset:
        uid = session.RE(fiducial.measure(offset)).plan_result
        return fiducial.evaluate(index, uid)

    assert find(0, SampleOffset()) == SampleOffset()
    session.shift_mm = SampleOffset(x_mm=x_mm, y_mm=y_mm).translation_mm
    found = find(1, SampleOffset())
    assert (found.x_mm, found.y_mm) == pytest.approx((x_mm, y_mm), abs=3e-4)
    again = find(2, found)
    assert (again.x_mm, again.y_mm) == pytest.approx((x_mm, y_mm), abs=3e-4)
