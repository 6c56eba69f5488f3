"""One line of frames as the HDF5 plugin writes it: bitshuffle/LZ4 chunks, one per frame."""

from __future__ import annotations

from pathlib import Path

import bitshuffle
import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt

__all__ = ["LineFile", "compress"]

BLOCK_ELEMENTS = 2048  # bitshuffle's own choice for four-byte elements
ITEM_BYTES = 4


def compress(frame: npt.NDArray[np.int32]) -> bytes:
    """Return a frame as a chunk of HDF5 filter 32008.

    The chunk starts with the size of the frame (8 bytes) and of a block (4 bytes), big-endian.
    """
    payload = bitshuffle.compress_lz4(np.ascontiguousarray(frame), BLOCK_ELEMENTS)
    header = frame.nbytes.to_bytes(8, "big") + (BLOCK_ELEMENTS * ITEM_BYTES).to_bytes(4, "big")
    return header + payload.tobytes()


class LineFile:
    """A raw file, open for writing.

    Parameters
    ----------
    path:
        Where it is written; an existing file is replaced.
    n_frames:
        Room for so many at first; it grows as needed, and what is not written is cut off on closing.
    shape:
        ``(rows, columns)`` of a frame.
    compressed:
        Whether chunks are bitshuffle/LZ4.
    """

    def __init__(self, path: Path, *, n_frames: int, shape: tuple[int, int], compressed: bool = True) -> None:
        self.path = path
        self.n_written = 0
        self._compressed = compressed
        self._unique_ids: list[int] = []
        self._timestamps: list[float] = []
        self._file = h5py.File(path, "w")
        entry = self._file.create_group("entry")
        entry.attrs["NX_class"] = "NXentry"
        data = entry.create_group("data")
        data.attrs.update({"NX_class": "NXdata", "signal": "data"})
        self._dataset = data.create_dataset(
            "data",
            shape=(n_frames, *shape),
            maxshape=(None, *shape),
            chunks=(1, *shape),
            dtype="<i4",
            **(hdf5plugin.Bitshuffle(cname="lz4") if compressed else {}),
        )

    def write(self, frame: npt.NDArray[np.int32], *, unique_id: int, timestamp: float) -> None:
        """Append one frame."""
        chunk = compress(frame) if self._compressed else np.ascontiguousarray(frame).tobytes()
        if self.n_written >= self._dataset.shape[0]:
            self._dataset.resize(2 * self._dataset.shape[0], axis=0)
        self._dataset.id.write_direct_chunk((self.n_written, 0, 0), chunk)
        self._unique_ids.append(unique_id)
        self._timestamps.append(timestamp)
        self.n_written += 1

    def close(self) -> None:
        """Cut the file to what was written, add the frames' numbers and times, and close it."""
        if not self._file:
            return
        try:
            self._dataset.resize(self.n_written, axis=0)
            attributes = self._file.create_group("entry/instrument/NDAttributes")
            attributes["NDArrayUniqueId"] = np.asarray(self._unique_ids, dtype=np.int32)
            attributes["NDArrayTimeStamp"] = np.asarray(self._timestamps, dtype=np.float64)
        finally:
            self._file.close()
