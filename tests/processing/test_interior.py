from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from disc_phantom import INSIDE_A, PEAK_A, WIDTH_A, cell, chords, measured
from scipy.optimize import curve_fit

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.processing.interior import Outer, region_projector, subtract_outside
from xrdct_beamline.processing.reconstruction import reconstruct


def as_outer(scan, sinogram=None):
    freed = scan.sinogram if sinogram is None else sinogram
    slice_ = reconstruct(freed, scan.geometry.rotation_deg, scan.axis_px)
    return Outer(slice_, scan.geometry, scan.axis_px, scan.sinogram)


def nested(broad, coarse, roi, **options):
    outermost = as_outer(broad)
    freed = subtract_outside(coarse.sinogram, coarse.geometry, coarse.axis_px, [outermost])
    outers = [outermost, as_outer(coarse, freed.sinogram)]
    return subtract_outside(roi.sinogram, roi.geometry, roi.axis_px, outers, **options), outers


@pytest.fixture(scope="module")
def small():
    """The paper's nesting on fewer and coarser rays."""
    sample = cell(120, 0.025, 0.9, peaks=False)
    return SimpleNamespace(
        sample=sample,
        broad=measured(sample, 51, 0.04, 40),
        coarse=measured(sample, 61, 0.025, 60),
        roi=measured(sample, 71, 0.005, 90),
    )


def test_the_projector_integrates_an_outer_slice_along_the_rays():
    def blob(x, y):
        return np.exp(-((x - 0.1) ** 2 + (y - 0.05) ** 2) / (2 * 0.05**2))

    row, column = np.mgrid[:41, :41] - 20
    slice_ = 0.02 * blob(0.02 * column, -0.02 * row)[:, :, None]  # per step
    roi = ScanGeometry.raster(31, 0.004, 10)
    projector = region_projector(roi, 15.0, [Outer(slice_, ScanGeometry.raster(41, 0.02, 10), 20.0)])
    t, depth = (np.arange(31)[:, None] - 15) * 0.004, np.linspace(-0.4, 0.4, 4001)
    for angle in roi.rotation_deg:
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        x, y = t * cosine - depth * sine, t * sine + depth * cosine
        outside = np.where(np.hypot(x, y) > 0.062, blob(x, y), 0)  # the region's disc is left out
        expected = outside.sum(axis=1) * (depth[1] - depth[0])
        np.testing.assert_allclose(projector.line(angle)[:, 0], expected, atol=0.009)
        assert expected.max() < 0.126


def test_lines_are_corrected_as_they_arrive(small):
    result, outers = nested(small.broad, small.coarse, small.roi)
    projector = region_projector(small.roi.geometry, small.roi.axis_px, outers)
    k = 33
    line = small.roi.sinogram[k] - projector.line(small.roi.geometry.rotation_deg[k])
    np.testing.assert_allclose(result.sinogram[k], line, atol=1e-5)
    np.testing.assert_allclose(result.sinogram + result.outside, small.roi.sinogram, atol=1e-5)


def test_the_region_comes_back_in_absolute_scale(small):
    result, _ = nested(small.broad, small.coarse, small.roi)
    particles = small.sample[0]
    inside = particles[np.hypot(particles[:, 0], particles[:, 1]) < 0.16]
    alone = chords(inside, np.ones((len(inside), 1)), small.roi.geometry.rotation_deg, roi_t_mm(small.roi))
    truth = reconstruct(alone, small.roi.geometry.rotation_deg, small.roi.axis_px)[:, :, 0]
    corrected = reconstruct(result.sinogram, small.roi.geometry.rotation_deg, small.roi.axis_px)[:, :, 0]
    raw = reconstruct(small.roi.sinogram, small.roi.geometry.rotation_deg, small.roi.axis_px)[:, :, 0]
    row, column = np.mgrid[:71, :71] - 35
    disc = np.hypot(row, column) < 22
    assert corrected[disc].mean() == pytest.approx(truth[disc].mean(), rel=0.03)
    assert raw[disc].mean() > 1.5 * truth[disc].mean()
    assert result.verdict == "good"
    assert result.reasons == ()
    assert result.moment_spread < 0.1


def roi_t_mm(roi):
    return np.asarray(roi.geometry.translation_mm)


def spoiled(scan, change):
    sinogram = scan.sinogram.copy()
    if change == "mis-scaled":
        sinogram *= 1.1
    elif change == "shifted":
        sinogram = np.roll(sinogram, 1, axis=1)
    elif change == "missing":
        sinogram[[5, 20]] = 0.0
    return SimpleNamespace(geometry=scan.geometry, axis_px=scan.axis_px, sinogram=sinogram)


@pytest.mark.parametrize("which", ["broad", "coarse"])
@pytest.mark.parametrize(
    ("change", "words"),
    [("mis-scaled", "check exposure"), ("shifted", "check the axis"), ("missing", "retake them")],
)
def test_a_spoiled_outer_scan_turns_the_verdict_bad(small, which, change, words):
    scans = {"broad": small.broad, "coarse": small.coarse}
    scans[which] = spoiled(scans[which], change)
    result, _ = nested(scans["broad"], scans["coarse"], small.roi)
    assert result.verdict == "bad"
    number = 1 if which == "broad" else 2
    assert any(r.startswith(f"outer scan {number}") and words in r for r in result.reasons)


def test_the_verdict_needs_no_outer_sinogram_but_sees_less_without(small):
    _, outers = nested(small.broad, small.coarse, small.roi)
    blind = [replace(o, sinogram=None) for o in outers]
    roi = small.roi
    assert subtract_outside(roi.sinogram, roi.geometry, roi.axis_px, blind).verdict == "good"
    blind[1] = replace(blind[1], scale=1.1)
    assert subtract_outside(roi.sinogram, roi.geometry, roi.axis_px, blind).verdict == "bad"


def test_angles_that_an_outer_scan_skipped_count_as_missing_lines(small):
    kept = [r for r in range(60) if r not in (7, 30)]
    angles = tuple(small.coarse.geometry.rotation_deg[r] for r in kept)
    geometry = replace(small.coarse.geometry, rotation_deg=angles, line_order=tuple(range(58)))
    coarse = SimpleNamespace(geometry=geometry, axis_px=30.0, sinogram=small.coarse.sinogram[kept])
    result, _ = nested(small.broad, coarse, small.roi)
    assert result.chords[1].missing_share == pytest.approx(2 / 60)
    assert result.verdict == "bad"


def test_a_scale_brings_another_exposure_to_the_regions_counts(small):
    _, outers = nested(small.broad, small.coarse, small.roi)
    roi = small.roi
    expected = subtract_outside(roi.sinogram, roi.geometry, roi.axis_px, outers)
    longer = [replace(o, slice=5 * o.slice, sinogram=5 * o.sinogram, scale=0.2) for o in outers]
    result = subtract_outside(roi.sinogram, roi.geometry, roi.axis_px, longer)
    np.testing.assert_allclose(result.sinogram, expected.sinogram, atol=1e-5)
    assert result.verdict == "good"


def test_parts_declared_empty_are_looked_at(small):
    row, column = np.mgrid[:71, :71] - 35
    x, y = 0.005 * column[..., None], -0.005 * row[..., None]
    particles = small.sample[0]
    gap = (np.hypot(x - particles[:, 0], y - particles[:, 1]) - particles[:, 2]).min(axis=2)
    empty = (gap > 0.01) & (np.hypot(row, column) < 25)
    result, outers = nested(small.broad, small.coarse, small.roi, empty=empty)
    assert abs(result.empty_residual) < 0.1
    filled = subtract_outside(
        small.roi.sinogram, small.roi.geometry, small.roi.axis_px, outers, empty=(gap < -0.01) & ~empty
    )
    assert filled.verdict == "bad"
    assert "declared empty" in filled.reasons[-1]


def test_scans_that_do_not_nest_are_refused(small):
    _, outers = nested(small.broad, small.coarse, small.roi)
    roi = small.roi
    with pytest.raises(ProcessingError, match="from the widest to the narrowest"):
        subtract_outside(roi.sinogram, roi.geometry, roi.axis_px, outers[::-1])
    with pytest.raises(ProcessingError, match="at least one outer scan"):
        subtract_outside(roi.sinogram, roi.geometry, roi.axis_px, [])
    with pytest.raises(ProcessingError, match="1 bins, the outer slices 2"):
        subtract_outside(roi.sinogram[:, :, :1], roi.geometry, roi.axis_px, outers)
    with pytest.raises(ProcessingError, match="outside of the field"):
        subtract_outside(roi.sinogram, roi.geometry, 71.0, outers)
    with pytest.raises(ProcessingError, match=r"has shape \(60, 60, 2\), its scan of 61"):
        replace(outers[1], slice=outers[1].slice[1:, 1:])
    with pytest.raises(ProcessingError, match="holds NaN"):
        replace(outers[1], slice=np.full_like(outers[1].slice, np.nan))


@pytest.mark.slow
def test_the_papers_three_scans_free_a_300_um_region(record_property):
    sample = cell(600, 0.012, 1.5, peaks=True)
    broad, coarse = measured(sample, 81, 0.05, 80), measured(sample, 81, 0.02, 81)
    roi = measured(sample, 351, 0.001, 350)
    result, _ = nested(broad, coarse, roi)
    assert result.verdict == "good", result.reasons
    angles, axis_px = roi.geometry.rotation_deg, roi.axis_px
    particles = sample[0]
    row, column = np.mgrid[:351, :351] - 175
    truth = np.zeros((351, 351))
    for x, y, radius in particles[np.hypot(particles[:, 0], particles[:, 1]) < 0.3]:
        rows, columns = (
            slice(max(0, int(175 + 1000 * (c - radius)) - 2), int(178 + 1000 * (c + radius))) for c in (-y, x)
        )
        away_mm = 0.001 * np.hypot(row[rows, columns] + 1000 * y, column[rows, columns] - 1000 * x)
        truth[rows, columns] += np.clip((radius - away_mm) / 0.001 + 0.5, 0, 1)
    image = reconstruct(result.sinogram, angles, axis_px) / 0.001
    raw = reconstruct(roi.sinogram[:, :, 0], angles, axis_px) / 0.001
    region = np.hypot(row, column) < 150
    level = truth[region].mean()
    errors, raw_errors, shifts_a = [], [], []
    inside = particles[np.hypot(particles[:, 0], particles[:, 1]) < 0.19]
    alone = chords(inside, np.ones((len(inside), 1)), angles, roi_t_mm(roi))
    own = reconstruct(alone, angles, axis_px)[:, :, 0] / 0.001
    for y, x in np.mgrid[-120:121:30, -120:121:30].reshape(2, -1).T:
        disc = np.hypot(row - y, column - x) < 25
        if np.hypot(x, y) > 120 or own[disc].mean() < 0.1:
            continue
        errors.append((image[disc, 0].mean() - truth[disc].mean()) / level)
        raw_errors.append((raw[disc].mean() - truth[disc].mean()) / level)
        shifts_a.append(fitted_a(image[disc, 2:].mean(axis=0)) - INSIDE_A)
    rmse = float(np.sqrt(np.mean((image[:, :, 0] - truth)[region] ** 2)))
    record_property("largest disc error", float(np.abs(errors).max()))
    record_property("smallest uncorrected disc error", float(np.abs(raw_errors).min()))
    record_property("voxel RMSE", rmse)
    record_property("largest lattice bias, A", float(np.abs(shifts_a).max()))
    assert np.abs(errors).max() < 0.02
    assert np.abs(raw_errors).min() > 0.10
    assert np.abs(shifts_a).max() < 3e-4
    assert rmse < 0.25


def fitted_a(pattern):
    def peak(a, height, position, width, level):
        return height * np.exp(-((a - position) ** 2) / (2 * width**2)) + level

    return curve_fit(peak, PEAK_A, pattern, p0=(pattern.max(), INSIDE_A, WIDTH_A, 0.0))[0][1]
