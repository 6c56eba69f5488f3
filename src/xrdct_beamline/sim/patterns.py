"""The forward model at the level of azimuthally averaged patterns: whole scans in seconds.

What `diffraction` renders pixel by pixel, this renders ring by ring: the mean of a ring's pixels,
with the Poisson noise of all counts of the ring. A ring has the pixels that the detector has there,
gaps and corners included.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.scan import ScanGeometry

from .composition import RegionContents
from .crystals import Structure
from .detector import SimulatedDetector
from .electrode import Electrode
from .lattice import LMO_LATTICE, LatticeMap
from .paths import BeamProfile, line_paths
from .powder import STRUCTURES, PatternBank, powder_pattern, render_bank
from .rays import make_tables
from .rendering import frame_key, poisson

__all__ = ["Contents", "PatternForward", "PlantedStructures", "RingDetector", "paper_poni"]

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]


#: Half length of a sample that has no depth, as far as rings can tell.
_NO_DEPTH_MM = 1e-6


class Contents(Protocol):
    """What fills an electrode's regions: `Composition` or another chemistry."""

    def at(self, lithium_content: float) -> RegionContents:
        """Return the contents at a mean lithium content."""


def paper_poni(distance_mm: float = 544.0) -> str:
    """Return PONI text of a Pilatus3 X CdTe 2M centred on the beam at 0.2480 Å."""
    metres = 1e-3 * distance_mm
    return (
        f"poni_version: 2\nDetector: Pilatus CdTe 2M\nDetector_config: {{}}\nDistance: {metres!r}\n"
        f"Poni1: {839.3 * 172e-6!r}\nPoni2: {737.8 * 172e-6!r}\nRot1: 0.0\nRot2: 0.0\nRot3: 0.0\n"
        "Wavelength: 2.48e-11\n"
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class PlantedStructures:
    """Structures that the sample is made of; the defaults are those that a refinement would assume.

    ``lithium_offset`` is what the spinel's lithium occupancy differs from the lattice map's.
    """

    structures: tuple[Structure, ...] = STRUCTURES
    lithium_offset: float = 0.0


@dataclass(frozen=True, eq=False)
class RingDetector:
    """A detector as an azimuthal average sees it: equidistant rings of 2θ.

    Parameters
    ----------
    detector:
        Where its pixels are.
    n_bins, range_deg:
        A pixel at 2θ belongs to ring floor((2θ − lo)/(hi − lo) · n).
    polarisation, flat_rms:
        Of the beam; of what the flat field leaves uncorrected.
    """

    detector: SimulatedDetector
    n_bins: int = 600
    range_deg: tuple[float, float] = (2.4, 13.2)
    polarisation: float = 0.99
    flat_rms: float = 0.03

    @property
    def two_theta_deg(self) -> FloatArray:
        """Middles of the rings."""
        low, high = self.range_deg
        return low + (np.arange(self.n_bins) + 0.5) * (high - low) / self.n_bins

    def rings(self, bank: PatternBank) -> tuple[FloatArray, FloatArray]:
        """Return the sensitivity of each ring in sr, and the weights of the bank's grid in each.

        The weights are a matrix ``(grid, ring)``: each pixel reads the grid by linear interpolation.
        """
        detector = self.detector
        angle = np.degrees(detector.two_theta_rad)
        low, high = self.range_deg
        ring = np.floor((angle - low) / (high - low) * self.n_bins).astype(np.int64)
        used = (ring >= 0) & (ring < self.n_bins) & ~detector.gap_mask & ~detector.bad_mask
        ring, angle = ring[used], angle[used]
        nominal = (detector.solid_angle_sr * detector.polarisation(self.polarisation))[used]
        counted = nominal * detector.sensitivity(self.flat_rms)[used]
        place = (angle - bank.start_deg) / bank.step_deg
        below = place.astype(np.int64)
        upper = place - below
        sensitivity = np.bincount(ring, nominal, self.n_bins).astype(np.float64)
        if not (sensitivity > 0).all():
            raise ConfigurationError(
                f"rings from {low:g} to {high:g} degrees: {int((sensitivity <= 0).sum())} of {self.n_bins} "
                "have no pixel; choose a range within the detector, or fewer rings"
            )
        grid = np.zeros((bank.spinel.shape[-1], self.n_bins))
        np.add.at(grid, (below, ring), counted * (1.0 - upper))
        np.add.at(grid, (below + 1, ring), counted * upper)
        return sensitivity, grid / sensitivity


class PatternForward:
    """Scans of an electrode as sinograms of ring averages.

    Values are counts per pixel of normal incidence on the axis, per incident photon times
    ``photons``; the empty beam's pattern is taken off and each pattern divided by its transmission,
    as the monitors before and behind the sample allow.

    Parameters
    ----------
    electrode, contents:
        The slice and what fills it.
    rings:
        The detector.
    photons:
        On the sample in one exposure: 2e9 are 2e11 per s for 10 ms.
    planted:
        Structures of the sample.
    beam:
        Its width.
    walls:
        Whether the electrode lies in its cell; without, it stands in air.
    parallax:
        Whether depth along the beam shifts rings; without, all of the sample scatters from the axis.
    """

    def __init__(
        self,
        electrode: Electrode,
        contents: Contents,
        rings: RingDetector,
        *,
        photons: float = 2e9,
        planted: PlantedStructures | None = None,
        lattice_map: LatticeMap = LMO_LATTICE,
        beam: BeamProfile | None = None,
        walls: bool = True,
        parallax: bool = True,
        tail_share: float = 0.01,
        n_depths: int = 5,
        n_lattices: int = 96,
    ) -> None:
        if not (math.isfinite(photons) and photons > 0):
            raise ConfigurationError(f"{photons:g} photons in an exposure; give a positive number")
        self.electrode, self.contents, self.rings, self.photons = electrode, contents, rings, photons
        self._beam, self._walls = beam or BeamProfile(), walls
        planted = planted or PlantedStructures()
        self.bank = render_bank(
            rings.detector,
            lattice_map,
            half_length_mm=electrode.chamber_radius_mm if parallax else _NO_DEPTH_MM,
            n_depths=n_depths,
            n_lattices=n_lattices,
            structures=planted.structures,
            lithium_offset=planted.lithium_offset,
        )
        self._sensitivity, grid = rings.rings(self.bank)
        self._patterns, self._air = self._bin_bank(grid, tail_share, 1.0 if walls else 0.0)
        self._pixel_sr = (rings.detector.model.pixel_m / (1e-3 * rings.detector.distance_mm)) ** 2

    def _bin_bank(
        self, grid: FloatArray, tail_share: float, electrolyte: float
    ) -> tuple[Float32Array, FloatArray]:
        """Return patterns per µm of each material of `LinePaths`, and of the air."""
        bank = self.bank
        peek, fluid, air = bank.diffuse @ grid
        spinel = bank.spinel.reshape(-1, bank.spinel.shape[-1]) @ grid
        limno2, li2mno3, foil = (other @ grid for other in bank.others)
        # half of the beam's tails meets the foil, half the separator
        disc = 0.5 * tail_share * foil + (0.5 + 0.5 * tail_share) * electrolyte * fluid
        rows = [spinel, limno2, li2mno3, disc, electrolyte * fluid[None, :], peek[None, :]]
        return np.concatenate(rows).astype(np.float32), air

    def expected_line(
        self, rotation_deg: float, translation_mm: FloatArray, lithium_content: float
    ) -> tuple[Float32Array, FloatArray]:
        """Return the line without noise ``(translation, ring)``, and the transmission of its rays."""
        tables = make_tables(self.contents.at(lithium_content), self.bank.a_A)
        paths = line_paths(
            self.electrode,
            tables,
            self.bank.depth_mm,
            len(self.bank.a_A),
            rotation_deg=rotation_deg,
            translation_mm=translation_mm,
            beam=self._beam,
            walls=self._walls,
        )
        per_sr = paths.weights @ self._patterns
        return per_sr * np.float32(self.photons * self._pixel_sr), paths.transmission

    def line(
        self, rotation_deg: float, translation_mm: FloatArray, lithium_content: float, seed: int | None
    ) -> tuple[Float32Array, Float32Array]:
        """Return a measured line and its sigma, both ``(translation, ring)``.

        The same arguments give the same line, whatever was asked for before. Without a seed there is
        no noise, and sigma is what it would be.
        """
        expected, transmission = self.expected_line(rotation_deg, translation_mm, lithium_content)
        to_counts = self._sensitivity / self._pixel_sr
        air = self.photons * self._air * self._sensitivity
        if seed is None:
            factor = transmission[:, None] * to_counts
            return expected, (np.sqrt(expected * factor + air) / factor).astype(np.float32)
        key = frame_key(seed, rotation_deg, lithium_content, float(translation_mm[0]), self.photons)
        sigma = np.empty_like(expected)
        _count(expected, sigma, transmission, to_counts, air, np.uint64(key))
        return expected, sigma

    def scan(
        self, geometry: ScanGeometry, lithium_content: float, seed: int | None
    ) -> Iterator[tuple[float, Float32Array, Float32Array]]:
        """Yield rotation, line and sigma of every line of a scan, in the order of its angles."""
        translation_mm = np.array(geometry.translation_mm)
        for angle in geometry.rotation_deg:
            yield (angle, *self.line(angle, translation_mm, lithium_content, seed))

    def pattern_of(self, contents: RegionContents) -> FloatArray:
        """Return the pattern of a step of 1 µm through each region on the axis, ``(region, ring)``."""
        tables = make_tables(contents, self.bank.a_A)
        n_depths, n_lattices = len(self.bank.depth_mm), len(self.bank.a_A)
        spinel = self._patterns[: n_depths * n_lattices].reshape(n_depths, n_lattices, -1)[n_depths // 2]
        minor = self._patterns[n_depths * n_lattices :][n_depths // 2 : 2 * n_depths : n_depths]
        per_sr = np.einsum("rk,rkb->rb", tables.weights, spinel[tables.bins]) + tables.minor @ minor
        return np.asarray(per_sr * self.photons * self._pixel_sr)

    def counts_per_value(self) -> FloatArray:
        """Return how many counts a ring collects where its value is 1 and nothing is absorbed."""
        return self._sensitivity / self._pixel_sr

    def powder(self, structures: Sequence[tuple[Structure, float]], exposures: int, seed: int) -> FloatArray:
        """Return the pattern of powders on the axis, ``(structure, µm)`` each, with its sigma, ``(2, ring)``.

        For calibrants: as thin as the beam's focus, in air that is taken off.
        """
        detector = self.rings.detector
        start, step, n = self.bank.start_deg, self.bank.step_deg, self.bank.spinel.shape[-1]
        grid_deg = start + step * np.arange(n, dtype=np.float64)
        per_sr = np.zeros(n)
        for structure, path_um in structures:
            per_sr += path_um * powder_pattern(structure, detector, grid_deg)
        _, grid = self.rings.rings(self.bank)
        line = (per_sr @ grid * self.photons * self._pixel_sr)[None, :].astype(np.float32)
        sigma = np.empty_like(line)
        to_counts = exposures * self._sensitivity / self._pixel_sr
        air = exposures * self.photons * self._air * self._sensitivity
        _count(line, sigma, np.ones(1), to_counts, air, np.uint64(frame_key(seed, exposures)))
        return np.stack([line[0], sigma[0]]).astype(np.float64)


@njit(cache=True, nogil=True, parallel=True)
def _count(values, sigma, transmission, to_counts, air, key):  # type: ignore[no-untyped-def]
    """Replace expected values by counted ones, in place, and say how sure they are."""
    n_bins = values.shape[1]
    for i in prange(values.shape[0]):
        for b in range(n_bins):
            factor = transmission[i] * to_counts[b]
            counts = poisson(values[i, b] * factor + air[b], key, i * n_bins + b)
            values[i, b] = (counts - air[b]) / factor
            sigma[i, b] = math.sqrt(max(counts, 1.0)) / factor
