from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fabio.edfimage
import h5py
import hdf5plugin
import numpy as np
import pytest
from builders import damage_frame, write_raw_line

from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.storage import raw
from xrdct_beamline.storage.raw import Hdf5Frames, read_image


@pytest.fixture
def frames() -> np.ndarray:
    """Five frames; 33 x 41 is no multiple of a block, so that the odd rest is exercised too."""
    noise = np.random.default_rng(1).poisson(2.0, (5, 33, 41)).astype(np.int32)
    noise[:, 3, :] = -1
    return noise


@pytest.mark.parametrize("compression", ["bitshuffle", "gzip", "none"])
def test_frames_come_back_in_order(tmp_path: Path, frames: np.ndarray, compression: str) -> None:
    path = write_raw_line(tmp_path / "line.h5", frames, compression)
    back = list(Hdf5Frames().frames(path))
    np.testing.assert_array_equal(back, frames)
    assert back[0].dtype == np.int32
    assert Hdf5Frames().count(path) == 5


@pytest.mark.parametrize("compression", ["bitshuffle", "gzip", "none"])
def test_decoding_may_be_left_to_several_threads_after_the_file_was_closed(
    tmp_path: Path, frames: np.ndarray, compression: str
) -> None:
    path = write_raw_line(tmp_path / "line.h5", frames, compression)
    decoders = list(Hdf5Frames().deferred(path))
    with ThreadPoolExecutor(3) as pool:
        back = list(pool.map(lambda decode: decode(), decoders))
    np.testing.assert_array_equal(back, frames)


def test_a_frame_may_be_decoded_into_a_buffer_that_fits(tmp_path: Path, frames: np.ndarray) -> None:
    path = write_raw_line(tmp_path / "line.h5", frames)
    buffer = np.zeros(frames.shape[1:], np.int32)
    for decode, frame in zip(Hdf5Frames().deferred(path), frames, strict=True):
        assert decode.into(buffer) is buffer
        np.testing.assert_array_equal(buffer, frame)
    for other in (np.zeros((2, 2), np.int32), np.zeros(frames.shape[1:], np.int16)):
        back = next(Hdf5Frames().deferred(path)).into(other)
        np.testing.assert_array_equal(back, frames[0])
        assert not other.any()


def test_a_damaged_or_absent_frame_is_none_when_its_turn_comes(
    tmp_path: Path, frames: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_raw_line(tmp_path / "line.h5", frames)
    damage_frame(path, 2)
    back = [decode() for decode in Hdf5Frames().deferred(path)]
    assert [frame is None for frame in back] == [False, False, True, False, False]
    assert "frame 2 of" in caplog.text
    with h5py.File(tmp_path / "hole.h5", "w") as file:
        holed = file.create_dataset("/entry/data/data", frames.shape, np.int32, chunks=(1, *frames.shape[1:]))
        holed[0] = frames[0]
    back = [decode() for decode in Hdf5Frames().deferred(str(tmp_path / "hole.h5"))]
    assert [frame is None for frame in back] == [False, True, True, True, True]


@pytest.mark.parametrize("layout", ["contiguous", "many per chunk", "tiled", "unfiltered chunks"])
def test_other_layouts_are_read_through_h5py(tmp_path: Path, frames: np.ndarray, layout: str) -> None:
    options = {
        "contiguous": {},
        "many per chunk": {"chunks": (2, 33, 41), **hdf5plugin.Bitshuffle(cname="lz4")},
        "tiled": {"chunks": (1, 11, 41), **hdf5plugin.Bitshuffle(cname="lz4")},
        "unfiltered chunks": {"chunks": (1, 33, 41)},
    }[layout]
    with h5py.File(tmp_path / "line.h5", "w") as file:
        file.create_dataset("/entry/data/data", data=frames, **options)
    np.testing.assert_array_equal(list(Hdf5Frames().frames(str(tmp_path / "line.h5"))), frames)


def test_pilatus_chunks_bypass_the_filter_of_hdf5(
    tmp_path: Path, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    decompress = raw.bitshuffle.decompress_lz4
    monkeypatch.setattr(
        raw.bitshuffle, "decompress_lz4", lambda *args: decoded.append(args) or decompress(*args)
    )
    path = write_raw_line(tmp_path / "line.h5", frames)
    list(Hdf5Frames().frames(path))
    assert len(decoded) == 5


def test_a_chunk_stored_without_its_filter_is_read_as_it_is(tmp_path: Path, frames: np.ndarray) -> None:
    path = write_raw_line(tmp_path / "line.h5", frames)
    with h5py.File(path, "r+") as file:
        file["/entry/data/data"].id.write_direct_chunk((2, 0, 0), frames[2].tobytes(), filter_mask=1)
    np.testing.assert_array_equal(list(Hdf5Frames().frames(path)), frames)


@pytest.mark.parametrize("compression", ["bitshuffle", "gzip", "none"])
def test_a_frame_never_written_is_none_not_zeros(
    tmp_path: Path, frames: np.ndarray, compression: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_raw_line(tmp_path / "line.h5", frames, compression, missing=[1])
    back = list(Hdf5Frames().frames(path))
    assert [frame is None for frame in back] == [False, True, False, False, False]
    assert "frame 1 of" in caplog.text
    assert "never written" in caplog.text


@pytest.mark.parametrize("compression", ["bitshuffle", "gzip"])
def test_a_damaged_frame_is_none_and_its_neighbours_are_whole(
    tmp_path: Path, frames: np.ndarray, compression: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_raw_line(tmp_path / "line.h5", frames, compression)
    damage_frame(path, 3)
    back = list(Hdf5Frames().frames(path))
    assert back[3] is None
    np.testing.assert_array_equal(back[:3], frames[:3])
    np.testing.assert_array_equal(back[4], frames[4])
    assert "frame 3 of" in caplog.text
    assert "cannot be decoded" in caplog.text


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_to_a_chunk_takes_the_process_down(tmp_path: Path, frames: np.ndarray, seed: int) -> None:
    path = Path(write_raw_line(tmp_path / "line.h5", frames))
    with h5py.File(path, "r") as file:
        chunk = file["/entry/data/data"].id.get_chunk_info_by_coord((1, 0, 0))
    rng = np.random.default_rng(seed)
    content = bytearray(path.read_bytes())
    for place in rng.integers(chunk.byte_offset, chunk.byte_offset + chunk.size - 8, size=3):
        content[place : place + 8] = rng.bytes(8)
    path.write_bytes(content)
    back = list(Hdf5Frames().frames(str(path)))
    assert len(back) == 5
    np.testing.assert_array_equal(back[2], frames[2])


def test_one_frame_is_in_memory_at_a_time(tmp_path: Path) -> None:
    import tracemalloc

    frames = np.zeros((40, 100, 100), dtype=np.int32)
    path = write_raw_line(tmp_path / "line.h5", frames)
    tracemalloc.start()
    try:
        total = sum(int(frame.sum()) for frame in Hdf5Frames().frames(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 0
    assert peak < 10 * frames[0].nbytes


def test_missing_truncated_and_foreign_files_are_told_apart(tmp_path: Path, frames: np.ndarray) -> None:
    with pytest.raises(DataError, match="is not there"):
        next(Hdf5Frames().frames(str(tmp_path / "absent.h5")))
    path = Path(write_raw_line(tmp_path / "line.h5", frames))
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(DataError, match="cannot be opened"):
        next(Hdf5Frames().frames(str(path)))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["/entry/data/data"] = np.zeros((3, 3))
    with pytest.raises(DataError, match=r"has no frames .* at /entry/data/data"):
        next(Hdf5Frames().frames(str(tmp_path / "other.h5")))


def test_moved_files_are_found_by_name(tmp_path: Path, frames: np.ndarray) -> None:
    (tmp_path / "moved").mkdir()
    write_raw_line(tmp_path / "moved" / "line.h5", frames)
    recorded = "/beamline/raw/line.h5"
    np.testing.assert_array_equal(list(Hdf5Frames([tmp_path, tmp_path / "moved"]).frames(recorded)), frames)
    with pytest.raises(DataError, match="nor in"):
        Hdf5Frames([tmp_path]).locate(recorded)


def test_an_image_is_read_and_what_is_none_is_refused(tmp_path: Path) -> None:
    image = np.arange(12, dtype=np.int32).reshape(3, 4)
    fabio.edfimage.EdfImage(data=image).write(str(tmp_path / "a.edf"))
    np.testing.assert_array_equal(read_image(tmp_path / "a.edf"), image)
    (tmp_path / "b.cbf").write_bytes(b"no image at all")
    with pytest.raises(DataError, match=r"b\.cbf cannot be read"):
        read_image(tmp_path / "b.cbf")
    (tmp_path / "c.edf").write_bytes((tmp_path / "a.edf").read_bytes()[:530])
    with pytest.raises(DataError, match=r"c\.edf cannot be read .*incomplete"):
        read_image(tmp_path / "c.edf")
    with pytest.raises(DataError, match="is not there"):
        read_image(tmp_path / "absent.tif")


def test_the_real_pilatus_frame(shared_data: Path) -> None:
    image = read_image(shared_data / "ceo2_cdte2m" / "CeO2.cbf")
    assert image.shape == (1679, 1475)
    assert (image == -1).sum() == 211_354
    assert (image == -2).sum() == 1_427
