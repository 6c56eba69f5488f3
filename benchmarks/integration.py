"""Integration against pyFAI in one process: estimators, frames in memory and in files, threads, memory.

Run it with ``python benchmarks/integration.py``; ``--output docs`` puts the report into
``performance.md`` and draws ``performance-integration.svg``. Every ratio is of two times that were
taken in turns in the same run, on frames of 1679 × 1475 int32.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitshuffle
import h5py
import hdf5plugin
import numpy as np

from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.processing.integration import Integrator
from xrdct_beamline.storage.raw import DATASET, Hdf5Frames

PONI = """\
Detector: Pilatus CdTe 2M
Distance: 0.5439
Poni1: 0.1447
Poni2: 0.1275
Rot1: 0.0
Rot2: 0.0
Rot3: 0.0
Wavelength: 2.48e-11
"""
COMMAND = "python benchmarks/integration.py --output docs"
ESTIMATORS = ("mean", "trimmed_mean", "median", "sigma_clip", "poisson_clip", "azimuthal_bin_trim")
RATES = (0.3, 3.0, 30.0, 300.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Best time of one way to integrate."""

    name: str
    rate: float
    milliseconds: float

    @property
    def per_second(self) -> float:
        """Frames per second."""
        return 1e3 / self.milliseconds


def make_frames(detector: DetectorGeometry, rate: float, n_frames: int) -> np.ndarray:
    """Return Poisson frames with gaps at -1: one drawn, the others rolled by whole rows."""
    frame = np.random.default_rng(0).poisson(rate, detector.shape).astype(np.int32)
    frames = np.stack([np.roll(frame, 7 * i, axis=0) for i in range(n_frames)])
    frames[:, detector.mask] = -1
    return frames


def best_ms(call: Callable[[], object], repeats: int, per_call: int = 1) -> float:
    """Return the shortest of several runs, in milliseconds per frame; the first run does not count."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1e3 * min(times) / per_call


def time_native(detector: DetectorGeometry, repeats: int) -> list[Timing]:
    """Time our estimators on frames in memory."""
    timings = []
    for estimator in ESTIMATORS:
        integrator = Integrator(detector, estimator=estimator)
        for rate in RATES:
            frames = make_frames(detector, rate, 8)
            ms = best_ms(lambda m=integrator.many, f=frames: m(f), repeats, len(frames))
            timings.append(Timing(name=estimator, rate=rate, milliseconds=ms))
    return timings


def time_pyfai(detector: DetectorGeometry, rate: float, repeats: int) -> list[tuple[Timing, Timing]]:
    """Time pyFAI's integrators as a user would call them (no splitting, CSR, CPU), each with its match."""
    from pyFAI.integrator.azimuthal import AzimuthalIntegrator

    integrator = AzimuthalIntegrator()
    integrator.set_config(detector.pyfai().get_config())
    common: dict[str, Any] = {
        "mask": detector.mask.astype(np.int8),
        "polarization_factor": 0.99,
        "unit": "2th_deg",
        "method": ("no", "csr", "cython"),
    }
    calls: dict[str, Callable[..., Any]] = {
        "integrate1d_ng": lambda f: integrator.integrate1d_ng(f, 1000, error_model="poisson", **common),
        "sigma_clip_ng": lambda f: integrator.sigma_clip_ng(f, 1000, error_model="azimuthal", **common),
        "medfilt1d_ng": lambda f: integrator.medfilt1d_ng(f, 1000, percentile=(5, 95), **common),
    }
    frame = make_frames(detector, rate, 1)[0]
    frames = make_frames(detector, rate, 8)
    pairs = []
    for (name, call), estimator in zip(calls.items(), ("mean", "sigma_clip", "trimmed_mean"), strict=True):
        ours = Integrator(detector, estimator=estimator)
        theirs_ms, ours_ms = [], []
        for _ in range(repeats):  # in turns, so that both meet the same machine
            theirs_ms.append(best_ms(lambda c=call: c(frame), 1))
            ours_ms.append(best_ms(lambda m=ours.many: m(frames), 1, len(frames)))
        pairs.append(
            (
                Timing(name=f"pyFAI {name}", rate=rate, milliseconds=min(theirs_ms)),
                Timing(name=estimator, rate=rate, milliseconds=min(ours_ms)),
            )
        )
    return pairs


def time_threads(detector: DetectorGeometry, repeats: int) -> list[Timing]:
    """Time the trimmed mean of few counts by the number of threads."""
    frames = make_frames(detector, 3.0, 8)
    available = len(os.sched_getaffinity(0))
    timings = []
    for threads in [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= available]:
        integrator = Integrator(detector, threads=threads)
        ms = best_ms(lambda m=integrator.many: m(frames), repeats, len(frames))
        timings.append(Timing(name=str(threads), rate=3.0, milliseconds=ms))
    return timings


def write_line(path: Path, frames: np.ndarray) -> None:
    """Write frames as the detector's file writer does: one bitshuffle/LZ4 chunk per frame."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            DATASET,
            frames.shape,
            np.int32,
            chunks=(1, *frames.shape[1:]),
            compression=hdf5plugin.Bitshuffle(nelems=0, cname="lz4"),
        )
        header = (int(frames[0].nbytes).to_bytes(8, "big")) + (8192).to_bytes(4, "big")
        for i, frame in enumerate(frames):
            data.id.write_direct_chunk((i, 0, 0), header + bitshuffle.compress_lz4(frame, 2048).tobytes())


def time_files(detector: DetectorGeometry, repeats: int, n_frames: int = 64) -> list[Timing]:
    """Time files to patterns, for lines of bitshuffle/LZ4 frames in the page cache."""
    integrator = Integrator(detector)
    timings = []
    for rate in (0.3, 3.0, 300.0):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "line.h5"
            write_line(path, make_frames(detector, rate, n_frames))

            def integrate(path: Path = path) -> object:
                return integrator.many(Hdf5Frames().deferred(str(path)))

            def read(path: Path = path) -> object:
                return sum(1 for _ in Hdf5Frames().frames(str(path)))

            timings.append(
                Timing(name="read", rate=rate, milliseconds=best_ms(read, max(repeats // 2, 2), n_frames))
            )
            timings.append(
                Timing(
                    name="read + trimmed mean",
                    rate=rate,
                    milliseconds=best_ms(integrate, max(repeats // 2, 2), n_frames),
                )
            )
    return timings


def time_bandwidth(repeats: int) -> float:
    """Return the time in ms to read one frame's 9.9 MB from memory on one core (a sum)."""
    frames = np.ones((8, 1679 * 1475), np.int32).view(np.float32)
    return best_ms(lambda: [f.max() for f in frames], repeats, len(frames))


def peak_memory_MB() -> float:  # noqa: N802
    """Return the largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_above_frames(detector: DetectorGeometry) -> float:
    """Return by how much building an integrator and reducing frames raised the peak memory, in MB."""
    frames = make_frames(detector, 3.0, 2), make_frames(detector, 300.0, 2)
    before = peak_memory_MB()
    integrator = Integrator(detector)
    for of_rate in frames:
        integrator.many(of_rate)
    return peak_memory_MB() - before


def report(detector: DetectorGeometry, repeats: int, native: list[Timing]) -> Iterator[str]:
    """Yield the lines of the report, in Markdown, as they are measured; ``native`` is filled."""
    memory = memory_above_frames(detector)
    native += time_native(detector, repeats)
    rows, columns = detector.shape
    yield f"{rows} × {columns} int32, 1000 bins, {len(os.sched_getaffinity(0))} {platform.machine()} cores,"
    yield f"best of {repeats}. Made by `{COMMAND}`.\n"
    yield "### Frames in memory\n"
    yield "| estimator | " + " | ".join(f"{rate:g} counts/pixel" for rate in RATES) + " |"
    yield "|---|" + "---|" * len(RATES)
    for estimator in ESTIMATORS:
        of_estimator = [t for t in native if t.name == estimator]
        cells = (f"{t.milliseconds:.2f} ms ({t.per_second:.0f}/s)" for t in of_estimator)
        yield f"| `{estimator}` | " + " | ".join(cells) + " |"
    yield "\n### Against pyFAI, in the same run (3 counts per pixel)\n"
    yield "| pyFAI | ms | ours | ms | ratio |"
    yield "|---|---|---|---|---|"
    for peer, own in time_pyfai(detector, 3.0, repeats):
        yield (
            f"| `{peer.name}` | {peer.milliseconds:.0f} | `{own.name}` | {own.milliseconds:.2f} "
            f"| {peer.milliseconds / own.milliseconds:.0f} |"
        )
    yield "\n### Threads (trimmed mean, 3 counts per pixel)\n"
    yield "| threads | ms | frames/s |\n|---|---|---|"
    for t in time_threads(detector, repeats):
        yield f"| {t.name} | {t.milliseconds:.2f} | {t.per_second:.0f} |"
    yield "\n### From bitshuffle/LZ4 files in the page cache\n"
    yield "| step | counts/pixel | ms | frames/s |\n|---|---|---|---|"
    for t in time_files(detector, repeats):
        yield f"| {t.name} | {t.rate:g} | {t.milliseconds:.2f} | {t.per_second:.0f} |"
    yield f"\nReading one frame from memory on one core takes {time_bandwidth(repeats):.2f} ms.\n"
    yield f"Peak memory above the frames, geometry included: {memory:.0f} MB.\n"


def draw(native: Sequence[Timing], path: Path) -> None:
    """Draw the time per frame against the counts per pixel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for estimator in ESTIMATORS:
        timings = [t for t in native if t.name == estimator]
        axes.loglog([t.rate for t in timings], [t.milliseconds for t in timings], "o-", label=estimator)
    axes.axhline(4, color="k", ls=":", lw=1)
    axes.annotate("250 frames/s", (RATES[0], 4), va="bottom")
    axes.set(xlabel="counts per pixel", ylabel="ms per frame")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(path)


def replace_section(path: Path, name: str, lines: Sequence[str]) -> None:
    """Put lines between the markers of a section of a Markdown file, or at its end."""
    text = path.read_text(encoding="utf-8") if path.exists() else "# Performance\n"
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    body = "\n".join(lines)
    path.write_text(f"{before.rstrip()}\n\n{begin}\n{body}\n{end}\n{after.lstrip()}", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report; return 0. This is what ``xrdct bench integration`` calls."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=7, help="runs of each timing (default 7)")
    parser.add_argument("--output", type=Path, help="folder of performance.md and its figure")
    options = parser.parse_args(arguments)
    logging.getLogger("pyFAI").setLevel(logging.ERROR)
    native: list[Timing] = []
    lines = ["## Integration\n"]
    for line in report(DetectorGeometry(poni_text=PONI), options.repeats, native):
        print(line, flush=True)
        lines.append(line)
    if options.output is not None:
        draw(native, options.output / "performance-integration.svg")
        lines.append("![Time per frame](performance-integration.svg)\n")
        replace_section(options.output / "performance.md", "integration", lines)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
