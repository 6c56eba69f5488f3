"""What a catalog lacks, from the journal."""

from __future__ import annotations

from pathlib import Path

from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.storage.catalog import replay_into_catalog
from xrdct_beamline.storage.catalog_server import CatalogServer
from xrdct_beamline.storage.journal import read_journal
from xrdct_beamline.storage.locks import OwnerLock

from .configuration import Configuration

__all__ = ["fill_catalog"]


def fill_catalog(configuration: Configuration, journal: Path) -> list[str]:
    """Write the runs of a journal that the catalog does not hold whole; return their uids.

    Raises
    ------
    DataError
        If there is no such journal.
    OwnerError
        If a session is running, which has the catalog in hand.
    ConfigurationError
        If the catalog's server does not start.
    """
    if not journal.is_file():
        raise DataError(f"there is no journal {journal}; give the file that the session wrote")
    paths = configuration.paths
    lock = paths.journal.with_name(paths.journal.name + ".lock")
    with (
        OwnerLock(lock, what=f"journal {paths.journal}"),
        CatalogServer(paths.catalog, [paths.raw], database=configuration.catalog.database) as server,
    ):
        client = server.connect()
        with client.context:
            return replay_into_catalog(read_journal(journal), client)
