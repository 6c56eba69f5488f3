"""The acquisition process of a test: one slice at the cell's first pause, or at once."""

from __future__ import annotations

import sys
from pathlib import Path

from xrdct_beamline.startup.configuration import load_configuration
from xrdct_beamline.startup.processes import confine_to_loopback


def main(config: str, what: str) -> None:
    confine_to_loopback()
    from ophyd import EpicsSignal

    from xrdct_beamline.startup.session import Session

    configuration = load_configuration(Path(config))
    with Session(configuration, say=lambda text: None) as session:
        if what == "operando":
            cycler = EpicsSignal(f"{configuration.beamline.prefix}SIM:CellRun", name="cycler")
            cycler.wait_for_connection(timeout=10.0)
            cycler.set(1).wait(timeout=10.0)
            session.RE(session.operando(1, timeout_s=60.0))
        else:
            session.RE(session.slice())


if __name__ == "__main__":
    main(*sys.argv[1:])
