"""Symmetry operators: which of them a CIF means, and what they do to a cell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import gemmi
import numpy as np
import numpy.typing as npt

from .errors import PhaseError

__all__ = ["Symmetry", "candidates", "read_cell"]

FloatArray = npt.NDArray[np.float64]
Cell = tuple[float, float, float, float, float, float]

_OPERATORS = (
    "_space_group_symop_operation_xyz",
    "_space_group_symop.operation_xyz",
    "_symmetry_equiv_pos_as_xyz",
)
_HALL = ("_space_group_name_Hall", "_symmetry_space_group_name_Hall", "_space_group.name_Hall")
_HM = (
    "_space_group_name_H-M_alt",
    "_symmetry_space_group_name_H-M",
    "_space_group.name_H-M_alt",
    "_space_group_name_H-M_full",
    "_space_group_name_H-M_ref",
)
_NUMBER = ("_space_group_IT_number", "_symmetry_Int_Tables_number", "_space_group.IT_number")
_LENGTHS = ("_cell_length_a", "_cell_length_b", "_cell_length_c")
_ANGLES = ("_cell_angle_alpha", "_cell_angle_beta", "_cell_angle_gamma")

#: How databases and programs write an origin or axis choice behind the Hermann-Mauguin symbol.
_CHOICE = re.compile(r"\s*[:(]?\s*(?:origin\s*(?:choice)?\s*|o)?([12szhr])\s*\)?$", re.IGNORECASE)
_EXTENSION = {"s": "1", "z": "2", "1": "1", "2": "2", "h": "H", "r": "R"}


@dataclass(frozen=True)
class Symmetry:
    """A space group as its operators, whether or not a table knows it.

    Parameters
    ----------
    triplets:
        Every operator, centring included, as ``x,y,z`` triplets.
    name:
        Hermann-Mauguin symbol with the origin choice, or how many operators there are.
    """

    triplets: tuple[str, ...]
    name: str

    @classmethod
    def of_group(cls, group: gemmi.SpaceGroup) -> Symmetry:
        """Return the symmetry of a tabulated space group."""
        return cls(tuple(op.triplet() for op in group.operations()), str(group.xhm()))

    @cached_property
    def rotations(self) -> npt.NDArray[np.int64]:
        """Distinct rotation parts with the inversion added, shape ``(n, 3, 3)``: the Laue class."""
        parts = {
            tuple(map(tuple, (np.array(gemmi.Op(t).rot) // gemmi.Op.DEN).tolist())) for t in self.triplets
        }
        proper = np.array(sorted(parts), dtype=np.int64)
        return np.unique(np.concatenate([proper, -proper]), axis=0)

    def images(self, position: Sequence[float]) -> FloatArray:
        """Return the images of a position under every operator, shape ``(operator, 3)``."""
        xyz = [float(x) for x in position]
        return np.array([gemmi.Op(t).apply_to_xyz(xyz) for t in self.triplets], dtype=np.float64)

    @cached_property
    def ties(self) -> tuple[int, int, int, int, int, int]:
        """For each of a, b, c, α, β, γ the parameter that it follows (itself if free), -1 if it is fixed.

        Found from a metric without any symmetry of its own, averaged over the Laue class.
        """
        odd = metric((3.1, 4.3, 5.7, 83.0, 97.0, 101.0))
        a, b, c, *angles = cell_of_metric(self.average(odd))
        lengths = (a, b, c)
        tied = [next(j for j in range(3) if abs(lengths[j] - lengths[i]) < 1e-6) for i in range(3)]
        for i, angle in enumerate(angles):
            first = next(j for j in range(3) if abs(angles[j] - angle) < 1e-6)
            tied.append(-1 if min(abs(angle - 90.0), abs(angle - 120.0)) < 1e-6 else 3 + min(first, i))
        return (tied[0], tied[1], tied[2], tied[3], tied[4], tied[5])

    def average(self, tensor: FloatArray) -> FloatArray:
        """Return the metric tensor made invariant under the Laue class."""
        r = self.rotations.astype(np.float64)
        return np.asarray(np.einsum("nji,jk,nkl->il", r, tensor, r) / len(r))

    def fit_cell(self, cell: Cell, origin: str) -> Cell:
        """Return the nearest cell that these operators allow; refuse one that is no rounding away from it."""
        a, b, c, alpha, beta, gamma = (round(x, 9) for x in cell_of_metric(self.average(metric(cell))))
        allowed = (a, b, c, alpha, beta, gamma)
        limits = [2e-3 * length for length in cell[:3]] + [0.1] * 3
        if any(abs(x - y) > limit for x, y, limit in zip(cell, allowed, limits, strict=True)):
            raise PhaseError(
                f"the cell {' '.join(f'{x:g}' for x in cell)} of {origin} does not fit its space group "
                f"{self.name}; correct one of them"
            )
        return cell if np.allclose(cell, allowed, rtol=0, atol=1e-8) else allowed


def metric(cell: Cell) -> FloatArray:
    """Return the metric tensor of a cell, Å²."""
    lengths = np.array(cell[:3])
    cos_a, cos_b, cos_g = np.cos(np.radians(cell[3:]))
    cosines = np.array([[1.0, cos_g, cos_b], [cos_g, 1.0, cos_a], [cos_b, cos_a, 1.0]])
    return np.asarray(cosines * np.outer(lengths, lengths))


def cell_of_metric(tensor: FloatArray) -> Cell:
    """Return the cell of a metric tensor."""
    a, b, c = (float(x) for x in np.sqrt(np.diag(tensor)))
    cosines = (tensor[1, 2] / (b * c), tensor[0, 2] / (a * c), tensor[0, 1] / (a * b))
    alpha, beta, gamma = (float(np.degrees(np.arccos(x))) for x in cosines)
    return a, b, c, alpha, beta, gamma


def read_cell(block: gemmi.cif.Block, origin: str) -> Cell:
    """Read the cell of a CIF block, uncertainties in brackets left out."""
    values = [gemmi.cif.as_number(block.find_value(tag) or "?") for tag in (*_LENGTHS, *_ANGLES)]
    missing = [t for t, v in zip((*_LENGTHS, *_ANGLES), values, strict=True) if not np.isfinite(v) or v <= 0]
    if missing:
        raise PhaseError(
            f"{origin} has no unit cell: {', '.join(missing)} must be positive numbers; add them"
        )
    a, b, c, alpha, beta, gamma = values
    if np.linalg.det(metric((a, b, c, alpha, beta, gamma))) <= 0:
        raise PhaseError(
            f"{origin} has no unit cell: angles {alpha:g} {beta:g} {gamma:g}° close no cell; correct them"
        )
    return a, b, c, alpha, beta, gamma


def candidates(block: gemmi.cif.Block, cell: Cell, origin: str) -> tuple[list[Symmetry], list[str]]:
    """Return the symmetries that a block may mean, the usual one first, and what was assumed so far.

    Operators win over the Hall symbol, that over the Hermann-Mauguin symbol, that over the number.
    More than one is returned only where a symbol leaves the origin open.
    """
    named = _named(block, cell)
    listed = _listed(block, origin)
    if listed is not None:
        identity_alone = len(listed.triplets) == 1 and any(len(s.triplets) > 1 for s in named)
        if not identity_alone:
            return [listed], _contradiction(listed, named)
        return named, [f"its only operator is x,y,z, but it names {named[0].name}; the name is believed"]
    if named:
        return named, []
    number = gemmi.cif.as_number(_first(block, _NUMBER) or "?")
    group = (
        gemmi.find_spacegroup_by_number(int(number)) if np.isfinite(number) and 1 <= number <= 230 else None
    )
    if group is None:
        raise PhaseError(
            f"{origin} names no space group known to gemmi and lists no symmetry operators; "
            "add _space_group_name_H-M_alt or the operators"
        )
    assumed = f"it gives only the number {int(number)} of its space group; the setting {group.xhm()} is taken"
    return _with_other_origin(group, ""), [assumed]


def _first(block: gemmi.cif.Block, tags: Sequence[str]) -> str | None:
    for tag in tags:
        value = block.find_value(tag)
        if value is not None and gemmi.cif.as_string(value).strip():
            return str(gemmi.cif.as_string(value)).strip()
    return None


def _listed(block: gemmi.cif.Block, origin: str) -> Symmetry | None:
    """Return the symmetry of the operators in the file, checked to be a group."""
    column = next((c for c in (block.find_values(tag) for tag in _OPERATORS) if len(c)), None)
    if column is None:
        return None
    try:
        wrapped = [gemmi.Op(gemmi.cif.as_string(text).strip()).wrap() for text in column]
    except (ValueError, RuntimeError) as error:
        raise PhaseError(
            f"{origin} has a symmetry operator that cannot be read ({error}); correct it"
        ) from error
    triplets = tuple(dict.fromkeys(op.triplet() for op in wrapped))
    have = set(triplets)
    if any((gemmi.Op(p) * gemmi.Op(q)).wrap().triplet() not in have for p in triplets for q in triplets):
        raise PhaseError(
            f"the {len(triplets)} symmetry operators of {origin} are not a group; "
            "list all of them, centring included"
        )
    group = gemmi.find_spacegroup_by_ops(gemmi.GroupOps([gemmi.Op(t) for t in triplets]))
    return Symmetry(triplets, str(group.xhm()) if group else f"{len(triplets)} operators")


def _named(block: gemmi.cif.Block, cell: Cell) -> list[Symmetry]:
    """Return the symmetries that the symbols may mean; none if no table knows them."""
    hall = _first(block, _HALL)
    if hall:
        operations = _operations_of_hall(hall)
        group = None if operations is None else gemmi.find_spacegroup_by_ops(operations)
        if group is not None:
            return [Symmetry.of_group(group)]
    for tag in _HM:
        symbol = _first(block, (tag,))
        if symbol:
            group, choice = _look_up(symbol, cell)
            if group is not None:
                return _with_other_origin(group, choice)
    return []


def _operations_of_hall(hall: str) -> gemmi.GroupOps | None:
    try:
        return gemmi.symops_from_hall(hall)
    except (ValueError, RuntimeError):
        return None  # a misprinted Hall symbol: the Hermann-Mauguin symbol follows


def _look_up(symbol: str, cell: Cell) -> tuple[gemmi.SpaceGroup | None, str]:
    """Return the space group of a symbol and the origin or axis choice that it states, if any."""
    group = _by_name(symbol, cell)
    if group is not None:
        return group, group.ext if ":" in symbol else ""
    found = _CHOICE.search(symbol)
    if found is None:
        return None, ""
    choice = _EXTENSION[found.group(1).lower()]
    return _by_name(f"{symbol[: found.start()].strip()}:{choice}", cell), choice


def _by_name(symbol: str, cell: Cell) -> gemmi.SpaceGroup | None:
    """Return the space group of a symbol; the cell tells rhombohedral from hexagonal axes."""
    return gemmi.find_spacegroup_by_name(symbol, cell[3], cell[5])


def _with_other_origin(group: gemmi.SpaceGroup, choice: str) -> list[Symmetry]:
    """Return the group with origin choice 2 first and 1 behind it, where nothing says which."""
    if choice or group.ext not in ("1", "2"):
        return [Symmetry.of_group(group)]
    both = [gemmi.find_spacegroup_by_name(f"{group.hm}:{c}") for c in "21"]
    return [Symmetry.of_group(g) for g in both if g is not None]


def _contradiction(listed: Symmetry, named: Sequence[Symmetry]) -> list[str]:
    if not named or any(set(s.triplets) == set(listed.triplets) for s in named):
        return []
    return [
        f"its operators are those of {listed.name}, its name is {named[0].name}; the operators are believed"
    ]
