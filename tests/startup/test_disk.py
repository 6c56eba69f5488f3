"""Room for a scan: before it, and between its lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.startup.configuration import Configuration, DiskSettings, load_configuration
from xrdct_beamline.startup.disk import check_disk, disk_needs, room_for_a_line, shortages

GEOMETRY = ScanGeometry.raster(n_translations=100, step_mm=0.01, n_rotations=50)
N_PIXELS = 1_000_000


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    made = load_configuration().with_data(tmp_path / "data")
    return replace(made, disk=DiskSettings(bytes_per_pixel=0.5, reserve_MB=100))


def test_a_slice_needs_its_frames_its_journal_and_its_processed_file(configuration):
    needs = disk_needs(configuration, GEOMETRY, N_PIXELS, 50)
    assert needs.raw == pytest.approx(2.5e9)
    assert needs.processed == pytest.approx(4 * 600 * 2 * (50 * 100 + 100 * 100))
    assert 0 < needs.journal < 1e7


def test_there_is_room_or_one_sentence(configuration):
    check_disk(configuration, GEOMETRY, N_PIXELS, free_bytes=lambda folder: 3_000_000_000)
    with pytest.raises(
        ConfigurationError, match=r"no room for the slice: .* has 2\.6 GB free, 2\.67 GB are need"
    ):
        check_disk(configuration, GEOMETRY, N_PIXELS, free_bytes=lambda folder: 2_600_000_000)
    with pytest.raises(ConfigurationError, match="no room for 2 slices"):
        check_disk(configuration, GEOMETRY, N_PIXELS, n_slices=2, free_bytes=lambda folder: 3_000_000_000)


def test_a_rest_needs_less(configuration):
    check_disk(configuration, GEOMETRY, N_PIXELS, n_lines=10, free_bytes=lambda folder: 1_000_000_000)


def test_folders_of_one_disk_are_added_up(configuration):
    for folder in (configuration.paths.raw, configuration.paths.processed):
        folder.mkdir(parents=True)
    needs = disk_needs(configuration, GEOMETRY, N_PIXELS, 50)
    total = needs.raw + needs.journal + needs.processed + 1e8
    assert not shortages(configuration, needs, lambda folder: int(total + 1))
    [short] = shortages(configuration, needs, lambda folder: int(total - 1))
    assert len(short.folders) == 3


def test_between_lines_the_reserve_and_two_lines_are_needed(configuration):
    free = [300_000_000, 190_000_000, 300_000_000]
    problem = room_for_a_line(configuration, GEOMETRY, N_PIXELS, lambda folder: free.pop(0))
    assert problem() == ""
    assert "190 MB free, 200 MB are needed" in problem()
    assert problem() == ""
