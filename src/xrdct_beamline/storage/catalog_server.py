"""The tiled server that a session starts, and the profile by which people open its catalog.

Everything is embedded: SQLite for the catalog and for tables, zarr for arrays; frames stay in the
raw files. SQLite lets several processes read and one write at once, which DuckDB does not; therefore
the profile opens the files directly, and works during a session, after it, and after a crash.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from ..domain.errors import ConfigurationError

__all__ = ["CatalogServer", "connect", "profiled_catalog", "write_profile"]

logger = logging.getLogger(__name__)

#: First line of every profile that this package writes; one without it is somebody else's.
PROFILE_MARKER = "# Written by xrdct-beamline; it is rewritten at the start of each session."

#: tiled reads these at its first import. Its defaults keep a writer of a dead server busy for 45 s
#: per request.
_RETRY = {"TILED_RETRY_ATTEMPTS": "2", "TILED_RETRY_TIMEOUT": "5"}
_CONNECT_S, _REPLY_S = 5.0, 20.0
_START_S, _STOP_S, _POLL_S = 60.0, 10.0, 0.1


def connect(uri: str, api_key: str | None = None) -> Any:
    """Return a client of the tiled server at ``uri`` that gives up early."""
    for name, value in _RETRY.items():
        os.environ.setdefault(name, value)
    import httpx
    from tiled.client import from_uri

    return from_uri(uri, api_key=api_key, timeout=httpx.Timeout(_REPLY_S, connect=_CONNECT_S))


class CatalogServer:
    """A tiled server in a process of its own, on loopback, behind a key made for it.

    Starting takes several seconds, so `start` returns at once and whoever needs the server calls
    `wait_ready`. The process ends with `stop`, or when the process that started it is gone.

    Parameters
    ----------
    directory:
        Where the catalog lives; made if absent, readable by its owner only.
    raw_directories:
        Where the raw files of registered runs may lie.
    database:
        ``postgresql://USER:PASSWORD@HOST:PORT/NAME`` to keep runs and tables there; embedded if empty.
    """

    def __init__(
        self, directory: str | Path, raw_directories: Sequence[str | Path], *, database: str = ""
    ) -> None:
        self.database = _checked_database(database)
        self.directory = Path(directory).absolute()
        self.raw_directories = [Path(path).absolute() for path in raw_directories]
        self.api_key = secrets.token_hex(32)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Address of the server's root."""
        return f"http://127.0.0.1:{self.port}/api/v1"

    @property
    def pid(self) -> int | None:
        """Process id of the server; None before `start` and after `stop`."""
        return self._process.pid if self._process else None

    @property
    def log_file(self) -> Path:
        """What the server writes about itself."""
        return self.directory / "server.log"

    def is_alive(self) -> bool:
        """Whether the server's process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process and return at once.

        Raises
        ------
        ConfigurationError
            If the directory cannot be written.
        """
        self.port = _free_port()
        config = self.directory / "server.yml"
        try:
            _prepare(self.directory)
            _write_private(config, yaml.safe_dump(self._configuration()))
            _write_private(self.log_file, "")
            log = self.log_file.open("ab")
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"the catalog cannot be kept in {self.directory}: {error}; choose a writable directory"
            ) from error
        with log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "xrdct_beamline.storage._catalog_process", str(config)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TILED_SINGLE_USER_API_KEY": self.api_key},
                umask=0o077,
                start_new_session=True,  # Ctrl-C in the session's terminal must not reach it
            )

    def wait_ready(self, timeout_s: float = _START_S) -> None:
        """Wait until the server answers to its key.

        Raises
        ------
        ConfigurationError
            If the process ended, or did not answer in time; the message quotes its last words.
        """
        import httpx

        headers = {"Authorization": f"Apikey {self.api_key}"}
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not self.is_alive():
                raise ConfigurationError(
                    f"the catalog server on port {self.port} ended ({self._last_words()}); "
                    f"its log is {self.log_file}"
                )
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.uri}/", headers=headers, timeout=2.0).status_code == httpx.codes.OK:
                    return
            time.sleep(_POLL_S)
        raise ConfigurationError(
            f"the catalog server on port {self.port} did not answer within {timeout_s:g} s "
            f"({self._last_words()}); its log is {self.log_file}"
        )

    def connect(self) -> Any:
        """Return a client, as soon as the server answers."""
        self.wait_ready()
        return connect(self.uri, self.api_key)

    def stop(self) -> None:
        """End this server's process, by force if it does not go."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            logger.warning("the catalog server (pid %d) did not end in %g s, killed", process.pid, _STOP_S)
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _configuration(self) -> dict[str, Any]:
        return {
            "uvicorn": {"host": "127.0.0.1", "port": self.port},
            "authentication": {"allow_anonymous_access": False},
            **_tree(self.directory, self.raw_directories, self.database),
        }

    def _last_words(self) -> str:
        try:
            lines = self.log_file.read_text(errors="replace").split("\n")
        except OSError:
            return "it left no log"
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def write_profile(
    directory: str | Path,
    raw_directories: Sequence[str | Path],
    *,
    name: str = "xrdct",
    profile_directory: str | Path | None = None,
    database: str = "",
) -> Path:
    """Write the profile by which ``from_profile(name)`` and ``databroker.catalog[name]`` open a catalog.

    Parameters
    ----------
    directory, raw_directories, database:
        As of the `CatalogServer` that keeps the catalog.
    name:
        What people open it by.
    profile_directory:
        Where profiles lie; by default where tiled looks first, which ``TILED_PROFILES`` overrides.

    Raises
    ------
    ConfigurationError
        If somebody else's profile has that name, or the file cannot be written.
    """
    import tiled.profiles

    folder = Path(profile_directory or tiled.profiles.paths[-1])
    path = folder / f"{name}.yml"
    _refuse_foreign_profile(folder, path, name)
    direct = {
        "authentication": {"allow_anonymous_access": True},  # within the reader's own process
        **_tree(
            Path(directory).absolute(),
            [Path(p).absolute() for p in raw_directories],
            _checked_database(database),
        ),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_private(path, f"{PROFILE_MARKER}\n{yaml.safe_dump({name: {'direct': direct}})}")
    except OSError as error:
        raise ConfigurationError(
            f"the catalog profile {path} cannot be written: {error}; set TILED_PROFILES to one that can"
        ) from error
    tiled.profiles.load_profiles.cache_clear()
    return path


def profiled_catalog(name: str, profile_directory: str | Path | None = None) -> Path | None:
    """Return the folder of the catalog to which a profile of this software leads, None without one."""
    import tiled.profiles

    path = Path(profile_directory or tiled.profiles.paths[-1]) / f"{name}.yml"
    try:
        text = path.read_text(encoding="utf-8")
        if not text.startswith(PROFILE_MARKER):
            return None
        uri = yaml.safe_load(text)[name]["direct"]["trees"][0]["args"]["uri"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, IndexError):
        return None
    return Path(str(uri).removeprefix("sqlite:///")).parent


def _refuse_foreign_profile(folder: Path, path: Path, name: str) -> None:
    """Raise if a profile of that name in the folder was not written by this package."""
    for other in sorted([*folder.glob("*.yml"), *folder.glob("*.yaml")]):
        text = other.read_text(errors="replace")
        if text.startswith(PROFILE_MARKER) and other == path:
            continue
        try:
            content = yaml.safe_load(text)
        except yaml.YAMLError:
            content = None
        if other == path or (isinstance(content, dict) and name in content):
            raise ConfigurationError(
                f"{other} already defines the tiled profile {name!r} and was not written by this software; "
                "rename it, or give this catalog another profile name"
            )


def _checked_database(database: str) -> str:
    if database and not database.startswith("postgresql://"):
        kind = database.partition("://")[0]
        raise ConfigurationError(
            f"[catalog] database begins with {kind!r}; give postgresql://USER@HOST:PORT/NAME, or nothing"
        )
    return database


def _tree(directory: Path, raw_directories: Sequence[Path], database: str = "") -> dict[str, Any]:
    """Return tiled's description of the catalog, the same for the server and for direct readers."""
    catalog = database.replace("postgresql://", "postgresql+asyncpg://", 1)
    catalog = catalog or f"sqlite:///{directory}/catalog.db"
    return {
        "trees": [
            {
                "path": "/",
                "tree": "catalog",
                "args": {
                    "uri": catalog,
                    "specs": [{"name": "CatalogOfBlueskyRuns", "version": "3.0"}],
                    "writable_storage": [
                        f"file://localhost{directory}/arrays",
                        database or f"sqlite:///{directory}/tables.db",
                    ],
                    "readable_storage": [str(path) for path in raw_directories],
                    # Initialising takes seconds in a process of its own, so only when needed.
                    "init_if_not_exists": bool(database) or not (directory / "catalog.db").exists(),
                },
            }
        ],
        "media_types": {
            "BlueskyRun": {"application/json-seq": "bluesky_tiled_plugins.exporters:json_seq_exporter"}
        },
    }


def _prepare(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    (directory / "arrays").mkdir(mode=0o700, exist_ok=True)
    tables = directory / "tables.db"
    if not tables.exists():
        _write_private(tables, "")
        with contextlib.closing(sqlite3.connect(tables)) as connection:
            # Write-ahead logging stays on in the file, and readers then never hold up the writer.
            connection.execute("PRAGMA journal_mode=WAL")


def _write_private(path: Path, text: str) -> None:
    """Replace a file by one that only its owner may read, without a moment in between."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.replace(path)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
