"""Frames from raw files: one HDF5 file per line, or single images of a detector's own formats.

The Pilatus files hold one bitshuffle/LZ4 chunk per frame. Such a chunk is fetched as it lies on
the disk and decoded by the ``bitshuffle`` package, outside of the lock that h5py holds while its
filters run: 2 ms a frame instead of 6.5 ms. Every other layout goes through h5py.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import bitshuffle
import fabio
import h5py
import hdf5plugin  # noqa: F401  registers the filters with HDF5
import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import DataError

__all__ = ["DATASET", "DeferredFrame", "Hdf5Frames", "read_image"]

logger = logging.getLogger(__name__)

#: Where the file writer of areaDetector puts the frames.
DATASET = "/entry/data/data"

_BITSHUFFLE = 32008
_LZ4 = 2  # fifth value of the filter's options
#: A chunk begins with the length of its content (8 bytes) and of a block (4 bytes), big-endian.
_HEADER = struct.Struct(">QL")

Frame = npt.NDArray[Any]
ReadFrame = Callable[[int], Frame]
#: Fetches what lies on the disk, and returns what is left to do: decoding, on any thread.
FetchFrame = Callable[[int], Callable[..., Frame]]

_decoder = threading.local()


class DeferredFrame:
    """What is left to do for one frame: decoding it, on any thread."""

    def __init__(self, decode: Callable[..., Frame | None]) -> None:
        self._decode = decode

    def __call__(self) -> Frame | None:
        """Return the frame in memory of its own, None if it is missing or damaged."""
        return self._decode()

    def into(self, buffer: npt.NDArray[Any]) -> Frame | None:
        """Return the frame, decoded into a buffer of its shape and dtype where that is possible.

        Fresh memory for each frame can cost as much as two thirds of its decoding.
        """
        return self._decode(buffer)


class Hdf5Frames:
    """Reads the frames of closed raw files; a `FrameSource`.

    One frame is in memory at a time. A frame that is missing or damaged comes as None.

    Parameters
    ----------
    search:
        Folders in which a file of the same name is looked for when the recorded path is gone,
        as on another machine.
    dataset:
        Path of the frames ``(frame, row, column)`` in the file.
    """

    def __init__(self, search: Sequence[Path | str] = (), dataset: str = DATASET) -> None:
        self._search = tuple(Path(folder) for folder in search)
        self._dataset = dataset

    def frames(self, raw_file: str) -> Iterator[Frame | None]:
        """Yield the frames ``(row, column)`` of a line in the order of acquisition.

        Raises
        ------
        DataError
            If the file is not there, is no HDF5 file, or holds no frames.
        """
        path = self.locate(raw_file)
        with _open(path) as file:
            dataset = _frames_dataset(file, path, self._dataset)
            fetch = _fetcher(dataset)
            for index in range(dataset.shape[0]):
                yield _read_or_none(lambda i: fetch(i)(), dataset, index, path)

    def deferred(self, raw_file: str) -> Iterator[DeferredFrame]:
        """Yield for each frame a function that decodes it, to be called on one of several threads.

        What lies on the disk is read here; each decoding then uses one thread, where `frames` uses
        all cores for one frame after the other. A function with an attribute ``into`` can also decode
        into memory that is kept: ``into(buffer)``.

        Raises
        ------
        DataError
            As `frames`.
        """
        path = self.locate(raw_file)
        with _open(path) as file:
            dataset = _frames_dataset(file, path, self._dataset)
            fetch = _fetcher(dataset)
            for index in range(dataset.shape[0]):
                yield _deferred_or_none(fetch, dataset, index, path)

    def frame(self, raw_file: str, index: int) -> Frame | None:
        """Return one frame of a line, None if it is missing or damaged.

        Raises
        ------
        DataError
            As `frames`, and if the file holds no such frame.
        """
        path = self.locate(raw_file)
        with _open(path) as file:
            dataset = _frames_dataset(file, path, self._dataset)
            if not 0 <= index < dataset.shape[0]:
                raise DataError(f"raw file {path} holds {dataset.shape[0]} frames, there is no frame {index}")
            fetch = _fetcher(dataset)
            return _read_or_none(lambda i: fetch(i)(), dataset, index, path)

    def count(self, raw_file: str) -> int:
        """Return the number of frames in a file.

        Raises
        ------
        DataError
            As `frames`.
        """
        path = self.locate(raw_file)
        with _open(path) as file:
            return int(_frames_dataset(file, path, self._dataset).shape[0])

    def locate(self, raw_file: str) -> Path:
        """Return where a recorded raw file is now.

        Raises
        ------
        DataError
            If it is neither where it was written nor in a searched folder.
        """
        recorded = Path(raw_file)
        for path in (recorded, *(folder / recorded.name for folder in self._search)):
            if path.is_file():
                return path
        also = f" nor in {', '.join(map(str, self._search))}" if self._search else ""
        raise DataError(f"raw file {raw_file} is not there{also}; name the folder to which it was moved")


def read_image(path: Path | str) -> Frame:
    """Return one image ``(row, column)`` from a CBF, TIFF, EDF or another format that fabio reads.

    Raises
    ------
    DataError
        If the file is not there, is no image, or is damaged.
    """
    if not Path(path).is_file():
        raise DataError(f"image {path} is not there; check its name")
    with _complaints_of_fabio() as complaints:
        try:
            with fabio.open(os.fspath(path)) as image:
                data = np.asarray(image.data)
        except Exception as error:  # fabio's readers raise whatever their parsing runs into
            logger.debug("fabio on %s", path, exc_info=True)
            complaints.append(f"{type(error).__name__}: {error}")
    if complaints:
        raise DataError(
            f"image {path} cannot be read ({complaints[0]}); it should be a whole CBF, TIFF or EDF file"
        )
    if data.ndim != 2 or data.size == 0:
        raise DataError(f"image {path} has shape {data.shape}; it should be two-dimensional")
    return data


@contextlib.contextmanager
def _complaints_of_fabio() -> Iterator[list[str]]:
    """Collect the errors that fabio only logs: it fills up a file that was cut short with zeros."""
    complaints: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: complaints.append(record.getMessage())  # type: ignore[method-assign]
    fabio_logger = logging.getLogger("fabio")
    fabio_logger.addHandler(handler)
    try:
        yield complaints
    finally:
        fabio_logger.removeHandler(handler)


def _open(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"raw file {path} cannot be opened ({error}); it is unfinished, cut short or no HDF5 file"
        ) from error


def _frames_dataset(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 3 or dataset.dtype.kind not in "iuf":
        raise DataError(f"raw file {path} has no frames (number, row, column) at {name}")
    return dataset


def _is_one_bitshuffle_frame_per_chunk(dataset: h5py.Dataset) -> bool:
    if dataset.chunks != (1, *dataset.shape[1:]):
        return False
    creation = dataset.id.get_create_plist()
    if creation.get_nfilters() != 1:
        return False
    code, _, options, _ = creation.get_filter(0)
    return code == _BITSHUFFLE and len(options) > 4 and options[4] == _LZ4


def _fetcher(dataset: h5py.Dataset) -> FetchFrame:
    if not _is_one_bitshuffle_frame_per_chunk(dataset):

        def fetch_decoded(index: int) -> Callable[..., Frame]:
            frame = dataset[index]
            return lambda _buffer=None: frame

        return fetch_decoded
    shape, dtype = dataset.shape[1:], dataset.dtype

    def fetch(index: int) -> Callable[..., Frame]:
        skipped_filters, chunk = dataset.id.read_direct_chunk((index, 0, 0))
        if skipped_filters:
            return lambda _buffer=None: np.frombuffer(chunk, dtype=dtype).reshape(shape)
        return lambda buffer=None: _decode(chunk, shape, dtype, buffer)

    return fetch


def _decode(
    chunk: bytes, shape: tuple[int, int], dtype: np.dtype[Any], buffer: npt.NDArray[Any] | None
) -> Frame:
    n_elements = shape[0] * shape[1]
    block = _checked_block_elements(chunk, n_elements, dtype.itemsize)
    content = np.frombuffer(chunk, dtype=np.uint8, offset=_HEADER.size)
    decompress = _decompress_into()
    fits = (
        buffer is not None and buffer.flags.c_contiguous and buffer.shape == shape and buffer.dtype == dtype
    )
    if buffer is not None and fits and decompress is not None:
        used = decompress(content.ctypes.data, buffer.ctypes.data, n_elements, dtype.itemsize, block)
        if used != content.size:
            raise ValueError(f"bitshuffle returned {used} for {content.size} bytes")
        return buffer
    return bitshuffle.decompress_lz4(content, shape, dtype, block)


@functools.cache
def _decompress_into() -> Callable[..., int] | None:
    """Return the C function behind ``decompress_lz4``, which always allocates; None if it is hidden."""
    function = getattr(ctypes.CDLL(bitshuffle.ext.__file__), "bshuf_decompress_lz4", None)
    if function is not None:
        function.restype = ctypes.c_int64
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_size_t] * 3]
    return function


def _deferred_or_none(fetch: FetchFrame, dataset: h5py.Dataset, index: int, path: Path) -> DeferredFrame:
    if _is_absent(dataset, index):
        logger.warning("frame %d of %s was never written", index, path)
        return DeferredFrame(lambda _buffer=None: None)
    try:
        decode = fetch(index)
    except (OSError, RuntimeError, ValueError) as error:
        logger.warning("frame %d of %s cannot be read: %s", index, path, error)
        return DeferredFrame(lambda _buffer=None: None)

    def decode_or_none(buffer: npt.NDArray[Any] | None = None) -> Frame | None:
        _use_one_openmp_thread()
        try:
            return decode(buffer)
        except (OSError, RuntimeError, ValueError, struct.error) as error:
            logger.warning("frame %d of %s cannot be decoded: %s", index, path, error)
            return None

    return DeferredFrame(decode_or_none)


def _use_one_openmp_thread() -> None:
    """Keep bitshuffle on the calling thread: threads times cores would wait for each other, spinning."""
    if not getattr(_decoder, "is_set", False):
        _decoder.is_set = True
        for library in _openmp_of_bitshuffle():
            library.omp_set_num_threads(1)


@functools.cache
def _openmp_of_bitshuffle() -> tuple[ctypes.CDLL, ...]:
    """Return the OpenMP library that the wheel brings along; a build without one needs nothing."""
    folder = Path(bitshuffle.__file__).parent.parent / "bitshuffle.libs"
    return tuple(ctypes.CDLL(str(path)) for path in sorted(folder.glob("libgomp*")))


def _checked_block_elements(chunk: bytes, n_elements: int, itemsize: int) -> int:
    """Return the block length of a chunk whose parts add up.

    ``bitshuffle`` believes the lengths that it finds: on a damaged chunk it reads outside of the
    buffer and takes the process down with it. So the chain of blocks is walked first, which costs
    a tenth of the decoding.
    """
    length, block_bytes = _HEADER.unpack_from(chunk)
    if length != n_elements * itemsize:
        raise ValueError(f"its length is {length} bytes, not {n_elements * itemsize}")
    block, remainder = divmod(block_bytes, itemsize)
    if block == 0 or block % 8 or remainder:
        raise ValueError(f"its block length is {block_bytes} bytes, not a multiple of {8 * itemsize}")
    n_blocks, rest = divmod(n_elements, block)
    n_blocks += rest >= 8  # the last block is shorter; up to 7 elements follow it as they are
    position = _HEADER.size
    for _ in range(n_blocks):
        if position + 4 > len(chunk):
            break
        position += 4 + int.from_bytes(chunk[position : position + 4], "big")
    if position + rest % 8 * itemsize != len(chunk):
        raise ValueError(f"its {n_blocks} blocks do not fill its {len(chunk)} bytes")
    return int(block)


def _read_or_none(read: ReadFrame, dataset: h5py.Dataset, index: int, path: Path) -> Frame | None:
    if _is_absent(dataset, index):
        logger.warning("frame %d of %s was never written", index, path)
        return None
    try:
        return read(index)
    # bitshuffle reports damage as RuntimeError or ValueError, HDF5's filters as OSError.
    except (OSError, RuntimeError, ValueError, struct.error) as error:
        logger.warning("frame %d of %s cannot be decoded: %s", index, path, error)
        return None


def _is_absent(dataset: h5py.Dataset, index: int) -> bool:
    """Whether a frame's chunk was never written; HDF5 itself would hand out zeros for it."""
    if dataset.chunks is None or dataset.chunks[1:] != dataset.shape[1:]:
        return False
    first = index - index % dataset.chunks[0]
    try:
        return dataset.id.get_chunk_info_by_coord((first, 0, 0)).byte_offset is None
    except (OSError, RuntimeError, ValueError):
        return False  # the index of the chunks is damaged, which reading will say
