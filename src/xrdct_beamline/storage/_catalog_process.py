"""Process that serves the catalog and ends with the session that started it.

Run as ``python -m xrdct_beamline.storage._catalog_process CONFIG``. The session holds the other
end of standard input; when it dies, however it dies, the server leaves too.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

__all__ = ["main"]


def _leave_with_the_session() -> None:
    os.read(0, 1)  # returns when the last holder of the other end is gone; sys.stdin has a lock to trip over
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serve the catalog that the configuration file describes."""
    threading.Thread(target=_leave_with_the_session, daemon=True).start()
    from tiled.commandline.main import main as tiled

    sys.argv = ["tiled", "serve", "config", sys.argv[1]]
    tiled()


if __name__ == "__main__":
    main()
