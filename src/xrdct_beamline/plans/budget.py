"""What fits into a pause of the cell. Pure, apart from reading the stages' velocities."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from xrdct_beamline.devices.beamline import Beamline
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.scan import ScanGeometry

from .motion import OVERHEAD_S, READOUT_S, STEADY_S, STEP_S

__all__ = ["LineTime", "fitted", "line_time"]

#: Fewer angles than this give no slice.
FEWEST_LINES = 4
#: Of the time of a slice, kept for lines that are taken again.
RETAKES = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class LineTime:
    """Where the time of a line goes, in seconds; the stages turn while the translation runs down.

    Parameters
    ----------
    frames_s:
        Frames × period.
    ramps_s:
        Before the first frame and after the last.
    turn_s:
        From one angle to the next, on average over the order of the lines.
    overhead_s:
        Arming, shutter, verification, documents.
    """

    frames_s: float
    ramps_s: float
    turn_s: float
    overhead_s: float = OVERHEAD_S

    @property
    def total_s(self) -> float:
        """Of one line."""
        return self.frames_s + self.ramps_s + self.turn_s + self.overhead_s

    def slice_s(self, n_lines: int) -> float:
        """Of so many lines, a few of them taken again."""
        return n_lines * self.total_s * (1 + RETAKES)


def line_time(
    beamline: Beamline, geometry: ScanGeometry, *, exposure_s: float, period_s: float, mode: str = "fly"
) -> LineTime:
    """Return the time of a line from the period and the stages' own velocities and ramps."""
    translation, rotation = beamline.translation, beamline.rotation
    n = geometry.shape[1]
    angles = [geometry.rotation_deg[r] for r in geometry.line_order]
    turns_deg = [abs(b - a) for a, b in itertools.pairwise(angles)] or [0.0]
    return LineTime(
        frames_s=n * (period_s if mode == "fly" else exposure_s + READOUT_S + STEP_S),
        ramps_s=2 * (translation.acceleration.get() + STEADY_S),
        turn_s=sum(turns_deg) / len(turns_deg) / rotation.velocity.get() + 2 * rotation.acceleration.get(),
    )


def fitted(geometry: ScanGeometry, line: LineTime, available_s: float, *, may_shrink: bool) -> ScanGeometry:
    """Return a geometry whose lines fit into a time: the same, or one with fewer angles.

    The fewer angles span the same turn and come interlaced, a coarse subset first, so that even a pause
    that ends early gives a slice of the full field.

    Raises
    ------
    ConfigurationError
        If the slice does not fit and may not shrink, or not even a few lines fit.
    """
    n_lines = len(geometry.rotation_deg)
    if line.slice_s(n_lines) <= available_s:
        return geometry
    needed = (
        f"{n_lines} lines of {line.total_s:.2f} s take about {line.slice_s(n_lines):.0f} s, and "
        f"{max(available_s, 0.0):.0f} s of the cell's pause are left for them"
    )
    if not may_shrink:
        raise ConfigurationError(
            f"{needed}; take fewer lines or frames, let the scan shrink, or let the cycler wait longer"
        )
    n_fitting = int(available_s / line.slice_s(1)) if available_s > 0 else 0
    if n_fitting < FEWEST_LINES:
        raise ConfigurationError(
            f"{needed}, enough for {n_fitting} lines; a slice needs "
            f"{FEWEST_LINES}: take fewer frames, or let the cycler wait longer"
        )
    first, last = geometry.rotation_deg[0], geometry.rotation_deg[-1]
    span_deg = (last - first) * n_lines / (n_lines - 1)
    fewer = ScanGeometry.raster(
        n_translations=2, step_mm=1.0, n_rotations=n_fitting, span_deg=span_deg, order="interlaced"
    )
    return ScanGeometry(
        translation_mm=geometry.translation_mm,
        rotation_deg=tuple(first + angle for angle in fewer.rotation_deg),
        line_order=fewer.line_order,
        zigzag=geometry.zigzag,
        order="interlaced",
    )
