"""The page's head as HTML: which run, how far, how late, and one sentence for everybody."""

from __future__ import annotations

from html import escape

import numpy as np

from .snapshot import Snapshot

__all__ = ["HEADER_CSS", "header_html"]

_SENTENCES = {
    "waiting": "Waiting for the first line.",
    "scanning": "Scanning: every line adds one angle, and the slice becomes sharper.",
    "done": "The slice is complete.",
}


def header_html(snapshot: Snapshot) -> str:
    """Return the page's head as HTML."""
    share = snapshot.lines_done / snapshot.lines_planned if snapshot.lines_planned else 0.0
    lag = f"{snapshot.lag_s:.1f} s" if np.isfinite(snapshot.lag_s) else "–"
    pause = "–" if snapshot.state_index is None else f"{snapshot.state_index + 1}"
    tiles = [
        _tile("Pause", pause),
        _tile("Lines", _of(snapshot.lines_done, snapshot.lines_planned), share),
        _tile("Frames", _of(snapshot.frames_done, snapshot.frames_planned)),
        _tile("Lag", lag),
        _tile("Lines retaken", f"{snapshot.lines_retaken:,}"),
        _tile("Slices done", f"{snapshot.slices_done:,}"),
    ]
    sentence = escape(snapshot.message or _SENTENCES[snapshot.phase])
    title = escape(snapshot.title) or "no run yet"
    return (
        f'<div class="head"><div class="name"><h1>XRD-CT live <span class="phase {snapshot.phase}">'
        f'{snapshot.phase}</span> <span class="title">{title}</span></h1>'
        f'<p class="message">{sentence}</p></div>{"".join(tiles)}</div>'
    )


def _of(done: int, planned: int) -> str:
    return f"{done:,} <small>/ {planned:,}</small>" if planned else "–"


def _tile(label: str, value: str, share: float | None = None) -> str:
    bar = "" if share is None else f'<div class="bar"><i style="width:{100 * share:.1f}%"></i></div>'
    return f'<div class="tile"><span>{label}</span><b>{value}</b>{bar}</div>'


HEADER_CSS = """
:host { font: 14px/1.4 var(--font); color: var(--ink); }
.bk-clearfix { width: 100%; }
.head { display: flex; gap: 28px; align-items: flex-start; }
.name { flex: 1; min-width: 0; }
h1 { margin: 0; font-size: 20px; font-weight: 700; letter-spacing: -0.2px;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.title { color: var(--muted); font-size: 14px; font-weight: 400; letter-spacing: 0; margin-left: 6px; }
.phase { font-size: 12px; font-weight: 650; vertical-align: 2px; margin-left: 6px; letter-spacing: 0;
  padding: 2px 9px; border-radius: 9px; background: var(--rule); color: #46515f; }
.phase.scanning { background: #d7f0df; color: #175c34; }
.phase.done { background: #dce9f8; color: #174a82; }
.tile { min-width: 72px; }
.tile span { display: block; color: var(--muted); font-size: 12px; }
.tile b { font-size: 18px; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile small { font-size: 13px; font-weight: 400; color: var(--muted); }
.bar { height: 4px; border-radius: 2px; background: var(--rule); margin-top: 2px; overflow: hidden; }
.bar i { display: block; height: 100%; background: #2f7d4f; }
.message { margin: 2px 0 0; font-size: 13px; color: #46515f; }
"""
