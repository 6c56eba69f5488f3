from types import SimpleNamespace

import numpy as np
import pytest
from disc_phantom import cell, measured

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.interior import Outer, subtract_outside
from xrdct_beamline.processing.interior_lines import OuterScan, RegionCorrector
from xrdct_beamline.processing.reconstruction import reconstruct


@pytest.fixture(scope="module")
def scans():
    sample = cell(120, 0.025, 0.9, peaks=False)
    return SimpleNamespace(
        broad=measured(sample, 41, 0.05, 30),
        coarse=measured(sample, 45, 0.03, 40),
        roi=measured(sample, 41, 0.008, 50),
    )


def outer_scan(scan, **change):
    return OuterScan(
        **{"sinogram": scan.sinogram, "geometry": scan.geometry, "axis_px": scan.axis_px, **change}
    )


def corrector(scans, **change):
    outers = [outer_scan(scans.broad), outer_scan(scans.coarse, **change)]
    return RegionCorrector(scans.roi.geometry, scans.roi.axis_px, outers)


def whole_result(scans):
    """The same correction of whole sinograms."""

    def outer(scan, freed):
        slice_ = reconstruct(freed, scan.geometry.rotation_deg, scan.axis_px)
        return Outer(slice_, scan.geometry, scan.axis_px, scan.sinogram)

    broad = outer(scans.broad, scans.broad.sinogram)
    freed = subtract_outside(scans.coarse.sinogram, scans.coarse.geometry, scans.coarse.axis_px, [broad])
    outers = [broad, outer(scans.coarse, freed.sinogram)]
    return subtract_outside(scans.roi.sinogram, scans.roi.geometry, scans.roi.axis_px, outers)


def test_lines_in_any_order_give_what_whole_sinograms_give(scans):
    lines, expected = corrector(scans), whole_result(scans)
    for index in np.random.default_rng(2).permutation(50):
        outside = lines.outside(index, scans.roi.sinogram[index])
        np.testing.assert_allclose(outside, expected.outside[index], atol=1e-5)
    lines.outside(7, np.zeros_like(scans.roi.sinogram[7]))
    lines.outside(7, scans.roi.sinogram[7])  # the same line again replaces
    figures = lines.figures()
    assert figures.verdict == expected.verdict == "good", figures.reasons
    for found, known in zip(figures.chords, expected.chords, strict=True):
        assert found.slope == pytest.approx(known.slope, rel=1e-6)
        assert found.lag_mm == pytest.approx(known.lag_mm, abs=1e-6)
    assert figures.moment_spread == pytest.approx(expected.moment_spread, rel=1e-3)


def test_the_figures_are_of_the_lines_that_are_there(scans):
    lines = corrector(scans)
    for index in range(0, 20):
        lines.outside(index, scans.roi.sinogram[index])
    figures = lines.figures()
    assert [f.missing_share for f in figures.chords] == [0.0, 0.0]
    assert figures.verdict == "good", figures.reasons


def test_another_beam_is_scaled_and_a_wrong_scale_is_seen(scans):
    right = corrector(scans, sinogram=4 * scans.coarse.sinogram, scale=0.25)
    wrong = corrector(scans, scale=1.1)
    expected = whole_result(scans)
    for index in range(50):
        line = scans.roi.sinogram[index]
        np.testing.assert_allclose(right.outside(index, line), expected.outside[index], atol=1e-5)
        wrong.outside(index, line)
    assert right.figures().verdict == "good"
    assert wrong.figures().verdict == "bad"


def test_lines_that_an_outer_scan_lacks_turn_the_verdict_bad(scans):
    sinogram = scans.coarse.sinogram.copy()
    sinogram[[5, 20]] = np.nan
    lines = corrector(scans, sinogram=sinogram)
    for index in range(50):
        lines.outside(index, scans.roi.sinogram[index])
    figures = lines.figures()
    assert figures.chords[1].missing_share == pytest.approx(2 / 40)
    assert "retake them" in figures.reasons[0]


def test_a_bin_that_an_outer_scan_lacks_is_not_known(scans):
    sinogram = scans.coarse.sinogram.copy()
    sinogram[:, :, 1] = np.nan
    outside = corrector(scans, sinogram=sinogram).outside(0, scans.roi.sinogram[0])
    assert np.isnan(outside[:, 1]).all()
    assert np.isfinite(outside[:, 0]).all()


def test_what_does_not_fit_is_refused(scans):
    roi = scans.roi
    with pytest.raises(ProcessingError, match="at least one outer scan"):
        RegionCorrector(roi.geometry, roi.axis_px, [])
    with pytest.raises(ProcessingError, match="different numbers of bins"):
        corrector(scans, sinogram=scans.coarse.sinogram[:, :, :1])
    with pytest.raises(ProcessingError, match="no bin was measured by all"):
        corrector(scans, sinogram=np.full_like(scans.coarse.sinogram, np.nan))
    with pytest.raises(ProcessingError, match=r"shape \(41, 1\), its outer scans need \(41, 2\)"):
        corrector(scans).outside(0, roi.sinogram[0, :, :1])
