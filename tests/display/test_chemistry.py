from __future__ import annotations

import numpy as np
import pytest

from xrdct_beamline.display.chemistry import ChemistryFigures, particles_html, summary_html
from xrdct_beamline.display.snapshot import Chemistry, ParticleRow, Snapshot, StatePoint


def chemistry(**changes) -> Chemistry:
    a_A = np.full((3, 3), np.nan, np.float32)
    a_A[0, 1], a_A[2, 2] = 8.10, 8.20
    values = {
        "phase": "LiMn2O4",
        "a_A": a_A,
        "a_esd_A": np.where(np.isfinite(a_A), 4e-4, np.nan),
        "limits_A": (8.0, 8.3),
        "edges_A": np.array([8.0, 8.15, 8.3]),
        "counts": np.array([1, 1]),
        "lines_done": 12,
        **changes,
    }
    return Chemistry(**values)


def particle(label: int) -> ParticleRow:
    return ParticleRow(label=label, x_mm=0.1, y_mm=-0.2, radius_um=7.5, a_A=8.1234, a_esd_A=0.0003)


def test_the_map_stands_upright_on_fixed_colours():
    figures = ChemistryFigures()
    figures.show(Snapshot(chemistry=chemistry()))
    drawn = figures.lattice.source.data["image"][0]
    assert drawn[-1, 1] == np.float32(8.10)  # the first row is the top one
    assert (figures.lattice.mapper.low, figures.lattice.mapper.high) == (8.0, 8.3)


def test_histogram_window_and_trend_show_what_was_found():
    figures = ChemistryFigures()
    trend = (StatePoint(state_index=0, a_mean_A=8.1, a_low_A=8.05, a_high_A=8.2),)
    figures.show(Snapshot(chemistry=chemistry(window_A=(8.076, 8.145), window_share=0.5, trend=trend)))
    assert figures.bars.data["top"].tolist() == [1.0, 1.0]
    assert figures.window.data == {"x0": [8.076], "x1": [8.145]}
    assert figures.points.data["state"] == [1]  # pauses are counted from one on the page
    assert "50.0 % lie in the shaded window" in figures.summary.text


def test_nothing_is_sent_for_the_same_map_and_a_new_run_clears_it():
    figures = ChemistryFigures()
    found = chemistry()
    figures.show(Snapshot(chemistry=found))
    drawn = figures.lattice.source.data["image"][0]
    figures.show(Snapshot(chemistry=found, version=7))
    assert figures.lattice.source.data["image"][0] is drawn
    figures.show(Snapshot(chemistry=None))
    assert np.isnan(figures.lattice.source.data["image"][0]).all()


def test_the_summary_has_the_numbers_with_units():
    text = summary_html(chemistry(drift_A=-0.0012, drift_esd_A=0.0002, note="a < b"))
    assert "2 voxels after 12 lines" in text
    assert "8.1500 Å" in text
    assert "±0.0004 Å" in text
    assert "-0.0012 ± 0.0002 Å" in text
    assert "a &lt; b" in text


def test_a_map_without_any_voxel_says_so():
    nothing = np.full((2, 2), np.nan)
    assert "No voxel" in summary_html(chemistry(a_A=nothing, a_esd_A=nothing))


@pytest.mark.parametrize(("n", "rows", "rest"), [(0, 0, "No particle"), (3, 3, ""), (15, 12, "3 smaller")])
def test_the_table_lists_the_largest_particles(n, rows, rest):
    text = particles_html([particle(i + 1) for i in range(n)])
    assert text.count("<tr><td>") == rows
    assert rest in text
