from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from builders import Attempt, slice_documents, write_raw_line
from nested_scans import SCANS, line_frames

from xrdct_beamline.callbacks.settings import ProcessingSettings
from xrdct_beamline.callbacks.slice_state import SliceRun
from xrdct_beamline.display.snapshot import SnapshotStore
from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.processing.reconstruction import reconstruct
from xrdct_beamline.services.outer_scans import ProcessedScans
from xrdct_beamline.services.pipeline import LiveSettings, Pipeline
from xrdct_beamline.services.reconstruct import reconstruct_file
from xrdct_beamline.services.replay import replay
from xrdct_beamline.storage.nexus import read_processed, read_summary

SETTINGS = LiveSettings(processing=ProcessingSettings(bins=20, estimator="mean", threads=1))
UIDS = {Role.BROAD: "b" * 32, Role.COARSE: "c" * 32, Role.ROI: "a" * 32}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    """Documents of a broad scan, a coarse scan and a region, by role, and their raw files."""
    folder = tmp_path_factory.mktemp("raw")
    return {role: list(scan_documents(folder, role)) for role in UIDS}


def scan_documents(folder: Path, role: Role) -> Iterator:
    geometry = SCANS[role]
    tried = [
        Attempt(
            rotation_index=r, raw_file=write_raw_line(folder / f"{role}_{r}.h5", line_frames(role, r), "none")
        )
        for r in geometry.line_order
    ]
    yield from slice_documents(geometry, tried, role=role, series_uid="s", state_index=0, uid=UIDS[role])


@pytest.fixture(scope="module")
def replayed(documents: dict[str, list], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processed")
    replay([doc for role in UIDS for doc in documents[role]], folder, settings=SETTINGS)
    return folder


def region_file(folder: Path) -> Path:
    return folder / "aaaaaaaa_state00.nxs"


def arrays(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path, "r", locking=False) as file:
        names = ("sinogram/intensity", "outside/intensity", "slice/intensity")
        return {name: file["entry"][name][()] for name in names if name in file["entry"]}


def test_a_region_is_written_as_measured_with_its_correction_beside_it(
    documents: dict[str, list], replayed: Path, tmp_path: Path
) -> None:
    found = arrays(region_file(replayed))
    [alone] = replay(documents[Role.ROI], tmp_path, settings=SETTINGS)
    plain = arrays(alone)
    assert "outside/intensity" not in plain
    np.testing.assert_array_equal(found["sinogram/intensity"], plain["sinogram/intensity"])
    geometry, bins = SCANS[Role.ROI], np.isfinite(found["outside/intensity"]).all(axis=(0, 1))
    assert bins.sum() > 15
    freed = (found["sinogram/intensity"] - found["outside/intensity"])[:, :, bins]
    expected = reconstruct(freed, geometry.rotation_deg, (geometry.shape[1] - 1) / 2)
    np.testing.assert_allclose(found["slice/intensity"][:, :, bins], expected, atol=1e-3 * expected.max())
    assert np.nanmean(found["slice/intensity"]) < 0.8 * np.nanmean(plain["slice/intensity"])


def test_the_verdict_and_the_figures_are_in_the_file(replayed: Path) -> None:
    with h5py.File(region_file(replayed), "r", locking=False) as file:
        group = file["entry/interior"]
        assert group.attrs["NX_class"] == "NXprocess"
        assert group["verdict"][()] == b"good"
        assert json.loads(group["outer_uids"][()]) == [UIDS[Role.BROAD], UIDS[Role.COARSE]]
        figures = json.loads(group["figures"][()])
        assert file["entry/outside"].attrs["NX_class"] == "NXdata"
    assert [chord["slope"] for chord in figures["chords"]] == pytest.approx([1, 1], abs=0.06)


def test_a_service_killed_in_a_region_goes_on_with_its_correction(
    documents: dict[str, list], replayed: Path, tmp_path: Path
) -> None:
    region = documents[Role.ROI]
    n = len(region) // 2
    first = Pipeline(tmp_path, SETTINGS, SnapshotStore())
    for name, doc in [*documents[Role.BROAD], *documents[Role.COARSE], *region[:n]]:
        first(name, doc)
    first.close()
    assert read_summary(region_file(tmp_path)).status == "running"
    second = Pipeline(tmp_path, SETTINGS, SnapshotStore())
    for name, doc in region:
        second(name, doc)
    second.close()
    expected, found = arrays(region_file(replayed)), arrays(region_file(tmp_path))
    np.testing.assert_array_equal(found["sinogram/intensity"], expected["sinogram/intensity"])
    np.testing.assert_allclose(
        found["outside/intensity"], expected["outside/intensity"], rtol=1e-5, atol=1e-3
    )
    np.testing.assert_allclose(found["slice/intensity"], expected["slice/intensity"], rtol=1e-4, atol=0.05)


def test_a_file_is_reconstructed_anew_with_its_correction(replayed: Path, tmp_path: Path) -> None:
    done = reconstruct_file(region_file(replayed), tmp_path / "again.nxs")
    with h5py.File(done.output) as file:
        again = file["entry/slice/intensity"][()]
    live = read_processed(region_file(replayed)).intensity
    np.testing.assert_allclose(again, live, atol=1e-3 * np.nanmax(live))


def region(**change: object) -> SliceRun:
    run = SliceRun(
        uid="z" * 32, role=Role.ROI, title="cell 1", started_s=4e9, geometry=SCANS[Role.ROI],
        calibration={}, settings=SETTINGS.processing, series_uid="s", state_index=0,
    )  # fmt: skip
    return replace(run, **change)


def test_outer_scans_are_of_the_state_or_the_series_or_the_sample(replayed: Path) -> None:
    both = [UIDS[Role.BROAD], UIDS[Role.COARSE]]
    source = ProcessedScans(replayed)
    assert source.find(region()) == both
    assert source.find(region(state_index=3)) == both
    assert source.find(region(series_uid="other")) == both
    assert source.find(region(series_uid="other", title="cell 2")) == []
    assert source.find(region(role=Role.COARSE)) == both[:1]
    assert source.find(region(started_s=0.0)) == []
    wide = ScanGeometry.raster(41, 0.06, 20)
    assert source.find(region(geometry=wide)) == []


def test_named_outer_scans_are_taken_and_others_are_told(
    replayed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = ProcessedScans(replayed)
    named = region(outer_uids=(UIDS[Role.COARSE], "9" * 32))
    assert source.find(named) == [UIDS[Role.COARSE]]
    assert "names the outer scan 99999999" in caplog.text
    with pytest.raises(DataError, match="has no processed file"):
        source.load("9" * 32)


def test_files_that_are_no_slices_are_passed_over(
    documents: dict[str, list], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "broken.nxs").write_bytes(b"no HDF5")
    growing = Pipeline(tmp_path, SETTINGS, SnapshotStore())
    for name, doc in documents[Role.BROAD][:8]:
        growing(name, doc)
    growing.close()
    with caplog.at_level(logging.INFO):
        assert ProcessedScans(tmp_path).find(region()) == []
    assert "broken.nxs is not among the outer scans" in caplog.text
