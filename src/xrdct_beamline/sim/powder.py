"""Powder patterns per micrometre of material, rendered once for every lattice parameter and depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from numba import njit

from .crystals import ALUMINIUM, LI2MNO3, LIMNO2, SPINEL, Line, Structure, StructureFactors
from .detector import SimulatedDetector
from .lattice import LatticeMap

__all__ = [
    "AMORPHOUS",
    "STRUCTURES",
    "PatternBank",
    "cone_power_per_um",
    "make_bank",
    "powder_pattern",
    "render_bank",
]

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

_CLASSICAL_RADIUS_A = 2.8179403e-5

#: Grid of the patterns, in degrees: at least six points in the width of a ring, so that linear
#: interpolation keeps its shape.
_GRID_DEG = 0.004

#: Width of the rings: FWHM² = sample² + (slope tanθ)² + what a pixel adds, and the Lorentzian share.
#: From a measured frame of this kind of detector (0.0285° at 3.2°, 0.049° at 11.7°).
_FWHM_DEG, _SLOPE_DEG, _LORENTZIAN = 0.026, 0.39, 0.12

#: Profiles are cut at this many widths.
_REACH = 40.0

#: Diffuse scattering as Gaussians (d in Å, width in degrees, share per sr and µm) and a falling
#: term. PEEK is partly crystalline; the glass of the separator is soaked with electrolyte.
_PEEK = (
    (4.72, 0.22, 9e-6),
    (4.29, 0.30, 3e-6),
    (3.91, 0.30, 6e-6),
    (3.1, 0.5, 3e-6),
    (4.4, 1.3, 1.2e-5),
    (2.1, 3.0, 4e-6),
)
_ELECTROLYTE = ((4.1, 1.2, 1.4e-5), (2.3, 2.6, 5e-6))

#: Diffuse contributions in the order of `PatternBank.diffuse`: PEEK, electrolyte, then air, which is
#: per photon and not per µm.
AMORPHOUS = ("PEEK", "electrolyte", "air")

#: What the simulated sample is made of: the spinel, then `PatternBank.others`.
STRUCTURES = (SPINEL, LIMNO2, LI2MNO3, ALUMINIUM)


@dataclass(frozen=True, eq=False)
class PatternBank:
    """Scattering per sr of the detector's solid angle, per photon and µm, on a grid of apparent angles.

    A ray element away from the rotation axis sees the detector at another distance: its rings
    appear at another angle. ``depth_mm`` are the positions along the beam for which that is
    rendered; elements between them are shared out linearly, as are lattice parameters.

    Parameters
    ----------
    start_deg, step_deg:
        Grid of apparent 2θ, as seen from the rotation axis.
    depth_mm, a_A:
        Equidistant positions along the beam and lattice parameters.
    spinel:
        Shape ``(depth, a, grid)``.
    others:
        LiMnO2, Li2MnO3, Al; shape ``(phase, depth, grid)``.
    diffuse:
        AMORPHOUS, shape ``(3, grid)``.
    """

    start_deg: float
    step_deg: float
    depth_mm: FloatArray
    a_A: FloatArray
    spinel: Float32Array
    others: Float32Array
    diffuse: FloatArray


@lru_cache(maxsize=2)
def make_bank(
    detector: SimulatedDetector,
    lattice_map: LatticeMap,
    *,
    half_length_mm: float,
    n_depths: int = 9,
    n_lattices: int = 64,
) -> PatternBank:
    """Render the patterns that a detector at its place can see; renderers of one detector share them."""
    return render_bank(
        detector, lattice_map, half_length_mm=half_length_mm, n_depths=n_depths, n_lattices=n_lattices
    )


def render_bank(
    detector: SimulatedDetector,
    lattice_map: LatticeMap,
    *,
    half_length_mm: float,
    n_depths: int,
    n_lattices: int,
    structures: Sequence[Structure] = STRUCTURES,
    lithium_offset: float = 0.0,
) -> PatternBank:
    """Render patterns for any structures; `make_bank` remembers those of the default ones.

    ``lithium_offset`` is added to the occupancy that the map gives each lattice parameter.
    """
    spinel_structure = structures[0]
    start_deg = math.degrees(float(detector.two_theta_rad.min())) - 2 * _GRID_DEG
    end_deg = math.degrees(float(detector.two_theta_rad.max())) + 4 * _GRID_DEG
    grid_deg = start_deg + _GRID_DEG * np.arange(
        math.ceil((end_deg - start_deg) / _GRID_DEG), dtype=np.float64
    )
    depths = np.linspace(-half_length_mm, half_length_mm, n_depths)
    margin = 0.005
    lattices = np.linspace(lattice_map.a_A[0] - margin, lattice_map.a_A[-1] + margin, n_lattices)
    seen = [_seen_from(depth, grid_deg, detector.distance_mm) for depth in depths]
    pixel_deg = math.degrees(detector.model.pixel_m * 1e3 / detector.distance_mm)

    def render(lines: Sequence[Line], volume_A3: float) -> Float32Array:
        return np.stack(
            [
                ratio * _pattern(lines, volume_A3, true_deg, detector.wavelength_A, pixel_deg)
                for true_deg, ratio in seen
            ]
        ).astype(np.float32)

    factors = StructureFactors(
        spinel_structure, detector.wavelength_A, end_deg + 1.0, min_scale=lattices[0] / spinel_structure.a_A
    )
    spinel = []
    for a in lattices:
        lithium = float(np.clip(lattice_map.lithium(a) + lithium_offset, 0.0, 1.0))
        lines = factors.lines(scale=a / spinel_structure.a_A, lithium=lithium)
        spinel.append(render(lines, a**3))
    others = [_other(structure, detector, end_deg, render) for structure in structures[1:]]
    return PatternBank(
        start_deg=start_deg,
        step_deg=_GRID_DEG,
        depth_mm=depths,
        a_A=lattices,
        spinel=np.ascontiguousarray(np.stack(spinel, axis=1)),
        others=np.stack(others),
        diffuse=_diffuse(grid_deg, detector.wavelength_A),
    )


def cone_power_per_um(line: Line, volume_A3: float, wavelength_A: float) -> float:
    """Return the share of the beam that goes into a whole ring per µm of material.

    Kinematic powder theory without polarisation: r² λ³ Σ|F|² / (4 V² sinθ).
    """
    sine = math.sin(math.radians(line.two_theta_deg) / 2.0)
    per_A = _CLASSICAL_RADIUS_A**2 * wavelength_A**3 * line.f_squared_sum / (4.0 * volume_A3**2 * sine)
    return per_A * 1e4


def powder_pattern(structure: Structure, detector: SimulatedDetector, grid_deg: FloatArray) -> FloatArray:
    """Return the pattern of a powder on the axis, per photon, µm and sr, at angles that ascend."""
    lines = StructureFactors(structure, detector.wavelength_A, float(grid_deg[-1]) + 1.0).lines()
    pixel_deg = math.degrees(detector.model.pixel_m * 1e3 / detector.distance_mm)
    return _pattern(lines, structure.volume_A3, grid_deg, detector.wavelength_A, pixel_deg)


def _other(structure: Structure, detector: SimulatedDetector, end_deg: float, render) -> Float32Array:  # type: ignore[no-untyped-def]
    lines = StructureFactors(structure, detector.wavelength_A, end_deg + 1.0).lines()
    return render(lines, structure.volume_A3)


def _seen_from(depth_mm: float, grid_deg: FloatArray, distance_mm: float) -> tuple[FloatArray, FloatArray]:
    """Return the true 2θ of what appears at each angle, and the ratio of the pixels' solid angles."""
    tangent = np.tan(np.radians(grid_deg))
    nearer_mm = distance_mm - depth_mm
    true = np.arctan(tangent * distance_mm / nearer_mm)
    radius2 = (tangent * distance_mm) ** 2
    ratio = nearer_mm / distance_mm * ((distance_mm**2 + radius2) / (nearer_mm**2 + radius2)) ** 1.5
    return np.degrees(true), ratio


def _pattern(
    lines: Sequence[Line], volume_A3: float, true_deg: FloatArray, wavelength_A: float, pixel_deg: float
) -> FloatArray:
    power = np.array([cone_power_per_um(line, volume_A3, wavelength_A) for line in lines])
    centre = np.array([line.two_theta_deg for line in lines])
    keep = power > 1e-5 * power.max(initial=0.0)
    half = np.radians(centre) / 2.0
    # a pixel is a box of width w: its variance w²/12 adds 8 ln2 w²/12 to FWHM²
    fwhm = np.sqrt(_FWHM_DEG**2 + (_SLOPE_DEG * np.tan(half)) ** 2 + 0.462 * pixel_deg**2)
    pattern = np.zeros_like(true_deg)
    _add_peaks(pattern, true_deg, centre[keep], power[keep], fwhm[keep], _LORENTZIAN, _REACH)
    # per degree of 2θ → per sr: the ring at 2θ has 2π sin2θ d(2θ)
    return pattern / (2.0 * math.pi * np.sin(np.radians(true_deg)) * math.radians(1.0))


@njit(cache=True, nogil=True)
def _add_peaks(pattern, x, centre, area, fwhm, lorentzian, reach):  # type: ignore[no-untyped-def]
    """Add pseudo-Voigt peaks, areas per unit of the ascending ``x``."""
    for k in range(len(centre)):
        first = np.searchsorted(x, centre[k] - reach * fwhm[k])
        last = np.searchsorted(x, centre[k] + reach * fwhm[k])
        half = 0.5 * fwhm[k]
        gauss = (1.0 - lorentzian) * area[k] * math.sqrt(math.log(2.0) / math.pi) / half
        lorentz = lorentzian * area[k] / (math.pi * half)
        for i in range(first, last):
            u = ((x[i] - centre[k]) / half) ** 2
            pattern[i] += lorentz / (1.0 + u)
            if u < 50.0:
                pattern[i] += gauss * math.exp(-math.log(2.0) * u)


def _diffuse(grid_deg: FloatArray, wavelength_A: float) -> FloatArray:
    rows = []
    for halo in (_PEEK, _ELECTROLYTE):
        row = np.zeros_like(grid_deg)
        for d_A, sigma_deg, height in halo:
            centre = 2.0 * math.degrees(math.asin(wavelength_A / (2.0 * d_A)))
            row += height * np.exp(-0.5 * ((grid_deg - centre) / sigma_deg) ** 2)
        rows.append(row)
    air = 6e-3 * np.exp(-grid_deg / 5.0) + 0.05 * np.exp(-grid_deg / 0.5)
    return np.stack([*rows, air])
