"""A beamline without EPICS: ophyd's fake signals, and hardware that obeys at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from ophyd import Device, EpicsSignalRO
from ophyd.sim import FakeEpicsSignalRO, fake_device_cache, make_fake_device
from ophyd.utils.epics_pvs import AlarmSeverity

from xrdct_beamline.devices.beam import Beam, BeamLimits, Shutter
from xrdct_beamline.devices.beamline import Beamline, BeamlineSettings
from xrdct_beamline.devices.epics_trigger import EpicsTriggerLine
from xrdct_beamline.devices.line_record import LineRecord
from xrdct_beamline.devices.line_watch import LineLimits
from xrdct_beamline.devices.pilatus import Pilatus
from xrdct_beamline.devices.position_compare import PositionCompare
from xrdct_beamline.devices.potentiostat import Potentiostat
from xrdct_beamline.devices.stages import Stage
from xrdct_beamline.devices.trigger_logic import TriggerSettings

D = TypeVar("D", bound=Device)

SHAPE = (4, 3)
LIMITS = LineLimits(arm_s=0.5, stall_s=0.05, close_s=0.5, margin_s=0.2)


class FakeReadback(FakeEpicsSignalRO):
    """What ophyd's fake lacks of a readback."""

    alarm_severity = AlarmSeverity.NO_ALARM

    @property
    def pvname(self) -> str:
        return self.name


fake_device_cache[EpicsSignalRO] = FakeReadback


def fake(cls: type[D], **kwargs: Any) -> D:
    """Return a device of fake signals, each at 0."""
    return make_fake_device(cls)("", **kwargs)


def fake_stage(name: str, tolerance: float = 1e-3, margin_s: float = 0.5) -> Stage:
    """Return a stage that stands at 0 and goes to its setpoint at once."""
    stage = fake(Stage, name=name, tolerance=tolerance, margin_s=margin_s)
    for limit in (stage.low_limit_travel, stage.high_limit_travel):
        limit.unsubscribe_all()  # ophyd would ask EPICS for the control limits
    for signal, value in (
        (stage.motor_done_move, 1),
        (stage.run_mode, "Go"),
        (stage.velocity, 5.0),
        (stage.acceleration, 0.1),
        (stage.low_limit_travel, -10.0),
        (stage.high_limit_travel, 10.0),
        (stage.motor_egu, "mm"),
        (stage.user_readback, 0.0),
        (stage.user_setpoint, 0.0),
    ):
        signal.sim_put(value)
    stage.user_setpoint.sim_set_limits((-10.0, 10.0))
    stage.user_setpoint.sim_set_putter(lambda value, **kwargs: arrive(stage, value))
    return stage


def arrive(stage: Stage, target: float, *, at: float | None = None) -> None:
    """Go through a move, to the target or elsewhere."""
    stage.user_setpoint.sim_put(target)
    stage.motor_done_move.sim_put(0)
    stage.user_readback.sim_put(target if at is None else at)
    stage.motor_done_move.sim_put(1)


class FakeBeamline:
    """Devices that do at once what they are told, and what a test wants to go wrong.

    Attributes
    ----------
    spoil:
        Called at the beginning of each crossing with the pulses' positions; what it returns is the
        number of frames that arrive. Before that it may change anything.
    """

    def __init__(self, settings: BeamlineSettings | None = None) -> None:
        self.spoil: Callable[[np.ndarray], int] = len
        self.crossings = 0
        self.shutter_was_open: list[bool] = []
        self.beamline = Beamline(
            translation=fake_stage("translation"),
            rotation=fake_stage("rotation"),
            vertical=fake_stage("vertical"),
            detector=fake(Pilatus, name="pilatus", limits=LIMITS),
            compare=fake(PositionCompare, name="compare"),
            shutter=fake(Shutter, name="shutter"),
            beam=fake(
                Beam, name="beam", i0="I0", i1="I1", current="SR", flux="FLUX", limits=_beam_limits(settings)
            ),
            trigger=fake(EpicsTriggerLine, name="trigger", settings=TriggerSettings(debounce_s=0.01)),
            cell=fake(Potentiostat, name="cell"),
            line=LineRecord(name="line"),
            settings=settings or BeamlineSettings(),
        )
        self._connect_rotation()
        self._connect_detector()
        self._connect_compare()
        self._connect_shutter()
        self._connect_beam()

    def _connect_rotation(self) -> None:
        rotation = self.beamline.rotation
        rotation.low_limit_travel.sim_put(-360.0)
        rotation.high_limit_travel.sim_put(360.0)
        rotation.user_setpoint.sim_set_limits((-360.0, 360.0))
        translation = self.beamline.translation
        translation.user_setpoint.sim_set_putter(lambda value, **kwargs: self._translate(value))

    def _connect_detector(self) -> None:
        detector = self.beamline.detector
        detector.cam.rows.sim_put(SHAPE[0])
        detector.cam.columns.sim_put(SHAPE[1])
        detector.cam.acquire.sim_set_putter(lambda value, **kwargs: self._acquire(value))
        detector.file.capture.sim_set_putter(lambda value, **kwargs: self._capture(value))

    def _connect_compare(self) -> None:
        compare = self.beamline.compare
        for signal, act in (
            (compare.enable, self._enable),
            (compare.arm, lambda value: compare.capturing.sim_put(value)),
            (compare.disarm, lambda value: compare.capturing.sim_put(1 - value)),
        ):
            signal.sim_set_putter(_obeying(signal, act))

    def _connect_shutter(self) -> None:
        shutter = self.beamline.shutter
        shutter.command.sim_set_putter(lambda value, **kwargs: shutter.state.sim_put(value))

    def _connect_beam(self) -> None:
        beam = self.beamline.beam
        beam.current_mA.sim_put(200.0)
        beam.flux.sim_put(1e11)
        waiting = beam.trigger

        def trigger() -> Any:
            status = waiting()
            is_open = self.beamline.shutter.state.get()
            beam.i0.sim_put(1e6 * is_open)
            beam.i1.sim_put(5e5 * is_open)
            return status

        beam.trigger = trigger

    # -- behaviour -----------------------------------------------------------------------------

    def _enable(self, value: int) -> None:
        compare = self.beamline.compare
        compare.active.sim_put(value)
        if value:
            compare.num_captured.sim_put(0)

    def _acquire(self, value: int) -> None:
        detector = self.beamline.detector
        if value and detector.cam.trigger_mode.get() == "Internal":
            detector.cam.busy.sim_put(1)
            self.deliver(detector.file.num_captured.get() + 1)
            detector.cam.busy.sim_put(0)
            return
        detector.cam.acquiring.sim_put(value)
        detector.cam.armed.sim_put(value)

    def _capture(self, value: int) -> None:
        file = self.beamline.detector.file
        if value:
            file.num_captured.sim_put(0)
            name = f"{file.file_path.get()}{file.file_name.get()}_{int(file.file_number.get()):02d}.h5"
            file.full_file_name.sim_put(name)
        file.capturing.sim_put(value)

    def deliver(self, n_frames: int) -> None:
        """Have so many frames in the file, and close it if these are all."""
        detector = self.beamline.detector
        detector.file.num_captured.sim_put(n_frames)
        detector.cam.images_counter.sim_put(n_frames)
        if n_frames >= detector.file.num_capture.get():
            detector.cam.acquiring.sim_put(0)
            detector.cam.armed.sim_put(0)
            detector.file.capturing.sim_put(0)

    def _translate(self, target: float) -> None:
        compare = self.beamline.compare
        if compare.active.get():
            self._cross()
        arrive(self.beamline.translation, target)

    def _cross(self) -> None:
        """Expose a line."""
        compare, n = self.beamline.compare, int(self.beamline.compare.pulses.get())
        self.crossings += 1
        self.shutter_was_open.append(bool(self.beamline.shutter.state.get()))
        gate_mm = self.beamline.translation.velocity.get() * compare.width_s.get()
        step_mm = compare.step_mm.get()
        positions_mm = compare.start_mm.get() + step_mm * np.arange(n) + np.sign(step_mm) * gate_mm / 2
        compare.position_mm.sim_put(positions_mm)
        compare.i0.sim_put(np.full(n, 1e6))
        compare.i1.sim_put(np.full(n, 5e5))
        compare.produced.sim_put(n)
        n_frames = self.spoil(positions_mm)
        self.deliver(n_frames)
        compare.active.sim_put(0)
        compare.num_captured.sim_put(n)


def _beam_limits(settings: BeamlineSettings | None) -> BeamLimits:
    use = settings or BeamlineSettings()
    return BeamLimits(current_mA=use.minimum_current_mA, flux=use.minimum_flux)


def _obeying(signal: Any, act: Callable[[int], None]) -> Callable[..., None]:
    def put(value: int, **kwargs: Any) -> None:
        signal.sim_put(value)
        act(value)

    return put
