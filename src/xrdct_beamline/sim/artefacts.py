"""What a frame shows besides powder rings: spots of single crystals, hot pixels, zingers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .detector import SimulatedDetector

__all__ = ["Artefacts", "SpinelPath", "add_hot_pixels", "add_spots", "add_zingers"]

FloatArray = npt.NDArray[np.float64]

#: Strongest families of the spinel, as h² + k² + l², and how many reflections each has.
_FAMILIES = np.array([(3, 8), (11, 24), (12, 8), (16, 6), (27, 32), (32, 12), (35, 48)], dtype=np.float64)

#: Half-width in pixels of the square in which a spot is drawn.
_SPOT_REACH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefacts:
    """How much there is of what a powder pattern does not explain; all zero for an ideal detector.

    Parameters
    ----------
    spots_per_mm:
        Crystallites in reflection position per mm of path through spinel.
    spot_share:
        Mean share of the beam that one of them reflects.
    spot_sigma_px:
        Size of a spot.
    zingers_per_s:
        Pixels hit by a cosmic ray or a decay, on the whole detector.
    hot_pixels:
        Whether hot pixels are shown.
    flat_rms:
        What the flat field leaves uncorrected, relative.
    """

    spots_per_mm: float = 8.0
    spot_share: float = 1e-5
    spot_sigma_px: float = 0.7
    zingers_per_s: float = 100.0
    hot_pixels: bool = True
    flat_rms: float = 0.03

    @classmethod
    def none(cls) -> Artefacts:
        """Return the settings of an ideal sample and detector."""
        return cls(spots_per_mm=0.0, zingers_per_s=0.0, hot_pixels=False, flat_rms=0.0)


@dataclass(frozen=True, slots=True)
class SpinelPath:
    """Path through spinel along a ray, shape ``(depth, a)``, with its depths and lattice parameters."""

    spinel_um: FloatArray
    depth_mm: FloatArray
    a_A: FloatArray


def add_spots(
    frame: npt.NDArray[np.int32],
    detector: SimulatedDetector,
    settings: Artefacts,
    path: SpinelPath,
    photons: float,
    generators: tuple[np.random.Generator, np.random.Generator],
) -> None:
    """Add the spots of single crystals along a ray to a frame, in place.

    Parameters
    ----------
    path:
        What the ray crosses.
    photons:
        That leave the sample, in the exposure.
    generators:
        The first decides where spots lie, and is seeded by the ray alone, so that a grain is found
        again at every state of charge, at the angle of its own lattice parameter. The second is
        the counting statistics, seeded by the whole frame.
    """
    along, (grains, noise) = path.spinel_um.sum(axis=1), generators
    if along.sum() <= 0:
        return
    for _ in range(grains.poisson(settings.spots_per_mm * 1e-3 * along.sum())):
        u_depth, u_a, u_azimuth, u_family, u_place = grains.random(5)
        strength = grains.exponential()
        depth = _pick(along, u_depth)
        a_A = path.a_A[_pick(path.spinel_um[depth], u_a)]
        norm = _FAMILIES[_pick(_FAMILIES[:, 1], u_family), 0]
        sine = 0.5 * detector.wavelength_A * math.sqrt(norm) / a_A
        step_mm = path.depth_mm[1] - path.depth_mm[0]
        depth_mm = path.depth_mm[depth] + (u_place - 0.5) * step_mm
        place = detector.pixel_of(2.0 * math.asin(sine), 2.0 * math.pi * u_azimuth, depth_mm)
        if place is not None:
            _add_spot(frame, place, photons * settings.spot_share * strength, settings.spot_sigma_px, noise)


def add_hot_pixels(
    frame: npt.NDArray[np.int32], detector: SimulatedDetector, exposure_s: float, noise: np.random.Generator
) -> None:
    """Add the counts of the hot pixels to a frame, in place."""
    indices, rates = detector.hot_pixels
    frame.reshape(-1)[indices] += noise.poisson(rates * exposure_s).astype(np.int32)


def add_zingers(frame: npt.NDArray[np.int32], mean: float, noise: np.random.Generator) -> None:
    """Add a Poisson number of zingers to a frame, in place; each is a pixel or a short track."""
    rows, columns = frame.shape
    for _ in range(noise.poisson(mean)):
        row, column = int(noise.integers(rows)), int(noise.integers(columns))
        track = frame[row, column : column + int(noise.integers(1, 4))]
        track[track >= 0] += np.int32(20 + noise.exponential(200.0))


def _pick(weights: FloatArray, u: float) -> int:
    cumulative = np.cumsum(weights)
    return min(int(np.searchsorted(cumulative, u * cumulative[-1], side="right")), len(weights) - 1)


def _add_spot(
    frame: npt.NDArray[np.int32],
    place: tuple[float, float],
    counts: float,
    sigma_px: float,
    noise: np.random.Generator,
) -> None:
    row, column = round(place[0]), round(place[1])
    if not (
        _SPOT_REACH <= row < frame.shape[0] - _SPOT_REACH
        and _SPOT_REACH <= column < frame.shape[1] - _SPOT_REACH
    ):
        return
    near = np.arange(-_SPOT_REACH, _SPOT_REACH + 1)
    vertical = np.exp(-0.5 * ((near + row - place[0]) / sigma_px) ** 2)
    horizontal = np.exp(-0.5 * ((near + column - place[1]) / sigma_px) ** 2)
    profile = np.outer(vertical, horizontal) / (2.0 * math.pi * sigma_px**2)
    window = frame[row - _SPOT_REACH : row + _SPOT_REACH + 1, column - _SPOT_REACH : column + _SPOT_REACH + 1]
    added = noise.poisson(counts * profile).astype(np.int32)
    window[window >= 0] += added[window >= 0]
