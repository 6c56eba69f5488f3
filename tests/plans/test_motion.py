from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrdct_beamline.domain.errors import ConfigurationError, GeometryError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.plans.motion import (
    STEADY_S,
    check_period,
    check_uniform,
    line_path,
    slice_duration_s,
    still_path,
)

GRID = np.array([0.0, 0.01, 0.02, 0.03])


def path_of(grid_mm: np.ndarray):
    return line_path(grid_mm, exposure_s=0.010, period_s=0.020, ramp_s=0.1)


def test_path_by_hand() -> None:
    path = path_of(GRID)
    assert path.velocity_mm_s == pytest.approx(0.5)  # 10 µm in 20 ms
    # half an exposure: 5 ms at 0.5 mm/s
    assert path.compare_start_mm == pytest.approx(-0.0025)
    # a ramp of 0.1 s takes 25 µm, and 20 ms at constant velocity 10 µm
    assert path.start_mm == pytest.approx(-0.0025 - 0.035)
    assert path.end_mm == pytest.approx(0.03 + 0.0025 + 0.035)


def test_backward_line_is_the_mirror_image() -> None:
    forward, backward = path_of(GRID), path_of(GRID[::-1])
    assert backward.step_mm == -forward.step_mm
    assert backward.velocity_mm_s == forward.velocity_mm_s
    # a zigzag line starts where the one before has ended
    assert backward.start_mm == pytest.approx(forward.end_mm)
    assert backward.end_mm == pytest.approx(forward.start_mm)


@given(
    st.integers(2, 400),
    st.floats(1e-4, 1.0),
    st.floats(0.001, 1.0),
    st.floats(0.0, 1.0),
    st.booleans(),
)
def test_exposures_are_centred_on_the_grid_at_full_speed(
    n: int, step_mm: float, exposure_s: float, ramp_s: float, backwards: bool
) -> None:
    grid_mm = np.arange(n) * step_mm
    grid_mm = grid_mm[::-1] if backwards else grid_mm
    period_s = (exposure_s + 0.00095) * 1.02
    path = line_path(grid_mm, exposure_s=exposure_s, period_s=period_s, ramp_s=ramp_s)
    direction = np.sign(path.step_mm)
    pulses_mm = path.compare_start_mm + path.step_mm * np.arange(n)
    middles_mm = pulses_mm + direction * path.velocity_mm_s * exposure_s / 2
    np.testing.assert_allclose(middles_mm, grid_mm, atol=1e-9 * n)
    ramp_mm = path.velocity_mm_s * ramp_s / 2
    steady_mm = direction * (path.compare_start_mm - path.start_mm) - ramp_mm
    assert steady_mm == pytest.approx(path.velocity_mm_s * STEADY_S)


def test_path_at_rest() -> None:
    path = still_path(GRID[::-1])
    assert (path.start_mm, path.end_mm, path.velocity_mm_s) == (0.03, 0.0, 0.0)


def test_default_period_is_long_enough() -> None:
    check_period(0.010, 0.0112)


def test_short_period_is_refused_with_all_values() -> None:
    with pytest.raises(ConfigurationError) as refusal:
        check_period(0.010, 0.0111)
    for part in ("11.1 ms", "10 ms", "0.95 ms", "11.169 ms", "9.932 ms"):
        assert part in str(refusal.value)


@pytest.mark.parametrize("exposure_s", [0.0, -1.0, float("nan")])
def test_exposure_is_positive(exposure_s: float) -> None:
    with pytest.raises(ConfigurationError, match="must be positive"):
        check_period(exposure_s, 1.0)


def test_irregular_line_cannot_be_flown() -> None:
    geometry = ScanGeometry(
        translation_mm=(0.0, 0.01, 0.03), rotation_deg=(0.0,), line_order=(0,), zigzag=True
    )
    with pytest.raises(GeometryError, match=r"0.01 to 0.02 mm apart"):
        check_uniform(geometry)


def test_single_frame_cannot_be_flown() -> None:
    with pytest.raises(GeometryError, match="one translation"):
        check_uniform(ScanGeometry.raster(n_translations=1, n_rotations=2))


def test_duration_of_the_papers_slice() -> None:
    # 23 minutes before turn-round (FACTS §6), and 350 times half a second of it
    minutes = slice_duration_s(ScanGeometry.raster()) / 60
    assert 23 < minutes < 27


def test_steps_take_longer() -> None:
    geometry = ScanGeometry.raster(n_translations=10, n_rotations=2)
    assert slice_duration_s(geometry, mode="step") > slice_duration_s(geometry)
