"""What each estimator does to clean and contaminated Poisson frames: the tables of ``docs/integration.md``.

Run it with ``python benchmarks/estimators.py --output docs``; it writes ``integration-tables.md`` and
``integration-bias.svg``. Every number is the mean over at least a million simulated pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.processing.integration import Integrator

PONI = """\
Detector: Pilatus CdTe 300k
Distance: 0.3
Poni1: 0.0517
Poni2: 0.0430
Rot1: 0.0
Rot2: 0.0
Rot3: 0.0
Wavelength: 2.48e-11
"""
COMMAND = "python benchmarks/estimators.py --output docs"
RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 100.0, 1000.0)
ESTIMATORS = ("mean", "trimmed_mean", "median", "sigma_clip", "poisson_clip", "azimuthal_bin_trim")
BINS = 120  # rings of about 2500 pixels
FRAMES = 5  # of 280 000 pixels that count

Frames = npt.NDArray[np.int32]
Contamination = Callable[[np.random.Generator, npt.NDArray[np.float64], float], Frames]


def _clean(rng: np.random.Generator, rates: npt.NDArray[np.float64], rate: float) -> Frames:
    return rng.poisson(rates).astype(np.int32)


def _zingers(rng: np.random.Generator, rates: npt.NDArray[np.float64], rate: float) -> Frames:
    """Add max(20 counts, 10 σ) to 1 % of the pixels."""
    frames = _clean(rng, rates, rate)
    frames[rng.random(frames.shape) < 0.01] += int(max(20, np.ceil(10 * np.sqrt(rate))))
    return frames


def _spots(rng: np.random.Generator, rates: npt.NDArray[np.float64], rate: float) -> Frames:
    """Add Poisson counts of exactly ten times the ring to 2 % of the pixels: the hardest spots."""
    frames = _clean(rng, rates, rate)
    spots = rng.random(frames.shape) < 0.02
    frames[spots] += rng.poisson(10 * rate, spots.sum())
    return frames


def _both(rng: np.random.Generator, rates: npt.NDArray[np.float64], rate: float) -> Frames:
    """Add zingers, and spots of ten times the ring and more (exponential above that)."""
    frames = _zingers(rng, rates, rate)
    spots = rng.random(frames.shape) < 0.02
    frames[spots] += rng.poisson(10 * rate * (1 + rng.exponential(1, spots.sum())))
    return frames


def _bright(rng: np.random.Generator, rates: npt.NDArray[np.float64], rate: float) -> Frames:
    """Add zingers, and spots of ten times the ring and at least three counts."""
    frames = _zingers(rng, rates, rate)
    spots = rng.random(frames.shape) < 0.02
    frames[spots] += np.maximum(rng.poisson(10 * rate * (1 + rng.exponential(1, spots.sum()))), 3)
    return frames


CASES: dict[str, tuple[Contamination, float]] = {
    "clean": (_clean, 0.0),
    "1 % zingers of max(20 counts, 10 σ)": (_zingers, 0.0),
    "2 % spots of 10 × the ring": (_spots, 0.0),
    "zingers, and spots of ≥ 10 × the ring": (_both, 0.0),
    "zingers, and spots of ≥ 10 × the ring and ≥ 3 counts": (_bright, 0.0),
    "the same with a flat-field residue of 3.5 %": (_bright, 0.035),
}


def simulate(detector: DetectorGeometry, case: str, rate: float, n_frames: int = FRAMES) -> Frames:
    """Return frames of one rate, contaminated; the flat-field residue is the same in all of them."""
    contaminate, residue = CASES[case]
    rng = np.random.default_rng([round(rate * 1000), len(case)])
    response = np.clip(rng.normal(1, residue, detector.shape), 0.5, 1.5)
    response /= response[~detector.mask].mean()
    return contaminate(rng, np.broadcast_to(rate * response, (n_frames, *detector.shape)), rate)


def make(detector: DetectorGeometry, estimator: str, **options: Any) -> Integrator:
    """Return an integrator without corrections, so that a ring's true mean is the simulated rate."""
    options = {"bins": BINS, "solid_angle": False, "polarisation": None, **options}
    return Integrator(detector, estimator=estimator, **options)


def deviation_percent(integrator: Integrator, frames: Frames, rate: float) -> float:
    """Return by how much the mean over all pixels is off, in percent of the true rate."""
    intensity, _ = integrator.many(frames)
    weights = integrator(frames[0]).n_pixels
    mean = np.average(np.nan_to_num(intensity.mean(axis=0)), weights=weights)
    return float(100 * (mean / rate - 1))


def sigma_over_scatter(integrator: Integrator, frames: Frames) -> tuple[float, float]:
    """Return sigma over the scatter of repeated frames, and the variance relative to the mean's."""
    intensity, sigma = integrator.many(frames)
    full = integrator(frames[0]).n_pixels > 500
    scatter = intensity[:, full].var(axis=0, ddof=1)
    poisson = intensity[:, full].mean(axis=0) / integrator(frames[0]).n_pixels[full]
    ratio = np.sqrt((sigma[:, full] ** 2).mean(axis=0).mean() / scatter.mean())
    return float(ratio), float(scatter.mean() / poisson.mean())


def bias_tables(detector: DetectorGeometry) -> Iterator[str]:
    """Yield one table of deviations per contamination, and one of the plain estimators."""
    head = "| estimator | " + " | ".join(f"{rate:g}" for rate in RATES) + " |"
    for unbiased in (True, False):
        for case in CASES if unbiased else ["clean"]:
            kind = "" if unbiased else ", plain estimators (`unbiased=False`)"
            yield f"\n### {case.capitalize()}{kind}: deviation in %, by counts per pixel\n"
            yield head
            yield "|---|" + "---:|" * len(RATES)
            frames = {rate: simulate(detector, case, rate) for rate in RATES}
            for name in ESTIMATORS:
                integrator = make(detector, name, unbiased=unbiased)
                values = (deviation_percent(integrator, frames[rate], rate) for rate in RATES)
                yield f"| `{name}` | " + " | ".join(f"{v:+.2f}" for v in values) + " |"


def sigma_table(detector: DetectorGeometry) -> Iterator[str]:
    """Yield sigma over scatter and the price in variance, from 40 clean frames."""
    rates = (0.1, 0.3, 1.0, 10.0, 300.0)
    yield "\n### Sigma over the scatter of repeated clean frames (variance over that of the mean)\n"
    yield "| estimator | " + " | ".join(f"{rate:g}" for rate in rates) + " |"
    yield "|---|" + "---:|" * len(rates)
    frames = {rate: simulate(detector, "clean", rate, 40) for rate in rates}
    for name in ESTIMATORS:
        integrator = make(detector, name)
        cells = (sigma_over_scatter(integrator, frames[rate]) for rate in rates)
        yield f"| `{name}` | " + " | ".join(f"{s:.2f} ({v:.2f})" for s, v in cells) + " |"


def small_ring_table(detector: DetectorGeometry) -> Iterator[str]:
    """Yield deviations for rings of a few pixels."""
    rates = (0.1, 0.3, 1.0, 10.0, 100.0)
    yield "\n### Clean rings of few pixels: deviation in %, by counts per pixel\n"
    yield "| estimator | pixels | " + " | ".join(f"{rate:g}" for rate in rates) + " |"
    yield "|---|---:|" + "---:|" * len(rates)
    frames = {rate: simulate(detector, "clean", rate) for rate in rates}
    for bins, pixels in ((30_000, "≈ 10"), (6_000, "≈ 50"), (2_000, "≈ 150")):
        for name in ESTIMATORS:
            integrator = make(detector, name, bins=bins)
            # Against the mean of the same frames, whose own chance deviation is not the estimator's.
            mean = make(detector, "mean", bins=bins)
            values = (
                deviation_percent(integrator, frames[rate], rate)
                - deviation_percent(mean, frames[rate], rate)
                for rate in rates
            )
            yield f"| `{name}` | {pixels} | " + " | ".join(f"{v:+.2f}" for v in values) + " |"


def linearity_table(detector: DetectorGeometry) -> Iterator[str]:
    """Yield how far the pattern of a sum of frames is from the sum of their patterns."""
    pairs = ((0.1, 0.15), (0.3, 0.35), (1.0, 0.5))
    yield "\n### Linearity: pattern of summed frames over sum of patterns, deviation in %\n"
    yield "| estimator | " + " | ".join(f"{a:g} + {b:g}" for a, b in pairs) + " |"
    yield "|---|" + "---:|" * len(pairs)
    for name in ESTIMATORS:
        for unbiased in (True, False):
            integrator = make(detector, name, unbiased=unbiased)
            cells = []
            for a, b in pairs:
                one, other = simulate(detector, "clean", a), simulate(detector, "clean", b)
                both = integrator.many(one + other)[0].mean()
                apart = integrator.many(one)[0].mean() + integrator.many(other)[0].mean()
                cells.append(f"{100 * (both / apart - 1):+.2f}" if apart > 0 else "all 0")
            yield f"| `{name}`{'' if unbiased else ', plain'} | " + " | ".join(cells) + " |"


def draw(detector: DetectorGeometry, path: Path) -> None:
    """Draw the deviation of clean frames against the rate, plain and unbiased."""
    from matplotlib.figure import Figure

    rates = np.geomspace(0.05, 100, 22)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for name in ("trimmed_mean", "azimuthal_bin_trim", "sigma_clip", "poisson_clip"):
        colour = f"C{ESTIMATORS.index(name)}"
        for unbiased, style in ((False, "--"), (True, "-")):
            integrator = make(detector, name, unbiased=unbiased)
            values = [deviation_percent(integrator, simulate(detector, "clean", r, 2), r) for r in rates]
            label = f"{name}{'' if unbiased else ', plain'}"
            axes.semilogx(rates, values, style, color=colour, label=label)
    axes.set(xlabel="counts per pixel", ylabel="deviation from the true rate (%)", ylim=(-60, 10))
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables, or write them and the figure into a folder; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--output", type=Path, help="folder for integration-tables.md and integration-bias.svg"
    )
    options = parser.parse_args(arguments)
    detector = DetectorGeometry(poni_text=PONI)
    lines = ["# What each estimator does to Poisson counts\n", f"Made by `{COMMAND}`.\n"]
    print(*lines, sep="\n")
    for table in (bias_tables, sigma_table, small_ring_table, linearity_table):
        for line in table(detector):
            print(line, flush=True)
            lines.append(line)
    if options.output is not None:
        (options.output / "integration-tables.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        draw(detector, options.output / "integration-bias.svg")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
