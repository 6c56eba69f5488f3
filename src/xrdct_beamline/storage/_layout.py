"""Groups and datasets of NeXus files, made at their full size."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import DataError, XrdctError

from ._heaps import check_text_heaps

__all__ = ["FILE_SCHEMA", "new_data_group", "new_group", "new_room", "numbers", "reading", "write_schema"]

#: Version of the layout of processed files, maps and masters. It grows when older readers would go
#: wrong; `reading` lets every version up to this one pass, and those from before there was one.
FILE_SCHEMA = 1

_SCHEMA = "xrdct_schema"
#: What h5py, numpy, json and the conversions raise on files that were tampered with or damaged.
_DAMAGE = (
    OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, IndexError, OverflowError,
    MemoryError, RecursionError, NotImplementedError,
)  # fmt: skip


def write_schema(file: h5py.File) -> None:
    """Say in a new file how it is laid out."""
    file.attrs[_SCHEMA] = FILE_SCHEMA


def numbers(
    group: h5py.Group, name: str, shape: Sequence[int | None], kinds: str = "iuf"
) -> npt.NDArray[Any]:
    """Return a dataset of numbers that has a shape, None standing for any length, and a kind.

    Raises
    ------
    KeyError
        If it is not there.
    ValueError
        If it has another shape, or does not hold numbers of these kinds.
    """
    dataset = group[name]
    found = getattr(dataset, "shape", None)
    if found is None or dataset.dtype.kind not in kinds:
        raise ValueError(f"{dataset.name} does not hold the numbers that it should")
    if len(found) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{dataset.name} has shape {found}, not ({wanted})")
    values: npt.NDArray[Any] = dataset[()]
    return values


@contextlib.contextmanager
def reading(path: Path | str, what: str) -> Iterator[h5py.Group]:
    """Open a file for reading and yield its entry; whatever is wrong with it is told by its name.

    Parameters
    ----------
    what:
        What the file should be.

    Raises
    ------
    DataError
        If it is not there, no such file, damaged, or of a version that is not known yet.
    """
    try:
        check_text_heaps(path)
        with h5py.File(path, "r", locking=False) as file:
            schema = int(file.attrs.get(_SCHEMA, 0))
            if schema > FILE_SCHEMA:
                raise DataError(
                    f"{path} has layout {schema}, this version reads up to {FILE_SCHEMA}; install a newer one"
                )
            yield file["entry"]
    except XrdctError as error:
        if str(path) in str(error):
            raise
        raise DataError(f"{path} is no {what}, or a damaged one: {error}") from error
    except _DAMAGE as error:
        raise DataError(f"{path} is no {what}, or a damaged one: {error}") from error


def new_group(parent: h5py.Group, name: str, nx_class: str, **attributes: Any) -> h5py.Group:
    """Create a group of a NeXus class."""
    group = parent.create_group(name)
    group.attrs["NX_class"] = nx_class
    for key, value in attributes.items():
        group.attrs[key] = value
    return group


def new_data_group(
    parent: h5py.Group, name: str, axes: Sequence[str], signal: str = "intensity"
) -> h5py.Group:
    """Create an NXdata group that names its signal and its axes."""
    group = new_group(parent, name, "NXdata", signal=signal, axes=list(axes))
    for number, axis in enumerate(axes):
        if axis == ".":
            continue
        group.attrs[f"{axis}_indices"] = number
    return group


def new_room(
    group: h5py.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    fill: float | None,
    chunks: tuple[int, ...] | None = None,
) -> None:
    """Create a dataset and take its room on the disk now, filled (text: with nothing)."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
    if fill is not None:
        creation.set_fill_value(np.asarray(fill, dtype=dtype))
    if chunks is not None:
        creation.set_chunk(chunks)
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5d.create(group.id, name.encode(), kind, space, dcpl=creation)
