"""Groups and datasets of NeXus files, made at their full size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

__all__ = ["new_data_group", "new_group", "new_room"]


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
