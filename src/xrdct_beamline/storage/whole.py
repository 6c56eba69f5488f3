"""Files and folders that appear whole or not at all, and never in the place of others unasked."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from xrdct_beamline.domain.errors import ConfigurationError

__all__ = ["appearing_file", "appearing_folder", "check_free", "check_room"]

#: Room that an export leaves on the disk.
_SPARE_BYTES = 100_000_000


def check_free(output: Path, *, force: bool) -> None:
    """Refuse an output that exists, unless it may be replaced, or whose folder cannot be written."""
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise ConfigurationError(f"the folder {output.parent} cannot be written; choose another output")
    if not os.path.lexists(output):
        return
    if not force:
        raise ConfigurationError(
            f"{output} is there already; give --force to replace it, or another name with --output"
        )
    if output.is_dir() and not (output / "index.csv").is_file() and any(output.iterdir()):
        raise ConfigurationError(
            f"the folder {output} was not written by an export (it has no index.csv); --force would empty "
            "it: choose another name"
        )


def check_room(output: Path, n_bytes: int) -> None:
    """Refuse what would not fit on the disk."""
    free = shutil.disk_usage(output.parent).free
    if n_bytes + _SPARE_BYTES > free:
        raise ConfigurationError(
            f"the export needs {n_bytes / 1e6:.0f} MB and {output.parent} has {free / 1e6:.0f} MB left; "
            "export fewer regions, or to another disk"
        )


@contextlib.contextmanager
def appearing_file(output: Path, *, force: bool) -> Iterator[Path]:
    """Hand out a path beside the output that takes its place if all goes well."""
    if output.is_dir():
        raise ConfigurationError(f"{output} is a folder, and a file is to be written; choose another name")
    check_free(output, force=force)
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def appearing_folder(output: Path, *, force: bool) -> Iterator[Path]:
    """Hand out a new folder beside the output that takes its place if all goes well."""
    if os.path.lexists(output) and not output.is_dir():
        raise ConfigurationError(f"{output} is a file, and a folder is to be written; choose another name")
    check_free(output, force=force)
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    old = output.with_name(f".{output.name}.{os.getpid()}.old")
    try:
        part.mkdir()
        yield part
        if output.is_dir():
            output.rename(old)
        part.rename(output)
    finally:
        if old.is_dir() and not output.exists():
            old.rename(output)
        for rest in (part, old):
            shutil.rmtree(rest, ignore_errors=True)
