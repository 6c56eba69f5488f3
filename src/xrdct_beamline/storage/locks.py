"""One owner: a lock that names its holder and goes with its process, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xrdct_beamline.domain.errors import ConfigurationError, OwnerError

__all__ = ["OwnerLock"]


class OwnerLock:
    """An exclusive lock on a file beside the thing that has one owner.

    The kernel drops it when the process ends, so that a kill leaves nothing to clean up; the file
    itself stays, empty, because removing it would let two owners lock two files of one name.

    Parameters
    ----------
    path:
        The lock's file; its folder must exist.
    what:
        What is owned, for the message to whoever comes second.
    """

    def __init__(self, path: Path | str, *, what: str = "output") -> None:
        self._path = Path(path)
        self._what = what
        self._descriptor: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._descriptor is not None

    def acquire(self) -> None:
        """Take the lock or say who has it.

        Raises
        ------
        OwnerError
            If somebody holds it, this process included.
        ConfigurationError
            If the file cannot be made.
        """
        if self._descriptor is not None:
            raise OwnerError(f"the {self._what} is already held by this process; release it first")
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigurationError(
                f"cannot make the lock {self._path}: {error.strerror}; choose a folder that you may write"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _describe_holder(os.pread(descriptor, 4096, 0))
            os.close(descriptor)
            raise OwnerError(
                f"the {self._what} is held by {holder} (lock {self._path}); end that process first"
            ) from error
        _write_holder(descriptor)
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; without effect if it is not held."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):  # a full or vanished disk must not keep the lock
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _write_holder(descriptor: int) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with contextlib.suppress(OSError):  # on a full disk the lock holds without a name
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _describe_holder(content: bytes) -> str:
    try:
        holder: dict[str, Any] = json.loads(content)
        return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return "a process that has not written its name"
