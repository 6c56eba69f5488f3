"""Start a part of this software as a process of its own, and end it again."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from xrdct_beamline.domain.errors import ConfigurationError, XrdctError

__all__ = ["ChildProcess", "confine_to_loopback", "epics_environment", "epics_port", "free_port"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """Return a port on the loopback interface that nobody holds at this moment."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def epics_environment(server_port: int, repeater_port: int) -> dict[str, str]:
    """Return the variables that confine Channel Access to this machine and these ports.

    They must be set before libca is imported: it reads them once.
    """
    return {
        "EPICS_CA_ADDR_LIST": "127.0.0.1",
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CAS_INTF_ADDR_LIST": "127.0.0.1",
        "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1",
        "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
        "EPICS_CA_SERVER_PORT": str(server_port),
        "EPICS_CA_REPEATER_PORT": str(repeater_port),
        "EPICS_CA_MAX_ARRAY_BYTES": "20000000",
    }


def epics_port(variable: str, default: int) -> int:
    """Return the port that an environment variable names.

    Raises
    ------
    ConfigurationError
        If it is no port.
    """
    text = os.environ.get(variable, str(default))
    if not (text.strip().isdecimal() and 0 < int(text) < 65536):
        raise ConfigurationError(
            f"the environment variable {variable} is {text!r}; it must be a port, 1 to 65535, or unset"
        )
    return int(text)


def confine_to_loopback() -> None:
    """Let Channel Access look for the simulated IOCs on this machine only, unless the user said otherwise.

    Must be called before libca is imported.

    Raises
    ------
    ConfigurationError
        If a port in the environment is none.
    """
    for variable, default in (("EPICS_CA_SERVER_PORT", 5064), ("EPICS_CA_REPEATER_PORT", 5065)):
        epics_port(variable, default)  # libca would take another one, with a complaint of its own
    os.environ.setdefault("EPICS_CA_ADDR_LIST", "127.0.0.1")
    os.environ.setdefault("EPICS_CA_AUTO_ADDR_LIST", "NO")


class ChildProcess:
    """One ``xrdct`` command in a process of its own, which ends when this process does.

    Parameters
    ----------
    arguments:
        What follows ``xrdct`` on the command line.
    log:
        File that takes what it writes.
    environment:
        Variables added to this process's own.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = arguments[0]
        self._log = log
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "xrdct_beamline.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {}), "PYTHONUNBUFFERED": "1"},
            preexec_fn=_die_with_parent,  # nothing else runs between fork and exec
            start_new_session=True,  # a Ctrl-C in the terminal is ours to pass on
        )
        self._reader = threading.Thread(target=self._read, name=f"{self.name}-output", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def count_lines(self, start: str) -> int:
        """Return how many of the lines that it has written so far start with ``start``."""
        return sum(line.startswith(start) for line in list(self._lines))

    def wait_for_line(self, start: str, timeout_s: float) -> str:
        """Return the rest of the first line of output that starts with ``start``.

        Raises
        ------
        ConfigurationError
            If the process refused its arguments; the message is its own.
        XrdctError
            If it ended or kept silent; the message names its log.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            running = self.is_running
            for line in list(self._lines):
                if line.startswith(start):
                    return line[len(start) :].strip()
            if not running:
                self._reader.join(5)
                last = self._lines[-1].strip() if self._lines else "no output"
                if self._process.returncode == 2:
                    raise ConfigurationError(last)
                raise XrdctError(
                    f"xrdct {self.name} ended with code {self._process.returncode} ({last}); see {self._log}"
                )
            time.sleep(0.05)
        raise XrdctError(f"xrdct {self.name} was not ready within {timeout_s:g} s; see {self._log}")

    def stop(self, timeout_s: float = 10.0) -> None:
        """End it: politely, then firmly."""
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout_s)
        self._reader.join(timeout_s)

    def _read(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        with stream, self._log.open("a", encoding="utf-8") as log:
            for line in stream:
                log.write(line)
                log.flush()
                self._lines.append(line)


def _die_with_parent() -> None:
    """Ask Linux to end this process when its parent ends, however that ends."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
