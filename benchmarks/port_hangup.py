"""How long after the end of a process the kernel closes its serial port, seen from the far end.

A pseudo-terminal has no RTS and DTR. What this shows is when the kernel closes the port of a process that was
killed; on a real port that is when it drops them (HUPCL, which pyserial leaves on).
"""

from __future__ import annotations

import os
import pty
import select
import signal
import statistics
import subprocess
import sys
import time
import tty

REPEATS = 20
PATIENCE_MS = 5000
CLIENT = (
    "import sys, time, serial; port = serial.Serial(sys.argv[1]); print('open', flush=True); time.sleep(60)"
)


def hang_up_s(number: signal.Signals) -> float | None:
    """Return the seconds from a signal to the hang-up; None if there is none."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, os.ttyname(slave)], stdout=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    client.stdout.readline()
    os.close(slave)
    poll = select.poll()
    poll.register(master, select.POLLHUP)
    began_s = time.perf_counter()
    client.send_signal(number)
    is_hung_up = bool(poll.poll(PATIENCE_MS))
    taken_s = time.perf_counter() - began_s
    client.kill()
    client.wait()
    os.close(master)
    return taken_s if is_hung_up else None


def main() -> None:
    """Print the table of docs/cabling.md."""
    times_ms = [1e3 * (hang_up_s(signal.SIGKILL) or float("inf")) for _ in range(REPEATS)]
    print(
        f"SIGKILL: median {statistics.median(times_ms):.1f} ms, longest {max(times_ms):.1f} ms of {REPEATS}"
    )
    stopped = hang_up_s(signal.SIGSTOP)
    print(
        f"SIGSTOP: {'never' if stopped is None else f'{stopped:.1f} s'} (watched for {PATIENCE_MS / 1e3:g} s)"
    )


if __name__ == "__main__":
    main()
