"""A look at where HDF5 keeps text, before it does: a zero in there makes its C library loop for ever.

The format: HDF5 File Format Specification 3.0, III.E, "Global Heap". A collection is walked from object
to object; one of index 0 is free space, whose size includes its header, and must not be 0.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

__all__ = ["check_text_heaps"]

_SIGNATURE, _HEADER = b"GCOL\x01\x00\x00\x00", 16
#: Our files have their text in front of their numbers.
_LOOKED_AT_BYTES = 16 << 20


def check_text_heaps(path: Path | str) -> None:
    """Walk the collections at the beginning of a file.

    Raises
    ------
    ValueError
        If one cannot be walked to its end.
    OSError
        If the file cannot be read.
    """
    with open(path, "rb") as file:
        size = min(file.seek(0, 2), _LOOKED_AT_BYTES)
        if size == 0:
            return
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
            place = data.find(_SIGNATURE)
            while place >= 0:
                _walk(data, place)
                place = data.find(_SIGNATURE, place + 1)


def _walk(data: mmap.mmap, first: int) -> None:
    if first + _HEADER > len(data):
        return
    end = first + struct.unpack_from("<Q", data, first + 8)[0]
    if first % 8 or end > len(data):
        return  # by chance among numbers, or what HDF5 itself refuses
    place = first + _HEADER
    while place + _HEADER <= end:
        index, size = struct.unpack_from("<H6xQ", data, place)
        step = size if index == 0 else _HEADER + -(-size // 8) * 8
        if step == 0 or place + step > end:
            raise ValueError(f"its text is damaged at byte {place}")
        place += step
