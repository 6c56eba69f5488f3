"""The journal: every document of every run, in one file that only grows.

One line holds one document as the JSON array ``[name, document]``, written by a single call, so
that a kill leaves at most one torn line, at the end. Readers ignore a torn last line; a writer
cuts it before it appends. Numbers that are not finite are written as the tokens ``NaN`` and
``Infinity``, which Python's json reads back although strict JSON lacks them: a frame that was not
captured is NaN in its event, and must stay so.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from xrdct_beamline.domain.documents import LINES
from xrdct_beamline.domain.errors import ConfigurationError, DataError

from .locks import OwnerLock

__all__ = ["Document", "JournalFollower", "JournalWriter", "line_verdicts", "read_journal"]

logger = logging.getLogger(__name__)

Document = tuple[str, dict[str, Any]]

#: A follower reads at most this much at a time, so that catching up needs no memory.
POLL_BYTES = 8 * 1024 * 1024


class JournalWriter:
    """Appends documents to the journal; subscribe it first.

    The disk has each start, each descriptor, each event of the lines and each stop before the
    call returns (fsync); what lies between is with the operating system, which survives this
    process but not the power.

    Parameters
    ----------
    path:
        The journal; made if it is not there. ``<path>.lock`` beside it tells who writes.

    Raises
    ------
    OwnerError
        If another process writes this journal.
    ConfigurationError
        If the file cannot be opened for writing.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._line_descriptors: dict[str, str] = {}
        # Events of monitored signals are emitted from the control system's threads.
        self._one_at_a_time = threading.Lock()
        self._lock = OwnerLock(self.path.with_name(self.path.name + ".lock"), what=f"journal {self.path}")
        self._lock.acquire()
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except OSError as error:
            self._lock.release()
            raise ConfigurationError(
                f"cannot write the journal {self.path}: {error.strerror}; choose a file that you may write"
            ) from error
        self._end = _cut_torn_line(self._file, self.path)
        _sync_folder(self.path.parent)

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Append one document.

        Raises
        ------
        DataError
            If the document holds something that JSON cannot, or the disk takes no more. The
            journal then still ends with the document before, and later calls are welcome.
        """
        line = _encode(name, doc)
        try:
            with self._one_at_a_time:
                self._append(line)
                if self._is_milestone(name, doc):
                    os.fsync(self._file)
        except OSError as error:
            raise DataError(
                f"the journal {self.path} did not take the {name} of {len(line)} bytes: {error.strerror}; "
                "free space on its disk and resume, frames already written are safe"
            ) from error

    def close(self) -> None:
        """Put everything on the disk and let the next writer in; without effect the second time."""
        if self._file < 0:
            return
        with contextlib.suppress(OSError):  # what matters was synced when it was written
            os.fsync(self._file)
        os.close(self._file)
        self._file = -1
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, line: bytes) -> None:
        if self._file < 0:
            raise DataError(f"the journal {self.path} is closed; open a new JournalWriter")
        # Left over when an earlier write failed half way and could not be undone at once.
        if os.fstat(self._file).st_size != self._end:
            os.ftruncate(self._file, self._end)
        try:
            written = os.write(self._file, line)
            if written < len(line):
                # The rest is tried alone only to learn why; a full disk writes what fits first.
                written += os.write(self._file, line[written:])
            if written < len(line):
                raise OSError(0, f"only {written} bytes fitted")
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise
        self._end += len(line)

    def _is_milestone(self, name: str, doc: Mapping[str, Any]) -> bool:
        if name == "descriptor" and doc.get("name") == LINES:
            self._line_descriptors[doc["uid"]] = doc["run_start"]
        if name == "stop":
            ended = doc.get("run_start")
            self._line_descriptors = {d: run for d, run in self._line_descriptors.items() if run != ended}
        if name in ("event", "event_page"):
            return doc.get("descriptor") in self._line_descriptors
        return name in ("start", "descriptor", "stop")


class JournalFollower:
    """Reads a journal that somebody else is writing, each document once.

    Parameters
    ----------
    path:
        The journal; it need not exist yet.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.damaged_lines = 0
        self.offset = 0
        self._inode: int | None = None

    def poll(self, max_bytes: int = POLL_BYTES) -> list[Document]:
        """Return the documents completed since the last call, at most about ``max_bytes`` of them.

        A journal that was replaced or shortened is read from its beginning again.

        Raises
        ------
        DataError
            If the journal is there but cannot be read.
        """
        try:
            if not self._has_grown():
                return []
            with self.path.open("rb") as file:
                block = _whole_lines(file, self.offset, max_bytes)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"cannot read the journal {self.path}: {error.strerror}") from error
        documents = []
        for line in block.splitlines(keepends=True):
            document = self._decode(line)
            self.offset += len(line)
            if document is not None:
                documents.append(document)
        return documents

    def _has_grown(self) -> bool:
        status = self.path.stat()
        if self._inode is not None and (status.st_ino != self._inode or status.st_size < self.offset):
            logger.warning("journal %s was replaced or shortened; reading it from the beginning", self.path)
            self.offset = 0
        self._inode = status.st_ino
        return status.st_size > self.offset

    def _decode(self, line: bytes) -> Document | None:
        document = _decode(line)
        if document is None:
            self.damaged_lines += 1
            logger.warning(
                "journal %s: the %d bytes at %d are no document; skipped", self.path, len(line), self.offset
            )
        return document


def read_journal(path: Path | str) -> Iterator[Document]:
    """Yield the documents of a journal, in the order in which they were written.

    A torn last line is ignored, a damaged one in between skipped and logged.

    Raises
    ------
    DataError
        If there is no such journal, or it cannot be read.
    """
    if not Path(path).is_file():
        raise DataError(f"there is no journal {path}; give the file that the session wrote")
    follower = JournalFollower(path)
    read_to = -1
    while follower.offset != read_to:
        read_to = follower.offset
        yield from follower.poll()


def line_verdicts(documents: Iterable[Document], run_uid: str) -> dict[int, str]:
    """Return the newest verdict of each line of a run, by rotation index."""
    descriptors: set[str] = set()
    verdicts: dict[int, str] = {}
    for name, doc in documents:
        if name == "descriptor" and doc["run_start"] == run_uid and doc["name"] == LINES:
            descriptors.add(doc["uid"])
        elif name == "event" and doc["descriptor"] in descriptors:
            verdicts[int(doc["data"]["line_rotation_index"])] = str(doc["data"]["line_verdict"])
    return verdicts


def _encode(name: str, doc: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps([name, doc], default=_plain, separators=(",", ":")).encode() + b"\n"
    except (TypeError, ValueError) as error:
        raise DataError(
            f"the {name} document cannot be journaled: {error}; keep to numbers, text and lists"
        ) from error


def _plain(value: Any) -> Any:
    """Return what JSON can hold for a value that it cannot."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} {value!r} has no JSON form")


def _decode(line: bytes) -> Document | None:
    try:
        name, doc = json.loads(line)
    except (ValueError, TypeError):
        return None
    return (name, doc) if isinstance(name, str) and isinstance(doc, dict) else None


def _whole_lines(file: Any, offset: int, max_bytes: int) -> bytes:
    """Return the complete lines from ``offset``, as many as fit but at least one."""
    file.seek(offset)
    block: bytes = file.read(max_bytes)
    if b"\n" not in block:
        block += file.readline()  # a line longer than a block, or a torn one
    return block[: block.rfind(b"\n") + 1]


def _cut_torn_line(descriptor: int, path: Path) -> int:
    """Remove what follows the last line end; return the length that is left."""
    size = os.fstat(descriptor).st_size
    end = size
    while end > 0:
        start = max(0, end - 65536)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        logger.warning("journal %s: cut %d bytes of a torn last line", path, size - end)
        os.ftruncate(descriptor, end)
    return end


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
