"""What is measured: the cell and its pauses, the degraded electrode, and their scans."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.sim.composition import Composition
from xrdct_beamline.sim.crystals import make_spinel
from xrdct_beamline.sim.degraded import DegradedComposition
from xrdct_beamline.sim.detector import SimulatedDetector
from xrdct_beamline.sim.electrode import PAPER_MEDIAN_RADIUS_MM, Electrode, make_electrode
from xrdct_beamline.sim.lattice import LMO_LATTICE
from xrdct_beamline.sim.patterns import (
    Contents,
    PatternForward,
    PlantedStructures,
    RingDetector,
    paper_poni,
)
from xrdct_beamline.sim.powder import STRUCTURES
from xrdct_beamline.sim.truth import SliceTruth, slice_truth

__all__ = ["ALTERED", "Plan", "Sample", "Scan", "degraded_plan", "full_plan", "quick_plan"]

Float32Array = npt.NDArray[np.float32]

#: A structure as real samples have it beside one from the literature: oxygen, displacements, some
#: lithium on the manganese's site, and lithium contents that the lattice parameter does not tell.
ALTERED = PlantedStructures(
    structures=(
        make_spinel(u=0.2635, B_Mn_A2=0.75, B_O_A2=1.1, lithium_on_manganese=0.02),
        *STRUCTURES[1:],
    ),
    lithium_offset=-0.05,
)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Sizes of an experiment.

    Parameters
    ----------
    radius_mm, chamber_mm:
        Of the disc and of what it lies in.
    roi, outers:
        The scan of interest, and wider ones around it, the widest first.
    lithium:
        Mean lithium content at each pause.
    walls:
        Whether the disc lies in its cell.
    photons:
        On the sample in each exposure.
    degraded:
        Whether it was cycled before.
    parallax:
        Whether depth along the beam shifts rings.
    """

    radius_mm: float
    chamber_mm: float
    roi: ScanGeometry
    outers: tuple[ScanGeometry, ...] = ()
    lithium: tuple[float, ...] = (0.17, 0.45, 0.68, 0.85, 0.97)
    walls: bool = True
    photons: float = 2e9
    bins: int = 600
    range_deg: tuple[float, float] = (2.4, 13.2)
    degraded: bool = False
    parallax: bool = True


def full_plan(photons: float = 2e9) -> Plan:
    """Return the operando experiment: broad, coarse and fine scans as published."""
    return Plan(
        radius_mm=0.5,
        chamber_mm=0.6,
        roi=ScanGeometry.raster(351, 0.001, 350),
        outers=(ScanGeometry.raster(81, 0.050, 80), ScanGeometry.raster(81, 0.020, 81)),
        photons=photons,
    )


def degraded_plan(photons: float = 2e9) -> Plan:
    """Return the scans of the cycled electrode, out of its cell."""
    return Plan(
        radius_mm=0.5,
        chamber_mm=0.6,
        roi=ScanGeometry.raster(251, 0.001, 250),
        outers=(ScanGeometry.raster(151, 0.010, 120),),
        lithium=(1.0,),
        walls=False,
        photons=photons,
        degraded=True,
    )


def quick_plan(photons: float = 2e9) -> Plan:
    """Return a small electrode that one scan covers, at two of the pauses."""
    return Plan(
        radius_mm=0.06,
        chamber_mm=0.066,
        roi=ScanGeometry.raster(139, 0.001, 120),
        lithium=(0.17, 0.97),
        walls=False,
        photons=photons,
        bins=450,
    )


@dataclass(frozen=True, eq=False)
class Scan:
    """A measured sinogram ``(rotation, translation, bin)`` and its sigma."""

    geometry: ScanGeometry
    sinogram: Float32Array
    sigma: Float32Array


@dataclass(eq=False)
class Sample:
    """An electrode in front of the detector.

    Parameters
    ----------
    plan:
        Sizes.
    seed:
        Of the packing, of the particles' chemistry and of all noise.
    planted:
        Structures of the sample.
    """

    plan: Plan
    seed: int
    planted: PlantedStructures = field(default_factory=PlantedStructures)

    def __post_init__(self) -> None:
        plan = self.plan
        self.electrode: Electrode = make_electrode(
            self.seed,
            pixel_mm=0.5 * plan.roi.step_mm,
            radius_mm=plan.radius_mm,
            chamber_radius_mm=plan.chamber_mm,
            median_particle_radius_mm=PAPER_MEDIAN_RADIUS_MM,
            interest_radius_mm=0.010,
        )
        detector = SimulatedDetector.from_poni(paper_poni())
        self.distance_mm, self.wavelength_A = detector.distance_mm, detector.wavelength_A
        self.contents: Contents = (
            DegradedComposition(self.electrode, self.seed)
            if plan.degraded
            else Composition(self.electrode, LMO_LATTICE, self.seed)
        )
        self.forward = PatternForward(
            self.electrode,
            self.contents,
            RingDetector(detector, n_bins=plan.bins, range_deg=plan.range_deg),
            photons=plan.photons,
            planted=self.planted,
            walls=plan.walls,
            parallax=plan.parallax,
        )
        self.two_theta_deg = self.forward.rings.two_theta_deg

    def scan(self, geometry: ScanGeometry, lithium: float, *, noise: bool = True) -> Scan:
        """Measure one scan."""
        sinogram: Float32Array = np.empty((*geometry.shape, self.plan.bins), np.float32)
        sigma = np.empty_like(sinogram)
        lines: Iterator[tuple[float, Float32Array, Float32Array]] = self.forward.scan(
            geometry, lithium, self.seed if noise else None
        )
        for k, (_, line, line_sigma) in enumerate(lines):
            sinogram[k], sigma[k] = line, line_sigma
        return Scan(geometry, sinogram, sigma)

    def truth(self, lithium: float) -> SliceTruth:
        """Return what the region of interest holds at a pause."""
        roi = self.plan.roi
        return slice_truth(self.electrode, self.contents.at(lithium), roi.step_mm, roi.shape[1])
