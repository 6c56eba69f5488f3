"""What one browser sees: the figures of the page and the channels that its user chose."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from bokeh.layouts import column, row
from bokeh.models import Div, RadioButtonGroup, RangeSlider

from .channels import Preset, Range, presets, sum_channels
from .chemistry import ChemistryFigures
from .figures import CellFigures, MapFigure, PatternFigures, angle_ticks, axis_label
from .header import HEADER_CSS, header_html
from .snapshot import Snapshot, SnapshotStore

__all__ = ["Session", "SharedMaps"]

#: How often a session looks for a new version.
PERIOD_MS = 400

Maps = tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None]

_SLIDER_CSS = """
.bk-slider-title { font: 13px var(--font); color: var(--muted); }
.noUi-target .noUi-connect { background: #8fb3da; }
"""
_BUTTON_CSS = """
.bk-btn { font: 13px var(--font); padding: 5px 12px; }
.bk-btn.bk-active { background: #1d5fa6; color: #fff; border-color: #1d5fa6; }
"""


class SharedMaps:
    """Sinogram and slice summed over channels, computed once for all sessions that show the same."""

    def __init__(self) -> None:
        self._key: tuple[int, tuple[Range, ...]] | None = None
        self._maps: Maps = (None, None)

    def of(self, snapshot: Snapshot, ranges: Sequence[Range]) -> Maps:
        """Return the sinogram and the slice of a snapshot, the slice's first row at the bottom."""
        key = (snapshot.version, tuple(ranges))
        if key != self._key:
            sinogram = self._sum(snapshot.sinogram, snapshot, ranges)
            slice_ = self._sum(snapshot.slice_, snapshot, ranges)
            if slice_ is not None:
                slice_ = slice_[::-1] * np.float32(snapshot.slice_scale)
            self._key, self._maps = key, (sinogram, slice_)
        return self._maps

    @staticmethod
    def _sum(stack: Any, snapshot: Snapshot, ranges: Sequence[Range]) -> npt.NDArray[np.float32] | None:
        if stack is None or stack.shape[-1] != len(snapshot.radial):
            return None
        return sum_channels(stack, snapshot.radial, ranges)


class Session:
    """What one browser sees."""

    def __init__(self, document: Any, store: SnapshotStore, maps: SharedMaps) -> None:
        self._store, self._maps = store, maps
        self._version = -1
        self._presets: list[Preset] = []
        self._ranges: tuple[Range, ...] = ()
        self._axis: tuple[Any, ...] = ()
        self._header = Div(name="header", sizing_mode="stretch_width", stylesheets=[HEADER_CSS])
        self._slice = MapFigure(name="slice", x_label="x (mm)", y_label="y (mm)", width_px=280, height_px=280)
        self._sinogram = MapFigure(
            name="sinogram", x_label="translation (mm)", y_label="rotation (°)", width_px=270, height_px=280
        )
        angle_ticks(self._sinogram.figure)
        self._cell = CellFigures(height_px=154)
        self._chemistry = ChemistryFigures()
        self._pattern = PatternFigures(height_px=106, ticks_height_px=102)
        self._choice = RadioButtonGroup(labels=["All channels"], active=0, stylesheets=[_BUTTON_CSS])
        self._slider = RangeSlider(
            start=0.0,
            end=1.0,
            value=(0.0, 1.0),
            step=0.01,
            width=360,
            disabled=True,
            title="own range",
            stylesheets=[_SLIDER_CSS],
        )
        self._choice.on_change("active", self._preset_chosen)
        self._slider.on_change("value_throttled", self._range_chosen)
        self._lay_out(document)
        self._show()
        document.add_periodic_callback(self._show, PERIOD_MS)

    def _lay_out(self, document: Any) -> None:
        wide: dict[str, Any] = {"sizing_mode": "stretch_width"}
        roots = [
            self._header,
            self._slice.figure,
            self._sinogram.figure,
            column(self._cell.voltage, self._cell.current, name="cell", spacing=0, **wide),
            self._chemistry.lattice.figure,
            self._chemistry.summary,
            self._chemistry.histogram,
            self._chemistry.trend,
            self._chemistry.particles,
            row(self._choice, self._slider, name="choice", spacing=24, **wide),
            column(self._pattern.pattern, self._pattern.ticks, name="pattern", spacing=0, **wide),
        ]
        for root in roots:
            document.add_root(root)
        document.title = "XRD-CT live"
        document.template = jinja2.Template(resources.files(__package__).joinpath("page.html").read_text())

    def _show(self) -> None:
        snapshot = self._store.latest()
        if snapshot.version == self._version:
            return
        self._version = snapshot.version
        _set(self._header, text=header_html(snapshot))
        self._offer_channels(snapshot)
        self._pattern.show(snapshot)
        self._cell.show(snapshot)
        self._chemistry.show(snapshot)
        self._show_maps(snapshot)

    def _show_maps(self, snapshot: Snapshot) -> None:
        sinogram, slice_ = self._maps.of(snapshot, self._ranges)
        x0, x1, _, _ = snapshot.extent_mm
        self._sinogram.show(sinogram, (x0, x1, 0.0, snapshot.span_deg))
        self._slice.show(slice_, snapshot.extent_mm)

    def _offer_channels(self, snapshot: Snapshot) -> None:
        """Renew the choices when the axis or the phases have changed, and keep what was chosen."""
        radial = np.asarray(snapshot.radial, float)
        if len(radial) < 2:
            return
        low, high = float(radial[0]), float(radial[-1])
        ticks = {name: tuple(positions) for name, positions in snapshot.phase_ticks.items()}
        axis = (len(radial), low, high, snapshot.unit, ticks)
        if axis == self._axis:
            return
        self._axis = axis
        own = self._ranges if self._choice.active is None and low <= self._hull()[0] < high else None
        chosen = self._presets[self._choice.active].name if self._is_preset() else None
        self._presets = presets(radial, snapshot.unit, snapshot.phase_ticks)
        names = [preset.name for preset in self._presets]
        active = names.index(chosen) if chosen in names else 0
        self._ranges = own or self._presets[active].ranges
        self._choice.update(labels=names, active=None if own else active)
        self._slider.update(
            start=low,
            end=high,
            step=(high - low) / (len(radial) - 1),
            value=self._hull(),
            disabled=False,
            title=f"own range, {axis_label(snapshot.unit)}",
        )
        self._pattern.choose(self._ranges)

    def _is_preset(self) -> bool:
        return self._choice.active is not None and bool(self._presets)

    def _hull(self) -> Range:
        return min(low for low, _ in self._ranges), max(high for _, high in self._ranges)

    def _preset_chosen(self, _attribute: str, _old: Any, _new: Any) -> None:
        if self._is_preset():
            self._choose(self._presets[self._choice.active].ranges)
            _set(self._slider, value=self._hull())

    def _range_chosen(self, _attribute: str, _old: Any, new: tuple[float, float]) -> None:
        self._choice.active = None
        self._choose(((float(new[0]), float(new[1])),))

    def _choose(self, ranges: tuple[Range, ...]) -> None:
        if ranges != self._ranges:
            self._ranges = ranges
            self._pattern.choose(ranges)
            self._show_maps(self._store.latest())


def _set(model: Any, **properties: Any) -> None:
    """Set properties that differ, so that nothing is sent for those that do not."""
    model.update(**{name: value for name, value in properties.items() if getattr(model, name) != value})
