"""Scans of several widths in each state, registered first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from bluesky import RunEngine
from bluesky import plan_stubs as bps
from fakes import FakeBeamline

from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.registration import SampleOffset
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.plans.multiscale import Scales, multiscale, point, registered, volume
from xrdct_beamline.plans.slice_scan import slice_scan

BROAD, COARSE, ROI = (
    ScanGeometry.raster(n_translations=5, step_mm=step_mm, n_rotations=2) for step_mm in (0.05, 0.02, 0.01)
)
SCALES = Scales(broad=BROAD, coarse=COARSE, roi=ROI, point=point(0.1, 45.0))


@pytest.fixture
def engine() -> Iterator[RunEngine]:
    engine = RunEngine({}, call_returns_result=True)
    yield engine
    if engine.state != "idle":
        engine.halt()


class Taken:
    def __init__(self) -> None:
        self.scans: list[tuple[ScanGeometry, dict[str, Any]]] = []

    def __call__(self, geometry: ScanGeometry, **options: Any) -> Any:
        yield from bps.null()
        self.scans.append((geometry, options))
        return f"uid {len(self.scans)}"

    @property
    def roles(self) -> list[str]:
        return [str(options["role"]) for _, options in self.scans]


def test_broad_once_and_the_point_at_the_beginning_of_each_pause(engine: RunEngine) -> None:
    taken = Taken()
    state = multiscale(taken, SCALES)
    uids = engine(state(0, "series")).plan_result
    assert uids == {"point": "uid 1", "broad": "uid 2", "coarse": "uid 3", "roi": "uid 4"}
    engine(state(1, "series"))
    assert taken.roles == ["point", "broad", "coarse", "roi", "point", "coarse", "roi"]
    assert [geometry.step_mm for geometry, _ in taken.scans[1:4]] == pytest.approx([0.05, 0.02, 0.01])
    assert {options["series_uid"] for _, options in taken.scans} == {"series"}
    assert [options["state_index"] for _, options in taken.scans] == [0] * 4 + [1] * 3
    assert taken.scans[0][1]["mode"] == "step"


def test_the_sample_is_followed_within_a_limit(engine: RunEngine, caplog: pytest.LogCaptureFixture) -> None:
    taken = Taken()
    positions_mm = [0.0, 0.03, 0.9, 0.05]
    measured_at: list[float] = []

    def measure(offset: SampleOffset) -> Any:
        measured_at.append(offset.x_mm)
        yield from bps.null()
        return "fiducial"

    register = registered(measure, lambda i, uid: SampleOffset(x_mm=positions_mm[i]), limit_mm=0.1)
    state = multiscale(taken, Scales(roi=ROI), register=register)
    for index in range(4):
        engine(state(index, "series"))
    assert [options["offset"].x_mm for _, options in taken.scans] == [0.0, 0.03, 0.03, 0.05]
    assert measured_at == [0.0, 0.0, 0.03, 0.03]
    assert "state 2: the sample seems to have moved by 0.87 mm" in caplog.text


def test_a_point_is_measured_on_the_devices(engine: RunEngine) -> None:
    hardware = FakeBeamline()
    lines: list[dict[str, Any]] = []
    engine.subscribe(lambda name, d: lines.append(d["data"]) if "line_i0" in d["data"] else None, "event")

    def take(geometry: ScanGeometry, **options: Any) -> Any:
        return (
            yield from slice_scan(
                hardware.beamline, geometry, directory="/raw", monitor_cell=False, **options
            )
        )

    engine(multiscale(take, Scales(roi=ROI, point=point(0.1, 45.0)))(0, "series"))
    assert [line["line_verdict"] for line in lines] == ["accepted"] * 3
    assert list(lines[0]["line_position_mm"]) == pytest.approx([0.1])
    assert lines[0]["line_rotation_deg"] == 45.0


def test_a_volume_is_a_slice_at_each_height_and_the_stage_returns(engine: RunEngine) -> None:
    taken, vertical = Taken(), FakeBeamline().beamline.vertical
    heights_mm: list[float] = []

    def take(geometry: ScanGeometry, **options: Any) -> Any:
        heights_mm.append(vertical.position)
        return (yield from taken(geometry, **options))

    engine(volume(take, vertical, BROAD, [0.1, 0.2, 0.3]))
    assert heights_mm == pytest.approx([0.1, 0.2, 0.3])
    assert vertical.position == pytest.approx(0.0)
    assert taken.roles == ["volume"] * 3
    assert [options["md"]["volume"]["z_mm"] for _, options in taken.scans] == [0.1, 0.2, 0.3]


def test_scans_that_are_not_nested_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="does not lie within"):
        Scales(coarse=ROI, roi=COARSE)
    with pytest.raises(ConfigurationError, match="the point has 10 frames"):
        Scales(roi=ROI, point=ROI)
    assert [role for role, _ in Scales(roi=ROI).of_state(0)] == [Role.ROI]
