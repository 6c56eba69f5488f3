"""Scans within the time that the cell waits."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from fakes import FakeBeamline

from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.plans.conditions import Guard
from xrdct_beamline.plans.multiscale import Scales
from xrdct_beamline.startup.configuration import load_configuration
from xrdct_beamline.startup.pauses import PauseScans

ROI = ScanGeometry.raster(n_translations=20, step_mm=0.01, n_rotations=50)
COARSE = ScanGeometry.raster(n_translations=20, step_mm=0.02, n_rotations=50)


class Session:
    """What `PauseScans` needs of one; remembers what it was asked to take."""

    def __init__(self) -> None:
        self.configuration = load_configuration()
        self.beamline = FakeBeamline().beamline
        self.beamline.trigger.edge_s.put(time.time())
        self.taken: list[SimpleNamespace] = []

    def guard(self, geometry: ScanGeometry, *, in_pause: bool) -> Guard:
        return Guard()

    def slice(self, geometry: ScanGeometry, *, guard: Guard, **options: Any) -> Any:
        self.taken.append(SimpleNamespace(geometry=geometry, guard=guard, options=options))
        yield from bps.null()
        return "uid"


@pytest.fixture
def session() -> Session:
    return Session()


def test_scans_that_do_not_fit_are_refused_before_anything_starts(session: Session) -> None:
    with pytest.raises(ConfigurationError, match="s of the cell's pause are left"):
        PauseScans(session, Scales(roi=ROI), pause_s=20.0)
    with pytest.raises(ConfigurationError, match="and 0 s of the cell's pause are left"):
        PauseScans(session, Scales(coarse=COARSE, roi=ROI), pause_s=10.0, may_shrink=True)


def test_a_slice_shrinks_to_the_time_that_is_left(session: Session) -> None:
    pause = PauseScans(session, Scales(roi=ROI), pause_s=30.0, may_shrink=True)
    assert pause.seconds < 29.0
    session.beamline.trigger.edge_s.put(time.time() - 10.0)  # half of it went by already
    RunEngine({})(pause.take(ROI, role=Role.ROI))
    [taken] = session.taken
    assert 8 < len(taken.geometry.rotation_deg) < len(ROI.rotation_deg) / 2
    assert taken.geometry.order == "interlaced"
    assert taken.guard.fate() is None
    session.beamline.trigger.edge_s.put(time.time() - 40.0)


def test_lines_that_would_outlast_the_pause_are_left_out(session: Session) -> None:
    pause = PauseScans(session, Scales(roi=ROI), pause_s=200.0)
    RunEngine({})(pause.take(ROI, role=Role.ROI))
    [taken] = session.taken
    assert taken.geometry is ROI
    [look] = taken.guard.fates
    assert look() is None


def test_a_scan_for_which_no_time_is_left_is_left_out(
    session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    pause = PauseScans(session, Scales(roi=ROI), pause_s=200.0)
    session.beamline.trigger.edge_s.put(time.time() - 190.0)
    RunEngine({})(pause.take(ROI, role=Role.ROI))
    assert session.taken == []
    assert "the roi scan of this pause is left out" in caplog.text


def test_a_closed_loop_has_all_the_time(session: Session) -> None:
    pause = PauseScans(session, Scales(coarse=COARSE, roi=ROI), pause_s=None)
    RunEngine({})(pause.take(ROI, role=Role.ROI))
    assert session.taken[0].geometry is ROI
    assert session.taken[0].guard.fates == ()
