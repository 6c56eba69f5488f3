"""Scans processed again, weeks later and elsewhere: from master files or journals, by a recipe."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xrdct_beamline.callbacks.map_settings import MapSettings
from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.domain.documents import LINES, Verdict
from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.records import ScanLine, ScanRecord
from xrdct_beamline.storage.journal import Document, read_journal
from xrdct_beamline.storage.master import read_master
from xrdct_beamline.storage.nexus_reader import read_settings

from .cluster import Cluster, ClusterIntegrator, accepted_lines
from .pipeline import LiveSettings
from .replay import replay

__all__ = ["documents_of", "process_files", "recipe_of"]

logger = logging.getLogger(__name__)


def process_files(
    inputs: Sequence[Path],
    output_dir: Path,
    *,
    settings: LiveSettings,
    search: Sequence[Path] = (),
    cluster: Cluster | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Process the scans of master files and journals with the callbacks of live processing.

    Scans are taken in the order in which they began, so that those around a region come before it.
    An interrupted run goes on where it was: lines that a file in the folder holds, made with the same
    settings, are not integrated again.

    Parameters
    ----------
    inputs:
        Master files (``.nxs``) and journals (``.jsonl``).
    output_dir:
        Folder of the processed files.
    settings:
        The recipe.
    search:
        Folders in which raw files are looked for by name.
    cluster:
        Who integrates the lines; by default this process. The results are the same.
    progress:
        Called with the lines gone through and all of them.

    Raises
    ------
    ConfigurationError
        If an input is neither, or the folder cannot be written.
    DataError
        If an input is not there or damaged.
    """
    documents = list(_documents(inputs))
    integrator = None
    if cluster is not None:
        integrator = ClusterIntegrator(cluster, (*settings.search, *search), accepted_lines(documents))
    followed = documents if progress is None else _followed(documents, progress)
    return replay(followed, output_dir, settings=settings, search=search, integrator=integrator)


def recipe_of(path: Path, settings: LiveSettings) -> LiveSettings:
    """Return settings with the processing and the refinement that made a processed file.

    Raises
    ------
    DataError
        If it is no processed file.
    ConfigurationError
        If its recipe cannot be used by this version.
    """
    try:
        values = dict(json.loads(read_settings(path)))
    except (ValueError, TypeError) as error:
        raise DataError(f"the recipe in {path} is damaged: {error}; name another file") from error
    maps = values.get("refinement")
    return replace(
        settings,
        processing=replace(ProcessingSettings.from_metadata(values), threads=settings.processing.threads),
        maps=None if maps is None else MapSettings.from_metadata(maps),
    )


def documents_of(record: ScanRecord) -> Iterator[Document]:
    """Yield the documents from which a scan's slice follows: its start, its lines, its end."""
    run_uid = str(record.start["uid"])
    descriptor = str(uuid.uuid5(uuid.NAMESPACE_OID, f"lines of {run_uid}"))
    yield "start", dict(record.start)
    yield "descriptor", {"uid": descriptor, "run_start": run_uid, "name": LINES, "time": record.start["time"]}
    for number, line in enumerate(sorted(record.lines, key=lambda line: line.started_s), start=1):
        yield (
            "event",
            {
                "uid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{descriptor} {number}")),
                "descriptor": descriptor,
                "seq_num": number,
                "time": line.ended_s,
                "data": _data_of(line),
            },
        )
    yield "stop", {"run_start": run_uid, "time": record.ended_s, "exit_status": record.exit_status}


def _documents(inputs: Sequence[Path]) -> Iterator[Document]:
    scans: list[tuple[float, Iterator[Document]]] = []
    for path in inputs:
        if path.suffix == ".jsonl":
            documents = list(read_journal(path))
            begun_s = [float(doc["time"]) for name, doc in documents if name == "start"]
            if not begun_s:
                raise DataError(f"the journal {path} holds no run")
            scans.append((min(begun_s), iter(documents)))
        elif path.suffix in (".nxs", ".h5"):
            record = read_master(path)
            scans.append((float(record.start["time"]), documents_of(record)))
        else:
            raise ConfigurationError(f"{path} is neither a master file (.nxs) nor a journal (.jsonl)")
    for _, scan in sorted(scans, key=lambda scan: scan[0]):
        yield from scan


def _followed(documents: Sequence[Document], progress: Callable[[int, int], None]) -> Iterator[Document]:
    total = sum("line_verdict" in doc["data"] for name, doc in documents if name == "event")
    done = 0
    for name, doc in documents:
        yield name, doc
        if name == "event" and "line_verdict" in doc["data"]:
            done += 1
            progress(done, total)


def _data_of(line: ScanLine) -> dict[str, Any]:
    return {
        "line_rotation_index": line.rotation_index,
        "line_attempt": line.attempt,
        "line_verdict": str(Verdict.ACCEPTED),
        "line_reason": "",
        "line_raw_file": str(line.raw_file),
        "line_position_mm": line.position_mm,
        "line_i0": line.i0,
        "line_i1": line.i1,
        "line_started_s": line.started_s,
        "line_ended_s": line.ended_s,
    }
