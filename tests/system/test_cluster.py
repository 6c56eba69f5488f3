"""Lines and voxels on real Dask workers, in processes of their own, one of which is killed."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import Attempt, phantom_line, slice_documents, write_raw_line

from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.processing.peak_profile import Profile
from xrdct_beamline.processing.refinement import PatternModel, refine
from xrdct_beamline.services.cluster import Cluster, connect
from xrdct_beamline.services.pipeline import LiveSettings
from xrdct_beamline.services.process import process_files
from xrdct_beamline.storage.journal import JournalWriter

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    # Workers that are killed leave sockets behind, in Dask's hands.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

GEOMETRY = ScanGeometry.raster(n_translations=5, step_mm=0.03, n_rotations=12, order="interlaced")
SETTINGS = LiveSettings(
    processing=ProcessingSettings(bins=24, estimator="median", threads=1, radial_range=(5.0, 40.0))
)


@pytest.fixture(scope="module")
def workers():
    with connect("local:2") as cluster:
        yield cluster


@pytest.fixture
def journal(tmp_path) -> Path:
    attempts = []
    for index in GEOMETRY.line_order:
        raw = write_raw_line(tmp_path / f"line_{index}.h5", phantom_line(GEOMETRY, index))
        attempts.append(Attempt(rotation_index=index, raw_file=raw))
    os.remove(attempts[7].raw_file)  # one line is lost; both ways say so
    with JournalWriter(tmp_path / "journal.jsonl") as writer:
        for name, doc in slice_documents(GEOMETRY, attempts, uid="0123456789"):
            writer(name, doc)
    return tmp_path / "journal.jsonl"


def contents(path: Path) -> list[bytes]:
    with h5py.File(path, "r") as file:
        entry = file["entry"]
        names = ("sinogram/intensity", "sinogram/intensity_errors", "sinogram/measured", "slice/intensity")
        return [entry[name][()].tobytes() for name in (*names, "lines/status", "lines/reason")]


def test_a_scan_is_the_same_bit_for_bit_also_when_a_worker_is_killed_in_the_middle(
    journal, tmp_path, workers: Cluster, caplog
):
    caplog.set_level(logging.CRITICAL)
    (serial,) = process_files([journal], tmp_path / "serial", settings=SETTINGS)
    pids = workers.client.run(os.getpid)
    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 4:
            os.kill(next(iter(pids.values())), signal.SIGKILL)

    (farmed,) = process_files(
        [journal], tmp_path / "farmed", settings=SETTINGS, cluster=workers, progress=progress
    )
    assert seen[-1] == (12, 12)
    assert set(workers.client.run(os.getpid).values()) != set(pids.values())
    assert contents(farmed) == contents(serial)
    with h5py.File(serial) as file:
        assert (file["entry/lines/status"][()] == 1).sum() == 11


def test_maps_are_the_same(workers: Cluster):
    radial = np.linspace(2.5, 10.5, 200)
    model = PatternModel([Phase.shipped("LiMn2O4")], radial, 0.248, profile=Profile(w=0.08**2), background=3)
    a_A = 8.05 + 0.01 * np.arange(15).reshape(3, 5)
    values = [[model.pattern({"LiMn2O4": a}, {"LiMn2O4": 2e-8}, [1.0, 0, 0]) for a in row] for row in a_A]
    noisy = np.array(values) + np.random.default_rng(1).normal(0, 0.3, (3, 5, 200))
    sigma = np.full(noisy.shape, 0.3)
    pool = workers.blocks()
    pool.block_voxels = 4
    here, there = refine(noisy, model, sigma, threads=1), refine(noisy, model, sigma, pool=pool)
    np.testing.assert_allclose(here.a_A["LiMn2O4"], a_A, atol=0.01)
    np.testing.assert_array_equal(there.a_A["LiMn2O4"], here.a_A["LiMn2O4"])
    np.testing.assert_array_equal(there.rwp, here.rwp)


@pytest.mark.parametrize("where", ["slurm", "local:0", "local:two"])
def test_a_place_that_is_none_is_refused(where):
    with pytest.raises(ConfigurationError, match="--cluster is"), connect(where):
        pass
