"""A journal, or any documents, through the same callbacks as live, offline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from xrdct_beamline.display.snapshot import SnapshotStore
from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.storage.journal import Document, read_journal
from xrdct_beamline.storage.locks import OwnerLock

from .pipeline import LiveSettings, Pipeline, checked_output

__all__ = ["LOCK_NAME", "replay"]

#: One live service or replay at a time writes into a folder.
LOCK_NAME = ".xrdct-live.lock"


def replay(
    journal: Path | str | Iterable[Document],
    output_dir: Path | str,
    *,
    settings: LiveSettings | None = None,
    search: Sequence[Path] = (),
    run_uid: str | None = None,
) -> list[Path]:
    """Process runs again; return their processed files.

    Parameters
    ----------
    journal:
        A journal, or documents from elsewhere, such as a catalog.
    output_dir:
        Folder of the processed files. What is there already with the same settings is gone on with.
    settings:
        What is done.
    search:
        Folders in which raw files are looked for by name, as on another machine.
    run_uid:
        Only this run; its first letters suffice.

    Raises
    ------
    DataError
        If the journal is not there, or has no such run.
    OwnerError
        If another process writes into the folder.
    ConfigurationError
        If the folder cannot be written.
    """
    settings = settings or LiveSettings()
    settings = replace(settings, search=(*settings.search, *search))
    documents = read_journal(journal) if isinstance(journal, Path | str) else journal
    folder = checked_output(output_dir)
    with OwnerLock(folder / LOCK_NAME, what=f"output folder {folder}"):
        pipeline = Pipeline(folder, settings, SnapshotStore())
        try:
            n_runs = 0
            for name, doc in documents if run_uid is None else _of_run(documents, run_uid):
                n_runs += name == "start"
                pipeline(name, doc)
            pipeline.finish()
        finally:
            pipeline.close()
    if run_uid is not None and n_runs == 0:
        raise DataError(f"no run {run_uid} was found; list the uids of the journal's start documents")
    return list(pipeline.paths)


def _of_run(documents: Iterable[Document], run_uid: str) -> Iterator[Document]:
    """Yield the documents of one run."""
    run: str | None = None
    descriptors: set[str] = set()
    for name, doc in documents:
        if name == "start" and doc["uid"].startswith(run_uid):
            run = doc["uid"]
            yield name, doc
        elif run is not None and doc.get("run_start") == run:
            if name == "descriptor":
                descriptors.add(doc["uid"])
            yield name, doc
        elif doc.get("descriptor") in descriptors:
            yield name, doc
