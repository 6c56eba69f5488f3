"""``python -m xrdct_beamline.cli``."""

import signal
import sys

from .main import main

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
