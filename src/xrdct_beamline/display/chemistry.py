"""What the refinement found, as the page shows it: lattice map, histogram, trend and particles."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource, Div, HoverTool, Range1d

from .channels import pretty_phase
from .figures import CHOSEN, INK, MUTED, VOLTAGE, MapFigure, MapValue, styled_figure
from .snapshot import Chemistry, ParticleRow, Snapshot, StatePoint

__all__ = ["PARTICLES_CSS", "ChemistryFigures", "particles_html", "summary_html"]

#: Particles that the page lists; the file holds them all.
MAX_PARTICLES = 12

_LATTICE = MapValue("a (Å)", "a (Å)", "{0.0000}")

PARTICLES_CSS = """
:host > div { width: 100%; }
th, td { padding: 0 6px; }
table { border-collapse: collapse; font: 12.5px/1.5 var(--font); width: 100%; }
th { text-align: right; font-weight: 600; color: var(--muted); border-bottom: 1px solid var(--rule); }
td { text-align: right; font-variant-numeric: tabular-nums; }
p { margin: 2px 0 6px; font: 12.5px/1.45 var(--font); color: var(--muted); }
strong { color: var(--ink); font-weight: 600; }
"""


class ChemistryFigures:
    """The lattice map, its histogram, the trend over the pauses, and the particles as a table."""

    def __init__(self) -> None:
        self.lattice = MapFigure(
            name="lattice",
            x_label="x (mm)",
            y_label="y (mm)",
            width_px=280,
            height_px=280,
            value=_LATTICE,
            waiting="waiting for the first map",
        )
        self.bars = ColumnDataSource({"left": [], "right": [], "top": []})
        self.window = ColumnDataSource({"x0": [], "x1": []})
        self.points = ColumnDataSource({"state": [], "mean": [], "low": [], "high": []})
        self.histogram = self._histogram()
        self.trend = self._trend()
        self.summary = Div(name="summary", text="", stylesheets=[PARTICLES_CSS], sizing_mode="stretch_width")
        self.particles = Div(
            name="particles", text="", stylesheets=[PARTICLES_CSS], sizing_mode="stretch_width"
        )
        self._shown: Chemistry | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Draw the newest map, if it is another one."""
        found = snapshot.chemistry
        if found is self._shown:
            return
        self._shown = found
        if found is None:
            self.lattice.show(None, snapshot.extent_mm)
            return
        self.lattice.show(found.a_A[::-1], snapshot.extent_mm, found.limits_A)
        self._show_histogram(found)
        self._show_trend(found.trend, found.limits_A)
        self.summary.update(text=summary_html(found))
        self.particles.update(text=particles_html(found.particles))

    def _show_histogram(self, found: Chemistry) -> None:
        edges = np.asarray(found.edges_A, float)
        self.bars.data = {"left": edges[:-1], "right": edges[1:], "top": np.asarray(found.counts, float)}
        low, high = found.window_A or (0.0, 0.0)
        self.window.data = {"x0": [low], "x1": [high]} if found.window_A else {"x0": [], "x1": []}
        self.histogram.x_range.update(start=found.limits_A[0], end=found.limits_A[1])
        top = max(float(np.max(found.counts, initial=0.0)), 1.0)
        self.histogram.y_range.update(start=0.0, end=1.08 * top)

    def _show_trend(self, trend: Sequence[StatePoint], limits_A: tuple[float, float]) -> None:
        self.points.data = {
            "state": [point.state_index + 1 for point in trend],
            "mean": [point.a_mean_A for point in trend],
            "low": [point.a_low_A for point in trend],
            "high": [point.a_high_A for point in trend],
        }
        last = max((point.state_index + 1 for point in trend), default=1)
        self.trend.x_range.update(start=0.5, end=max(last, 3) + 0.5)
        self.trend.y_range.update(start=limits_A[0], end=limits_A[1])

    def _histogram(self) -> Any:
        plot = styled_figure(
            name="histogram",
            height=170,
            sizing_mode="stretch_width",
            x_range=Range1d(8.0, 8.3),
            y_range=Range1d(0.0, 1.0),
            x_axis_label="a (Å)",
            y_axis_label="voxels",
            min_border_left=62,
        )
        plot.vstrip(
            x0="x0", x1="x1", source=self.window, fill_color=CHOSEN, line_color=None, level="underlay"
        )
        bars = plot.quad(
            left="left",
            right="right",
            bottom=0,
            top="top",
            source=self.bars,
            fill_color=VOLTAGE,
            line_color=None,
        )
        tip = [("a (Å)", "@left{0.0000} to @right{0.0000}"), ("voxels", "@top{0}")]
        plot.add_tools(HoverTool(renderers=[bars], tooltips=tip))
        plot.yaxis.ticker.desired_num_ticks = 4
        return plot

    def _trend(self) -> Any:
        plot = styled_figure(
            name="trend",
            height=170,
            sizing_mode="stretch_width",
            x_range=Range1d(0.5, 3.5),
            y_range=Range1d(8.0, 8.3),
            x_axis_label="pause",
            y_axis_label="a (Å)",
            min_border_left=62,
        )
        plot.segment(
            x0="state", x1="state", y0="low", y1="high", source=self.points, line_color=MUTED, line_width=3
        )
        dots = plot.scatter(
            x="state", y="mean", source=self.points, size=9, fill_color=INK, line_color="white"
        )
        tip = [
            ("pause", "@state"),
            ("mean a (Å)", "@mean{0.0000}"),
            ("90 % within", "@low{0.0000} to @high{0.0000}"),
        ]
        plot.add_tools(HoverTool(renderers=[dots], tooltips=tip))
        plot.xaxis.ticker = list(range(1, 101))
        plot.yaxis.ticker.desired_num_ticks = 4
        return plot


def summary_html(found: Chemistry) -> str:
    """Return what the map says in a sentence or two, as HTML."""
    values = found.a_A[np.isfinite(found.a_A)]
    if not values.size:
        return "<p>No voxel holds enough of the phase yet.</p>"
    mean_esd_A = float(np.nanmedian(found.a_esd_A))
    parts = [
        f"<strong>{html.escape(pretty_phase(found.phase))}</strong>: {values.size} voxels after "
        f"{found.lines_done} lines, median a <strong>{np.median(values):.4f} Å</strong>, "
        f"error of one voxel ±{mean_esd_A:.4f} Å."
    ]
    if found.window_A is not None and np.isfinite(found.window_share):
        low, high = found.window_A
        parts.append(f"{100 * found.window_share:.1f} % lie in the shaded window, {low:.3f} to {high:.3f} Å.")
    if np.isfinite(found.drift_A):
        parts.append(f"Drift within the scan {found.drift_A:+.4f} ± {found.drift_esd_A:.4f} Å.")
    if found.note:
        parts.append(html.escape(found.note))
    return f"<p>{' '.join(parts)}</p>"


def particles_html(particles: Sequence[ParticleRow]) -> str:
    """Return the largest particles as an HTML table."""
    if not particles:
        return "<p>No particle found yet.</p>"
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("no.", "x (mm)", "y (mm)", "radius (µm)", "a (Å)", "±")
    )
    rows = "".join(
        f"<tr><td>{p.label}</td><td>{p.x_mm:.3f}</td><td>{p.y_mm:.3f}</td><td>{p.radius_um:.1f}</td>"
        f"<td>{p.a_A:.4f}</td><td>{p.a_esd_A:.4f}</td></tr>"
        for p in particles[:MAX_PARTICLES]
    )
    more = len(particles) - MAX_PARTICLES
    rest = f"<p>and {more} smaller ones</p>" if more > 0 else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{rest}"
