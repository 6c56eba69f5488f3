"""Lays the tables of all phases out as the arrays that the kernels read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ._refine_bins import Bins
from ._refine_phase import PhaseModel
from ._refine_rows import Kit
from ._refine_search import Templates, make_templates
from ._refine_tables import (
    PhaseTable,
    ReflectionTable,
    Widths,
    cubic_table,
    fixed_table,
    pattern,
    reflection_table,
)
from .peak_profile import Profile

__all__ = ["Layout", "TemplateMaker", "build_kit"]

FloatArray = npt.NDArray[np.float64]
TemplateMaker = Callable[[FloatArray], Templates]

#: Limits of an angle, in degrees to either side.
_ANGLE_DEG = 1.5
#: The coarse search looks at every so many-th node of the table, half a FWHM of the fastest peak.
_SEARCH_EVERY = 5
#: And at so many cells, swollen and shrunk, where there is no table.
_SEARCH_CELLS = 31


@dataclass(frozen=True)
class Layout:
    """Places of the parameters: background, scales, free cell parameters, width."""

    phases: Sequence[PhaseModel]
    n_background: int
    widths: Widths

    @property
    def width_free(self) -> bool:
        """Whether the last parameter is the width."""
        return self.widths.nodes_deg.size > 1

    @property
    def first_cell(self) -> list[int]:
        """First cell parameter of each phase."""
        n = self.n_background + len(self.phases)
        return [n + sum(p.n_cell for p in self.phases[:k]) for k in range(len(self.phases))]

    @property
    def n_parameters(self) -> int:
        """Number of all parameters."""
        cells = sum(phase.n_cell for phase in self.phases)
        return self.n_background + len(self.phases) + cells + self.width_free

    def start(self) -> FloatArray:
        """Return the parameters of an empty pattern, the cells those of the CIFs."""
        theta = np.zeros(self.n_parameters)
        for phase, first in zip(self.phases, self.first_cell, strict=True):
            theta[first : first + phase.n_cell] = np.clip(phase.reference, *cell_bounds(phase))
        return theta


def cell_bounds(phase: PhaseModel) -> tuple[FloatArray, FloatArray]:
    """Return the limits of the free cell parameters; lengths keep in proportion to a's."""
    low, high = (limit / phase.phase.cell[0] for limit in phase.a_limits_A)
    places = [phase.map.index(k) for k in range(phase.n_cell)]
    values = phase.reference
    is_length = np.array([place < 3 for place in places], dtype=bool)
    return (
        np.where(is_length, values * low, values - _ANGLE_DEG),
        np.where(is_length, values * high, values + _ANGLE_DEG),
    )


def build_kit(
    phases: Sequence[PhaseModel],
    layout: Layout,
    bins: Bins,
    profile: Profile,
    widths: Widths,
    zero_deg: float,
) -> tuple[Kit, FloatArray, TemplateMaker]:
    """Return the kit, the factor of each phase's rows, and what makes search templates from weights."""
    tables: list[PhaseTable | ReflectionTable] = []
    for phase in phases:
        if phase.n_cell == 0:
            tables.append(fixed_table(phase, bins, profile, widths))
        elif phase.follows_a:
            tables.append(cubic_table(phase, bins, profile, widths))
        else:
            tables.append(reflection_table(phase, bins, profile, widths))
    chebyshev = bins.chebyshev(layout.n_background)
    kit = _kit(phases, tables, layout, bins, chebyshev, zero_deg)
    grids = [
        _coarse(phase, table, bins, profile, widths) for phase, table in zip(phases, tables, strict=True)
    ]

    def templates(weight: FloatArray) -> Templates:
        return make_templates([rows for rows, _ in grids], [cells for _, cells in grids], chebyshev, weight)

    return kit, np.array([table.norm for table in tables]), templates


def _coarse(
    phase: PhaseModel, table: PhaseTable | ReflectionTable, bins: Bins, profile: Profile, widths: Widths
) -> tuple[FloatArray, FloatArray]:
    """Return patterns ``(template, bin)`` and the free cell parameters of each."""
    if isinstance(table, PhaseTable):
        if phase.n_cell == 0:
            return table.rows[:, 0, 0].astype(np.float64), np.zeros((1, 0))
        n = table.rows.shape[0]
        chosen = np.unique(np.append(np.arange(0, n, _SEARCH_EVERY), n - 1))
        return table.rows[chosen, 0, 0].astype(np.float64), (table.low + table.step * chosen)[:, None]
    low, high = (limit / phase.phase.cell[0] for limit in phase.a_limits_A)
    lengths = np.array([phase.map.index(k) < 3 for k in range(phase.n_cell)])
    cells = np.where(lengths, np.linspace(low, high, _SEARCH_CELLS)[:, None], 1.0) * phase.reference
    rows = [pattern(phase.peaks(phase.full_cell(c)), bins, profile, widths, 0.0) for c in cells]
    return np.array(rows) / table.norm, cells


def _kit(
    phases: Sequence[PhaseModel],
    tables: Sequence[PhaseTable | ReflectionTable],
    layout: Layout,
    bins: Bins,
    chebyshev: FloatArray,
    zero_deg: float,
) -> Kit:
    flat = [
        t.rows.reshape(-1, bins.size) if isinstance(t, PhaseTable) else np.zeros((0, bins.size))
        for t in tables
    ]
    masses = [
        # per unit of the scales in the kernels, which are those of normalised tables
        (t.mass if isinstance(t, PhaseTable) else np.array([p.phase.cell_mass_g_mol])) / t.norm
        for p, t in zip(phases, tables, strict=True)
    ]
    lists = [t for t in tables if isinstance(t, ReflectionTable)]
    counts = [t.area.size if isinstance(t, ReflectionTable) else 0 for t in tables]
    lower, upper, most = _limits(phases, tables, layout)
    n_points = lists[0].shape.shape[-1] if lists else 1
    nodes = layout.widths.nodes_deg
    return Kit(
        chebyshev=chebyshev.astype(np.float32),
        rows=np.ascontiguousarray(np.concatenate(flat), dtype=np.float32),
        first_row=_starts([rows.shape[0] for rows in flat])[:-1],
        n_nodes=np.array([t.rows.shape[0] if isinstance(t, PhaseTable) else 0 for t in tables]),
        low=np.array([t.low if isinstance(t, PhaseTable) else 0.0 for t in tables]),
        step=np.array([t.step if isinstance(t, PhaseTable) else 1.0 for t in tables]),
        mass=np.concatenate(masses),
        first_mass=_starts([m.size for m in masses])[:-1],
        first_cell=np.array(layout.first_cell, dtype=np.int64),
        n_cell=np.array([p.n_cell for p in phases], dtype=np.int64),
        n_width=int(nodes.size),
        width_step=float(nodes[1] - nodes[0]) if layout.width_free else 1.0,
        lower=lower,
        upper=upper,
        max_step=most,
        first_reflection=_starts(counts),
        hkl=_joined([t.hkl for t in lists], (0, 3)).astype(np.float64),
        quarter_wavelength2=_joined([t.quarter_wavelength2 for t in lists], (0,)),
        area=_joined([t.area for t in lists], (0,)),
        shape_low=_joined([t.low for t in lists], (0,)),
        shape_step=_joined([t.step for t in lists], (0,)),
        shapes=_joined([t.shape.reshape(-1, n_points) for t in lists], (0, 1)).astype(np.float32),
        x_deg=bins.centre_deg,
        zero_deg=zero_deg,
        cell_map=np.array([p.map for p in phases], dtype=np.int64),
        cell=np.array([p.phase.cell for p in phases]),
    )  # fmt: skip


def _limits(
    phases: Sequence[PhaseModel], tables: Sequence[PhaseTable | ReflectionTable], layout: Layout
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return lowest and highest value of each parameter, and its longest step."""
    n, n_linear = layout.n_parameters, layout.n_background + len(phases)
    lower, upper, most = np.full(n, -np.inf), np.full(n, np.inf), np.full(n, np.inf)
    lower[layout.n_background : n_linear] = 0.0
    for phase, table, first in zip(phases, tables, layout.first_cell, strict=True):
        own = slice(first, first + phase.n_cell)
        lower[own], upper[own] = cell_bounds(phase)
        # Not further than about half a FWHM of the fastest peak, where the derivative still points there.
        most[own] = 5 * table.step if isinstance(table, PhaseTable) else 0.002 * phase.reference
    if layout.width_free:
        lower[-1], upper[-1] = 0.0, layout.widths.nodes_deg[-1]
        most[-1] = 0.25 * upper[-1]
    return lower, upper, most


def _starts(sizes: Sequence[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def _joined(parts: Sequence[npt.NDArray[Any]], empty: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(empty)
