"""Reconstruction: cost and accuracy in one run, as shares of a line and ratios to peers.

    python benchmarks/reconstruction.py [--quick] [--threads N]

A line of the benchmark is 3.5 s. TomoPy's figure is a recorded one: gridrec, 0.3 s for 64 channels of
351 × 350 on two cores like those of the budgets; scikit-image and, where it is installed, ASTRA run here
on a few channels and are multiplied up.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from skimage.transform import iradon

from xrdct_beamline.processing.reconstruction import IncrementalFBP, reconstruct

LINE_S = 3.5
GRIDREC_S_PER_CHANNEL = 0.3 / 64
BLOBS = ((20.0, 10.0, 5.0, 1.0), (-25.0, 15.0, 8.0, 0.6), (5.0, -30.0, 3.0, 1.5), (-8.0, -5.0, 12.0, 0.3))

Array = npt.NDArray[Any]


def blob_sinogram(
    angles: Array, n: int, axis_px: float, blobs: Sequence[tuple[float, float, float, float]] = BLOBS
) -> Array:
    """Return the line integrals ``(rotation, translation)`` of Gaussians, in closed form."""
    t = np.arange(n) - axis_px
    theta = np.radians(angles)[:, None]
    return sum(
        a * np.sqrt(2 * np.pi) * s * np.exp(-((t - x * np.cos(theta) - y * np.sin(theta)) ** 2) / (2 * s * s))
        for x, y, s, a in blobs
    )


def accuracy() -> dict[str, float]:
    """Compare with the truth inside 60 px, beside scikit-image on the same sinogram and axis."""
    n, axis_px = 129, 64.0  # scikit-image's axis
    angles = np.arange(120) * 1.5
    sinogram = blob_sinogram(angles, n, axis_px)
    row, column = np.mgrid[:n, :n]
    x, y = column - axis_px, axis_px - row
    truth = sum(a * np.exp(-((x - bx) ** 2 + (y - by) ** 2) / (2 * s * s)) for bx, by, s, a in BLOBS)
    inside = np.hypot(x, y) < 60
    native = reconstruct(sinogram, angles, axis_px)
    peer = iradon(sinogram.T, theta=angles, filter_name="ramp")
    slope, _ = np.polyfit(truth[inside], native[inside], 1)
    peer_slope, _ = np.polyfit(truth[inside], peer[inside], 1)
    return {
        "slope": float(slope),
        "slope of scikit-image": float(peer_slope),
        "rmse": float(np.sqrt(np.mean((native - truth)[inside] ** 2))),
        "rmse of scikit-image": float(np.sqrt(np.mean((peer - truth)[inside] ** 2))),
    }


def best_of(action: Callable[[int], object], repeats: int) -> tuple[float, float]:
    """Return the median and the best wall time in seconds."""
    times = []
    for k in range(repeats):
        start = time.perf_counter()
        action(k)
        times.append(time.perf_counter() - start)
    return float(np.median(times)), float(np.min(times))


def memory_bytes(name: str) -> int:
    """Return a figure of this process from ``/proc/self/status``: VmRSS now, VmHWM at the peak."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def peak_memory(n: int, bins: int, n_rotations: int, *, with_sigma: bool) -> float:
    """Return what this process has grown by at its peak, over the slice's size, after a whole scan.

    Every line is added, and the slice is asked for as a whole at the end.
    """
    rng = np.random.default_rng(0)
    line = rng.random((n, bins), dtype=np.float32)
    sigma = np.sqrt(line) if with_sigma else None
    angles = np.arange(n_rotations) * 180.0 / n_rotations
    IncrementalFBP.warm_up()
    before = memory_bytes("VmRSS")
    fbp = IncrementalFBP(n, bins, n_rotations, (n - 1) / 2, angles)
    for angle in angles:
        fbp.add(angle, line, sigma)
    whole = fbp.slice()
    assert whole.shape == (n, n, bins)
    assert np.isfinite(whole[n // 2, n // 2]).all()
    return (memory_bytes("VmHWM") - before) / (4 * n * n * bins)


def peak_memory_of_a_fresh_process(n: int, bins: int, n_rotations: int, *, with_sigma: bool) -> float:
    """Return `peak_memory` of a process that has done nothing else."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(peak_memory, (n, bins, n_rotations), {"with_sigma": with_sigma})


def live_line(n: int, bins: int, n_rotations: int, *, with_sigma: bool, lines: int) -> dict[str, float]:
    """Add lines to a live slice: milliseconds, share of a line."""
    rng = np.random.default_rng(0)
    line = rng.random((n, bins), dtype=np.float32)
    sigma = np.sqrt(line) if with_sigma else None
    angles = np.arange(n_rotations) * 180.0 / n_rotations
    fbp = IncrementalFBP(n, bins, n_rotations, (n - 1) / 2, angles)
    fbp.add(angles[-1], line, sigma)  # touches all of the memory once
    spread = np.linspace(0, n_rotations - 2, lines).astype(int)
    median_s, best_s = best_of(lambda k: fbp.add(angles[spread[k]], line, sigma), lines)
    return {
        "median_ms": 1e3 * median_s,
        "best_ms": 1e3 * best_s,
        "share of a line, median": median_s / LINE_S,
        "share of a line, best": best_s / LINE_S,
    }


def whole_slice(n: int, bins: int, n_rotations: int, peer_channels: int) -> dict[str, float]:
    """Reconstruct a whole slice, and some channels of it with the peers, in turn."""
    angles = np.arange(n_rotations) * 180.0 / n_rotations
    axis_px = (n - 1) / 2
    channel = blob_sinogram(angles, n, axis_px).astype(np.float32)
    sinogram = channel[:, :, None] * np.linspace(0.5, 1.5, bins, dtype=np.float32)
    found: dict[str, float] = {}
    _, native_s = best_of(lambda _: reconstruct(sinogram, angles, axis_px), 2)
    found["native_s"] = native_s
    _, peer_s = best_of(lambda _: iradon(channel.T, theta=angles, filter_name="ramp"), peer_channels)
    found["scikit-image_s"] = peer_s * bins
    found["times faster than scikit-image"] = found["scikit-image_s"] / native_s
    found["gridrec, recorded, s"] = GRIDREC_S_PER_CHANNEL * bins
    if importlib.util.find_spec("astra") is not None:
        few = sinogram[:, :, :peer_channels]
        _, astra_s = best_of(lambda _: reconstruct(few, angles, axis_px, "fbp", "astra"), 1)
        found["astra_s"] = astra_s * bins / peer_channels
    return found


def incremental_equals_batch(n: int, bins: int, n_rotations: int) -> float:
    """Return the largest difference of incremental from batch over the maximum, shuffled and restarted."""
    rng = np.random.default_rng(1)
    angles = np.arange(n_rotations) * 180.0 / n_rotations
    sinogram = rng.random((n_rotations, n, bins), dtype=np.float32)
    fbp = IncrementalFBP(n, bins, n_rotations, (n - 1) / 2, angles)
    for step, index in enumerate(rng.permutation(n_rotations)):
        if step == n_rotations // 2:
            fbp = IncrementalFBP.from_state(fbp.state())
        fbp.add(angles[index], sinogram[index])
        fbp.add(angles[index], sinogram[index])
    batch = reconstruct(sinogram, angles, (n - 1) / 2)
    return float(np.abs(fbp.slice() - batch).max() / np.abs(batch).max())


def pulls(n: int, repeats: int, n_rotations: int) -> dict[str, float]:
    """Return the standard deviation of (found − true)/sigma on Poisson counts; 1 is honest.

    Each channel is one repeat of the experiment. The sigma is the root of the counts, as a scan gives it.
    """
    rng = np.random.default_rng(3)
    angles = np.arange(n_rotations) * 180.0 / n_rotations
    axis_px = (n - 1) / 2
    scale = n / 129
    blobs = [(x * scale, y * scale, s * scale, a) for x, y, s, a in BLOBS]
    counts = 50 + 20 * blob_sinogram(angles, n, axis_px, blobs) / scale
    fbp = IncrementalFBP(n, repeats, n_rotations, axis_px, angles)
    for angle, mean in zip(angles, counts, strict=True):
        line = rng.poisson(mean[:, None], (n, repeats)).astype(np.float32)
        fbp.add(angle, line, np.sqrt(line))
    truth = reconstruct(counts, angles, axis_px)[:, :, None]
    row, column = np.mgrid[:n, :n] - axis_px
    radius = np.hypot(row, column)
    inside = radius < 0.45 * n
    found = {"voxels": float(((fbp.slice() - truth) / fbp.slice_sigma())[inside].std())}
    for x, y in ((0, 0), (n // 4, -n // 5)):
        for disc_px in (2, 8, 25):
            region = (np.hypot(row - y, column - x) < disc_px).astype(float)
            total, sigma = fbp.region(region)
            assert sigma is not None
            pull = (total - (region[:, :, None] * truth).sum((0, 1))) / sigma
            found[f"sums over discs of {disc_px} px at ({x}, {y})"] = float(pull.std())
    return found


def scaling(n: int, bins: int, n_rotations: int) -> dict[str, float]:
    """Return the milliseconds of a line against channels, pixels and threads."""
    found = {}
    for share in (4, 2, 1):
        found[f"{bins // share} channels"] = live_line(
            n, bins // share, n_rotations, with_sigma=False, lines=7
        )["best_ms"]
    for share in (4, 2):
        found[f"{n // share} translations"] = live_line(
            n // share, bins, n_rotations, with_sigma=False, lines=7
        )["best_ms"]
    threads = numba.get_num_threads()
    for count in range(1, threads + 1):
        numba.set_num_threads(count)
        found[f"{count} threads"] = live_line(n, bins, n_rotations, with_sigma=False, lines=7)["best_ms"]
    numba.set_num_threads(threads)
    return found


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark, print what it found, and return it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the channels and few repeats")
    parser.add_argument("--threads", type=int, help="threads of the kernels (default: all cores)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    if options.threads:
        numba.set_num_threads(options.threads)
    n, n_rotations, bins = 351, 350, 100 if options.quick else 1000
    IncrementalFBP.warm_up()
    found: dict[str, Any] = {
        "size": f"{n} translations, {n_rotations} rotations, {bins} bins, {numba.get_num_threads()} threads",
        "load before": os.getloadavg()[0],
        "accuracy": accuracy(),
        "line": live_line(n, bins, n_rotations, with_sigma=False, lines=21),
        "line with sigma": live_line(n, bins, n_rotations, with_sigma=True, lines=21),
        "memory over the slice's": {
            "without sigma": peak_memory_of_a_fresh_process(n, bins, n_rotations, with_sigma=False),
            "with sigma": peak_memory_of_a_fresh_process(n, bins, n_rotations, with_sigma=True),
        },
        "whole slice": whole_slice(n, bins, n_rotations, 3),
        "incremental - batch": incremental_equals_batch(121, 60, 120),
        "pulls, standard deviation": pulls(n, 100 if options.quick else 400, n_rotations),
        "line_ms against": scaling(n, bins, n_rotations),
    }
    print_figures(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    return found


def print_figures(found: dict[str, Any]) -> None:
    """Print figures, one a line."""
    for name, value in found.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for key, number in value.items():
                print(f"    {key:32s} {number:.5g}")
        else:
            print(f"{name}: {value if isinstance(value, str) else format(value, '.3g')}")


if __name__ == "__main__":
    main()
