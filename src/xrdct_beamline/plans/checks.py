"""What is refused before anything moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xrdct_beamline.devices.beamline import Beamline
from xrdct_beamline.devices.line_watch import AcquisitionMode
from xrdct_beamline.devices.position_compare import MAX_PULSES
from xrdct_beamline.devices.stages import Stage
from xrdct_beamline.domain.errors import ConfigurationError, GeometryError
from xrdct_beamline.domain.registration import SampleOffset
from xrdct_beamline.domain.scan import ScanGeometry

from .motion import check_period, check_uniform, line_path

__all__ = ["SliceSettings", "check_scan", "stage_grid", "wanted_lines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceSettings:
    """How the lines of a slice are taken.

    Parameters
    ----------
    lines:
        Rotation indices, in the order of acquisition.
    reconnect_timeout_s:
        How long a server may be away before the scan ends.
    offset:
        Where the sample is, against the geometry.
    """

    exposure_s: float
    period_s: float
    mode: AcquisitionMode
    directory: str
    lines: tuple[int, ...]
    max_attempts: int = 3
    reconnect_timeout_s: float = 60.0
    offset: SampleOffset = field(default_factory=SampleOffset)

    def __post_init__(self) -> None:
        check_period(self.exposure_s, self.period_s)
        if self.max_attempts < 1:
            raise ConfigurationError(f"max_attempts is {self.max_attempts}; a line takes at least 1")
        if not self.directory.startswith("/"):
            raise ConfigurationError(
                f"the raw files' folder {self.directory!r} is relative; "
                "the detector's computer needs a whole path"
            )


def acquisition_mode(mode: str) -> AcquisitionMode:
    """Return the mode of a name, or say which names there are."""
    try:
        return AcquisitionMode(mode)
    except ValueError:
        names = " or ".join(repr(str(m)) for m in AcquisitionMode)
        raise ConfigurationError(f"mode {mode!r} is unknown; use {names}") from None


def wanted_lines(geometry: ScanGeometry, lines: Sequence[int] | None) -> tuple[int, ...]:
    """Return the rotation indices to take, in the order of acquisition."""
    if lines is None:
        return geometry.line_order
    unknown = sorted(set(lines) - set(geometry.line_order))
    if unknown or not lines:
        raise GeometryError(
            f"lines are rotation indices from 0 to {len(geometry.rotation_deg) - 1}, "
            f"got {unknown or 'none at all'}; leave them out for all"
        )
    return tuple(r for r in geometry.line_order if r in set(lines))


def stage_grid(
    beamline: Beamline, geometry: ScanGeometry, rotation_index: int, offset: SampleOffset | None = None
) -> npt.NDArray[np.float64]:
    """Return the positions of a line's frames in the stage's coordinate, in the order of acquisition."""
    translation_mm = np.asarray(geometry.translation_mm)[geometry.line_translations(rotation_index)]
    shift_mm = (offset or SampleOffset()).translation_mm(geometry.rotation_deg[rotation_index])
    return beamline.settings.translation_sign * (translation_mm + shift_mm)


def check_scan(beamline: Beamline, geometry: ScanGeometry, settings: SliceSettings) -> None:
    """Refuse a scan that the stages or the position compare cannot take.

    Raises
    ------
    GeometryError
        If a line is too long or irregular to be flown.
    ConfigurationError
        If a stage would have to leave its soft limits.
    """
    grids_mm = [stage_grid(beamline, geometry, index, settings.offset) for index in settings.lines]
    if settings.mode is AcquisitionMode.FLY:
        check_uniform(geometry)
        if len(grids_mm[0]) > MAX_PULSES:
            raise GeometryError(
                f"a line of {len(grids_mm[0])} frames is too long: the position compare captures "
                f"{MAX_PULSES}; take fewer translations"
            )
        grids_mm = [_ends(beamline, grid_mm, settings) for grid_mm in grids_mm]
    _check_limits(beamline.translation, np.array(grids_mm))
    angles_deg = beamline.settings.rotation_sign * np.asarray(geometry.rotation_deg)
    _check_limits(beamline.rotation, angles_deg)


def _ends(
    beamline: Beamline, grid_mm: npt.NDArray[np.float64], settings: SliceSettings
) -> npt.NDArray[np.float64]:
    """Return where a line's move begins and ends, ramps included."""
    path = line_path(
        grid_mm,
        exposure_s=settings.exposure_s,
        period_s=settings.period_s,
        ramp_s=beamline.translation.acceleration.get(),
    )
    return np.array([path.start_mm, path.end_mm])


def _check_limits(stage: Stage, targets: npt.NDArray[np.float64]) -> None:
    low, high = stage.low_limit_travel.get(), stage.high_limit_travel.get()
    if low < high and not (low <= targets.min() and targets.max() <= high):
        raise ConfigurationError(
            f"the scan takes {stage.name} from {targets.min():g} to {targets.max():g} {stage.egu}, ramps "
            f"included; its soft limits are {low:g} and {high:g} {stage.egu}; move the scan or the limits"
        )
