"""Recovered against planted: errors of voxels, of shells, and what wrong structures do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from xrdct_beamline.domain.results import RefinementStatus
from xrdct_beamline.processing.particles import depth_shells, segment
from xrdct_beamline.processing.quantify import Gradient, Quantified, gradient, region_depths
from xrdct_beamline.processing.refinement import PatternModel
from xrdct_beamline.sim.truth import SliceTruth

from .reduce import SECOND, SPINEL, Reduced

__all__ = [
    "Bound",
    "ShellRow",
    "VoxelErrors",
    "classes_of",
    "cramer_rao",
    "gradients",
    "particle_gradient",
    "phases_of",
    "shell_rows",
    "shells_of",
    "statuses",
    "voxel_errors",
    "well_lit",
]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.int32]

#: Planted particles of interest and their labels in the truth.
PARTICLES = {1: "Particle 1", 2: "Particle 2"}

_N_SHELLS = 4


@dataclass(frozen=True)
class Bound:
    """Cramér-Rao bound of the lattice parameter for unit scale, over the lattice parameter."""

    a_A: FloatArray
    unit_A: FloatArray

    def at(self, a_A: FloatArray, scale: FloatArray) -> FloatArray:
        """Return the bound of voxels of given lattice parameters and scales."""
        return np.asarray(np.interp(a_A, self.a_A, self.unit_A) / np.maximum(scale, 1e-12))


@dataclass(frozen=True)
class VoxelErrors:
    """Errors of the lattice parameter of some voxels, in Å."""

    n: int
    median_A: float
    p95_A: float
    bias_A: float
    rms_A: float
    bound_A: float
    ratio: float
    robust_ratio: float

    def row(self) -> dict[str, float]:
        """Return the numbers by name."""
        return asdict(self)


@dataclass(frozen=True)
class ShellRow:
    """Phases of one depth shell of a particle: weight percent found, its esd, and planted."""

    particle: str
    shell: int
    depth_um: float
    net_counts: float
    found: dict[str, float]
    esd: dict[str, float]
    planted: dict[str, float]
    a_A: float
    a_esd_A: float
    a_planted_A: float

    def excess(self, phase: str) -> float:
        """Return the error of a mass fraction over what is allowed: max(0.5 wt %, 2 esd)."""
        error = abs(self.found[phase] - self.planted[phase])
        return error / max(0.5, 2.0 * self.esd[phase])

    def row(self) -> dict[str, object]:
        """Return the numbers by name."""
        return asdict(self)


def cramer_rao(model: PatternModel, reduced: Reduced, rock_salt_ratio: float = 0.0) -> Bound:
    """Return the bound of the lattice parameter from the exact pattern and the sigma of the slice."""
    scale = np.nanmedian(reduced.maps.scale[SPINEL][reduced.maps.scale[SPINEL] > 0])
    low, high = model.phases[0].a_limits_A
    grid = np.linspace(low + 0.01, high - 0.01, 12)
    bound = [
        scale
        * model.cramer_rao(
            {SPINEL: float(a)},
            {SPINEL: scale, "LiMnO2": rock_salt_ratio * scale},
            np.zeros(model.n_background),
            sigma=reduced.sigma_of_slice,
        )["a_A"][SPINEL]
        for a in grid
    ]
    return Bound(grid, np.array(bound))


def well_lit(reduced: Reduced, truth: SliceTruth, *, deep_mm: float = 0.002) -> BoolArray:
    """Return which of the voxels inside are well lit: scale and depth, whatever their phases."""
    inside = reduced.inside
    scale = reduced.maps.scale[SPINEL]
    typical = np.median(scale[(truth.label > 0)[inside]])
    return np.asarray(
        (scale >= 0.5 * typical) & (truth.label > 0)[inside] & (truth.depth_mm >= deep_mm)[inside]
    )


def voxel_errors(
    reduced: Reduced, truth: SliceTruth, bound: Bound, *, single: bool = True, deep_mm: float = 0.002
) -> VoxelErrors:
    """Compare lattice parameters of well-lit voxels with the planted ones.

    ``single`` takes voxels whose spinel is one phase, otherwise those with two.
    """
    inside = reduced.inside
    chosen = well_lit(reduced, truth, deep_mm=deep_mm) & (truth.single_phase[inside] == single)
    chosen &= np.isfinite(reduced.a_A)
    if not chosen.any():
        return VoxelErrors(0, *([float("nan")] * 7))
    planted = truth.a_A[inside][chosen]
    error = reduced.a_A[chosen] - planted
    least = bound.at(planted, reduced.maps.scale[SPINEL][chosen])
    return VoxelErrors(
        n=int(chosen.sum()),
        median_A=float(np.median(np.abs(error))),
        p95_A=float(np.percentile(np.abs(error), 95)),
        bias_A=float(error.mean()),
        rms_A=float(np.sqrt(np.mean(error**2))),
        bound_A=float(np.sqrt(np.mean(least**2))),
        ratio=float(np.sqrt(np.mean((error / least) ** 2))),
        robust_ratio=float(np.median(np.abs(error / least)) / 0.6745),
    )


def shells_of(reduced: Reduced, truth: SliceTruth) -> tuple[Labels, Labels, dict[int, int]]:
    """Segment the slice; return particles, depth shells of the two of interest, and their labels.

    Shells of particle k are numbered 10 k + 1 at the surface to 10 k + 4 in the core; everything else
    that was segmented is 1, so that what bleeds from neighbours is known.
    """
    scale = reduced.map_of(reduced.maps.scale[SPINEL])
    labels = segment(scale, measured=reduced.inside)
    shells = depth_shells(labels, _N_SHELLS)
    regions = np.where(labels > 0, 1, 0).astype(np.int32)
    found = {}
    for number in PARTICLES:
        there = labels[(truth.label == number) & (labels > 0)]
        if not there.size:
            continue
        found[number] = int(np.bincount(there).argmax())
        mask = labels == found[number]
        regions[mask] = 10 * number + shells[mask]
    return labels, regions, found


def shell_rows(
    quantified: Quantified,
    own: Sequence[FloatArray],
    regions: Labels,
    labels: Labels,
    truth: SliceTruth,
    step_um: float,
) -> list[ShellRow]:
    """Compare the shells of the particles of interest with what was planted there.

    ``own`` are lattice parameters, their esds and the counts in 111, as `reduce.quantify` gives them.
    """
    a_A, a_esd_A, counts = own
    depth = region_depths(regions, labels) * step_um
    rows = []
    for index, label in enumerate(quantified.label):
        if label < 10:
            continue
        mask = regions == label
        planted = 100.0 * truth.mass_fractions(mask)
        weight = truth.spinel[mask]
        found, found_esd = phases_of(quantified, index)
        rows.append(
            ShellRow(
                particle=PARTICLES[int(label) // 10],
                shell=int(label) % 10,
                depth_um=float(depth[index]),
                net_counts=float(counts[index]),
                found=found,
                esd=found_esd,
                planted=dict(zip(("spinel", "LiMnO2", "Li2MnO3"), planted.tolist(), strict=True)),
                a_A=float(a_A[index]),
                a_esd_A=float(a_esd_A[index]),
                a_planted_A=float(np.nansum(weight * truth.a_A[mask]) / weight.sum()),
            )
        )
    return rows


def phases_of(quantified: Quantified, index: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return weight percent and esds of spinel, LiMnO2 and Li2MnO3 in a region.

    Two spinels count together, and the foil's aluminium does not count.
    """
    fraction, esd = (
        {name: float(quantified.weight_percent(name)[k][index]) for name in quantified.maps.names}
        for k in (0, 1)
    )
    spinel = fraction[SPINEL] + fraction.get(SECOND, 0.0)
    found = {"spinel": spinel, "LiMnO2": fraction["LiMnO2"], "Li2MnO3": fraction["Li2MnO3"]}
    total = sum(found.values()) / 100.0
    errors = {"LiMnO2": esd["LiMnO2"], "Li2MnO3": esd["Li2MnO3"]}
    errors["spinel"] = float(np.hypot(*errors.values()))
    return {k: v / total for k, v in found.items()}, errors


def statuses(reduced: Reduced) -> dict[str, int]:
    """Return how many voxels ended in each status."""
    counts = np.bincount(reduced.maps.status.astype(np.int64), minlength=len(RefinementStatus))
    return {status.name.lower(): int(counts[status]) for status in RefinementStatus}


def classes_of(reduced: Reduced, limits_A: tuple[float, float]) -> Labels:
    """Return low (1), middle (2) and high (3) lattice parameters of what is lit, 0 elsewhere.

    Classes go by particle, from its median: a voxel's noise and its neighbours do not decide.
    """
    scale, a_A = reduced.map_of(reduced.maps.scale[SPINEL]), reduced.map_of(reduced.a_A)
    labels = segment(scale, measured=reduced.inside)
    classes: Labels = np.zeros(labels.shape, np.int32)
    medians = ndimage.median(a_A, labels, np.arange(labels.max() + 1))
    number = 1 + np.searchsorted(limits_A, medians)
    classes[labels > 0] = number[labels[labels > 0]]
    return classes


def gradients(rows: list[ShellRow], quantified: Quantified) -> dict[int, tuple[Gradient, float]]:
    """Return found and planted gradients of the particles of which two shells have a lattice parameter."""
    found = {}
    for number, name in PARTICLES.items():
        if sum(row.particle == name and np.isfinite(row.a_A) for row in rows) >= 2:
            found[number] = particle_gradient(rows, quantified, number)
    return found


def particle_gradient(rows: list[ShellRow], quantified: Quantified, particle: int) -> tuple[Gradient, float]:
    """Return the gradient of the lattice parameter over depth in µm, and the planted slope."""
    own = [row for row in rows if row.particle == PARTICLES[particle]]
    index = [k for k, label in enumerate(quantified.label) if label // 10 == particle]
    correlation = quantified.correlation
    found = gradient(
        [row.depth_um for row in own],
        [row.a_A for row in own],
        [row.a_esd_A for row in own],
        None if correlation is None else correlation[np.ix_(index, index)],
    )
    depth, planted = ([row.depth_um for row in own], [row.a_planted_A for row in own])
    return found, float(np.polyfit(depth, planted, 1)[0])
