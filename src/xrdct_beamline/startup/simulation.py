"""The simulated IOCs, as the configuration and the command line have them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.sim.cell_sequence import CellSequence, parse_sequence
from xrdct_beamline.sim.electrochemistry import CellProgramme
from xrdct_beamline.sim.iocs.server import SimOptions, serve

from .configuration import Configuration, package_file
from .processes import epics_environment, epics_port

__all__ = ["serve_simulation", "sim_options"]

#: Channel Access ports of a machine that nobody has configured.
DEFAULT_SERVER_PORT, DEFAULT_REPEATER_PORT = 5064, 5065


def sim_options(
    configuration: Configuration,
    *,
    prefix: str | None = None,
    seed: int = 1,
    detector: str | None = None,
    time_scale: float = 1.0,
    pause_at: Sequence[float] | None = None,
    pause_s: float | None = None,
    freeze: bool = False,
    sequence: Path | None = None,
) -> SimOptions:
    """Return what is simulated for a configuration.

    ``pause_s`` None pauses until DONE; a ``sequence`` says itself where the cell pauses, and for how long.
    """
    poni = configuration.calibration.poni
    try:
        poni_text = poni.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"PONI file {poni} cannot be read ({error.strerror}); name one in [calibration]"
        ) from error
    discharge = CellProgramme(time_scale=time_scale, pause_s=pause_s)
    programme: CellProgramme | CellSequence = discharge
    if sequence is not None:
        if pause_at is not None or pause_s is not None:
            raise ConfigurationError("a sequence has its own pauses; leave --pause-at and --pause-s out")
        programme = read_sequence(sequence, time_scale=time_scale)
    elif pause_at is not None:
        programme = replace(discharge, pauses_at=tuple(pause_at))
    return SimOptions(
        prefix=prefix or configuration.beamline.prefix,
        seed=seed,
        poni=poni_text,
        detector=detector or configuration.calibration.detector,
        programme=programme,
        freeze=freeze,
    )


def read_sequence(path: Path, *, time_scale: float = 1.0) -> CellSequence:
    """Read a cycler's programme; ``package:NAME`` is one that ships with the software."""
    package, _, name = str(path).partition("package:")
    file = package_file(name) if not package and name else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigurationError(
            f"sequence {path} cannot be read ({reason}); try package:finegan2020.cell"
        ) from error
    return parse_sequence(text, source=str(path), time_scale=time_scale)


def serve_simulation(options: SimOptions, on_ready: Callable[[str], None]) -> None:
    """Serve until interrupted, on loopback and the port in EPICS_CA_SERVER_PORT."""
    port = epics_port("EPICS_CA_SERVER_PORT", DEFAULT_SERVER_PORT)
    repeater = epics_port("EPICS_CA_REPEATER_PORT", DEFAULT_REPEATER_PORT)
    os.environ.update(epics_environment(port, repeater))
    _host_repeater()
    serve(options, on_ready=lambda: on_ready(f"{options.prefix} on 127.0.0.1:{port}, Ctrl-C ends"))


def _host_repeater() -> None:
    """Answer clients that look for a Channel Access repeater; libca complains at length without one."""
    from caproto.sync.repeater import run  # reads the port from the environment

    threading.Thread(target=run, args=("127.0.0.1",), name="ca-repeater", daemon=True).start()
