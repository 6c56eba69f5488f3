"""Refinement: voxels per second and scatter against the Cramér-Rao bound, in one run.

    python benchmarks/refinement.py [--quick] [--threads N] [--json FILE]

600 bins of 0.02° from 2° at 0.248 Å, six background coefficients, Poisson patterns. The peer is
scipy.optimize.least_squares on the exact model, one pattern after another.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.processing._settings import default_threads
from xrdct_beamline.processing.refinement import PatternModel, Profile, refine

RADIAL = (np.arange(600) + 0.5) * 0.02 + 2.0
WAVELENGTH_A = 0.248
PROFILE = Profile(u=0.15, w=7e-4, y=0.01, z=0.003)
SPINEL, ROCK_SALT, LAYERED = "LiMn2O4", "LiMnO2", "Li2MnO3"

Array = npt.NDArray[Any]


def make_model(*names: str, **options: Any) -> PatternModel:
    """Return a model of shipped phases."""
    return PatternModel([Phase.shipped(n) for n in names], RADIAL, WAVELENGTH_A, profile=PROFILE, **options)


def crest(model: PatternModel, name: str, height: float) -> float:
    """Return the scale that puts the crest of a phase's strongest reflection at a height."""
    return float(height / model.pattern({}, {name: 1.0}).max())


def poisson(model: PatternModel, heights: dict[str, float], n: int, seed: int = 0) -> tuple[Array, Array]:
    """Return patterns of spinels between 8.08 and 8.20 Å, and their a."""
    rng = np.random.default_rng(seed)
    scales = {name: crest(model, name, height) for name, height in heights.items()}
    background = [0.1 * heights[SPINEL]]
    cells = rng.uniform(8.08, 8.20, n)
    grid = np.linspace(8.08, 8.20, 61)
    clean = np.array([model.pattern({SPINEL: a}, scales, background) for a in grid])
    nearest = np.rint((cells - 8.08) / 0.002).astype(int)
    return rng.poisson(clean[nearest]).astype(np.float32), grid[nearest]


def rate(patterns: Array, model: PatternModel, threads: int, repeats: int = 3, **options: Any) -> float:
    """Return the best voxels per second."""
    refine(patterns[:32], model, threads=threads, **{k: v for k, v in options.items() if k != "start"})
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        refine(patterns, model, threads=threads, **options)
        times.append(time.perf_counter() - start)
    return len(patterns) / min(times)


def speed(n: int, threads: int) -> dict[str, float]:
    """Fit stacks with each kind of weights, and with more phases."""
    one = make_model(SPINEL)
    patterns, _ = poisson(one, {SPINEL: 1000.0}, n)
    by_bin = np.sqrt(patterns.mean(axis=0))
    before = refine(patterns, one, counts=True, threads=threads)
    found = {
        "one phase, counts": rate(patterns, one, threads, counts=True),
        "one phase, counts, from the maps before": rate(patterns, one, threads, counts=True, start=before),
        "one phase, sigma by bin": rate(patterns, one, threads, sigma=by_bin),
        "one phase, nothing known": rate(patterns, one, threads),
        "one phase, counts, one thread": rate(patterns, one, 1, counts=True),
    }
    wide = make_model(SPINEL, free_width=True)
    found["one phase and the width, counts"] = rate(patterns[: n // 4], wide, threads, counts=True)
    three = make_model(SPINEL, ROCK_SALT, LAYERED)
    patterns, _ = poisson(three, {SPINEL: 1000.0, ROCK_SALT: 200.0, LAYERED: 100.0}, n // 2)
    found["three phases, counts"] = rate(patterns, three, threads, counts=True)
    found["scipy least_squares, exact model, one phase"] = peer_rate(one)
    return found


def peer_rate(model: PatternModel, n: int = 3) -> float:
    """Fit with scipy on the exact model."""
    patterns, _ = poisson(model, {SPINEL: 1000.0}, n, seed=5)
    scale = crest(model, SPINEL, 1000.0)
    start = time.perf_counter()
    for pattern in patterns:
        weight = 1.0 / np.sqrt(np.maximum(pattern, 1.0))

        def misfit(p: Array, pattern: Array = pattern, weight: Array = weight) -> Array:
            return (model.pattern({SPINEL: p[0]}, [scale * p[1]], p[2:]) - pattern) * weight

        least_squares(misfit, [8.14, 1.0, 100.0, 0, 0, 0, 0, 0], x_scale=[1e-3, 0.01, 1, 1, 1, 1, 1, 1])
    return n / (time.perf_counter() - start)


def scatter(n: int, threads: int) -> dict[str, dict[str, float]]:
    """Compare the scatter of a at 100, 1000 and 10 000 counts in the 111 with the bound."""
    model = make_model(SPINEL)
    found = {}
    for height in (100.0, 1000.0, 10_000.0):
        scale = crest(model, SPINEL, height)
        pattern = model.pattern({SPINEL: 8.145}, [scale], [0.1 * height])
        patterns = np.random.default_rng(1).poisson(pattern, (n, pattern.size)).astype(np.float32)
        maps = refine(patterns, model, counts=True, threads=threads)
        error = maps.a_A[SPINEL] - 8.145
        bound = model.cramer_rao({SPINEL: 8.145}, [scale], [0.1 * height, 0, 0, 0, 0, 0])["a_A"][SPINEL]
        spread = float(np.nanstd(error))
        found[f"{height:.0f} counts"] = {
            "bound_A": bound,
            "scatter / bound": spread / bound,
            "bias / scatter": float(np.nanmean(error)) / spread,
            "esd / scatter": float(np.nanmean(maps.a_esd_A[SPINEL])) / spread,
            "converged": float(np.mean(maps.status == 0)),
        }
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run it all and print it."""
    parser = argparse.ArgumentParser(description="Refinement: speed and scatter")
    parser.add_argument("--quick", action="store_true", help="fewer patterns")
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    options = parser.parse_args(arguments)
    n = 4096 if options.quick else 16_384
    found: dict[str, Any] = {"threads": options.threads, "voxels per second": speed(n, options.threads)}
    found["lattice parameter"] = scatter(2000 if options.quick else 10_000, options.threads)
    text = json.dumps(found, indent=2, ensure_ascii=False)
    print(text)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
