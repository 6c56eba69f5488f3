"""The acquisition session of a campaign: takes an order per line of standard input, and answers each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from xrdct_beamline.startup.configuration import load_configuration


def _answer(text: str) -> None:
    sys.stdout.write(text.replace("\n", " ") + "\n")
    sys.stdout.flush()


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")


def _plan(session: Any, order: str, *arguments: str) -> Any:
    if order == "slice":
        return session.slice()
    if order == "pause":
        return session.operando(1, timeout_s=float(arguments[0]))
    if order == "pauses":
        return session.operando(int(arguments[0]), timeout_s=float(arguments[1]))
    return session.resume(arguments[0])


def main(config: str) -> None:
    """Serve orders until "close" or the end of the input."""
    from xrdct_beamline.startup.session import Session

    with Session(load_configuration(Path(config)), _note) as session:
        _answer("ready")
        for line in sys.stdin:
            order = line.split()
            if order == ["close"]:
                break
            try:
                session.RE(_plan(session, *order))
            except Exception as error:  # whatever it is, the campaign writes it down
                _answer(f"failed {type(error).__name__}: {error}")
            else:
                _answer("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
