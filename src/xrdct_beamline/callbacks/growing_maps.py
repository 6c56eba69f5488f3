"""Refined maps that are filled a piece at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.results import RefinedMaps, RefinementStatus

__all__ = ["GrowingMaps"]


class GrowingMaps:
    """Maps ``(y, x)`` of a slice; voxels outside of the disc, or not refined yet, are not measured.

    Parameters
    ----------
    inside:
        Voxels that are refined, ``(y, x)``.
    """

    def __init__(self, inside: npt.NDArray[np.bool_]) -> None:
        self.inside = inside
        self._arrays: dict[str, Any] = {}
        self._names: tuple[str, ...] = ()

    def place(self, rows: slice, found: RefinedMaps) -> None:
        """Put what was found in the voxels inside of some rows, in their order, into its place."""
        where = np.zeros_like(self.inside)
        where[rows] = self.inside[rows]
        for field in fields(RefinedMaps):
            value = getattr(found, field.name)
            if field.name == "names":
                self._names = value
            elif isinstance(value, Mapping):
                of_phases = self._arrays.setdefault(field.name, {})
                for name, values in value.items():
                    self._room(of_phases, name, values)[where] = values
            else:
                self._room(self._arrays, field.name, value)[where] = value

    def as_result(self) -> RefinedMaps:
        """Return a copy of the maps as they are now."""
        return RefinedMaps(names=self._names, **{k: _copied(value) for k, value in self._arrays.items()})

    def _room(self, arrays: dict[str, Any], name: str, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if name not in arrays:
            shape = (*self.inside.shape, *like.shape[1:])
            empty = np.nan if np.issubdtype(like.dtype, np.floating) else RefinementStatus.NOT_MEASURED
            arrays[name] = np.full(shape, empty, like.dtype)
        return arrays[name]


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: values.copy() for name, values in value.items()}
    return value.copy()
