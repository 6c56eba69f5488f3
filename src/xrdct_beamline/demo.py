"""The simulated experiment, from one command: a cell cycles, slices grow on a page, the truth is known."""

from __future__ import annotations

import json
import os
import shutil
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xrdct_beamline.domain.documents import Verdict
from xrdct_beamline.domain.errors import ConfigurationError, XrdctError
from xrdct_beamline.processing.windows import net_intensity
from xrdct_beamline.startup.configuration import Configuration, load_configuration
from xrdct_beamline.startup.processes import ChildProcess, epics_environment, free_port
from xrdct_beamline.storage.catalog_server import profiled_catalog, write_profile
from xrdct_beamline.storage.journal import read_journal
from xrdct_beamline.storage.nexus_reader import read_slice, read_summary

__all__ = ["DemoOptions", "DemoSummary", "run_demo"]

#: A folder that a demo may empty holds this file.
MARKER = ".xrdct-demo"

#: Under which tiled and databroker find a demo's catalog, and a session's.
PROFILE, SESSION_PROFILE = "xrdct-demo", "xrdct"

#: Seconds that a slice takes with the cell's way to its pause, and that starting and ending take.
SLICE_S, AROUND_S = 75.0, 45.0

#: Range of a that the spinel passes through, and the width of a reflection and of its surroundings.
SPINEL_A = (8.03, 8.25)
HALF_WIDTH_DEG, SIDE_DEG = 0.06, 0.12


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the person asked for."""

    output: Path
    headless: bool = False
    minutes: float = 5.0
    port: int = 0
    seed: int = 1

    @property
    def n_pauses(self) -> int:
        """Pauses that fit into the time, three at least."""
        return min(8, max(3, int((60 * self.minutes - AROUND_S) / SLICE_S)))


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSummary:
    """What became of it; ``summary.json`` holds the same."""

    frames_planned: int
    frames_acquired: int
    frames_discarded: int
    frames_integrated: int
    lines_retaken: int
    slices: int
    phantom_correlation: list[float]
    seconds: float
    page_url: str
    raw_files: list[str]
    processed_files: list[str]
    catalog_uids: list[str]

    @property
    def complete(self) -> bool:
        """Whether each planned frame was acquired and integrated."""
        return self.frames_planned == self.frames_acquired == self.frames_integrated


def run_demo(options: DemoOptions, say: Callable[[str], None]) -> DemoSummary:
    """Run the experiment and write ``summary.json``; everything started is ended again.

    Raises
    ------
    ConfigurationError
        If the output folder holds something else or cannot be written, or the port is in use.
    """
    started = time.monotonic()
    output = _empty_folder(options.output.absolute())
    configuration = load_configuration().with_data(output).with_profile(PROFILE)
    os.environ.update(epics_environment(free_port(), free_port()))  # before anything imports libca
    with ExitStack() as stack:
        say(f"Starting a simulated beamline and the live page; everything is kept in {output}")
        page_url, live = _start_processes(configuration, options, stack)
        say(f"The slice grows on {page_url}")
        if not options.headless:
            webbrowser.open(page_url)
        uids = _measure(configuration, options, say)
        say("Waiting for the last slice to be processed")
        _wait_until_processed(live, n_slices=len(uids) - 1)
    summary = _summarise(configuration, options, page_url, uids, time.monotonic() - started)
    _write(output / "summary.json", asdict(summary))
    _say_summary(summary, output, say)
    return summary


def _empty_folder(folder: Path) -> Path:
    """Make the folder, or empty the one of an earlier demo."""
    try:
        if folder.exists() and any(folder.iterdir()):
            if not (folder / MARKER).exists():
                raise ConfigurationError(
                    f"output folder {folder} holds something that is not an earlier demo; name another"
                )
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER).touch()
    except OSError as error:
        raise ConfigurationError(
            f"output folder {folder} cannot be written ({error.strerror}); name another with --output"
        ) from error
    return folder


def _lend_session_profile(configuration: Configuration, say: Callable[[str], None]) -> None:
    """Let a session's profile lead to this demo, unless it leads to the catalog of a session."""
    catalog = profiled_catalog(SESSION_PROFILE)
    if catalog is not None and catalog.exists() and not (catalog.parent / MARKER).exists():
        return
    paths = configuration.paths
    try:
        write_profile(paths.catalog, [paths.raw], name=SESSION_PROFILE)
    except ConfigurationError as error:  # somebody else's: the demo has a name of its own
        say(f"catalog[{SESSION_PROFILE!r}] is left alone: {error}")


def _start_processes(
    configuration: Configuration, options: DemoOptions, stack: ExitStack
) -> tuple[str, ChildProcess]:
    """Start the beamline and the live service; return the page's address and the latter."""
    output = configuration.paths.data
    pauses = [f"{x:.4f}" for x in np.linspace(0.30, 0.90, options.n_pauses)]
    sim_arguments = ["sim", "--seed", str(options.seed), "--time-scale", "250", "--pause-at", *pauses]
    live_arguments = ["live", str(configuration.paths.journal), "--port", str(options.port)]
    live_arguments += ["--output", str(configuration.paths.processed)]
    sim = ChildProcess(sim_arguments, output / "sim.log")
    stack.callback(sim.stop)
    live = ChildProcess(live_arguments, output / "live.log")
    stack.callback(live.stop)
    page_url = live.wait_for_line("page:", timeout_s=120.0)
    sim.wait_for_line("ready:", timeout_s=120.0)
    return page_url, live


def _measure(configuration: Configuration, options: DemoOptions, say: Callable[[str], None]) -> list[str]:
    """Scan a slice at each pause of the cell; return the uids of the series and its slices."""
    from epics import ca
    from ophyd import EpicsSignal

    from xrdct_beamline.startup.session import Session, ended_on_interrupt

    try:
        with Session(configuration, say) as session:
            _lend_session_profile(configuration, say)
            cycler = EpicsSignal(f"{configuration.beamline.prefix}SIM:CellRun", name="cycler")
            cycler.wait_for_connection(timeout=10.0)
            say(f"The cell is discharged and pauses {options.n_pauses} times; each pause asks for a slice")
            with ended_on_interrupt(session.RE):
                cycler.set(1).wait(timeout=10.0)
                result = session.RE(session.operando(options.n_pauses, timeout_s=120.0))
    finally:
        ca.disable_ca_messages()  # the servers end next, as they should: libca would call it an exception
    return list(getattr(result, "run_start_uids", result))


def _wait_until_processed(live: ChildProcess, n_slices: int, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while live.count_lines("slice:") < n_slices:
        if not live.is_running:
            raise XrdctError("live processing ended before the last slice was done; see live.log")
        if time.monotonic() > deadline:
            raise XrdctError(f"live processing is more than {timeout_s:g} s behind; see live.log")
        time.sleep(0.1)


def _summarise(
    configuration: Configuration, options: DemoOptions, page_url: str, uids: list[str], seconds: float
) -> DemoSummary:
    lines = list(_line_events(configuration.paths.journal))
    accepted = [line for line in lines if line["line_verdict"] == Verdict.ACCEPTED]
    refused = [line for line in lines if line["line_verdict"] != Verdict.ACCEPTED]
    found = ((path, read_summary(path)) for path in configuration.paths.processed.glob("*.nxs"))
    in_order = sorted(found, key=lambda item: item[1].state_index or 0)
    processed, summaries = [path for path, _ in in_order], [summary for _, summary in in_order]
    return DemoSummary(
        frames_planned=options.n_pauses * configuration.scan.geometry().n_frames,
        frames_acquired=sum(line["line_captured"] for line in accepted),
        frames_discarded=sum(line["line_captured"] for line in refused),
        frames_integrated=sum(summary.frames_integrated for summary in summaries),
        lines_retaken=sum(line["line_verdict"] == Verdict.RETAKE for line in lines),
        slices=sum(summary.complete for summary in summaries),
        phantom_correlation=_correlations(configuration, options.seed, processed),
        seconds=round(seconds, 1),
        page_url=page_url,
        raw_files=[line["line_raw_file"] for line in accepted],
        processed_files=[str(path) for path in processed],
        catalog_uids=uids,
    )


def _line_events(journal: Path) -> Iterator[dict[str, Any]]:
    for name, doc in read_journal(journal):
        if name == "event" and "line_verdict" in doc["data"]:
            yield doc["data"]


def _correlations(configuration: Configuration, seed: int, processed: list[Path]) -> list[float]:
    """Return Pearson's r between spinel intensity and phantom over the inscribed disc, per slice."""
    from xrdct_beamline.sim.electrode import make_electrode

    wavelength_A = configuration.calibration.load().wavelength_A
    n = configuration.scan.n_translations
    truth = make_electrode(seed).density_map(configuration.scan.step_mm, n)
    centred = np.arange(n) - (n - 1) / 2
    disc = np.hypot(centred[:, None], centred[None, :]) <= n / 2
    found = []
    for path in processed:
        patterns, radial, _ = read_slice(path)
        intensity = _spinel_intensity(patterns, radial, wavelength_A)
        found.append(round(float(np.corrcoef(intensity[disc], truth[disc])[0, 1]), 4))
    return found


def _spinel_intensity(patterns: Any, radial: Any, wavelength_A: float) -> Any:
    """Return the net intensity of the spinel's 111, which stands alone, wherever its a may be."""
    high, low = (float(np.degrees(2 * np.arcsin(wavelength_A * np.sqrt(3) / (2 * a)))) for a in SPINEL_A)
    return net_intensity(
        patterns, radial, low=low - HALF_WIDTH_DEG, high=high + HALF_WIDTH_DEG, side=SIDE_DEG
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)


def _say_summary(summary: DemoSummary, output: Path, say: Callable[[str], None]) -> None:
    say(
        f"{summary.slices} slices of {summary.frames_integrated} frames in {summary.seconds:.0f} s; "
        f"planned {summary.frames_planned}, acquired {summary.frames_acquired}, "
        f"lines taken again {summary.lines_retaken}"
    )
    say(f"Likeness to the simulated electrode (Pearson's r): {summary.phantom_correlation}")
    say(f"Everything is in {output}: summary.json, processed/*.nxs, raw/, journal.jsonl")
