"""Documents and raw files as a run leaves them, for tests without a control system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt

Document = tuple[str, dict[str, Any]]

#: A detector of 40 x 48 pixels, 0.1 m from the sample; its corner lies at about 45 degrees.
TINY_SHAPE = (40, 48)
TINY_PONI = """poni_version: 2
Detector: Detector
Detector_config: {"pixel1": 0.002, "pixel2": 0.002, "max_shape": [40, 48]}
Distance: 0.1
Poni1: 0.04
Poni2: 0.048
Rot1: 0
Rot2: 0
Rot3: 0
Wavelength: 2.48e-11
"""

COMPRESSIONS: Mapping[str, Mapping[str, Any]] = {
    "bitshuffle": dict(hdf5plugin.Bitshuffle(cname="lz4")),
    "gzip": {"compression": "gzip"},
    "none": {},
}


def write_raw_line(
    path: Path, frames: npt.NDArray[Any], compression: str = "bitshuffle", missing: Sequence[int] = ()
) -> str:
    """Write frames ``(frame, row, column)`` as the file writer of the detector does; return the path."""
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "/entry/data/data",
            shape=frames.shape,
            dtype=frames.dtype,
            chunks=(1, *frames.shape[1:]),
            **COMPRESSIONS[compression],
        )
        for index, frame in enumerate(frames):
            if index not in missing:
                dataset[index] = frame
        attributes = file.create_group("/entry/instrument/NDAttributes")
        attributes["NDArrayUniqueId"] = np.arange(len(frames), dtype=np.int32)
        attributes["NDArrayTimeStamp"] = 1.7e9 + 0.0112 * np.arange(len(frames))
    return str(path)


def damage_frame(path: Path | str, index: int) -> None:
    """Overwrite the middle of a frame's chunk."""
    with h5py.File(path, "r") as file:
        chunk = file["/entry/data/data"].id.get_chunk_info_by_coord((index, 0, 0))
    with Path(path).open("r+b") as raw:
        raw.seek(chunk.byte_offset + 10)
        raw.write(b"\xff" * (chunk.size - 20))
