"""What limits lattice parameters of single voxels when counting does not: angles, parallax, filter.

    python examples/finegan2020_limits.py [NAME …]

Slices without noise at x = 0.68 (half the bins of the full example); errors of well-lit voxels, at least
2 µm below the surface of a particle, against what was planted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from _finegan import assess, reduce
from _finegan.sample import Plan, Sample, full_plan

from xrdct_beamline.domain.scan import ScanGeometry

LITHIUM = 0.68

#: Filter and smoothing of the slice in steps.
FILTERS = (("ramp", 0.0), ("hann", 0.0), ("hann", 1.0))


def plans() -> dict[str, Plan]:
    """Return the geometries by name."""
    disc = replace(full_plan(), bins=300)
    small = replace(disc, radius_mm=0.16, chamber_mm=0.175, outers=(), walls=False)
    return {
        "as published": disc,
        "no parallax": replace(disc, parallax=False),
        "1050 angles": replace(disc, roi=ScanGeometry.raster(351, 0.001, 1050)),
        "1050 angles, no parallax": replace(disc, roi=ScanGeometry.raster(351, 0.001, 1050), parallax=False),
        "disc of 0.32 mm": small,
        "disc of 0.32 mm, no parallax": replace(small, parallax=False),
        "disc of 0.32 mm, 700 angles": replace(small, roi=ScanGeometry.raster(351, 0.001, 700)),
    }


def rows(plan: Plan) -> Iterator[tuple[str, assess.VoxelErrors]]:
    """Yield the errors of one geometry for each filter."""
    sample = Sample(plan, 1)
    instrument = reduce.calibrate(sample)
    scan, _ = reduce.measure(sample, LITHIUM, noise=False)
    truth = sample.truth(LITHIUM)
    for filter_name, smoothing_px in FILTERS:
        slice_, sigma = reduce.slice_of(scan, filter_name, smoothing_px)
        reduced = reduce.fit_slice(sample, instrument, scan, (slice_, sigma), filter_name)
        bound = assess.cramer_rao(reduce.voxel_model(sample, instrument), reduced)
        name = filter_name + (f", smoothed by {smoothing_px:g} px" if smoothing_px else "")
        yield name, assess.voxel_errors(reduced, truth, bound)


def main(names: Sequence[str]) -> int:
    """Print a table of the chosen geometries, all without a choice."""
    known = plans()
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"unknown geometry {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    print("| geometry | filter | n | median, mÅ | 95 %, mÅ | rms, mÅ | counting at 2e11, mÅ |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for name in names or known:
        started = time.monotonic()
        for label, e in rows(known[name]):
            errors = f"{1e3 * e.median_A:.2f} | {1e3 * e.p95_A:.2f} | {1e3 * e.rms_A:.2f}"
            print(f"| {name} | {label} | {e.n} | {errors} | {1e3 * e.bound_A:.3f} |", flush=True)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
