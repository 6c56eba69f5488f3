"""The figures of the page. Each is built once and then only given new data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from bokeh.models import (
    BasicTicker,
    ColorBar,
    ColumnDataSource,
    CustomJSTickFormatter,
    DataRange1d,
    FactorRange,
    FixedTicker,
    HoverTool,
    Label,
    LinearColorMapper,
    Range1d,
)
from bokeh.palettes import Viridis256
from bokeh.plotting import figure

from .channels import Range, colour_limits, pretty_phase
from .snapshot import Snapshot

__all__ = ["CellFigures", "MapFigure", "MapValue", "PatternFigures", "styled_figure"]

FloatArray = npt.NDArray[np.floating[Any]]

INK, MUTED, RULE = "#1f2933", "#5f6b7a", "#e4e8ed"
UNMEASURED, PAUSE, CHOSEN = "#d5dae1", "#dde7f3", "#fbe3c0"
VOLTAGE, CURRENT = "#1d5fa6", "#b4551b"
PHASE_COLOURS = ("#1d5fa6", "#b4551b", "#2f7d4f", "#8a4fa3", "#a8842c", "#4a7f8c")
FONT = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

# What an axis spans before there are data: without any its figure would stay blank.
_UNIT = [0.0, 1.0]

#: Points of a curve that a browser is sent, at most; a week of samples is thinned to this.
MAX_POINTS = 4000

_AXIS_LABELS = {
    "2th_deg": "2θ (°)",
    "2th_rad": "2θ (rad)",
    "q_nm^-1": "q (nm⁻¹)",
    "q_A^-1": "q (Å⁻¹)",
}

# Three digits and a power of ten that does not change the width of the axis.
_SHORT_NUMBERS = """
    const size = Math.abs(tick)
    if (size === 0) { return "0" }
    if (size >= 1e5 || size < 1e-2) { return tick.toExponential(0).replace("e+", "e") }
    if (size >= 1e3) { return (tick / 1e3).toPrecision(2).replace(/[.]0$/, "") + "k" }
    return String(Number(tick.toPrecision(3)))
"""


def axis_label(unit: str) -> str:
    """Return how a person writes the radial axis."""
    return _AXIS_LABELS.get(unit, unit)


@dataclass(frozen=True, slots=True)
class MapValue:
    """What a map's colours stand for: the title of the scale, the name and the format under the cursor."""

    title: str
    name: str
    number: str


INTENSITY = MapValue("intensity (counts)", "intensity", "{0.000 a}")


class MapFigure:
    """A picture in millimetres across, with its colour scale; grey where nothing is measured.

    Parameters
    ----------
    x_label, y_label:
        Axes with their units.
    width_px, height_px:
        Size of the picture itself.
    value:
        What the colours stand for.
    waiting:
        What is written in place of the picture while there is none.
    """

    def __init__(
        self,
        *,
        name: str,
        x_label: str,
        y_label: str,
        width_px: int,
        height_px: int,
        value: MapValue = INTENSITY,
        waiting: str = "waiting for the first line",
    ) -> None:
        self.source = ColumnDataSource(
            {"image": [np.full((1, 1), np.nan, np.float32)], "x": [0.0], "y": [0.0], "dw": [1.0], "dh": [1.0]}
        )
        self.mapper = LinearColorMapper(palette=Viridis256, low=0.0, high=1.0, nan_color=UNMEASURED)
        self.figure = styled_figure(
            name=name,
            frame_width=width_px,
            frame_height=height_px,
            x_range=Range1d(0.0, 1.0),
            y_range=Range1d(0.0, 1.0),
            x_axis_label=x_label,
            y_axis_label=y_label,
        )
        self.figure.grid.visible = False
        self.figure.background_fill_color = UNMEASURED
        image = self.figure.image(
            image="image", x="x", y="y", dw="dw", dh="dh", source=self.source, color_mapper=self.mapper
        )
        tooltips = [(x_label, "$x{0.000}"), (y_label, "$y{0.000}"), (value.name, f"@image{value.number}")]
        self.figure.add_tools(HoverTool(renderers=[image], tooltips=tooltips))
        self._wait = Label(
            x=width_px / 2,
            y=height_px / 2,
            x_units="screen",
            y_units="screen",
            text=waiting,
            text_align="center",
            text_baseline="middle",
            text_color=MUTED,
            text_font=FONT,
            text_font_size="15px",
        )
        self.figure.add_layout(self._wait)
        bar = ColorBar(
            color_mapper=self.mapper,
            width=10,
            padding=6,
            title=value.title,
            title_text_align="center",
            title_text_font=FONT,
            title_text_font_size="11px",
            title_text_font_style="normal",
            title_text_color=MUTED,
            major_label_text_color=MUTED,
            major_label_text_font=FONT,
            major_label_text_font_size="11px",
            ticker=BasicTicker(desired_num_ticks=5),
            formatter=CustomJSTickFormatter(code=_SHORT_NUMBERS),
            major_tick_line_color=None,
            bar_line_color=None,
        )
        self.figure.add_layout(bar, "right")

    def show(
        self,
        image: FloatArray | None,
        extent: tuple[float, float, float, float],
        limits: tuple[float, float] | None = None,
    ) -> None:
        """Draw an image ``(row, column)``, its first row at the bottom, within ``(x0, x1, y0, y1)``.

        The colours reach over ``limits``, or over what most of the image holds.
        """
        x0, x1, y0, y1 = extent
        _fix_range(self.figure.x_range, x0, x1)
        _fix_range(self.figure.y_range, y0, y1)
        self._wait.visible = image is None
        if image is None:
            image = np.full((1, 1), np.nan, np.float32)
        low, high = limits or colour_limits(image)
        self.mapper.update(low=low, high=high)
        self.source.data = {
            "image": [np.ascontiguousarray(image, np.float32)],
            "x": [x0],
            "y": [y0],
            "dw": [x1 - x0],
            "dh": [y1 - y0],
        }


class CellFigures:
    """Voltage above current, on one time axis, with the pauses shaded."""

    def __init__(self, *, height_px: int) -> None:
        self.source = ColumnDataSource({"time": _UNIT, "voltage": _UNIT, "current": _UNIT})
        self.pauses = ColumnDataSource({"x0": [], "x1": []})
        self._lines: list[Any] = []
        time = DataRange1d(range_padding=0.0)
        self.voltage = self._curve("voltage", "voltage (V)", VOLTAGE, time, height_px)
        self.current = self._curve("current", "current (mA)", CURRENT, time, height_px + 18)
        self.voltage.xaxis.visible = False
        self.current.xaxis.axis_label = "time (s)"

    def show(self, snapshot: Snapshot) -> None:
        """Draw the history of the cell."""
        seconds = np.asarray(snapshot.cell_time_s, float)
        if not seconds.size:
            return
        zero, last = seconds[0], seconds[-1]
        scale, unit = _time_unit(float(last - zero))
        keep = _thinned(seconds.size)
        current, current_unit = _current_unit(np.asarray(snapshot.cell_current, float)[keep])
        self.current.xaxis.axis_label = f"time ({unit})"
        self.current.yaxis.axis_label = f"current ({current_unit})"
        self.source.data = {
            "time": (seconds[keep] - zero) / scale,
            "voltage": np.asarray(snapshot.cell_voltage, float)[keep],
            "current": current,
        }
        for line in self._lines:
            line.visible = True
        ends = [(start, last if end is None else end) for start, end in snapshot.pauses]
        self.pauses.data = {
            "x0": [(start - zero) / scale for start, _ in ends],
            "x1": [(end - zero) / scale for _, end in ends],
        }

    def _curve(self, name: str, label: str, colour: str, time: DataRange1d, height_px: int) -> Any:
        plot = styled_figure(
            height=height_px,
            sizing_mode="stretch_width",
            x_range=time,
            y_range=DataRange1d(range_padding=0.15),
            y_axis_label=label,
            min_border_left=62,
        )
        plot.vstrip(x0="x0", x1="x1", source=self.pauses, fill_color=PAUSE, line_color=None, level="underlay")
        line = plot.line("time", name, source=self.source, line_color=colour, line_width=1.8)
        line.visible = False
        self._lines.append(line)
        time.renderers = self._lines
        plot.y_range.renderers = [line]
        plot.yaxis.ticker.desired_num_ticks = 4
        return plot


class PatternFigures:
    """The newest pattern above the reflections of the phases; the summed channels are shaded."""

    def __init__(self, *, height_px: int, ticks_height_px: int) -> None:
        self.source = ColumnDataSource({"radial": _UNIT, "pattern": _UNIT, "low": _UNIT, "high": _UNIT})
        self.chosen = ColumnDataSource({"x0": [], "x1": []})
        self.tick_source = ColumnDataSource({"x": [], "y0": [], "y1": [], "colour": []})
        shared: dict[str, Any] = {"sizing_mode": "stretch_width", "min_border_left": 96}
        self.pattern = styled_figure(
            height=height_px,
            x_range=DataRange1d(range_padding=0.0),
            y_axis_label="intensity",
            **shared,
        )
        self.ticks = styled_figure(
            height=ticks_height_px,
            x_range=self.pattern.x_range,
            y_range=FactorRange(factors=[""]),
            **shared,
        )
        for plot in (self.pattern, self.ticks):
            plot.vstrip(
                x0="x0", x1="x1", source=self.chosen, fill_color=CHOSEN, line_color=None, level="underlay"
            )
        band = self.pattern.varea(
            x="radial", y1="low", y2="high", source=self.source, fill_color=MUTED, fill_alpha=0.25
        )
        line = self.pattern.line("radial", "pattern", source=self.source, line_color=INK, line_width=1.3)
        self._curves = [band, line]
        for curve in self._curves:
            curve.visible = False
        self.pattern.x_range.renderers = self.pattern.y_range.renderers = [line]
        self.pattern.add_tools(
            HoverTool(renderers=[line], mode="vline", tooltips=[("", "@radial{0.000}: @pattern{0.000}")])
        )
        self.ticks.segment(
            x0="x", x1="x", y0="y0", y1="y1", source=self.tick_source, line_color="colour", line_width=1.5
        )
        self.pattern.xaxis.visible = False
        self.pattern.yaxis.ticker.desired_num_ticks = 4
        self.pattern.yaxis.formatter = CustomJSTickFormatter(code=_SHORT_NUMBERS)
        self.ticks.grid.visible = False
        self.ticks.yaxis.major_tick_line_color = None
        self.ticks.toolbar_location = None
        self._phases: Mapping[str, FloatArray] | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Draw the newest pattern and, when they have changed, the reflections."""
        radial, pattern = np.asarray(snapshot.radial, float), np.asarray(snapshot.pattern, float)
        if radial.size and radial.size == pattern.size:
            sigma = snapshot.pattern_sigma
            for curve in self._curves:
                curve.visible = True
            spread = np.zeros(radial.size) if sigma is None else np.asarray(sigma, float)
            self.source.data = {
                "radial": radial,
                "pattern": pattern,
                "low": pattern - spread,
                "high": pattern + spread,
            }
        if snapshot.phase_ticks is not self._phases:
            self._phases = snapshot.phase_ticks
            self._show_ticks(snapshot.phase_ticks, snapshot.unit)

    def choose(self, ranges: Sequence[Range]) -> None:
        """Shade the channels that the maps show."""
        self.chosen.data = {"x0": [low for low, _ in ranges], "x1": [high for _, high in ranges]}

    def _show_ticks(self, ticks: Mapping[str, FloatArray], unit: str) -> None:
        self.ticks.xaxis.axis_label = axis_label(unit)
        names = {name: pretty_phase(name) for name in ticks}
        self.ticks.y_range.factors = list(names.values())[::-1] or [""]
        rows = [
            (
                float(position),
                (names[name], -0.32),
                (names[name], 0.32),
                PHASE_COLOURS[i % len(PHASE_COLOURS)],
            )
            for i, (name, positions) in enumerate(ticks.items())
            for position in positions
        ]
        columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
        self.tick_source.data = dict(zip(("x", "y0", "y1", "colour"), columns, strict=True))


def styled_figure(**options: Any) -> Any:
    """Return a figure in the page's style."""
    plot = figure(
        tools="pan,box_zoom,wheel_zoom,reset,save",
        toolbar_location="above",
        toolbar_inner=True,
        background_fill_color="white",
        border_fill_color=None,
        outline_line_color=None,
        min_border_right=10,
        **options,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.grid.grid_line_color = RULE
    for axis in plot.axis:
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "12px"
        axis.major_label_text_font_size = "11px"
        axis.axis_label_text_color = axis.major_label_text_color = MUTED
        axis.axis_line_color = axis.major_tick_line_color = "#aab3bf"
        axis.minor_tick_line_color = None
        axis.major_tick_in = 0
    return plot


def angle_ticks(plot: Any) -> None:
    """Put the ticks of the rotation axis where an angle has a round number."""
    plot.yaxis.ticker = FixedTicker(ticks=list(range(0, 361, 30)))


def _fix_range(axis_range: Any, start: float, end: float) -> None:
    """Set a range and what reset returns to, unless they are so already: a zoom is left alone."""
    if (axis_range.reset_start, axis_range.reset_end) != (start, end):
        axis_range.update(start=start, end=end, reset_start=start, reset_end=end)


def _time_unit(span_s: float) -> tuple[float, str]:
    if span_s < 300.0:
        return 1.0, "s"
    return (60.0, "min") if span_s < 3 * 3600.0 else (3600.0, "h")


def _current_unit(current_mA: FloatArray) -> tuple[FloatArray, str]:
    """Return the current in the unit that suits it: cells for tomography draw microamperes."""
    finite = np.abs(current_mA[np.isfinite(current_mA)])
    return (current_mA * 1e3, "µA") if finite.size and 0 < finite.max() < 0.1 else (current_mA, "mA")


def _thinned(n: int) -> npt.NDArray[np.intp]:
    """Return indices of at most ``MAX_POINTS`` of n samples, the newest among them."""
    stride = math.ceil(n / MAX_POINTS)
    return np.arange((n - 1) % stride, n, stride)
