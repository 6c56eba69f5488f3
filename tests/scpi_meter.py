"""A voltmeter that speaks SCPI, at the other end of a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import threading
import time
import tty
from pathlib import Path


class ScpiMeter:
    """Answers ``:READ?``.

    Parameters
    ----------
    link:
        Where its port appears; the pseudo-terminal behind it may change.

    Attributes
    ----------
    voltage_V:
        What it measures.
    answer:
        Sent in place of a reading; empty for silence, None for a reading.
    delay_s:
        How long a reading takes.
    """

    def __init__(self, link: Path) -> None:
        self.link = link
        self.voltage_V = 0.0
        self.answer: bytes | None = None
        self.delay_s = 0.0
        self.questions = 0
        self._ends = threading.Event()
        self.plug_in()

    @property
    def port(self) -> str:
        return str(self.link)

    def plug_in(self) -> None:
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(slave))
        self._slave = slave  # held open, so that the port outlives its clients
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(self._master, self._ends), daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        """Take the port away from under its client."""
        self._ends.set()
        self._thread.join()
        self.link.unlink(missing_ok=True)
        os.close(self._slave)
        os.close(self._master)

    def _serve(self, master: int, ends: threading.Event) -> None:
        heard = b""
        while not ends.is_set():
            if not select.select([master], [], [], 0.02)[0]:
                continue
            with contextlib.suppress(OSError):
                heard += os.read(master, 100)
            while b"\n" in heard:
                question, _, heard = heard.partition(b"\n")
                if question == b":READ?":
                    self._answer(master)

    def _answer(self, master: int) -> None:
        self.questions += 1
        if self.delay_s:
            time.sleep(self.delay_s)
        answer = f"{self.voltage_V:+.6E}\n".encode() if self.answer is None else self.answer
        if answer:
            os.write(master, answer)
