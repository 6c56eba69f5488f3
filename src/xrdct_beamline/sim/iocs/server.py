"""Serve the whole simulated beamline from one process on loopback."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from xrdct_beamline.sim.cell_sequence import CellSequence
from xrdct_beamline.sim.electrochemistry import CellProgramme

if TYPE_CHECKING:
    from .sample import SampleModel
    from .simulation import Simulation

__all__ = ["SimOptions", "build_pvdb", "list_pvs", "serve"]

#: Fields of the motor records that clients use; the records serve the others too.
MOTOR_FIELDS = (
    *("RBV", "VELO", "VMAX", "ACCL", "EGU", "HLM", "LLM", "HLS", "LLS", "LVIO", "DMOV", "MOVN", "TDIR"),
    *("STOP", "SPMG", "MSTA", "OFF", "DIR", "SET", "FOFF", "HOMF", "HOMR"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimOptions:
    """What is simulated.

    Parameters
    ----------
    prefix:
        Of every process variable.
    seed:
        Of the sample and of all noise.
    poni:
        Text of the PONI file of the simulated detector; None for the demonstration's.
    detector:
        pyFAI name that overrides the PONI's.
    flux:
        Photons per second before the attenuators.
    programme:
        What the cell does once SIM:CellRun is set.
    freeze:
        Whether SIM:Freeze is on from the start.
    """

    prefix: str = "XRDCT:"
    seed: int = 1
    poni: str | None = None
    detector: str | None = None
    flux: float = 1e11
    programme: CellProgramme | CellSequence = field(default_factory=CellProgramme)
    freeze: bool = False


def build_pvdb(options: SimOptions) -> dict[str, Any]:
    """Return the channels of every process variable by name, unserved and without a sample."""
    from .sample import BlankSample
    from .simulation import Simulation

    return Simulation(options, BlankSample()).pvdb


def list_pvs(options: SimOptions) -> list[tuple[str, str, str]]:
    """Return name, channel type and description of every process variable."""
    listed = []
    for name, channel in build_pvdb(options).items():
        listed.append((name, channel.data_type.name, channel.pvspec.doc or ""))
        if channel.record_type == "motor":
            fields = ((f, channel.get_field(f)) for f in MOTOR_FIELDS)
            listed += [(f"{name}.{f}", field.data_type.name, field.pvspec.doc or "") for f, field in fields]
    return listed


def serve(
    options: SimOptions, on_ready: Callable[[], None] | None = None, *, model: SampleModel | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; raw files are closed then.

    Binds to loopback only, at the port in EPICS_CA_SERVER_PORT. Must run in the main thread.

    Parameters
    ----------
    options:
        What is simulated.
    on_ready:
        Called once clients can connect.
    model:
        Sample and detector instead of those that the options describe.

    Raises
    ------
    ConfigurationError
        If another server has the port.
    """
    # Read when bitshuffle is loaded, by the imports below: its threads would fight the renderer's.
    os.environ["OMP_NUM_THREADS"] = "1"
    from .context import reserve_port
    from .sample import make_sample
    from .simulation import Simulation

    with reserve_port() as listening:  # before the sample, which takes seconds
        simulation = Simulation(options, model or make_sample(options))
        asyncio.run(_serve(simulation, listening, on_ready or (lambda: None)))


async def _serve(simulation: Simulation, listening: socket.socket, on_ready: Callable[[], None]) -> None:
    from .context import serve_channels

    await simulation.prepare()
    try:
        await serve_channels(simulation.pvdb, listening, lambda _: simulation.run(on_ready))
    finally:
        await simulation.close()
