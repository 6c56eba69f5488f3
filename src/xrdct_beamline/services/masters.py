"""Master files: written beside the line files when a scan has ended."""

from __future__ import annotations

import logging
from pathlib import Path

from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.domain.records import ScanRecord
from xrdct_beamline.storage.master import write_master

__all__ = ["master_path", "write_beside_lines"]

logger = logging.getLogger(__name__)


def master_path(record: ScanRecord) -> Path:
    """Return where the master of a scan belongs: in the folder of its first line file."""
    first = min(record.lines, key=lambda line: line.started_s)
    uid = str(record.start["xrdct"].get("resumes") or record.start["uid"])
    return first.raw_file.parent / f"{uid[:8]}_master.nxs"


def write_beside_lines(record: ScanRecord) -> None:
    """Write the master of a scan; a folder that cannot be written is logged, the data are safe without."""
    try:
        write_master(master_path(record), record)
    except DataError as error:
        logger.warning("%s", error)
