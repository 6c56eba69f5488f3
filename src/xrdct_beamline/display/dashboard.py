"""The live page: a Bokeh server on loopback that looks at snapshots on its own clock.

Nothing is pushed into the page and nothing can be commanded from it. Each browser has a session,
which compares the snapshot's version a few times a second and, if it has changed, hands new data to
figures that stay. Maps are summed over their channels here, once for all browsers, so that a browser
is sent pictures and never the channels.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import webbrowser
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from ..domain.errors import ConfigurationError
from .session import Session, SharedMaps
from .snapshot import SnapshotStore

__all__ = ["PageServer", "serve"]

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"

_STOP_S = 10.0


def serve(store: SnapshotStore, port: int = 0, *, open_browser: bool = False) -> PageServer:
    """Serve the page of a store, in a thread, and return its server.

    Parameters
    ----------
    store:
        Where the newest snapshot lies.
    port:
        Port on loopback; 0 takes a free one.
    open_browser:
        Whether to show the page in the user's browser.

    Raises
    ------
    ConfigurationError
        If the port is taken.
    """
    server = PageServer(store, port)
    if open_browser:
        webbrowser.open(server.url)
    return server


class PageServer:
    """The page's server, in a thread of its own, from its construction until `stop`."""

    def __init__(self, store: SnapshotStore, port: int = 0) -> None:
        try:
            self._socket = socket.create_server((HOST, port))
        except (OSError, OverflowError) as error:
            raise ConfigurationError(
                f"the page cannot be served on {HOST}:{port}: {error}; "
                "choose another port, or 0 for a free one"
            ) from error
        self._socket.setblocking(False)
        self.port = int(self._socket.getsockname()[1])
        self._maps = SharedMaps()
        self._store = store
        self._loop: IOLoop | None = None
        started: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(started,), name="xrdct-page", daemon=True)
        self._thread.start()
        started.result()

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.port}/"

    def stop(self) -> None:
        """End the server and its sessions."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.add_callback(loop.stop)
            self._thread.join(_STOP_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, started: Future[None]) -> None:
        asyncio.set_event_loop(asyncio.new_event_loop())
        loop = IOLoop.current()
        try:
            application = BokehTornado(
                Application(FunctionHandler(self._open_session)),
                extra_websocket_origins=[f"{HOST}:{self.port}", f"localhost:{self.port}"],
            )
            http = HTTPServer(application)
            http.add_socket(self._socket)
            server = BaseServer(loop, application, http)
            server.start()
        except Exception as error:  # the boundary of the thread: the caller raises it
            started.set_exception(error)
            return
        self._loop = loop
        started.set_result(None)
        loop.start()
        server.stop()
        loop.run_sync(http.close_all_connections)
        loop.close(all_fds=True)

    def _open_session(self, document: Any) -> None:
        Session(document, self._store, self._maps)
