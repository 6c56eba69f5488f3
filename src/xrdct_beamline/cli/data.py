"""Commands on files: integrate, calibrate, process, reconstruct, refine, export."""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xrdct_beamline.domain.errors import ConfigurationError

from .ends import INTERRUPTED

__all__ = ["COMMANDS"]

Parser = argparse.ArgumentParser


def _add_integrate(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("integrate", parents=[common], help="frames in files to powder patterns")
    p.add_argument("frames", type=Path, nargs="+", help="CBF, TIFF, EDF or HDF5")
    p.add_argument("--poni", type=Path, required=True, help="calibration by pyFAI")
    p.add_argument("--mask", type=Path, help="image of the pixel mask, 1 = masked")
    p.add_argument("--detector", help="pyFAI's name, where the PONI names another")
    p.add_argument("-o", "--output", type=Path, required=True, help=".xye for one frame, .h5 for many")
    p.add_argument("--bins", type=int, default=1000)
    p.add_argument("--unit", default="2th_deg", help="2th_deg, q_A^-1 or q_nm^-1")
    p.add_argument("--estimator", default="trimmed_mean")
    p.add_argument("--lower", type=float, default=0.05, help="fraction trimmed from below")
    p.add_argument("--upper", type=float, default=0.05, help="fraction trimmed from above")
    p.add_argument("--polarisation", type=float, default=0.99)
    p.set_defaults(run=_integrate)


def _integrate(options: argparse.Namespace) -> int:
    from xrdct_beamline.services.integrate import integrate_files

    integrate_files(
        options.frames,
        poni=options.poni,
        mask=options.mask,
        detector=options.detector,
        output=options.output,
        bins=options.bins,
        unit=options.unit,
        estimator=options.estimator,
        lower=options.lower,
        upper=options.upper,
        polarisation=options.polarisation,
    )
    print(options.output)
    return 0


def _add_calibrate(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("calibrate", parents=[common], help="a calibrant's frame to an instrument file")
    p.add_argument("frame", type=Path, metavar="FRAME", help="CBF, TIFF or EDF image of a calibrant")
    p.add_argument("--poni", type=Path, required=True, help="calibration by pyFAI")
    p.add_argument("--mask", type=Path, help="image of the pixel mask, 1 = masked")
    p.add_argument("--detector", help="pyFAI's name, where the PONI names another")
    p.add_argument("--cif", required=True, help="CIF of the calibrant, or CeO2, LaB6, Si")
    p.add_argument(
        "--free", choices=("profile", "zero"), default="profile",
        help="profile: the cell is refined and the zero is 0; zero: the cell is the CIF's",
    )  # fmt: skip
    p.add_argument("--letters", default="u,v,w,y,z", help="of the profile, to refine (default u,v,w,y,z)")
    p.add_argument("--no-sensor-depth", action="store_true", help="no asymmetry from a thick sensor")
    p.add_argument("--range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="2theta in degrees")
    p.add_argument("--bins", type=int, default=2000)
    p.add_argument("--estimator", default="trimmed_mean", help="the one that the scans are processed with")
    p.add_argument("-o", "--output", type=Path, required=True, help="instrument file to write (.toml)")
    p.set_defaults(run=_calibrate)


def _calibrate(options: argparse.Namespace) -> int:
    from xrdct_beamline.services.calibrate import CalibrationOptions, calibrate, table

    chosen = CalibrationOptions(
        free=options.free,
        letters=tuple(options.letters.split(",")),
        sensor_depth=not options.no_sensor_depth,
        two_theta_range_deg=None if options.range is None else tuple(options.range),
        bins=options.bins,
        estimator=options.estimator,
    )
    done = calibrate(
        options.frame,
        poni=options.poni,
        mask=options.mask,
        detector=options.detector,
        cif=options.cif,
        options=chosen,
    )
    done.instrument.save(options.output)
    print(*table(done), options.output, sep="\n")
    return 0


def _add_process(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser(
        "process", parents=[configured], help="raw scans to patterns, slices and maps, again"
    )
    p.add_argument(
        "inputs", type=Path, nargs="+", metavar="RAW", help="master files (.nxs) or journals (.jsonl)"
    )
    p.add_argument("--output", type=Path, required=True, help="folder of the processed files")
    p.add_argument(
        "--recipe", type=Path, help="a configuration (.toml), or a processed file made the same way (.nxs)"
    )
    p.add_argument("--search", type=Path, nargs="*", default=[], help="folders with moved raw files")
    _add_cluster(p)
    p.set_defaults(run=_process)


def _process(options: argparse.Namespace) -> int:
    from xrdct_beamline.services.process import process_files, recipe_of
    from xrdct_beamline.startup.configuration import load_configuration
    from xrdct_beamline.startup.live import live_settings

    is_result = options.recipe is not None and options.recipe.suffix in (".nxs", ".h5")
    file = options.config if is_result or options.recipe is None else options.recipe
    settings = live_settings(load_configuration(file))
    if is_result:
        settings = recipe_of(options.recipe, settings)
    with _cluster(options.cluster) as cluster:
        paths = process_files(
            options.inputs, options.output, settings=settings, search=options.search,
            cluster=cluster, progress=_show_progress,
        )  # fmt: skip
    for path in paths:
        print(path)
    return 0


def _add_cluster(p: Parser) -> None:
    p.add_argument(
        "--cluster", metavar="WHERE", help="Dask workers: local, local:N, or tcp://HOST:PORT of a scheduler"
    )


def _cluster(where: str | None) -> Any:
    """Return the workers, as a context; None within where there are none."""
    if where is None:
        return contextlib.nullcontext()
    from xrdct_beamline.services.cluster import connect

    return connect(where)


def _add_reconstruct(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("reconstruct", parents=[common], help="a processed file's sinogram to a slice")
    p.add_argument("file", type=Path, help="processed file (.nxs)")
    p.add_argument("-o", "--output", type=Path, required=True, help="new NeXus file")
    p.add_argument(
        "--axis",
        metavar="PX|find",
        help="column of the rotation axis, or find it (default: what the file says)",
    )
    p.add_argument(
        "--uncorrected", action="store_true", help="leave in a region of interest what lies outside of it"
    )
    p.add_argument("--backend", default="native", help="native, tomopy or astra")
    p.add_argument("--method", default="fbp", help="fbp, or what the backend offers")
    p.add_argument("--filter", default="ramp", help="ramp, shepp-logan, hann or cosine")
    p.set_defaults(run=_reconstruct)


def _reconstruct(options: argparse.Namespace) -> int:
    from xrdct_beamline.services.reconstruct import ReconstructionOptions, reconstruct_file

    chosen = ReconstructionOptions(
        axis_px=_axis_px(options.axis),
        find_axis=options.axis == "find",
        freed=not options.uncorrected,
        backend=options.backend,
        method=options.method,
        filter_name=options.filter,
    )
    done = reconstruct_file(options.file, options.output, chosen)
    agreement = "" if done.axis.agrees else "; the estimators of the axis do not agree, look at the sinogram"
    freed = ", freed of what lies outside" if done.is_freed else ""
    axis = f"axis {done.axis_source} at {done.axis.axis_px:.2f} px"
    print(f"{done.output}: {done.shape}{freed}, {axis}{agreement}")
    return 0


def _add_refine(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("refine", parents=[configured], help="lattice maps of a processed file's slice")
    p.add_argument("file", type=Path, help="processed file (.nxs)")
    p.add_argument("-o", "--output", type=Path, required=True, help="new NeXus file of maps")
    p.add_argument(
        "--cif", nargs="+", metavar="CIF", help="phases: CIFs or shipped names (default: configured)"
    )
    p.add_argument("--instrument", type=Path, help="as xrdct calibrate writes it (default: configured)")
    p.add_argument("--range", type=float, nargs=2, metavar=("LOW", "HIGH"), help="part of the pattern's axis")
    p.add_argument("--background", type=int, help="terms of the background")
    p.add_argument("--force", action="store_true", help="replace the output")
    _add_cluster(p)
    p.set_defaults(run=_refine)


def _refine(options: argparse.Namespace) -> int:
    from xrdct_beamline.domain.phases import shipped_names
    from xrdct_beamline.services.refine import refine_file
    from xrdct_beamline.startup.configuration import load_configuration
    from xrdct_beamline.startup.live import map_settings

    settings = map_settings(
        load_configuration(options.config).with_refinement(
            phases=options.cif
            and [c if c in shipped_names() else str(Path(c).absolute()) for c in options.cif],
            instrument=options.instrument,
            radial_range=options.range and tuple(options.range),
            background=options.background,
        )
    )
    if settings is None:
        raise ConfigurationError(
            "no phase is given; name one with --cif, or in [refinement] of the configuration"
        )

    def progress(done: int, total: int) -> None:
        print(f"\r{done} of {total} voxels", end="", file=sys.stderr, flush=True)

    with _cluster(options.cluster) as cluster, _stop_on_interrupt() as stop:
        done = refine_file(
            options.file, options.output, settings, force=options.force, progress=progress, stop=stop,
            pool=cluster and cluster.blocks(),
        )  # fmt: skip
    print(file=sys.stderr)
    print(", ".join(f"{n} {status}" for status, n in done.counts().items() if n))
    print(done.output)
    return INTERRUPTED if done.interrupted else 0


def _add_export(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("export", parents=[common], help="a processed file for other programs")
    p.add_argument("file", type=Path, help="processed file (.nxs)")
    p.add_argument("--format", choices=("xye", "topas", "gsas", "csv"), default="xye", help="default: xye")
    p.add_argument(
        "--region",
        choices=("voxel", "particle", "shell", "slice"),
        default="particle",
        help="what a pattern is of (default: particle); csv is the table of particles",
    )
    p.add_argument(
        "-o", "--output", type=Path, help="folder, or file of csv and a slice (default: beside it)"
    )
    p.add_argument("--cif", type=Path, nargs="+", default=[], help="structures for TOPAS and GSAS-II")
    p.add_argument("--instrument", type=Path, help="file of xrdct calibrate, or .instprm")
    p.add_argument("--phase", help="whose refined map shows the particles (default: the first)")
    p.add_argument("--threshold", type=float, help="what a particle exceeds in that map (default: Otsu's)")
    p.add_argument("--min-size", type=int, default=12, metavar="PX", help="smallest particle (default 12)")
    p.add_argument("--shells", type=int, default=4, help="depth shells of a particle (default 4)")
    p.add_argument("--blur", type=float, metavar="PX", help="unmix regions: FWHM of the slice's resolution")
    p.add_argument("--everything", action="store_true", help="voxels outside of particles too")
    p.add_argument("--force", action="store_true", help="replace what is there")
    p.add_argument("--dry-run", action="store_true", help="say what would be written, and write nothing")
    p.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from xrdct_beamline.services.export import (
        ExportOptions,
        Format,
        ParticleSettings,
        Region,
        prepare_export,
    )

    particles = ParticleSettings(
        phase=options.phase, threshold=options.threshold, min_size_px=options.min_size
    )
    chosen = ExportOptions(
        format=Format(options.format),
        region=Region(options.region),
        cifs=tuple(options.cif),
        instrument=options.instrument,
        particles=particles,
        n_shells=options.shells,
        everything=options.everything,
        blur_px=options.blur,
        force=options.force,
    )
    export = prepare_export(options.file, options.output, chosen)
    print(export, *(f"note: {note}" for note in export.notes), sep="\n", flush=True)
    if not options.dry_run:
        export.write(_show_progress)
    return 0


def _add_report(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("report", parents=[common], help="a page and figures of the slices of a series")
    p.add_argument(
        "source", type=Path, metavar="FOLDER", help="folder of processed files, or one file (.nxs)"
    )
    p.add_argument("-o", "--output", type=Path, help="folder to write (default: report, beside the files)")
    p.add_argument("--force", action="store_true", help="replace what is there")
    p.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    try:
        from xrdct_beamline.services.report import write_report
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ConfigurationError(
            "a report needs matplotlib, which is not here; install xrdct-beamline[report]"
        ) from error

    print(write_report(options.source, options.output, force=options.force) / "index.html")
    return 0


def _add_bench(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("bench", parents=[common], help="speed and accuracy, as ratios against peers")
    p.add_argument(
        "what",
        choices=(
            "integration",
            "reconstruction",
            "refinement",
            "resume",
            "faults",
            "soak",
            "lines",
            "catalog",
        ),
    )
    p.add_argument("arguments", nargs=argparse.REMAINDER, help="go to the benchmark, try --help")
    p.set_defaults(run=_bench)


def _bench(options: argparse.Namespace) -> int:
    script = Path(__file__).parents[3] / "benchmarks" / f"{options.what}.py"
    if not script.exists():
        raise ConfigurationError(f"{script} is not there; benchmarks run from a checkout of the repository")
    return subprocess.run([sys.executable, str(script), *options.arguments], check=False).returncode


def _axis_px(text: str | None) -> float | None:
    if text is None or text == "find":
        return None
    try:
        return float(text)
    except ValueError as error:
        raise ConfigurationError(f"--axis is {text!r}; give a column in pixels, or find") from error


@contextlib.contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """Set an event on the first Ctrl-C; the second one ends the program."""
    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def handle(_number: int, _frame: Any) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _show_progress(done: int, total: int) -> None:
    """Rewrite the line of a terminal; say nothing into a file."""
    if sys.stderr.isatty():
        print(f"\r{done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


#: In the order of the help.
COMMANDS = (
    _add_integrate,
    _add_calibrate,
    _add_process,
    _add_reconstruct,
    _add_refine,
    _add_export,
    _add_report,
    _add_bench,
)
