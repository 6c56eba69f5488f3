"""A report on the slices of a folder: gathered, drawn, written."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from xrdct_beamline.callbacks.cell_recorder import CellHistory, CellRecorder
from xrdct_beamline.display.report import CellCurve, LatticeMap, ReportState, ReportValues, render_report
from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.domain.results import RefinedMaps, RefinementStatus
from xrdct_beamline.processing.histograms import lattice_histogram
from xrdct_beamline.processing.particles import depth_below_surface
from xrdct_beamline.storage.interior import FinishedScan, finished_scans
from xrdct_beamline.storage.journal import read_journal
from xrdct_beamline.storage.maps import read_maps
from xrdct_beamline.storage.nexus_reader import read_processed, read_rays, read_settings, read_summary
from xrdct_beamline.storage.whole import appearing_folder, check_free

from .chemistry import particle_rows, particles_of, state_point, well_lit

__all__ = ["gather_report", "write_report"]


def write_report(source: Path, output: Path | None = None, *, force: bool = False) -> Path:
    """Write a folder with ``index.html`` and the figures; it appears whole or not at all.

    Parameters
    ----------
    source:
        A processed file, a folder of them, or one that holds ``processed`` and ``journal.jsonl``.
    output:
        By default ``report`` beside the processed files.

    Raises
    ------
    ConfigurationError
        If the output is there already and is not to be replaced.
    DataError
        If no slice has ended there.
    """
    where = source if source.is_dir() else source.parent
    output = output or where / "report"
    check_free(output, force=force)
    files = render_report(gather_report(source))
    with appearing_folder(output, force=force) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        names = "\n".join(["file", *sorted(files)])
        (folder / "index.csv").write_text(names + "\n", encoding="utf-8")
    return output


def gather_report(source: Path) -> ReportValues:
    """Return what the report shows: the newest series, or the one of the file that was named."""
    folder = source if source.is_dir() else source.parent
    folder = folder / "processed" if (folder / "processed").is_dir() else folder
    scans = finished_scans(folder)
    if source.is_file():
        scans = [scan for scan in scans if scan.path == source] or scans[:0]
    if not scans:
        raise DataError(f"no slice has ended in {source}; give a processed file, or a folder of them")
    scans = _of_newest_series(scans)
    journals = [
        path / "journal.jsonl" for path in (folder, folder.parent) if (path / "journal.jsonl").is_file()
    ]
    return ReportValues(
        title=scans[-1].title or f"Slices of {(scans[-1].series_uid or scans[-1].run_uid)[:8]}",
        states=[_state(scan) for scan in scans],
        cell=_cell(journals[0]) if journals else None,
        settings=read_settings(scans[-1].path),
        version=f"xrdct-beamline {version('xrdct-beamline')}",
    )


def _of_newest_series(scans: Sequence[FinishedScan]) -> list[FinishedScan]:
    """Return the slices of the newest scan's series and role, in order."""
    newest = max(scans, key=lambda scan: scan.started_s)
    if not newest.series_uid:
        return [newest]
    chosen = [s for s in scans if (s.series_uid, s.role) == (newest.series_uid, newest.role)]
    return sorted(chosen, key=lambda scan: scan.started_s)


def _cell(journal: Path) -> CellCurve | None:
    newest: list[CellHistory] = []

    def keep(history: CellHistory) -> None:
        newest[:] = [history]

    recorder = CellRecorder(keep)
    for name, doc in read_journal(journal):
        if name in ("descriptor", "event"):
            recorder(name, doc)
    if not newest:
        return None
    history = newest[0]
    return CellCurve(
        time_s=history.time_s, voltage_V=history.voltage, current_mA=history.current, pauses=history.pauses
    )


def _state(scan: FinishedScan) -> ReportState:
    found, summary = read_processed(scan.path), read_summary(scan.path)
    try:
        maps = read_maps(scan.path)
    except DataError:  # a slice without maps is shown as it is
        maps = None
    counts = (
        f"{summary.lines_done} of {summary.lines_planned} lines, {summary.lines_bad} bad, "
        f"{summary.lines_retaken} retaken, {summary.frames_integrated} of {summary.frames_planned} frames, "
        f"{summary.status}, run ended with {summary.exit_status or 'no verdict'}"
    )
    return ReportState(
        name=scan.run_uid[:8] if scan.state_index is None else f"pause {scan.state_index + 1}",
        run_uid=scan.run_uid,
        intensity=found.intensity.mean(axis=-1),
        extent_mm=found.extent_mm,
        step_mm=found.step_mm,
        counts=counts,
        lattice=None if maps is None else _lattice(maps, scan, found.step_mm),
    )


def _lattice(maps: RefinedMaps, scan: FinishedScan, step_mm: float) -> LatticeMap | None:
    phase = maps.names[0]
    lit = well_lit(maps, phase)
    a_A, esd_A = (np.where(lit, values, np.nan) for values in (maps.a_A[phase], maps.a_esd_A[phase]))
    point = state_point(scan.state_index or 0, a_A)
    if point is None:
        return None
    labels, found = particles_of(maps, phase, axis_px=read_rays(scan.path).axis_px, step_mm=step_mm)
    depth_px = depth_below_surface(labels)
    steps = [(d, a_A[(labels > 0) & (np.floor(depth_px) == d)]) for d in range(int(depth_px.max()) + 1)]
    known = [(d, values[np.isfinite(values)]) for d, values in steps]
    known = [(d, values) for d, values in known if values.size > 2]
    return LatticeMap(
        phase=phase,
        a_A=a_A,
        histogram=lattice_histogram(a_A, a_esd_A=esd_A),
        point=point,
        n_converged=int((maps.status == RefinementStatus.CONVERGED).sum()),
        n_refined=int((maps.status != RefinementStatus.NOT_MEASURED).sum()),
        median_esd_A=float(np.nanmedian(esd_A)),
        median_rwp=float(np.median(maps.rwp[lit])),
        particles=particle_rows(found),
        depth_um=np.array([1e3 * step_mm * (d + 0.5) for d, _ in known]),
        depth_a_A=np.array([values.mean() for _, values in known]),
        depth_esd_A=np.array([values.std() / np.sqrt(values.size) for _, values in known]),
    )
