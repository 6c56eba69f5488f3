"""The devices of a beamline, built together."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ophyd import Device

from .beam import Beam, BeamBehindShutter, BeamLimits, Shutter
from .connection import set_signal_timeouts
from .line_record import LineRecord
from .pilatus import Pilatus
from .position_compare import PositionCompare
from .potentiostat import Potentiostat
from .settings import BeamlineSettings
from .stages import Stage
from .trigger_backends import make_trigger_line
from .trigger_line import TriggerLine

__all__ = ["Beamline", "BeamlineSettings", "build_beamline"]


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
    trigger = make_trigger_line(use.trigger_settings, prefix + use.trigger)

    def stage(name: str, tolerance: float) -> Stage:
        return Stage(prefix + getattr(use, name), name=name, tolerance=tolerance, labels={"motors"})

    return Beamline(
        translation=stage("translation", use.translation_tolerance_mm),
        rotation=stage("rotation", use.rotation_tolerance_deg),
        vertical=stage("vertical", use.vertical_tolerance_mm),
        detector=Pilatus(prefix + use.detector, name="pilatus", limits=use.line_limits, labels={"detectors"}),
        compare=PositionCompare(prefix + use.compare, name="compare"),
        shutter=Shutter(prefix + use.shutter, name="shutter"),
        beam=_build_beam(prefix, use),
        trigger=trigger,
        cell=Potentiostat(
            prefix + use.cell,
            name="cell",
            trigger_level=trigger.level,
            labels={"detectors"},
        ),
        line=LineRecord(name="line"),
        settings=use,
    )


def _build_beam(prefix: str, use: BeamlineSettings) -> Beam:
    limits = BeamLimits(
        current_mA=use.minimum_current_mA,
        flux=use.minimum_flux,
        photon_shutter_open=use.photon_shutter_open,
    )
    options: dict[str, Any] = {
        "i0": use.i0, "i1": use.i1, "current": use.current, "flux": use.flux,
        "limits": limits, "name": "beam", "labels": {"detectors"},
    }  # fmt: skip
    if use.photon_shutter:
        return BeamBehindShutter(prefix, photon_shutter=use.photon_shutter, **options)
    return Beam(prefix, **options)
