"""All simulated devices, wired to one another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from xrdct_beamline.sim.beamline_state import BeamlineState, Monitors
from xrdct_beamline.sim.electrochemistry import Cell

from .beam import Beam
from .controls import Controls
from .device_faults import DeviceFaults
from .hdf5_plugin import Hdf5Plugin
from .line_faults import LineFault, LineFaults
from .motors import Motor, StageLimits
from .pilatus import Pilatus
from .position_compare import PositionCompare
from .potentiostat import Potentiostat
from .sample import CellInBeam, SampleModel
from .trigger_line import TriggerLine

if TYPE_CHECKING:
    from .server import SimOptions

__all__ = ["Simulation"]

STAGES = {
    "m1": StageLimits(
        name="translation", unit="mm", low=-25, high=25, velocity=5, velocity_max=20, ramp_s=0.05
    ),
    "m2": StageLimits(
        name="rotation", unit="deg", low=-720, high=720, velocity=180, velocity_max=360, ramp_s=0.05
    ),
    "m3": StageLimits(name="vertical", unit="mm", low=-10, high=10, velocity=1, velocity_max=5, ramp_s=0.1),
}


class Simulation:
    """All simulated devices, wired to one another.

    Parameters
    ----------
    options:
        What is simulated.
    model:
        Sample and detector.
    """

    def __init__(self, options: SimOptions, model: SampleModel) -> None:
        self.model = model
        # One thread renders, compresses and writes: a frame and its file stay in order, and the other
        # core is the event loop's.
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="frames")
        clock = time.monotonic
        cell = Cell(options.programme)
        in_beam = CellInBeam(cell, clock)
        state = BeamlineState(
            monitors=Monitors(seed=options.seed, steady=options.freeze),
            transmission=self.model.transmission,
            lithium_content=in_beam.lithium_content,
        )
        p, seed = options.prefix, options.seed
        self.plugin = Hdf5Plugin(f"{p}PIL:HDF1:", shape=self.model.shape, executor=self.executor)
        pilatus = self._pilatus = Pilatus(
            f"{p}PIL:cam1:",
            model=self.model,
            plugin=self.plugin,
            executor=self.executor,
            state=state,
            clock=clock,
        )
        compare = PositionCompare(
            f"{p}PANDA:",
            state=state,
            clock=clock,
            gate_s=lambda: pilatus.exposure_s,
            on_pulse=pilatus.trigger,
        )
        beam = Beam(p, state=state, clock=clock, flux=options.flux)
        fault = LineFault()
        line = TriggerLine(
            f"{p}TRIG:",
            cell=cell,
            clock=clock,
            seed=seed,
            fault=fault,
            close_shutter=lambda: beam.shutter.write("Closed"),
        )
        axes = {"m1": state.translation, "m2": state.rotation, "m3": state.vertical}
        motors = [
            Motor(
                p + name,
                limits=STAGES[name],
                clock=clock,
                axis=axis,
                on_move=compare.follow if name == "m1" else None,
                faults=state.faults,
            )
            for name, axis in axes.items()
        ]
        self.groups: list[Any] = [
            *motors,
            self.plugin,
            pilatus,
            compare,
            beam,
            line,
            LineFaults(f"{p}SIM:", fault=fault),
            DeviceFaults(f"{p}SIM:", faults=state.faults),
            Potentiostat(f"{p}CELL:", cell=cell, clock=clock, seed=seed),
            Controls(f"{p}SIM:", state=state, clock=clock, cell=cell, in_beam=in_beam),
        ]

    @property
    def pvdb(self) -> dict[str, Any]:
        """Every process variable by name, without the fields of records."""
        return {name: channel for group in self.groups for name, channel in group.pvdb.items()}

    async def prepare(self) -> None:
        """Write what the devices are, before clients can ask."""
        for group in self.groups:
            if hasattr(group, "prepare"):
                await group.prepare()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Run what the devices do by themselves, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for group in self.groups:
                if hasattr(group, "run"):
                    tasks.create_task(group.run())
            on_ready()

    async def close(self) -> None:
        """Close the raw file and end the worker; exposures that end later find none."""
        self._pilatus.abort()
        await self.plugin.close()
        self.executor.shutdown(cancel_futures=True)
