"""The figures of a report, after those of Finegan et al., Nat. Commun. 11 (2020) 631."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ._report_values import CellCurve, LatticeMap, ReportState

__all__ = ["cell_figure", "depth_figure", "lattice_figure", "slice_figure", "trend_figure"]

_WIDTH_IN = 7.2
_UNKNOWN, _WINDOW = "0.7", "#f4b6c2"


def cell_figure(cell: CellCurve) -> Figure:
    """Draw voltage and current over time, with the pauses numbered."""
    figure = Figure(figsize=(_WIDTH_IN, 3.0), layout="constrained")
    ax = figure.subplots()
    zero = float(cell.time_s[0])
    ax.plot((cell.time_s - zero) / 60, cell.voltage_V, color="k", lw=1)
    ax.set(xlabel="time, min", ylabel="voltage, V")
    for number, (start, end) in enumerate(cell.pauses, start=1):
        stop = float(cell.time_s[-1]) if end is None else end
        ax.axvspan((start - zero) / 60, (stop - zero) / 60, color="#88aadd", alpha=0.5, lw=0)
        ax.annotate(str(number), ((start + stop - 2 * zero) / 120, 0.94), xycoords=("data", "axes fraction"))
    right = ax.twinx()
    right.plot((cell.time_s - zero) / 60, cell.current_mA, color="#bb5500", lw=1, ls="--")
    right.set_ylabel("current, mA (dashed)", color="#bb5500")
    return figure


def slice_figure(states: Sequence[ReportState]) -> Figure:
    """Draw the mean intensity of each slice, in the same colours."""
    figure, axes = _row(len(states), 3.0)
    known = np.concatenate([state.intensity[np.isfinite(state.intensity)] for state in states])
    limits = np.percentile(known, (1, 99.5)) if known.size else (0.0, 1.0)
    for ax, state in zip(axes, states, strict=True):
        image = _image(ax, state.intensity, state, "viridis", (float(limits[0]), float(limits[1])))
    figure.colorbar(image, ax=list(axes), label="counts per pixel", shrink=0.8)
    return figure


def lattice_figure(states: Sequence[ReportState]) -> Figure:
    """Draw the lattice parameter of each slice and, below it, its histogram with the window."""
    figure = Figure(figsize=(max(_WIDTH_IN, 2.3 * len(states)), 4.8), layout="constrained")
    axes = figure.subplots(2, len(states), squeeze=False)
    pairs = [(state, _lattice(state)) for state in states]
    known = np.concatenate([found.a_A[np.isfinite(found.a_A)] for _, found in pairs])
    low, high = (float(limit) for limit in np.percentile(known, (1, 99)))
    for column, (state, found) in enumerate(pairs):
        image = _image(axes[0, column], found.a_A, state, "viridis", (low, high))
        histogram, ax = found.histogram, axes[1, column]
        ax.axvspan(*histogram.window_A, color=_WINDOW, alpha=0.7, lw=0)
        ax.stairs(histogram.counts, histogram.edges_A, fill=True, color="#33557a")
        margin = 0.3 * (high - low)
        ax.set(xlim=(low - margin, high + margin), xlabel=f"a of {found.phase}, Å")
    axes[1, 0].set_ylabel("voxels per bin")
    figure.colorbar(image, ax=list(axes[0]), label="a, Å", shrink=0.8)
    return figure


def depth_figure(states: Sequence[ReportState]) -> Figure:
    """Draw the lattice parameter against the depth below the surface of the particles."""
    figure = Figure(figsize=(_WIDTH_IN, 3.2), layout="constrained")
    ax = figure.subplots()
    for colour, state in zip(mpl.colormaps["viridis"](np.linspace(0, 0.9, len(states))), states, strict=True):
        found = _lattice(state)
        ax.errorbar(
            found.depth_um, found.depth_a_A, found.depth_esd_A, fmt="o-", ms=3, color=colour, label=state.name
        )
    ax.set(xlabel="depth below the surface, µm", ylabel="a, Å")
    ax.legend(frameon=False)
    return figure


def trend_figure(states: Sequence[ReportState]) -> Figure:
    """Draw mean, range of nine tenths and share within the window over the slices."""
    figure = Figure(figsize=(_WIDTH_IN, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    found = [_lattice(state) for state in states]
    place, mean = np.arange(len(states)), np.array([item.point.a_mean_A for item in found])
    low = mean - [item.point.a_low_A for item in found]
    high = [item.point.a_high_A for item in found] - mean
    left.errorbar(place, mean, np.maximum([low, high], 0), fmt="o-", color="#33557a", capsize=3)
    left.set_ylabel("a, Å")
    share = [100 * item.histogram.fraction for item in found]
    right.errorbar(
        place, share, [100 * item.histogram.fraction_esd for item in found], fmt="s-", color="#bb5500"
    )
    right.set_ylabel("voxels in the window, %")
    for ax in (left, right):
        ax.set_xticks(place, [state.name for state in states])
    return figure


def _row(n: int, height_in: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(max(_WIDTH_IN, 2.3 * n), height_in), layout="constrained")
    return figure, figure.subplots(1, n, squeeze=False)[0]


def _image(ax: Any, values: Any, state: ReportState, colours: str, limits: tuple[float, float]) -> Any:
    ax.set_facecolor(_UNKNOWN)
    ax.set(title=state.name, xlabel="x, mm")
    return ax.imshow(
        values, extent=state.extent_mm, cmap=colours, vmin=limits[0], vmax=limits[1], interpolation="nearest"
    )


def _lattice(state: ReportState) -> LatticeMap:
    if state.lattice is None:
        raise ValueError(f"{state.name} holds no refined map")
    return state.lattice
