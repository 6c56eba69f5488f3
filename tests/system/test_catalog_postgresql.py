"""The catalog in a real PostgreSQL, started here on loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from builders import TINY_SHAPE, Attempt, slice_documents, write_raw_line

from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.storage.catalog import registered_uids, replay_into_catalog
from xrdct_beamline.storage.catalog_server import CatalogServer

GEOMETRY = ScanGeometry.raster(n_translations=3, step_mm=0.03, n_rotations=2)


def program(name: str) -> str | None:
    """Find a program of PostgreSQL, which Debian keeps off the path."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(installed[-1]) if installed else None)


pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(program("initdb") is None, reason="PostgreSQL is not installed"),
]


@pytest.fixture
def database() -> Iterator[str]:
    """Yield the address of an empty database; root may not run the server, so somebody else does."""
    user = "nobody" if os.geteuid() == 0 else None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # sockets need a short path
        if user is not None:
            shutil.chown(folder, user)

        def run(name: str, *arguments: str) -> None:
            command = [program(name) or name, *arguments]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=user, cwd=folder, timeout=60)

        data = f"{folder}/data"
        run("initdb", "-D", data, "-U", "xrdct", "-A", "trust", "--no-sync")
        listen = f"-p {port} -h 127.0.0.1 -k {folder} -F"
        run("pg_ctl", "-D", data, "-w", "-l", f"{folder}/log", "-o", listen, "start")
        try:
            yield f"postgresql://xrdct@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "stop")


def test_runs_and_frames_read_back_and_nothing_is_kept_beside_it(database, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    frames = np.arange(6 * np.prod(TINY_SHAPE), dtype=np.int32).reshape(2, 3, *TINY_SHAPE)
    attempts = [
        Attempt(rotation_index=i, raw_file=write_raw_line(raw / f"{i}.h5", frames[i])) for i in range(2)
    ]
    documents = list(slice_documents(GEOMETRY, attempts))
    uid = documents[0][1]["uid"]
    with CatalogServer(tmp_path / "catalog", [raw], database=database) as server:
        client = server.connect()
        with client.context:
            assert replay_into_catalog(documents, client) == [uid]
            assert registered_uids(client) == [uid]
            stack = client[uid]["primary/pilatus_image"]
            np.testing.assert_array_equal(stack[:], frames.reshape(6, *TINY_SHAPE))
            assert client[uid]["lines"].read()["line_rotation_index"].values.tolist() == [0, 1]
    assert not (tmp_path / "catalog" / "catalog.db").exists()
