"""The callbacks on a RunEngine itself, behind the worker."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from bluesky import preprocessors as bpp
from builders import phantom_line, tiny_calibration

from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.callbacks.slice_processor import SliceProcessor
from xrdct_beamline.callbacks.slice_state import LineResult, SliceSink, SliceState
from xrdct_beamline.callbacks.worker import BoundedWorker
from xrdct_beamline.devices.line_record import LineRecord, LineValues
from xrdct_beamline.domain.documents import LINES, SCHEMA_VERSION, Role, Verdict
from xrdct_beamline.domain.scan import ScanGeometry

GEOMETRY = ScanGeometry.raster(n_translations=5, step_mm=0.03, n_rotations=4)
SETTINGS = ProcessingSettings(bins=20, estimator="mean", threads=1)


class PhantomFrames:
    """Makes the frames of a line when its file is asked for."""

    def frames(self, raw_file: str) -> Iterator[np.ndarray | None]:
        yield from phantom_line(GEOMETRY, int(raw_file))


class KeepsLast(SliceSink):
    def __init__(self) -> None:
        self.state: SliceState | None = None

    def closed(self, state: SliceState) -> None:
        self.state = state


class Fails(SliceSink):
    def line_done(self, state: SliceState, line: LineResult) -> None:
        raise RuntimeError("the disk is gone")


def plan(record: LineRecord):
    xrdct = {
        "schema": SCHEMA_VERSION,
        "role": str(Role.BROAD),
        "geometry": GEOMETRY.to_metadata(),
        "calibration": tiny_calibration(),
    }

    @bpp.run_decorator(md={"xrdct": xrdct})
    def lines():
        for rotation in GEOMETRY.line_order:
            values = LineValues(
                rotation_index=rotation,
                rotation_deg=GEOMETRY.rotation_deg[rotation],
                attempt=0,
                planned=5,
                acquired=5,
                captured=5,
                dropped=0,
                verdict=Verdict.ACCEPTED,
                reason="",
                raw_file=str(rotation),
                first_frame=0,
                position_mm=np.full(5, np.nan),
                i0=np.full(5, 1000.0),
                i1=np.full(5, 500.0),
                started_s=0.0,
                ended_s=1.0,
                move_s=0.0,
            )
            yield from bps.abs_set(record, values, wait=True)
            yield from bps.trigger_and_read([record], name=LINES)

    return lines()


@pytest.fixture
def record() -> LineRecord:
    record = LineRecord(name="line")
    record.set(LineValues.empty(5))
    return record


def test_a_run_engine_feeds_the_slice_through_the_worker(record: LineRecord) -> None:
    run_engine = RunEngine(context_managers=[])
    sink = KeepsLast()
    worker = BoundedWorker(SliceProcessor(PhantomFrames(), sink, SETTINGS))
    run_engine.subscribe(worker)
    run_engine(plan(record))
    assert worker.close(20)
    assert (worker.dropped, worker.failures) == (0, 0)
    assert sink.state is not None
    assert sink.state.is_complete
    assert sink.state.fbp is not None
    image = np.nansum(sink.state.fbp.slice(), axis=-1)
    assert np.unravel_index(image.argmax(), (5, 5)) == (1, 3)  # the heaviest blob: x = +0.04, y = +0.02 mm


def test_a_sink_that_fails_does_not_fail_the_scan(
    record: LineRecord, caplog: pytest.LogCaptureFixture
) -> None:
    run_engine = RunEngine(context_managers=[])
    stops: list[dict] = []
    worker = BoundedWorker(SliceProcessor(PhantomFrames(), Fails(), SETTINGS))
    run_engine.subscribe(worker)
    run_engine.subscribe(lambda name, doc: stops.append(doc), "stop")
    run_engine(plan(record))
    assert worker.close(20)
    assert [doc["exit_status"] for doc in stops] == ["success"]
    assert worker.failures == 4
    assert "the disk is gone" in caplog.text
