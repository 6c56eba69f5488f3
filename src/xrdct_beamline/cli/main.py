"""The command line: ``xrdct``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from xrdct_beamline.domain.errors import XrdctError

from . import beamline, data
from .ends import INTERRUPTED, REFUSED

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0, 2 where something was refused, 130 where interrupted."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.WARNING,
        format="%(asctime)s %(name)s %(levelname)s %(message)s",
    )
    for chatty in ("silx", "pyFAI", "fabio"):  # that there is no OpenCL is nobody's business here
        logging.getLogger(chatty).setLevel(logging.ERROR)
    try:
        return int(options.run(options) or 0)
    except XrdctError as error:
        if options.debug:
            raise
        print(f"xrdct {options.command}: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print(f"xrdct {options.command}: interrupted", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="xrdct", description="XRD-CT of a working battery, live.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks and the log")
    configured = argparse.ArgumentParser(add_help=False, parents=[common])
    configured.add_argument(
        "--config", type=Path, help="configuration file (default: the simulated beamline)"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (*beamline.COMMANDS, *data.COMMANDS):
        add(commands, common, configured)
    return parser
