"""What differs between beamlines, as their configuration file has it. Imports no control system."""

from __future__ import annotations

from dataclasses import dataclass, field

from xrdct_beamline.domain.errors import ConfigurationError

from .line_watch import LineLimits
from .trigger_logic import TriggerSettings

__all__ = ["BeamlineSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamlineSettings:
    """What differs between beamlines.

    Parameters
    ----------
    translation, rotation, vertical, detector, compare, shutter, trigger, cell, i0, i1, current, flux:
        What follows the beamline's prefix in the names of a device's process variables.
    rotation_sign, translation_sign:
        +1 if the stage's axis runs along the sample's (DESIGN §4), −1 if against it.
    translation_tolerance_mm, rotation_tolerance_deg, vertical_tolerance_mm:
        Largest accepted distance of a stage's readback from where it was sent.
    photon_shutter, photon_shutter_open:
        The shutter upstream, which others close, and the value that means open; empty for none.
    minimum_current_mA, minimum_flux:
        Ring current, and photons per second at the beam monitor, below which no line is started.
    minimum_i0:
        Upstream counts in a gate that mean no beam, or fewer.
    """

    translation: str = "m1"
    rotation: str = "m2"
    vertical: str = "m3"
    detector: str = "PIL:"
    compare: str = "PANDA:"
    shutter: str = "SHUTTER:"
    trigger: str = "TRIG:"
    cell: str = "CELL:"
    i0: str = "I0"
    i1: str = "I1"
    current: str = "SR:CURRENT"
    flux: str = "BEAM:FLUX"
    photon_shutter: str = ""
    photon_shutter_open: float = 1.0
    rotation_sign: int = 1
    translation_sign: int = 1
    translation_tolerance_mm: float = 2e-4
    rotation_tolerance_deg: float = 0.005
    vertical_tolerance_mm: float = 2e-3
    minimum_current_mA: float = 0.0
    minimum_flux: float = 0.0
    minimum_i0: float = 0.0
    line_limits: LineLimits = field(default_factory=LineLimits)
    trigger_settings: TriggerSettings = field(default_factory=TriggerSettings)

    def __post_init__(self) -> None:
        for name in ("rotation_sign", "translation_sign"):
            if getattr(self, name) not in (-1, 1):
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be 1 or -1")
        for name in ("translation_tolerance_mm", "rotation_tolerance_deg", "vertical_tolerance_mm"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(
                    f"{name} is {getattr(self, name):g}; no stage stands that still, give a positive number"
                )
        for name in ("minimum_current_mA", "minimum_flux", "minimum_i0"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"{name} is {getattr(self, name):g}; give 0 for no limit, or more")
