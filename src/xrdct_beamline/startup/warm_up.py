"""Compile all kernels of live processing once: ``python -m xrdct_beamline.startup.warm_up``.

They are kept on disk, beside the code. Whoever skips this waits for it at the first start.
"""

from __future__ import annotations

from xrdct_beamline.services.pipeline import warm_up

from .configuration import load_configuration
from .live import live_settings

__all__ = ["main"]


def main() -> None:
    """Compile what the simulated beamline's configuration uses."""
    warm_up(live_settings(load_configuration()))


if __name__ == "__main__":
    main()
