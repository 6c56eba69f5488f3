"""A Pilatus behind an ADPilatus ``cam1:``: trigger modes, arming, readout time."""

# mypy: disable-error-code="no-redef"
# (a putter has the name of its property: caproto's way)

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from concurrent.futures import Executor
from enum import StrEnum
from typing import Any

from caproto import SkipWrite
from caproto.server import PVGroup, pvproperty

from xrdct_beamline.sim.beamline_state import BeamlineState, Exposure, ExposureSeries, FrameState

from .common import (
    Clock,
    Counter,
    choice,
    choice_pair,
    epoch,
    label,
    number_pair,
    path,
    publish,
)
from .hdf5_plugin import DISABLE_ENABLE, NO_YES, Hdf5Plugin
from .sample import SampleModel

__all__ = ["READOUT_S", "Pilatus"]

logger = logging.getLogger(__name__)

READOUT_S = 0.95e-3  # Dectris' manual of the PILATUS3
ARM_S = 0.004  # from Acquire to Armed, as camserver takes
PUBLISH_PERIOD_S = 0.05
ENDLESS = 2**31 - 1

DETECTOR_STATES = (
    *("Idle", "Acquire", "Readout", "Correct", "Saving", "Aborting", "Error", "Waiting"),
    *("Initializing", "Disconnected", "Aborted"),
)


class TriggerMode(StrEnum):
    """In the order of ADPilatus' template."""

    INTERNAL = "Internal"
    EXT_ENABLE = "Ext. Enable"
    EXT_TRIGGER = "Ext. Trigger"
    MULT_TRIGGER = "Mult. Trigger"
    ALIGNMENT = "Alignment"


class Pilatus(PVGroup):
    """The detector's driver.

    Parameters
    ----------
    prefix:
        Such as ``XRDCT:PIL:cam1:``.
    model:
        Makes the frames.
    plugin:
        Writes them.
    executor:
        The one thread for both.
    state, clock:
        The beamline and its time.
    """

    acquire = choice_pair(("Done", "Acquire"), "Acquire", "Starts a series; completes when it is over")
    acquire_busy = choice(("Done", "Acquiring"), "AcquireBusy", "Acquire and plugins", read_only=True)
    acquire_time = number_pair(0.01, "AcquireTime", "Exposure", units="s", precision=6)
    acquire_period = number_pair(0.0112, "AcquirePeriod", "Start to start", units="s", precision=6)
    num_images = number_pair(1, "NumImages", "Exposures in a series")
    num_images_counter = pvproperty(name="NumImagesCounter_RBV", value=0, read_only=True, doc="Read out")
    num_exposures = number_pair(1, "NumExposures", "Per image; kept, without effect")
    image_mode = choice_pair(("Single", "Multiple", "Continuous"), "ImageMode", "Length of a series")
    trigger_mode = choice_pair(tuple(TriggerMode), "TriggerMode", "What starts an exposure")
    armed = choice(("Unarmed", "Armed"), "Armed", "Pulses before it are lost", read_only=True)
    detector_state = choice(DETECTOR_STATES, "DetectorState_RBV", "What it does", read_only=True)
    status_message = path("StatusMessage_RBV", "In words", read_only=True)
    array_counter = number_pair(0, "ArrayCounter", "Frames since the server's start")
    array_callbacks = choice_pair(DISABLE_ENABLE, "ArrayCallbacks", "Frames to plugins", value="Enable")
    wait_for_plugins = choice_pair(NO_YES, "WaitForPlugins", "AcquireBusy waits for them")
    delay_time = number_pair(0.0, "DelayTime", "From pulse to exposure", units="s", precision=6)
    threshold = number_pair(25.0, "ThresholdEnergy", "Kept, without effect", units="keV")
    energy = number_pair(50.0, "Energy", "Kept, without effect", units="keV")
    gap_fill = choice_pair(("N.A.", "0", "-1"), "GapFill", "Kept: gaps are -1", value="-1")
    array_size_x = pvproperty(name="ArraySizeX_RBV", value=0, read_only=True, doc="Columns")
    array_size_y = pvproperty(name="ArraySizeY_RBV", value=0, read_only=True, doc="Rows")
    max_size_x = pvproperty(name="MaxSizeX_RBV", value=0, read_only=True, doc="Columns")
    max_size_y = pvproperty(name="MaxSizeY_RBV", value=0, read_only=True, doc="Rows")
    data_type = choice(
        ("Int8", "UInt8", "Int16", "UInt16", "Int32"),
        "DataType_RBV",
        "Of pixels",
        value="Int32",
        read_only=True,
    )
    color_mode = choice(("Mono",), "ColorMode_RBV", "Of pixels", read_only=True)
    manufacturer = label("Manufacturer_RBV", "Dectris (simulated)", "Of the detector", read_only=True)
    model = label("Model_RBV", "Pilatus", "Detector name", read_only=True)
    port_name = label("PortName_RBV", "PIL", "asyn port", read_only=True)
    time_remaining = pvproperty(
        name="TimeRemaining_RBV", value=0.0, read_only=True, units="s", doc="Kept at 0"
    )

    def __init__(
        self,
        prefix: str,
        *,
        model: SampleModel,
        plugin: Hdf5Plugin,
        executor: Executor,
        state: BeamlineState,
        clock: Clock,
    ) -> None:
        super().__init__(prefix)
        self._model = model
        self._plugin, self._executor, self._state, self._clock = plugin, executor, state, clock
        self._series: ExposureSeries | None = None
        self._over = asyncio.Event()
        self._aborted = False
        self._n_read = 0  # of this series
        self._unread: deque[Exposure] = deque()
        self._frames = Counter(self.array_counter)

    async def prepare(self) -> None:
        """Write what does not change, before the server starts."""
        rows, columns = self._model.shape
        for channel, value in (
            (self.array_size_x, columns),
            (self.max_size_x, columns),
            (self.array_size_y, rows),
            (self.max_size_y, rows),
            (self.model, self._model.name),
        ):
            await publish(channel, value)
        await publish(self.status_message, "Idle")

    async def run(self) -> None:
        """Publish counters at a steady rate: one update per frame would load every client."""
        while True:
            await self._publish_counters()
            await asyncio.sleep(PUBLISH_PERIOD_S)

    @property
    def exposure_s(self) -> float:
        """The exposure that is set."""
        return float(self.acquire_time.readback.value)

    # -- series --------------------------------------------------------------------------------

    @acquire.setpoint.putter
    async def acquire(obj: Any, instance: Any, value: str) -> None:  # noqa: N805
        """Take a series, or end the one that is being taken."""
        if value == "Acquire":
            await obj.parent.take_series()
        else:
            obj.parent.abort()
        raise SkipWrite

    async def take_series(self) -> None:
        """Arm, expose until all images are there or the series is aborted, and say so."""
        if self._series is not None:
            return
        series = self._series = self._new_series()
        self._unread.clear()
        self._over.clear()
        self._aborted, self._n_read = False, 0
        await self._publish_counters()
        await publish(self.acquire.setpoint, "Acquire")
        await publish(self.acquire_busy, "Acquiring")
        await publish(self.detector_state, "Acquire")
        await publish(self.acquire.readback, "Acquire")
        if self._is_triggered:
            await self._arm(series)
        else:
            self._start_free_running(series, self._clock())
        await self._over.wait()
        await self._finish()

    def _new_series(self) -> ExposureSeries:
        missed = self._state.faults.take_drop() if self._is_triggered else -1
        return ExposureSeries(
            n_images=self._length(), exposure_s=self.exposure_s, readout_s=READOUT_S, missed=missed
        )

    def _length(self) -> int:
        image_mode = self.image_mode.readback.value
        if image_mode == "Continuous" or self._mode is TriggerMode.ALIGNMENT:
            return ENDLESS
        if image_mode == "Single" and not self._is_triggered:
            return 1
        return max(int(self.num_images.readback.value), 1)

    async def _arm(self, series: ExposureSeries) -> None:
        await publish(self.status_message, "Arming")
        await asyncio.sleep(ARM_S + self._state.faults.arm_delay_s)
        if self._series is series and not self._over.is_set():
            series.armed_s = self._clock()
            await publish(self.status_message, f"Waiting for {self._mode.value}")
            await publish(self.armed, "Armed")

    def abort(self) -> None:
        """End the series at once; exposures that are under way are lost."""
        if self._series is not None:
            self._aborted = True
            self._over.set()

    async def _finish(self) -> None:
        self._series = None
        await publish(self.armed, "Unarmed")
        await self._publish_counters()
        await publish(self.status_message, "Acquisition aborted" if self._aborted else "Acquisition done")
        await publish(self.detector_state, "Aborted" if self._aborted else "Idle")
        await publish(self.acquire.setpoint, "Done")
        await publish(self.acquire.readback, "Done")
        await publish(self.acquire_busy, "Done")

    @property
    def _mode(self) -> TriggerMode:
        return TriggerMode(self.trigger_mode.readback.value)

    @property
    def _is_triggered(self) -> bool:
        return self._mode not in (TriggerMode.INTERNAL, TriggerMode.ALIGNMENT)

    # -- exposures -----------------------------------------------------------------------------

    def trigger(self, time_s: float, width_s: float) -> None:
        """Take a pulse of the trigger input; one that comes too early is lost without a trace."""
        series = self._series
        if series is None or not self._is_triggered:
            return
        time_s += float(self.delay_time.readback.value)
        if self._mode is TriggerMode.EXT_TRIGGER:
            if series.armed_s <= time_s and not series.accepted:
                self._start_free_running(series, time_s)
            return
        duration_s = width_s if self._mode is TriggerMode.EXT_ENABLE else None
        exposure = series.pulse(time_s, duration_s)
        if exposure is not None:
            self._await_end(series, exposure)

    def _start_free_running(self, series: ExposureSeries, start_s: float, number: int = 0) -> None:
        """Begin an exposure of a series that needs no further pulse, and the next after it."""
        if series is not self._series or number >= series.n_images:
            return
        period_s = float(self.acquire_period.readback.value)
        exposure = series.free_running(start_s, period_s, number)
        self._await_end(series, exposure)
        loop = asyncio.get_running_loop()
        delay_s = exposure.end_s - self._clock()
        loop.call_later(delay_s, self._start_free_running, series, start_s, number + 1)

    def _await_end(self, series: ExposureSeries, exposure: Exposure) -> None:
        self._unread.append(exposure)
        delay_s = exposure.end_s + READOUT_S - self._clock()
        asyncio.get_running_loop().call_later(max(delay_s, 0.0), self._read, series)

    def _read(self, series: ExposureSeries) -> None:
        """Read the oldest exposure out: have it rendered and written.

        On a busy machine the timers of two exposures may fire in either order; a detector's frames
        do not overtake each other.
        """
        if series is not self._series or not self._unread:
            return
        exposure = self._unread.popleft()
        if self._aborted or self._state.faults.detector_hangs:
            return
        self._frames.value += 1
        to_plugin = self.array_callbacks.readback.value == "Enable" and self._plugin.enqueue()
        future = asyncio.get_running_loop().run_in_executor(
            self._executor,
            self._deliver,
            self._state.frame_state(exposure),
            self._frames.value,
            epoch(self._clock, exposure.start_s),
            to_plugin,
        )
        future.add_done_callback(functools.partial(self._delivered, series, to_plugin))

    def _deliver(self, state: FrameState, unique_id: int, timestamp: float, to_plugin: bool) -> None:
        """Make a frame and hand it to the plugin. Runs in the executor's thread."""
        if to_plugin:
            self._plugin.write(self._model.frame(state), unique_id=unique_id, timestamp=timestamp)

    def _delivered(self, series: ExposureSeries, to_plugin: bool, done: asyncio.Future[None]) -> None:
        if to_plugin:
            self._plugin.dequeue()
        if done.cancelled():  # the server ends
            return
        if error := done.exception():
            logger.error("a frame could not be made", exc_info=error)
            self.abort()
        if series is self._series:
            self._n_read += 1
            if self._n_read >= series.n_images:
                self._over.set()

    async def _publish_counters(self) -> None:
        await publish(self.num_images_counter, self._n_read)
        await self._frames.publish()
        await self._plugin.publish_counters()
