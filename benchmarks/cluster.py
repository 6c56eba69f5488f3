"""Lines on two Dask workers against one process: ``python benchmarks/cluster.py [--lines N] [--frames N]``.

Frames of a Pilatus 2M at few counts, in line files as the detector writes them. Efficiency is the time of
one process with one thread, over twice that of two workers; the sinograms are compared bit for bit.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from builders import Attempt, slice_documents, write_raw_line

from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.services.cluster import WORKER_MEMORY, connect
from xrdct_beamline.services.pipeline import LiveSettings, warm_up
from xrdct_beamline.services.process import process_files
from xrdct_beamline.storage.journal import JournalWriter
from xrdct_beamline.storage.nexus_reader import read_processed

PONI = """poni_version: 2
Detector: Pilatus CdTe 2M
Detector_config: {}
Distance: 0.6
Poni1: 0.145
Poni2: 0.127
Rot1: 0
Rot2: 0
Rot3: 0
Wavelength: 2.48e-11
"""


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _scan(folder: Path, n_lines: int, n_frames: int) -> Path:
    """Write a journal and its line files; return the journal."""
    detector = DetectorGeometry(poni_text=PONI)
    geometry = ScanGeometry.raster(n_translations=n_frames, step_mm=0.001, n_rotations=n_lines)
    rng = np.random.default_rng(1)
    frames = rng.poisson(2.0, (n_frames, *detector.shape)).astype(np.int32)
    attempts = [
        Attempt(rotation_index=i, raw_file=write_raw_line(folder / f"line_{i}.h5", frames))
        for i in range(n_lines)
    ]
    with JournalWriter(folder / "journal.jsonl") as writer:
        for name, doc in slice_documents(
            geometry, attempts, calibration=detector.to_metadata(), uid="0123456789"
        ):
            writer(name, doc)
    return folder / "journal.jsonl"


def main() -> int:
    """Time both ways, and compare what they give."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=24)
    parser.add_argument("--frames", type=int, default=40)
    options = parser.parse_args()
    settings = LiveSettings(processing=ProcessingSettings(threads=1))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        journal = _scan(folder, options.lines, options.frames)
        warm_up(settings)
        began = time.perf_counter()
        (serial,) = process_files([journal], folder / "serial", settings=settings)
        serial_s = time.perf_counter() - began
        with connect("local:2") as cluster:
            began = time.perf_counter()
            (farmed,) = process_files([journal], folder / "farmed", settings=settings, cluster=cluster)
            farmed_s = time.perf_counter() - began
            peaks = cluster.client.run(_peak_mib)
        one, two = read_processed(serial).sinogram, read_processed(farmed).sinogram
    same = one.tobytes() == two.tobytes()
    n = options.lines * options.frames
    print(f"{options.lines} lines of {options.frames} frames; sinograms identical: {same}")
    print(f"one process, one thread   {serial_s:7.2f} s   {n / serial_s:6.0f} frames/s")
    print(f"two workers               {farmed_s:7.2f} s   {n / farmed_s:6.0f} frames/s")
    print(f"efficiency of two cores   {serial_s / (2 * farmed_s):7.2f}")
    print(f"peak memory per worker    {max(peaks.values()):7.0f} MiB of {WORKER_MEMORY}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
