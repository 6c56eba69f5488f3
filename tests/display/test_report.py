"""A report from plain values."""

import numpy as np
import pytest

from xrdct_beamline.display.report import CellCurve, LatticeMap, ReportState, ReportValues, render_report
from xrdct_beamline.display.snapshot import ParticleRow, StatePoint
from xrdct_beamline.processing.histograms import lattice_histogram


def _state(name, with_map=True):
    a_A = np.array([[8.10, 8.20], [np.nan, 8.21]])
    lattice = LatticeMap(
        phase="LiMn2O4",
        a_A=a_A,
        histogram=lattice_histogram(a_A, a_esd_A=np.full((2, 2), 1e-3)),
        point=StatePoint(state_index=0, a_mean_A=8.17, a_low_A=8.11, a_high_A=8.21),
        n_converged=3,
        n_refined=4,
        median_esd_A=1e-3,
        median_rwp=0.05,
        particles=[ParticleRow(label=7, x_mm=0.1, y_mm=-0.2, radius_um=12.5, a_A=8.1234, a_esd_A=4e-4)],
        depth_um=np.array([1.0, 3.0]),
        depth_a_A=np.array([8.2, 8.1]),
        depth_esd_A=np.array([0.001, 0.001]),
    )
    return ReportState(
        name=name,
        run_uid="abc",
        intensity=np.array([[1.0, 2.0], [np.nan, 3.0]]),
        extent_mm=(-0.1, 0.1, -0.1, 0.1),
        step_mm=0.1,
        counts="59 of 60 lines, 1 bad",
        lattice=lattice if with_map else None,
    )


@pytest.mark.slow
def test_the_page_holds_its_figures_and_states_counts_errors_and_settings():
    cell = CellCurve(
        time_s=np.array([0.0, 60.0]), voltage_V=np.ones(2), current_mA=np.ones(2), pauses=[(10.0, None)]
    )
    values = ReportValues(title="A <cell>", states=[_state("pause 1")], cell=cell, settings='{"bins": 600}')

    files = render_report(values)

    page = files["index.html"].decode()
    assert page.count("data:image/png;base64,") == 5
    assert "http" not in page
    assert "A &lt;cell&gt;" in page
    for said in ("59 of 60 lines, 1 bad", "3 of 4 refined voxels", "1.00 mÅ", "33.3 ±", "8.1234", "600"):
        assert said in page
    for name in ("cell", "slices", "lattice", "depth", "trend"):
        assert files[f"{name}.png"].startswith(b"\x89PNG")
        assert files[f"{name}.pdf"].startswith(b"%PDF")


def test_slices_without_maps_are_shown_without_chemistry():
    files = render_report(ReportValues(title="t", states=[_state("a", with_map=False)]))

    assert set(files) == {"index.html", "slices.png", "slices.pdf"}
