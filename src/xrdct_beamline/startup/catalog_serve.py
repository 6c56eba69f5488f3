"""The catalog for people, without a session: served until interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.storage.catalog_server import CatalogServer

from .configuration import Configuration

__all__ = ["serve_catalog"]


def serve_catalog(configuration: Configuration, say: Callable[[str], None]) -> None:
    """Serve the configured catalog on loopback until interrupted; say where, and with which key.

    Raises
    ------
    ConfigurationError
        If the server does not come up, or ends by itself.
    """
    paths = configuration.paths
    with CatalogServer(paths.catalog, [paths.raw], database=configuration.catalog.database) as server:
        server.wait_ready()
        say(f"catalog: {server.uri}?api_key={server.api_key}")
        while server.is_alive():
            time.sleep(0.2)
    raise ConfigurationError(f"the catalog server ended; its log is {server.log_file}")
