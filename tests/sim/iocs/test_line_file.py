"""Raw files: chunks that HDF5's own filter decodes, cut to what was written."""

from __future__ import annotations

from pathlib import Path

import bitshuffle
import h5py
import hdf5plugin
import numpy as np
import pytest

from xrdct_beamline.sim.iocs.line_file import LineFile, compress

SHAPE = (61, 48)  # not a multiple of bitshuffle's block


def frames(n: int) -> np.ndarray:
    counts = np.random.default_rng(1).poisson(3.0, (n, *SHAPE)).astype(np.int32)
    counts[:, 10:12] = -1
    return counts


@pytest.mark.parametrize("compressed", [True, False])
def test_frames_come_back_through_hdf5_itself(tmp_path: Path, compressed: bool) -> None:
    expected = frames(5)
    file = LineFile(tmp_path / "line.h5", n_frames=5, shape=SHAPE, compressed=compressed)
    for number, frame in enumerate(expected):
        file.write(frame, unique_id=100 + number, timestamp=10.0 + number / 8)
    file.close()
    assert hdf5plugin.FILTERS  # registered: h5py decodes with it
    with h5py.File(tmp_path / "line.h5") as h5:
        data = h5["/entry/data/data"]
        assert (data.dtype, data.chunks) == (np.dtype("<i4"), (1, *SHAPE))
        assert (data.id.get_create_plist().get_nfilters() == 1) is compressed
        np.testing.assert_array_equal(data[()], expected)
        attributes = h5["/entry/instrument/NDAttributes"]
        assert attributes["NDArrayUniqueId"].dtype == np.int32
        assert attributes["NDArrayUniqueId"][()].tolist() == [100, 101, 102, 103, 104]
        assert attributes["NDArrayTimeStamp"][()].tolist() == [10.0, 10.125, 10.25, 10.375, 10.5]


def test_chunk_has_the_header_of_filter_32008() -> None:
    frame = frames(1)[0]
    chunk = compress(frame)
    assert int.from_bytes(chunk[:8], "big") == frame.nbytes
    block_bytes = int.from_bytes(chunk[8:12], "big")
    payload = np.frombuffer(chunk, np.uint8, offset=12)
    np.testing.assert_array_equal(
        bitshuffle.decompress_lz4(payload, frame.shape, frame.dtype, block_bytes // 4), frame
    )


def test_short_line_is_cut_off(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "line.h5", n_frames=9, shape=SHAPE)
    for frame in frames(2):
        file.write(frame, unique_id=1, timestamp=0.0)
    file.close()
    file.close()  # again changes nothing
    with h5py.File(tmp_path / "line.h5") as h5:
        assert h5["/entry/data/data"].shape == (2, *SHAPE)
        assert h5["/entry/instrument/NDAttributes/NDArrayUniqueId"].shape == (2,)


def test_line_without_planned_length_grows(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "line.h5", n_frames=1, shape=SHAPE)
    expected = frames(5)
    for frame in expected:
        file.write(frame, unique_id=1, timestamp=0.0)
    file.close()
    with h5py.File(tmp_path / "line.h5") as h5:
        np.testing.assert_array_equal(h5["/entry/data/data"][()], expected)


def test_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        LineFile(tmp_path / "nowhere" / "line.h5", n_frames=1, shape=SHAPE)
