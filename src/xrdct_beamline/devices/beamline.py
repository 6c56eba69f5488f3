"""The devices of a beamline, built together."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from ophyd import Device

from xrdct_beamline.domain.errors import ConfigurationError

from .beam import Beam, Shutter
from .connection import set_signal_timeouts
from .line_record import LineRecord
from .line_watch import LineLimits
from .pilatus import Pilatus
from .position_compare import PositionCompare
from .potentiostat import Potentiostat
from .stages import Stage
from .trigger_line import TriggerLine
from .trigger_logic import TriggerSettings

__all__ = ["Beamline", "BeamlineSettings", "build_beamline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamlineSettings:
    """What differs between beamlines.

    Parameters
    ----------
    translation, rotation, vertical, detector, compare, shutter, trigger, cell, i0, i1, current, flux:
        What follows the beamline's prefix in the names of a device's process variables.
    rotation_sign, translation_sign:
        +1 if the stage's axis runs along the sample's (DESIGN §4), −1 if against it.
    minimum_current_mA:
        Ring current below which no line is started.
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
    rotation_sign: int = 1
    translation_sign: int = 1
    translation_tolerance_mm: float = 2e-4
    rotation_tolerance_deg: float = 0.005
    vertical_tolerance_mm: float = 2e-3
    minimum_current_mA: float = 0.0
    minimum_i0: float = 0.0
    line_limits: LineLimits = field(default_factory=LineLimits)
    trigger_settings: TriggerSettings = field(default_factory=TriggerSettings)

    def __post_init__(self) -> None:
        for name in ("rotation_sign", "translation_sign"):
            if getattr(self, name) not in (-1, 1):
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be 1 or -1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beamline:
    """The devices that plans drive, and how stages relate to the sample's axes."""

    translation: Stage
    rotation: Stage
    vertical: Stage
    detector: Pilatus
    compare: PositionCompare
    shutter: Shutter
    beam: Beam
    trigger: TriggerLine
    cell: Potentiostat
    line: LineRecord
    settings: BeamlineSettings

    @property
    def devices(self) -> tuple[Device, ...]:
        """All devices."""
        return tuple(
            device for item in fields(self) if isinstance(device := getattr(self, item.name), Device)
        )

    @property
    def needed_for_lines(self) -> tuple[Device, ...]:
        """Devices without which no line can be taken; the cell's recorder is not among them."""
        return self.translation, self.rotation, self.detector, self.compare, self.shutter, self.beam

    @property
    def baseline(self) -> tuple[Device, ...]:
        """Devices that are read once before and once after a scan."""
        return self.translation, self.rotation, self.vertical, self.beam, self.shutter


def build_beamline(prefix: str, settings: BeamlineSettings | None = None) -> Beamline:
    """Make the devices of a beamline; they start to connect, and nothing waits for them."""
    set_signal_timeouts()
    use = settings or BeamlineSettings()

    def stage(name: str, tolerance: float) -> Stage:
        return Stage(prefix + getattr(use, name), name=name, tolerance=tolerance, labels={"motors"})

    return Beamline(
        translation=stage("translation", use.translation_tolerance_mm),
        rotation=stage("rotation", use.rotation_tolerance_deg),
        vertical=stage("vertical", use.vertical_tolerance_mm),
        detector=Pilatus(prefix + use.detector, name="pilatus", limits=use.line_limits, labels={"detectors"}),
        compare=PositionCompare(prefix + use.compare, name="compare"),
        shutter=Shutter(prefix + use.shutter, name="shutter"),
        beam=Beam(
            prefix,
            i0=use.i0,
            i1=use.i1,
            current=use.current,
            flux=use.flux,
            name="beam",
            labels={"detectors"},
        ),
        trigger=TriggerLine(prefix + use.trigger, name="trigger", settings=use.trigger_settings),
        cell=Potentiostat(
            prefix + use.cell,
            name="cell",
            trigger_level_pv=f"{prefix}{use.trigger}LEVEL",
            labels={"detectors"},
        ),
        line=LineRecord(name="line"),
        settings=use,
    )
