"""A journal, or any documents, through the same callbacks as live, offline."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from xrdct_beamline.callbacks.line_integrator import LineIntegrator
from xrdct_beamline.display.snapshot import SnapshotStore
from xrdct_beamline.storage.journal import Document, read_journal
from xrdct_beamline.storage.locks import OwnerLock
from xrdct_beamline.storage.runs import Run, find_run, journaled_runs, slice_runs

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
    integrator: LineIntegrator | None = None,
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
        Only this run, with those that it resumes or that resume it; its first letters suffice.
    integrator:
        Who integrates the lines; by default this process.

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
    if run_uid is None:
        documents = read_journal(journal) if isinstance(journal, Path | str) else journal
    else:
        documents = _of_slice(journal, run_uid)
    folder = checked_output(output_dir)
    with OwnerLock(folder / LOCK_NAME, what=f"output folder {folder}"):
        pipeline = Pipeline(folder, settings, SnapshotStore(), integrator=integrator)
        try:
            for name, doc in documents:
                pipeline(name, doc)
            pipeline.finish()
        finally:
            pipeline.close()
    return list(pipeline.paths)


def _of_slice(journal: Path | str | Iterable[Document], run_uid: str) -> Iterator[Document]:
    """Return the documents of the runs that make one slice."""
    if isinstance(journal, Path | str):
        runs = journaled_runs(journal)
        documents: Iterable[Document] = read_journal(journal)
    else:
        documents = list(journal)
        runs = [Run(start=doc) for name, doc in documents if name == "start"]
    return _of_runs(documents, {run.uid for run in slice_runs(runs, find_run(runs, run_uid))})


def _of_runs(documents: Iterable[Document], uids: Collection[str]) -> Iterator[Document]:
    descriptors: set[str] = set()
    for name, doc in documents:
        if doc.get("run_start", doc["uid"] if name == "start" else None) in uids:
            if name == "descriptor":
                descriptors.add(doc["uid"])
            yield name, doc
        elif doc.get("descriptor") in descriptors:
            yield name, doc
