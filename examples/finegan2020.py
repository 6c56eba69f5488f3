"""The operando experiment of Finegan et al., Nat. Commun. 11 (2020) 631, simulated and reduced again.

    python examples/finegan2020.py --output DIR          all scans of all five pauses
    python examples/finegan2020.py --output DIR --quick  a small electrode, two pauses

Writes tables (finegan2020.md, finegan2020.json) and figures 2 to 6 of the paper, recovered beside planted.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from _finegan.figures import draw
from _finegan.run import FLUXES, Experiment, add_systematic, run_degraded, run_operando
from _finegan.sample import ALTERED, degraded_plan, full_plan, quick_plan
from _finegan.systematic import VARIANTS
from _finegan.tables import as_json, as_markdown

from xrdct_beamline.domain.errors import XrdctError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment; return the exit code."""
    options = _parser().parse_args(arguments)
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:7.1f} s  {text}", flush=True)

    try:
        options.output.mkdir(parents=True, exist_ok=True)
        _run(options, say)
    except KeyboardInterrupt:
        print("interrupted; what was finished before is in", options.output)
        return 130
    except (XrdctError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for tables and figures")
    parser.add_argument("--quick", action="store_true", help="a small electrode that one scan covers")
    parser.add_argument("--pauses", type=int, help="only so many of the pauses")
    parser.add_argument("--seed", type=int, default=1, help="of the electrode and of all noise")
    parser.add_argument("--photons-per-s", type=float, default=2e11, help="on the sample; 10 ms each")
    parser.add_argument(
        "--structures",
        choices=("assumed", "altered"),
        default="assumed",
        help="what the sample is made of: what the refinement assumes, or realistically different",
    )
    parser.add_argument("--no-curve", action="store_true", help="leave out the curve of error against flux")
    parser.add_argument("--no-degraded", action="store_true", help="leave out the cycled electrode")
    return parser


def _run(options: argparse.Namespace, say) -> None:  # type: ignore[no-untyped-def]
    photons = 0.01 * options.photons_per_s
    plan = quick_plan(photons) if options.quick else full_plan(photons)
    last = len(plan.lithium) if options.pauses is None else min(options.pauses, len(plan.lithium))
    curve_at = None if options.no_curve else last

    def write(experiment: Experiment) -> None:
        text = json.dumps(as_json(experiment), indent=1, default=float)
        (options.output / "finegan2020.json").write_text(text, encoding="utf-8")
        (options.output / "finegan2020.md").write_text(as_markdown(experiment), encoding="utf-8")
        draw(experiment, options.output)

    experiment, sample = run_operando(
        plan,
        options.seed,
        planted=ALTERED if options.structures == "altered" else None,
        n_pauses=last,
        say=say,
        done=write,
        curve_at=curve_at,
        fluxes=(options.photons_per_s,) if options.quick else FLUXES,
    )
    say("systematic errors of wrong structures")
    add_systematic(experiment, sample, list(VARIANTS)[:: 6 if options.quick else 1])
    del sample
    if not (options.quick or options.no_degraded):
        experiment.degraded = run_degraded(degraded_plan(photons), options.seed, say)
    write(experiment)
    say(f"wrote tables and figures to {options.output}")
    print(as_markdown(experiment))


if __name__ == "__main__":
    sys.exit(main())
