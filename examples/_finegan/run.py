"""The pauses one after the other, and everything that tables and figures need of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xrdct_beamline.processing.quantify import Gradient
from xrdct_beamline.sim.patterns import PlantedStructures
from xrdct_beamline.sim.truth import SliceTruth

from . import assess, reduce
from .sample import Plan, Sample
from .systematic import VARIANTS, SystematicRow, systematic_rows

__all__ = ["FLUXES", "Experiment", "FluxPoint", "Pause", "flux_curve", "run_degraded", "run_operando"]

FloatArray = npt.NDArray[np.float64]
Say = Callable[[str], None]

#: Photons per second of the curve of error against flux, at 10 ms.
FLUXES = (1e8, 1e9, 1e10, 1e11, 2e11, 1e12)


@dataclass(eq=False)
class Pause:
    """What one pause gave, as maps ``(y, x)``, beside the truth.

    ``gradients`` are found and planted slopes of the lattice parameter in Å per µm, by particle.
    """

    number: int
    lithium: float
    a_A: FloatArray
    esd_A: FloatArray
    scale: FloatArray
    truth: SliceTruth
    labels: npt.NDArray[np.int32]
    regions: npt.NDArray[np.int32]
    single: assess.VoxelErrors
    double: assess.VoxelErrors
    shells: list[assess.ShellRow]
    gradients: dict[int, tuple[Gradient, float]]
    statuses: dict[str, int]
    verdicts: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class FluxPoint:
    """Errors at a flux, and the part of them that counting makes.

    ``noise_rms_A`` is what the lattice parameter scatters about that of the slice without noise;
    ``noise_ratio`` is the scatter over the Cramér-Rao bound, rms.
    """

    photons_s: float
    errors: assess.VoxelErrors
    noise_rms_A: float
    noise_ratio: float


@dataclass(eq=False)
class Experiment:
    """All that was found."""

    plan: Plan
    seed: int
    instrument: reduce.Instrument
    pauses: list[Pause] = field(default_factory=list)
    flux: list[FluxPoint] = field(default_factory=list)
    systematic: list[SystematicRow] = field(default_factory=list)
    degraded: DegradedResult | None = None


@dataclass(eq=False)
class DegradedResult:
    """The cycled electrode: its map, three classes of lattice parameter, and what each holds.

    ``found``, ``esd`` and ``planted`` are weight percent by class and phase.
    """

    a_A: FloatArray
    truth: SliceTruth
    classes: npt.NDArray[np.int32]
    labels: list[int]
    limits_A: tuple[float, float]
    found: list[dict[str, float]]
    esd: list[dict[str, float]]
    planted: list[dict[str, float]]
    mean_a_A: list[float]

    def row(self) -> dict[str, object]:
        """Return the numbers by name."""
        names = ("labels", "found", "esd", "planted", "mean_a_A")
        return {name: getattr(self, name) for name in names}


def run_operando(
    plan: Plan,
    seed: int,
    *,
    planted: PlantedStructures | None = None,
    n_pauses: int | None = None,
    say: Say = lambda _text: None,
    done: Callable[[Experiment], None] = lambda _experiment: None,
    curve_at: int | None = None,
    fluxes: Sequence[float] = FLUXES,
) -> tuple[Experiment, Sample]:
    """Measure and reduce the pauses; ``done`` is told of each.

    At the pause ``curve_at`` the curve of error against flux is made.
    """
    say("packing the electrode, rendering patterns")
    sample = Sample(plan, seed, planted or PlantedStructures())
    instrument = reduce.calibrate(sample)
    say(f"calibrated, Rwp {100 * instrument.rwp:.1f} %")
    experiment = Experiment(plan, seed, instrument)
    marked = None
    for number, lithium in enumerate(plan.lithium[:n_pauses], start=1):
        started = time.monotonic()
        tell = _told_of(number, lithium, say)
        reduced, slice_ = reduce.reduce_pause(sample, instrument, lithium, say=tell)
        if marked is None:  # the particles of the first pause are those of all
            marked = assess.shells_of(reduced, sample.truth(lithium))[:2]
        pause = _pause(sample, instrument, number, lithium, reduced, marked, tell)
        pause.seconds = time.monotonic() - started
        experiment.pauses.append(pause)
        single = pause.single
        say(
            f"pause {number}: {single.n} voxels, median error {1e3 * single.median_A:.2f} mÅ, "
            f"{pause.seconds:.0f} s"
        )
        done(experiment)
        if number == curve_at:
            experiment.flux = flux_curve(sample, instrument, lithium, reduced, slice_, tell, fluxes)
            done(experiment)
        del reduced, slice_
    return experiment, sample


def _told_of(number: int, lithium: float, say: Say) -> Say:
    return lambda text: say(f"pause {number} (x = {lithium:.2f}): {text}")


def _pause(
    sample: Sample,
    instrument: reduce.Instrument,
    number: int,
    lithium: float,
    reduced: reduce.Reduced,
    marked: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
    say: Say,
) -> Pause:
    say("quantifying shells")
    truth = sample.truth(lithium)
    labels, regions = marked
    two = _in_first_gap(lithium)
    found, *own = reduce.quantify(sample, instrument, reduced, regions, two_spinels=two)
    rows = assess.shell_rows(found, own, regions, labels, truth, 1e3 * sample.plan.roi.step_mm)
    bound = assess.cramer_rao(reduce.voxel_model(sample, instrument), reduced)
    esd = reduced.maps.a_esd_A[reduce.SPINEL]
    return Pause(
        number=number,
        lithium=lithium,
        a_A=reduced.map_of(reduced.a_A),
        esd_A=reduced.map_of(esd),
        scale=reduced.map_of(reduced.maps.scale[reduce.SPINEL]),
        truth=truth,
        labels=labels,
        regions=regions,
        single=assess.voxel_errors(reduced, truth, bound),
        double=assess.voxel_errors(reduced, truth, bound, single=False),
        shells=rows,
        gradients=assess.gradients(rows, found),
        statuses=assess.statuses(reduced),
        verdicts=reduced.verdicts,
        seconds=0.0,
    )


def _in_first_gap(lithium: float) -> bool:
    """Whether the bulk holds two spinels that can be told apart, as its histogram shows."""
    return 0.25 < lithium < 0.55


def flux_curve(
    sample: Sample,
    instrument: reduce.Instrument,
    lithium: float,
    reduced: reduce.Reduced,
    noisy: npt.NDArray[np.float32],
    say: Say,
    fluxes: Sequence[float] = FLUXES,
) -> list[FluxPoint]:
    """Return errors over flux: the noise of one slice, scaled; its mean is the slice without noise."""
    _, clean = reduce.reduce_pause(
        sample, instrument, lithium, noise=False, say=lambda text: say(f"without noise, {text}")
    )
    truth = sample.truth(lithium)
    model = reduce.voxel_model(sample, instrument)
    chosen = assess.well_lit(reduced, truth)
    inside = reduced.inside.copy()
    inside[reduced.inside] = chosen
    mean, noise = clean[inside], noisy[inside] - clean[inside]
    del clean

    def fit(share: float) -> reduce.Reduced:
        sigma = reduced.sigma_of_slice * max(share, 1e-3)
        patterns = mean + np.float32(share) * noise
        return reduce.fit_voxels(sample, instrument, reduced, inside, patterns, sigma)

    limit = fit(0.0)
    single = truth.single_phase[inside]
    points = []
    for flux in fluxes:
        part = fit(float(np.sqrt(100.0 * sample.plan.photons / flux)))
        bound = assess.cramer_rao(model, part)
        errors = assess.voxel_errors(part, truth, bound)
        scatter = (part.a_A - limit.a_A)[single]
        least = bound.at(limit.a_A, part.maps.scale[reduce.SPINEL])[single]
        known = np.isfinite(scatter)
        points.append(
            FluxPoint(
                flux,
                errors,
                float(np.sqrt(np.mean(scatter[known] ** 2))),
                float(np.sqrt(np.mean((scatter[known] / least[known]) ** 2))),
            )
        )
        say(f"{flux:.0e} photons/s, median {1e3 * errors.median_A:.2f} mÅ")
    return points


def add_systematic(experiment: Experiment, sample: Sample, variants: Sequence[str] = tuple(VARIANTS)) -> None:
    """Add the table of systematic errors."""
    sigma = np.sqrt(1.0 / sample.forward.counts_per_value())
    experiment.systematic = systematic_rows(sample, experiment.instrument, sigma, variants)


def run_degraded(plan: Plan, seed: int, say: Say = lambda _text: None) -> DegradedResult:
    """Measure the cycled electrode; divide it into low, middle and high lattice parameters."""
    sample = Sample(plan, seed)
    instrument = reduce.calibrate(sample)
    reduced, _ = reduce.reduce_pause(sample, instrument, 1.0, say=lambda text: say(f"degraded: {text}"))
    truth = sample.truth(1.0)
    limits = (8.10, 8.165)
    a_A = reduced.map_of(reduced.a_A)
    classes = assess.classes_of(reduced, limits)
    found, *_ = reduce.quantify(sample, instrument, reduced, classes, two_spinels=False)
    rows = [assess.phases_of(found, k) for k in range(len(found.label))]
    names = ("spinel", "LiMnO2", "Li2MnO3")
    planted = [100.0 * truth.mass_fractions(classes == k) for k in found.label]
    return DegradedResult(
        a_A=a_A,
        truth=truth,
        classes=classes,
        labels=[int(k) for k in found.label],
        limits_A=limits,
        found=[f for f, _ in rows],
        esd=[e for _, e in rows],
        planted=[dict(zip(names, p.tolist(), strict=True)) for p in planted],
        mean_a_A=[float(np.nanmean(a_A[classes == k])) for k in found.label],
    )
