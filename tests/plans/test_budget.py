"""What fits into a pause: refused, shrunk, or left as it is."""

from __future__ import annotations

import pytest
from fakes import FakeBeamline
from hypothesis import given
from hypothesis import strategies as st

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.plans.budget import LineTime, fitted, line_time

GEOMETRY = ScanGeometry.raster(n_translations=50, step_mm=0.01, n_rotations=60, start_deg=10.0)
LINE = LineTime(frames_s=0.5, ramps_s=0.2, turn_s=0.1, overhead_s=0.2)


def test_the_time_of_a_line_follows_from_period_ramps_and_rotation() -> None:
    beamline = FakeBeamline().beamline  # ramps of 0.1 s, 5 deg/s
    line = line_time(beamline, GEOMETRY, exposure_s=0.01, period_s=0.0112)
    assert line.frames_s == pytest.approx(50 * 0.0112)
    assert line.ramps_s == pytest.approx(2 * (0.1 + 0.02))
    assert line.turn_s == pytest.approx(3.0 / 5.0 + 0.2)
    assert line.total_s == pytest.approx(line.frames_s + line.ramps_s + line.turn_s + line.overhead_s)


def test_an_order_that_jumps_takes_longer_to_turn() -> None:
    beamline = FakeBeamline().beamline
    jumping = ScanGeometry.raster(n_translations=50, step_mm=0.01, n_rotations=60, order="golden")
    times = [line_time(beamline, g, exposure_s=0.01, period_s=0.0112).turn_s for g in (GEOMETRY, jumping)]
    assert times[1] > 5 * times[0]


def test_what_fits_stays() -> None:
    assert fitted(GEOMETRY, LINE, 62.0, may_shrink=False) is GEOMETRY


def test_what_does_not_fit_is_refused_or_shrunk() -> None:
    with pytest.raises(ConfigurationError, match=r"about 61 s, and 30 s of the cell's pause are left"):
        fitted(GEOMETRY, LINE, 30.0, may_shrink=False)
    fewer = fitted(GEOMETRY, LINE, 30.0, may_shrink=True)
    assert (len(fewer.rotation_deg), fewer.order) == (29, "interlaced")
    assert fewer.translation_mm == GEOMETRY.translation_mm
    with pytest.raises(ConfigurationError, match="enough for 2 lines; a slice needs 4"):
        fitted(GEOMETRY, LINE, 3.0, may_shrink=True)


@given(st.floats(4.5, 60.0))
def test_a_shrunk_slice_fits_and_a_part_of_it_is_a_slice_of_the_full_field(available_s: float) -> None:
    fewer = fitted(GEOMETRY, LINE, available_s, may_shrink=True)
    n_lines = len(fewer.rotation_deg)
    assert LINE.slice_s(n_lines) <= available_s < LINE.slice_s(n_lines + 1)
    step_deg = 180.0 / n_lines
    assert fewer.rotation_deg[0] == 10.0
    assert fewer.rotation_deg[-1] == pytest.approx(190.0 - step_deg)
    quarter = sorted(fewer.rotation_deg[r] for r in fewer.line_order[: -(-n_lines // 4)])
    gaps = [b - a for a, b in zip(quarter, [*quarter[1:], quarter[0] + 180.0], strict=True)]
    assert max(gaps) <= 4 * step_deg + 1e-9
