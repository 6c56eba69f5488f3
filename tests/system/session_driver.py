"""A session that raises its lines and opens its shutter when it is told to, and closes when told to."""

from __future__ import annotations

import sys
from pathlib import Path

from xrdct_beamline.devices.beamline import Beamline
from xrdct_beamline.startup.configuration import load_configuration


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def raise_lines(beamline: Beamline) -> None:
    outputs = (beamline.trigger.ready, beamline.trigger.busy, beamline.trigger.done)
    for output in (*outputs, beamline.shutter.command):
        output.set(1).wait(timeout=5)


def main(config: str) -> None:
    from xrdct_beamline.startup.session import Session

    session = Session(load_configuration(Path(config)), say=lambda text: None)
    say("ready")
    for order in sys.stdin:
        if order == "up\n":
            raise_lines(session.beamline)
        elif order == "close\n":
            session.close()
        say("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
