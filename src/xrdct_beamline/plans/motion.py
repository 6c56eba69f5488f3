"""Where the stages go during a line. Pure; positions are in the stage's own coordinate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ConfigurationError, GeometryError
from xrdct_beamline.domain.scan import ScanGeometry

__all__ = [
    "READOUT_S",
    "LinePath",
    "check_period",
    "check_uniform",
    "line_path",
    "slice_duration_s",
    "still_path",
]

#: Pilatus3 X CdTe, and the margin that the period must have above exposure and readout.
READOUT_S, PERIOD_MARGIN = 0.95e-3, 1.02
#: At constant velocity before the first exposure and after the last.
STEADY_S = 0.02
#: Arming, shutter, verification and documents, per line, for estimates.
OVERHEAD_S = 0.1
STEP_S = 0.1  # one step and its settling, for estimates
UNIFORMITY = 1e-4  # of a step


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePath:
    """One line of the translation.

    Parameters
    ----------
    grid_mm:
        Mid-exposure positions in the order of acquisition.
    start_mm, end_mm:
        Ends of the move: grid, exposure and ramps lie between.
    compare_start_mm, step_mm:
        First pulse, half an exposure ahead of the grid, and the signed distance of pulses.
    velocity_mm_s:
        Of the move.
    """

    grid_mm: npt.NDArray[np.float64]
    start_mm: float
    end_mm: float
    compare_start_mm: float
    step_mm: float
    velocity_mm_s: float


def line_path(
    grid_mm: npt.NDArray[np.float64], *, exposure_s: float, period_s: float, ramp_s: float
) -> LinePath:
    """Return the path of a line whose exposures are centred on a grid.

    A pulse starts an exposure, during which the stage goes on: pulses come half an exposure's way
    ahead of the grid, or lines of opposite direction would be shifted against each other.
    """
    step_mm = float(grid_mm[-1] - grid_mm[0]) / (len(grid_mm) - 1)
    velocity_mm_s = abs(step_mm) / period_s
    half_exposure_mm = step_mm / period_s * exposure_s / 2
    run_up_mm = np.copysign(velocity_mm_s * (ramp_s / 2 + STEADY_S), step_mm)
    return LinePath(
        grid_mm=grid_mm,
        start_mm=float(grid_mm[0] - half_exposure_mm - run_up_mm),
        end_mm=float(grid_mm[-1] + half_exposure_mm + run_up_mm),
        compare_start_mm=float(grid_mm[0] - half_exposure_mm),
        step_mm=step_mm,
        velocity_mm_s=velocity_mm_s,
    )


def still_path(grid_mm: npt.NDArray[np.float64]) -> LinePath:
    """Return the path of a line whose frames are taken at rest."""
    return LinePath(
        grid_mm=grid_mm,
        start_mm=float(grid_mm[0]),
        end_mm=float(grid_mm[-1]),
        compare_start_mm=float(grid_mm[0]),
        step_mm=0.0,
        velocity_mm_s=0.0,
    )


def check_period(exposure_s: float, period_s: float) -> None:
    """Refuse a period in which the detector would lose pulses."""
    if not exposure_s > 0:
        raise ConfigurationError(f"the exposure is {exposure_s:g} s; it must be positive")
    shortest_s = (exposure_s + READOUT_S) * PERIOD_MARGIN
    if period_s < shortest_s:
        raise ConfigurationError(
            f"a period of {1e3 * period_s:g} ms is too short for an exposure of {1e3 * exposure_s:g} ms: "
            f"with {1e3 * READOUT_S:g} ms readout and 2 % margin it takes {1e3 * shortest_s:.3f} ms; "
            f"use a longer period, or at most {1e3 * (period_s / PERIOD_MARGIN - READOUT_S):.3f} ms exposure"
        )


def check_uniform(geometry: ScanGeometry) -> None:
    """Refuse a line that one velocity and one distance of pulses cannot take."""
    if len(geometry.translation_mm) < 2:
        raise GeometryError("a line of one translation cannot be flown; use mode='step'")
    steps_mm = np.diff(geometry.translation_mm)
    if np.ptp(steps_mm) > UNIFORMITY * geometry.step_mm:
        raise GeometryError(
            f"the translations are {steps_mm.min():g} to {steps_mm.max():g} mm apart; "
            "flying needs one step, use mode='step' or ScanGeometry.raster"
        )


def slice_duration_s(
    geometry: ScanGeometry,
    *,
    exposure_s: float = 0.010,
    period_s: float = 0.0112,
    mode: str = "fly",
    ramp_s: float = 0.1,
    turn_s: float = 0.2,
) -> float:
    """Estimate how long a slice takes, for an open loop in which the cell does not wait.

    Parameters
    ----------
    ramp_s:
        Acceleration time of the translation.
    turn_s:
        From one angle to the next.
    """
    n_lines, n_frames = geometry.shape
    frame_s = period_s if mode == "fly" else exposure_s + READOUT_S + STEP_S
    return n_lines * (n_frames * frame_s + 2 * (ramp_s + STEADY_S) + turn_s + OVERHEAD_S)
