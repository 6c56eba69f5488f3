"""The simulated beamline of a campaign: small frames that tell where they are from, the same each time."""

from __future__ import annotations

import sys

from xrdct_beamline.sim.iocs.sample import SpeckledSample
from xrdct_beamline.sim.iocs.server import SimOptions, serve

SHAPE = (32, 32)


def main(prefix: str) -> None:
    """Serve until the process is ended."""
    serve(
        SimOptions(prefix=prefix, freeze=True),
        on_ready=lambda: print("ready", flush=True),
        model=SpeckledSample(SHAPE),
    )


if __name__ == "__main__":
    main(sys.argv[1])
