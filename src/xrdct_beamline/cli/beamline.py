"""Commands at the beamline, real or simulated: measure, follow, go on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from xrdct_beamline.domain.errors import ConfigurationError

from .ends import REFUSED

__all__ = ["COMMANDS"]

Parser = argparse.ArgumentParser


def _add_demo(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("demo", parents=[common], help="simulated beamline, whole experiment, live page")
    p.add_argument("--minutes", type=float, default=5.0, help="run time to stay within (default 5)")
    p.add_argument("--headless", action="store_true", help="do not open a browser")
    p.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for all it writes")
    p.add_argument("--port", type=int, default=0, help="port of the page (default: any free one)")
    p.add_argument("--seed", type=int, default=1, help="seed of the sample and its noise")
    p.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from xrdct_beamline.demo import DemoOptions, run_demo

    summary = run_demo(
        DemoOptions(
            output=options.output,
            headless=options.headless,
            minutes=options.minutes,
            port=options.port,
            seed=options.seed,
        ),
        say=lambda text: print(text, flush=True),
    )
    return 0 if summary.complete else 1


def _add_sim(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("sim", parents=[configured], help="serve the simulated IOCs on loopback")
    p.add_argument("--list-pvs", action="store_true", help="print each process variable and end")
    p.add_argument("--seed", type=int, default=1, help="seed of the sample and its noise")
    p.add_argument("--prefix", help="prefix of every process variable (default: the configuration's)")
    p.add_argument("--detector", help="pyFAI's name of the detector (default: the PONI's)")
    p.add_argument("--time-scale", type=float, default=1.0, help="how many times faster the cell runs")
    p.add_argument("--pause-at", type=float, nargs="*", metavar="X", help="lithium contents to pause at")
    p.add_argument("--pause-s", type=float, help="length of a pause (default: until DONE)")
    p.add_argument(
        "--sequence", type=Path, metavar="FILE", help="what the cycler does; try package:finegan2020.cell"
    )
    p.add_argument("--freeze", action="store_true", help="frames depend on positions alone, not on time")
    p.set_defaults(run=_sim)


def _sim(options: argparse.Namespace) -> int:
    from xrdct_beamline.sim.iocs.server import list_pvs
    from xrdct_beamline.startup.configuration import load_configuration
    from xrdct_beamline.startup.simulation import serve_simulation, sim_options

    chosen = sim_options(
        load_configuration(options.config),
        prefix=options.prefix,
        seed=options.seed,
        detector=options.detector,
        time_scale=options.time_scale,
        pause_at=options.pause_at,
        pause_s=options.pause_s,
        sequence=options.sequence,
        freeze=options.freeze,
    )
    if options.list_pvs:
        for name, kind, doc in list_pvs(chosen):
            print(f"{name:40s} {kind:8s} {doc}")
        return 0
    serve_simulation(chosen, on_ready=lambda text: print(f"ready: {text}", flush=True))
    return 0


def _add_shell(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("shell", parents=[configured], help="IPython session at the beamline")
    p.add_argument("--no-live", action="store_true", help="do not start live processing and the page")
    p.set_defaults(run=_shell)


def _shell(options: argparse.Namespace) -> int:
    from xrdct_beamline.startup.shell import run_shell

    run_shell(options.config, live=not options.no_live, say=print)
    return 0


def _add_live(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("live", parents=[configured], help="follow a run: process, write, show on a page")
    p.add_argument("journal", type=Path, nargs="?", help="journal to follow (default: the configuration's)")
    p.add_argument("--output", type=Path, help="folder of the processed files")
    p.add_argument("--port", type=int, help="port of the page; 0 takes any free one")
    p.add_argument("--no-page", action="store_true", help="process and write, but show nothing")
    p.set_defaults(run=_live)


def _live(options: argparse.Namespace) -> int:
    from xrdct_beamline.startup.configuration import load_configuration
    from xrdct_beamline.startup.live import follow

    configuration = load_configuration(options.config)
    port = configuration.page.port if options.port is None else options.port
    follow(
        configuration,
        journal=options.journal,
        output=options.output,
        page_port=None if options.no_page else port,
        on_ready=lambda url: print(f"page: {url or 'none'}", flush=True),
        on_slice=lambda path: print(f"slice: {path}", flush=True),
    )
    return 0


def _add_replay(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser(
        "replay", parents=[configured], help="process a journal again, or bring it into the catalog"
    )
    p.add_argument("journal", type=Path)
    p.add_argument("--output", type=Path, help="folder of the processed files")
    p.add_argument("--catalog", action="store_true", help="write runs that the catalog does not hold whole")
    p.set_defaults(run=_replay)


def _replay(options: argparse.Namespace) -> int:
    from xrdct_beamline.startup.configuration import load_configuration

    if options.output is None and not options.catalog:
        raise ConfigurationError("say where to: --output FOLDER for processed files, or --catalog")
    configuration = load_configuration(options.config)
    if options.catalog:
        from xrdct_beamline.startup.catalog import fill_catalog

        for uid in fill_catalog(configuration, options.journal):
            print(f"in the catalog: {uid}")
    if options.output is not None:
        from xrdct_beamline.startup.live import replay_journal

        for path in replay_journal(configuration, options.journal, options.output):
            print(path)
    return 0


def _add_resume(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser(
        "resume", parents=[configured], help="measure what a slice lacks that was cut short"
    )
    p.add_argument("uid", metavar="RUN", help="uid of the run, or how it begins; 'last' is the newest slice")
    p.add_argument("--dry-run", action="store_true", help="say what is missing, and measure nothing")
    p.add_argument(
        "--find-axis",
        action="store_true",
        help="the stages were homed anew: follow the rotation axis's shift",
    )
    p.add_argument("--limit-mm", type=float, help="largest shift that is followed (default: half a line)")
    p.set_defaults(run=_resume)


def _resume(options: argparse.Namespace) -> int:
    from xrdct_beamline.startup.configuration import load_configuration
    from xrdct_beamline.startup.processes import confine_to_loopback
    from xrdct_beamline.startup.resume import find_unfinished

    configuration = load_configuration(options.config)
    found = find_unfinished(configuration, options.uid)
    if options.dry_run or not found.missing:
        print(found, f"missing lines: {list(found.missing) or 'none'}", sep="\n")
        return 0
    confine_to_loopback()  # before anything imports libca
    from xrdct_beamline.startup.session import Session, ended_on_interrupt

    def say(text: str) -> None:
        print(text, flush=True)

    with (
        Session(configuration, say, needs_calibration=False) as session,
        ended_on_interrupt(session.RE),
    ):
        plan = session.resume(options.uid, find_axis=options.find_axis, limit_mm=options.limit_mm)
        session.RE(plan)
        left = find_unfinished(configuration, options.uid)
    print(left)
    return 1 if left.missing else 0


def _add_check(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("check", parents=[configured], help="what is wrong, and how to mend it")
    p.add_argument("--timeout", type=float, help="seconds to wait for the process variables")
    p.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from xrdct_beamline.startup.check import run_checks

    failed = 0
    for finding in run_checks(options.config, timeout_s=options.timeout):
        failed += not finding.is_good
        print(f"{'ok ' if finding.is_good else 'BAD'}  {finding.what}: {finding.text}")
    return REFUSED if failed else 0


def _add_catalog(commands: Any, common: Parser, configured: Parser) -> None:
    p = commands.add_parser("catalog", parents=[configured], help="serve the catalog of runs")
    p.add_argument("what", choices=("serve",), help="serve: on loopback, until interrupted")
    p.set_defaults(run=_catalog)


def _catalog(options: argparse.Namespace) -> int:
    from xrdct_beamline.startup.catalog_serve import serve_catalog
    from xrdct_beamline.startup.configuration import load_configuration

    serve_catalog(load_configuration(options.config), lambda text: print(text, flush=True))
    return 0


#: In the order of the help.
COMMANDS = (_add_demo, _add_sim, _add_shell, _add_live, _add_replay, _add_resume, _add_catalog, _add_check)
