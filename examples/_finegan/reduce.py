"""From scans to maps, with the package's processing: outside taken off, filtered back-projection, fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.domain.results import RefinedMaps
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.processing import parallax
from xrdct_beamline.processing.interior import Outer, subtract_outside
from xrdct_beamline.processing.parallax_lines import ParallaxLines
from xrdct_beamline.processing.peak_profile import Profile
from xrdct_beamline.processing.quantify import Quantified, mass_fractions
from xrdct_beamline.processing.reconstruction import IncrementalFBP, OutputField, reconstruct
from xrdct_beamline.processing.refinement import PatternModel, refine
from xrdct_beamline.processing.regions import region_patterns
from xrdct_beamline.processing.whole_pattern import Radiation, Setting, fit_pattern
from xrdct_beamline.sim.crystals import CERIA
from xrdct_beamline.sim.lattice import LMO_LATTICE

from .sample import Sample, Scan

__all__ = [
    "FILTER",
    "SECOND",
    "SPINEL",
    "Instrument",
    "Reduced",
    "calibrate",
    "fit_slice",
    "fit_voxels",
    "measure",
    "net_counts",
    "quantify",
    "reduce_pause",
    "region_model",
    "slice_of",
    "voxel_model",
]

FloatArray = npt.NDArray[np.float64]

SPINEL, SECOND = "LiMn2O4", "second spinel"
#: Of maps and regions.
FILTER = "hann"

#: Standard deviation of the Gaussian that the maps' slice is smoothed with, in steps.
SMOOTHING_PX = 1.0

#: Where two spinels are told apart in the first two-phase range.
_SPLIT_A = 8.11
_LIMITS_A = (8.02, 8.27)

#: A fit by one spinel whose R factor is at most this many times that by two is as good.
_AS_GOOD = 1.02

#: Angle whose reflections tell the lattice parameter, for the parallax.
_TYPICAL_DEG = 8.0


@dataclass(frozen=True)
class Instrument:
    """Profile and zero from the calibrant, and the fit's R factor."""

    profile: Profile
    zero_deg: float
    rwp: float


@dataclass(eq=False)
class Reduced:
    """One pause: maps of the voxels within the field, and what regions need.

    Parameters
    ----------
    inside:
        Which voxels ``(y, x)`` were fitted; `map_of` puts values back there.
    maps:
        One entry per voxel inside.
    sinogram, sigma:
        Of the region of interest, freed of what lies outside.
    """

    inside: npt.NDArray[np.bool_]
    maps: RefinedMaps
    a_A: FloatArray
    scan: Scan
    sigma_of_slice: FloatArray
    filter_name: str
    verdicts: tuple[str, ...]

    def map_of(self, values: npt.NDArray[np.generic]) -> FloatArray:
        """Return a map ``(y, x)`` of values of the voxels inside, NaN elsewhere."""
        result = np.full(self.inside.shape, np.nan)
        result[self.inside] = values
        return result


def calibrate(sample: Sample) -> Instrument:
    """Fit the profile to ceria on the axis, zero free and its cell known."""
    values, sigma = sample.forward.powder([(CERIA, 50.0)], exposures=1000, seed=sample.seed)
    fit = fit_pattern(
        sample.two_theta_deg,
        values,
        [Phase.shipped("CeO2")],
        Radiation.monochromatic(sample.wavelength_A),
        sigma=sigma,
        free=("zero_deg", "u", "v", "w", "y", "z"),
        start=Setting(profile=Profile(u=0.15, w=7e-4, z=3e-3)),
    )
    return Instrument(fit.setting.profile, fit.setting.zero_deg, fit.rwp)


def _lithium_of(a_A: float) -> Mapping[str, float]:
    return {"Li": float(LMO_LATTICE.lithium(a_A))}


@lru_cache(maxsize=4)
def voxel_model(sample: Sample, instrument: Instrument) -> PatternModel:
    """Return the model of single voxels: the spinel, and rock salt of a fixed cell."""
    return PatternModel(
        [Phase.shipped(SPINEL), Phase.shipped("LiMnO2")],
        sample.two_theta_deg,
        sample.wavelength_A,
        profile=instrument.profile,
        zero_deg=instrument.zero_deg,
        free_cells=[SPINEL],
        cell_limits={SPINEL: _LIMITS_A},
        occupancy_map={SPINEL: _lithium_of},
    )


@lru_cache(maxsize=4)
def region_model(sample: Sample, instrument: Instrument, *, two_spinels: bool) -> PatternModel:
    """Return the model of regions: spinels, both minor phases, the foil's aluminium."""
    spinel = Phase.shipped(SPINEL)
    spinels, limits = [spinel], {SPINEL: _LIMITS_A}
    if two_spinels:
        spinels.append(replace(spinel, name=SECOND))
        limits = {SPINEL: (_LIMITS_A[0], _SPLIT_A), SECOND: (_SPLIT_A, _LIMITS_A[1])}
    return PatternModel(
        [*spinels, *(Phase.shipped(name) for name in ("LiMnO2", "Li2MnO3", "Al"))],
        sample.two_theta_deg,
        sample.wavelength_A,
        profile=instrument.profile,
        zero_deg=instrument.zero_deg,
        free_cells=list(limits),
        cell_limits=limits,
        occupancy_map=dict.fromkeys(limits, _lithium_of),
        free_width="strain",
        width_limit_deg=0.3,
    )


def reduce_pause(
    sample: Sample,
    instrument: Instrument,
    lithium: float,
    *,
    noise: bool = True,
    filter_name: str = FILTER,
    smoothing_px: float = SMOOTHING_PX,
    say: Callable[[str], None] = lambda _text: None,
) -> tuple[Reduced, npt.NDArray[np.float32]]:
    """Measure and reduce one pause; the slice itself is returned beside, for those who want it."""
    scan, verdicts = measure(sample, lithium, noise=noise, say=say)
    say("reconstructing")
    slice_, sigma = slice_of(scan, filter_name, smoothing_px)
    say("refining")
    reduced = fit_slice(sample, instrument, scan, (slice_, sigma), filter_name, verdicts)
    return reduced, slice_


def measure(
    sample: Sample,
    lithium: float,
    *,
    noise: bool = True,
    say: Callable[[str], None] = lambda _text: None,
) -> tuple[Scan, tuple[str, ...]]:
    """Return the scan of the region of interest, freed of what lies outside, and complaints about it."""
    say("scanning")
    scan = sample.scan(sample.plan.roi, lithium, noise=noise)
    outers, reasons = _outers(sample, lithium, noise=noise) if sample.plan.outers else ([], [])
    if outers:
        say("taking off what lies outside")
        result = subtract_outside(scan.sinogram, scan.geometry, _axis_px(scan), outers)
        scan = replace(scan, sinogram=result.sinogram)
        reasons += result.reasons
    if sample.plan.parallax:
        say("taking off what parallax adds")
        scan = _without_parallax(sample, scan, outers)
    return scan, tuple(reasons)


def slice_of(
    scan: Scan, filter_name: str, smoothing_px: float
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return slice and sigma, filtered and smoothed."""
    fbp = _fbp(scan, filter_name)
    slice_, sigma = fbp.slice(), fbp.slice_sigma()
    if smoothing_px > 0:
        slice_ = ndimage.gaussian_filter(slice_, (smoothing_px, smoothing_px, 0.0))
        sigma *= np.float32(noise_after(filter_name, smoothing_px))
    return slice_, sigma


def fit_slice(
    sample: Sample,
    instrument: Instrument,
    scan: Scan,
    slice_and_sigma: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    filter_name: str = FILTER,
    verdicts: tuple[str, ...] = (),
) -> Reduced:
    """Fit every voxel of the disc that all lines cover."""
    slice_, sigma = slice_and_sigma
    field = field_of(scan)
    y, x = _from_axis_px(field)
    inside = np.hypot(x, y) < 0.94 * 0.5 * scan.geometry.shape[1]
    maps = refine(slice_[inside], voxel_model(sample, instrument), sigma=sigma[inside])
    typical = np.median(sigma[inside][:: max(1, int(inside.sum()) // 2000)], axis=0)
    a_A = _at_axis(sample, scan, inside, maps)
    return Reduced(inside, maps, a_A, scan, typical.astype(np.float64), filter_name, verdicts)


def fit_voxels(
    sample: Sample,
    instrument: Instrument,
    reduced: Reduced,
    inside: npt.NDArray[np.bool_],
    patterns: npt.NDArray[np.float32],
    sigma: FloatArray,
) -> Reduced:
    """Fit other patterns of some voxels of the same slice, with one sigma ``(bin,)`` for all."""
    maps = refine(patterns, voxel_model(sample, instrument), sigma=sigma)
    a_A = _at_axis(sample, reduced.scan, inside, maps)
    return replace(reduced, inside=inside, maps=maps, a_A=a_A, sigma_of_slice=sigma)


def noise_after(filter_name: str, smoothing_px: float) -> float:
    """Return what a Gaussian leaves of the noise of a slice whose rays' noise is white.

    The noise of filtered back-projection has the spectrum |f| · window²; in two dimensions that is
    ∫ f · f window² G² df over the same without G.
    """
    f = np.linspace(0.0, 0.5, 2001)
    window = {"ramp": np.ones_like(f), "hann": 0.5 * (1.0 + np.cos(2.0 * np.pi * f))}[filter_name]
    spectrum = f**2 * window**2
    gauss = np.exp(-2.0 * (np.pi * f * smoothing_px) ** 2)
    return float(np.sqrt(np.sum(spectrum * gauss**2) / np.sum(spectrum)))


def _at_axis(sample: Sample, scan: Scan, inside: npt.NDArray[np.bool_], maps: RefinedMaps) -> FloatArray:
    """Return lattice parameters freed of the parallax."""
    if not sample.plan.parallax:
        return np.asarray(maps.a_A[SPINEL])
    depth_px = parallax.mean_depth_px(scan.geometry.rotation_deg, field_of(scan))
    depth_mm = scan.geometry.step_mm * depth_px[inside]
    return parallax.correct_map(maps.a_A[SPINEL], depth_mm, sample.distance_mm, _TYPICAL_DEG)


def quantify(
    sample: Sample,
    instrument: Instrument,
    reduced: Reduced,
    labels: npt.NDArray[np.int32],
    *,
    two_spinels: bool,
    blur_px: float | None = None,
) -> tuple[Quantified, FloatArray, FloatArray, FloatArray]:
    """Refine the patterns of regions.

    Also returned are their lattice parameters, freed of the parallax, with esds, and the counts in 111
    that each is worth.
    """
    scan = reduced.scan
    patterns = region_patterns(
        scan.sinogram,
        labels,
        rotation_deg=scan.geometry.rotation_deg,
        axis_px=_axis_px(scan),
        sigma=scan.sigma,
        blur_px=blur_px,
        filter_name=FILTER,
    )
    model = region_model(sample, instrument, two_spinels=two_spinels)
    found = mass_fractions(patterns, model)
    depth_mm = scan.geometry.step_mm * parallax.mean_depth_px(scan.geometry.rotation_deg, field_of(scan))
    mean_mm = np.array([depth_mm[labels == k].mean() for k in patterns.label])
    found_A, esd_A = mean_lattice(found)
    if two_spinels:  # where one says as much as two, it is one
        single = mass_fractions(patterns, region_model(sample, instrument, two_spinels=False))
        is_one = single.maps.rwp <= _AS_GOOD * found.maps.rwp
        one_A, one_esd_A = mean_lattice(single)
        found_A, esd_A = np.where(is_one, one_A, found_A), np.where(is_one, one_esd_A, esd_A)
    a_A = parallax.correct_map(found_A, mean_mm, sample.distance_mm, _TYPICAL_DEG)
    sigma = patterns.sigma if patterns.sigma is not None else np.ones_like(patterns.intensity)
    return found, a_A, esd_A, net_counts(found, sigma, model)


def mean_lattice(quantified: Quantified) -> tuple[FloatArray, FloatArray]:
    """Return the lattice parameter of the spinel and its esd; of two spinels the mean by mass."""
    maps = quantified.maps
    names = [name for name in (SPINEL, SECOND) if name in maps.names]
    a_A, esd_A = (np.stack([values[n] for n in names]) for values in (maps.a_A, maps.a_esd_A))
    share = np.stack([maps.mass_fraction[n] for n in names]) * np.isfinite(a_A)
    total = share.sum(axis=0)
    share = np.divide(share, total, out=np.zeros_like(share), where=total > 0)
    mean = np.sum(share * np.nan_to_num(a_A), axis=0)
    esd = np.sqrt(np.sum((share * np.nan_to_num(esd_A)) ** 2, axis=0))
    return np.where(total > 0, mean, np.nan), np.where(total > 0, esd, np.nan)


def net_counts(quantified: Quantified, sigma: FloatArray, model: PatternModel) -> FloatArray:
    """Return how many counts in 111, without anything below them, would tell as much of it as each region.

    ``sigma`` is that of the regions' patterns, ``(region, bin)``.
    """
    maps = quantified.maps
    scale = maps.scale[SPINEL] + (maps.scale[SECOND] if SECOND in maps.names else 0.0)
    a_A = mean_lattice(quantified)[0]
    counts = np.zeros(scale.shape)
    for k in np.flatnonzero(np.isfinite(a_A)):
        first = 2.0 * np.degrees(np.arcsin(0.5 * model.wavelength_A * np.sqrt(3.0) / a_A[k]))
        near = np.abs(model.radial - first) < 0.12
        unit = model.phase_pattern(model.phases[0], model.full_cell(SPINEL, float(a_A[k])), 0.0)
        counts[k] = np.sum((scale[k] * unit[near] / sigma[k, near]) ** 2)
    return counts


def field_of(scan: Scan) -> OutputField:
    """Return the field of a slice of one voxel per step."""
    n = scan.geometry.shape[1]
    return OutputField(shape=(n, n), x_px=-_axis_px(scan), y_px=_axis_px(scan), pixel_px=1.0)


def _from_axis_px(field: OutputField) -> tuple[FloatArray, FloatArray]:
    rows, columns = np.mgrid[: field.shape[0], : field.shape[1]].astype(np.float64)
    return field.y_px - rows * field.pixel_px, field.x_px + columns * field.pixel_px


def _axis_px(scan: Scan) -> float:
    return 0.5 * (scan.geometry.shape[1] - 1)


def _fbp(scan: Scan, filter_name: str) -> IncrementalFBP:
    n_rotations, n_translations, n_bins = scan.sinogram.shape
    angles = scan.geometry.rotation_deg
    fbp = IncrementalFBP(n_translations, n_bins, n_rotations, _axis_px(scan), angles, filter_name=filter_name)
    for angle, line, sigma in zip(angles, scan.sinogram, scan.sigma, strict=True):
        fbp.add(angle, line, sigma)
    return fbp


def _outers(sample: Sample, lithium: float, *, noise: bool) -> tuple[list[Outer], list[str]]:
    """Return the wider scans' slices, each freed of what the wider ones before say lies outside."""
    outers: list[Outer] = []
    reasons: list[str] = []
    for geometry in sample.plan.outers:
        wide = sample.scan(geometry, lithium, noise=noise)
        freed = wide.sinogram
        if outers:
            result = subtract_outside(wide.sinogram, geometry, _axis_px(wide), outers)
            freed = result.sinogram
            reasons += result.reasons
        slice_ = reconstruct(freed, geometry.rotation_deg, _axis_px(wide))
        outers.append(Outer(slice_, geometry, _axis_px(wide), wide.sinogram))
    return outers, reasons


def _without_parallax(sample: Sample, scan: Scan, outers: Sequence[Outer]) -> Scan:
    """Take off each line what the depths of its voxels do, beyond a shift by their means.

    Wider scans do not resolve the grains, and their term of first order would add noise.
    """
    n_rotations, n_translations, n_bins = scan.sinogram.shape
    angles = scan.geometry.rotation_deg
    field = OutputField.centred(width_px=n_translations - 1, pixel_px=2.0)
    fbp = IncrementalFBP(
        n_translations, n_bins, n_rotations, _axis_px(scan), angles, filter_name="hann", field=field
    )
    for angle, line in zip(angles, scan.sinogram, strict=True):
        fbp.add(angle, line)
    n = field.shape[0]
    geometry = ScanGeometry.raster(n, 2.0 * scan.geometry.step_mm, n_rotations)
    region = Outer(fbp.slice(), geometry, 0.5 * (n - 1), scale=2.0)
    del fbp
    where = (np.array(scan.geometry.translation_mm), sample.two_theta_deg, sample.distance_mm)
    first = ParallaxLines([region], *where)
    second = ParallaxLines([*outers, region], *where, order=2)
    lines = [
        line - first.line(angle) - second.line(angle)
        for angle, line in zip(angles, scan.sinogram, strict=True)
    ]
    return replace(scan, sinogram=np.stack(lines))
