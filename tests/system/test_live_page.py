"""The live service with its page."""

from __future__ import annotations

import socket
import threading
import urllib.request
from pathlib import Path

import pytest

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.services.live import run_live

pytestmark = pytest.mark.system


def test_the_page_answers_once_the_service_is_ready_and_goes_with_it(tmp_path: Path) -> None:
    stop = threading.Event()
    seen: list[tuple[str, int]] = []

    def look(url: str | None) -> None:
        assert url is not None
        with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - our own page
            seen.append((url, reply.status))
        stop.set()

    run_live(tmp_path / "j", tmp_path / "out", page_port=0, on_ready=look, stop=stop)
    [(url, status)] = seen
    assert status == 200
    port = int(url.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_port_in_use_is_refused_before_anything_begins(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=str(port)):
            run_live(tmp_path / "j", tmp_path / "out", page_port=port)
    assert not list((tmp_path / "out").glob("*.nxs"))
