"""A report as one page that needs no other file, and its figures for print."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape

from matplotlib.figure import Figure

from ._report_figures import cell_figure, depth_figure, lattice_figure, slice_figure, trend_figure
from ._report_values import CellCurve, LatticeMap, ReportState, ReportValues

__all__ = ["CellCurve", "LatticeMap", "ReportState", "ReportValues", "render_report"]

_STYLE = """body{font:15px/1.45 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}
img{max-width:100%}figure{margin:1.5em 0}figcaption{color:#444;font-size:.92em}
table{border-collapse:collapse}td,th{padding:.15em .8em;text-align:right;border-bottom:1px solid #ccc}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font-size:.8em;background:#f4f4f4;padding:.8em}"""

#: Particles in the table; `xrdct export --format csv` writes all.
_N_ROWS = 20


def render_report(values: ReportValues) -> Mapping[str, bytes]:
    """Return the files of a report by name: ``index.html`` and each figure as PNG and PDF."""
    files: dict[str, bytes] = {}
    parts = [f"<h1>{escape(values.title)}</h1>"]
    for name, figure, caption in _figures(values):
        for kind in ("png", "pdf"):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=150)
            files[f"{name}.{kind}"] = buffer.getvalue()
        coded = base64.b64encode(files[f"{name}.png"]).decode()
        parts.append(
            f'<figure><img alt="{escape(name)}" src="data:image/png;base64,{coded}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
    parts += [_particles(state) for state in values.states if state.lattice is not None][-1:]
    parts.append(f"<h2>Settings</h2><pre>{escape(values.settings)}</pre><p>{escape(values.version)}</p>")
    head = f'<meta charset="utf-8"><title>{escape(values.title)}</title><style>{_STYLE}</style>'
    page = f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>'
    return {"index.html": page.encode(), **files}


def _figures(values: ReportValues) -> list[tuple[str, Figure, str]]:
    found: list[tuple[str, Figure, str]] = []
    if values.cell is not None and values.cell.time_s.size:
        n = len(values.cell.pauses)
        caption = f"Voltage and current of the cell; {n} pauses for slices are shaded and numbered."
        found.append(("cell", cell_figure(values.cell), caption))
    counts = "; ".join(f"{state.name}: {state.counts}" for state in values.states)
    found.append(
        (
            "slices",
            slice_figure(values.states),
            f"Mean intensity of the slices, y up, in mm. {counts}. Grey: unknown.",
        )
    )
    refined = [state for state in values.states if state.lattice is not None]
    if refined:
        found.append(
            ("lattice", lattice_figure(refined), f"Lattice parameter and histograms. {_told(refined)}")
        )
        found.append(
            ("depth", depth_figure(refined), "All particles together; bars: standard error of the mean, "
             "which knows nothing of systematic errors or of the blur of the slice.")
        )  # fmt: skip
        found.append(
            ("trend", trend_figure(refined), "Left: mean; bars hold nine tenths of the voxels. Right: share "
             "of the voxels in the window, with its esd from those of the voxels.")
        )  # fmt: skip
    return found


def _told(states: Sequence[ReportState]) -> str:
    told = []
    for state in states:
        found = state.lattice
        if found is None:
            continue
        told.append(
            f"{state.name}: {found.n_converged} of {found.n_refined} refined voxels converged, "
            f"{found.histogram.n_voxels} shown, median esd {1e3 * found.median_esd_A:.2f} mÅ, median Rwp "
            f"{100 * found.median_rwp:.1f} %, {100 * found.histogram.fraction:.1f} ± "
            f"{100 * found.histogram.fraction_esd:.1f} % in the window {found.histogram.window_A[0]:g} to "
            f"{found.histogram.window_A[1]:g} Å (pink)"
        )
    return "; ".join(told) + ". Grey: not converged, or too little of the phase."


def _particles(state: ReportState) -> str:
    if state.lattice is None:
        return ""
    rows = "".join(
        f"<tr><td>{row.label}<td>{1e3 * row.x_mm:.0f}<td>{1e3 * row.y_mm:.0f}<td>{row.radius_um:.1f}"
        f"<td>{row.a_A:.4f}<td>{1e3 * row.a_esd_A:.2f}</tr>"
        for row in state.lattice.particles[:_N_ROWS]
    )
    n = len(state.lattice.particles)
    return (
        f"<h2>Particles of {escape(state.name)}</h2><p>The largest {min(n, _N_ROWS)} of {n}.</p>"
        "<table><tr><th>particle"
        f"<th>x, µm<th>y, µm<th>radius, µm<th>a, Å<th>esd, mÅ</tr>{rows}</table>"
    )
