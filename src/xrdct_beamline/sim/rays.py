"""What one ray of the beam meets: path lengths by depth along the beam, phase and lattice parameter.

The ray samples the raster at every micrometre of its way, at the pixel it is in: it is as thin as
the beam, and what lies between two rays is not seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from .composition import RegionContents
from .electrode import Electrode

__all__ = ["MU_PEEK", "PEEK_RADIUS_MM", "Ray", "Tables", "cast_ray", "make_tables"]

FloatArray = npt.NDArray[np.float64]

#: Attenuation at 50 keV in 1/µm: dense LiMn2O4, binder with carbon and electrolyte, electrolyte, PEEK.
_MU_SOLID, _MU_MATRIX, _MU_ELECTROLYTE, MU_PEEK = 4.82e-4, 0.30e-4, 0.26e-4, 0.257e-4

#: Outer radius of the PEEK body.
PEEK_RADIUS_MM = 1.4


@dataclass(frozen=True, slots=True)
class Tables:
    """Contents of the regions, ready to be summed along rays.

    ``bins`` and ``weights`` share each spinel phase out to two neighbouring lattice parameters of
    the bank: shape ``(region, 4)``. ``minor`` is ``(region, 2)``, ``mu_per_um`` ``(region,)``.
    """

    bins: npt.NDArray[np.int64]
    weights: FloatArray
    minor: FloatArray
    mu_per_um: FloatArray


@dataclass(frozen=True, slots=True)
class Ray:
    """Sums along one ray, path lengths in µm.

    Parameters
    ----------
    spinel:
        Path through spinel, shape ``(depth, a)``.
    others:
        Path through LiMnO2 and Li2MnO3, and through the disc as a whole, shape ``(3, depth)``.
    electrolyte_um, peek_um:
        Path through the chamber outside of the disc, and through its walls.
    transmission:
        Share of the beam that leaves the sample.
    """

    spinel: FloatArray
    others: FloatArray
    electrolyte_um: float
    peek_um: float
    transmission: float


def make_tables(contents: RegionContents, bank_a_A: FloatArray) -> Tables:
    """Share out lattice parameters to the bank's, those outside of it to its ends."""
    place = (contents.a_A - bank_a_A[0]) / (bank_a_A[1] - bank_a_A[0])
    place = np.clip(place, 0.0, len(bank_a_A) - 1.0)
    low = np.minimum(place.astype(np.int64), len(bank_a_A) - 2)
    upper = place - low
    solid = contents.spinel.sum(axis=1) + contents.minor.sum(axis=1)
    mu = np.where(solid > 0, _MU_SOLID * solid + _MU_ELECTROLYTE * (1.0 - solid), _MU_MATRIX)
    mu[0] = _MU_ELECTROLYTE
    return Tables(
        bins=np.concatenate([low, low + 1], axis=1),
        weights=np.concatenate([contents.spinel * (1.0 - upper), contents.spinel * upper], axis=1),
        minor=np.ascontiguousarray(contents.minor),
        mu_per_um=mu,
    )


def cast_ray(
    electrode: Electrode,
    tables: Tables,
    depth_mm: FloatArray,
    n_lattices: int,
    *,
    rotation_deg: float,
    translation_mm: float,
) -> Ray:
    """Sum along the ray t = translation, where t = x cosθ + y sinθ and θ is the rotation.

    The beam runs towards +90° of t, so that depth grows towards the detector.
    """
    spinel = np.zeros((len(depth_mm), n_lattices))
    others = np.zeros((3, len(depth_mm)))
    inside_um = 1e3 * _chord(electrode.chamber_radius_mm, translation_mm)
    optical, disc_um = _march(
        electrode.regions,
        electrode.pixel_mm,
        math.radians(rotation_deg),
        translation_mm,
        0.5 * 1e-3 * inside_um,
        depth_mm[0],
        depth_mm[1] - depth_mm[0],
        tables.bins,
        tables.weights,
        tables.minor,
        tables.mu_per_um,
        spinel,
        others,
    )
    peek_um = 1e3 * _chord(PEEK_RADIUS_MM, translation_mm) - inside_um
    return Ray(spinel, others, inside_um - disc_um, peek_um, math.exp(-optical - MU_PEEK * peek_um))


def _chord(radius_mm: float, offset_mm: float) -> float:
    return 2.0 * math.sqrt(max(radius_mm**2 - offset_mm**2, 0.0))


@njit(cache=True, nogil=True)
def _march(regions, pixel, theta, t, half, depth_0, depth_step, bins, weights, minor, mu, spinel, others):  # type: ignore[no-untyped-def]
    """Walk along the ray in steps of at most a pixel; return ∫µ and the path within the disc in µm."""
    n = regions.shape[0]
    last = spinel.shape[0] - 1
    cosine, sine = math.cos(theta), math.sin(theta)
    steps = math.ceil(2.0 * half / pixel)
    optical, disc = 0.0, 0.0
    if steps == 0:
        return optical, disc
    length = 2.0 * half / steps
    step_um = 1e3 * length
    for k in range(steps):
        s = (k + 0.5) * length - half
        column = math.floor((t * cosine - s * sine) / pixel + 0.5 * n)
        row = n - 1 - math.floor((t * sine + s * cosine) / pixel + 0.5 * n)
        if row < 0 or row >= n or column < 0 or column >= n:
            continue
        region = regions[row, column]
        optical += mu[region] * step_um
        if region == 0:
            continue
        disc += step_um
        place = min(max((s - depth_0) / depth_step, 0.0), float(last))
        low = min(int(place), last - 1)
        upper = (place - low) * step_um
        lower = step_um - upper
        others[2, low] += lower
        others[2, low + 1] += upper
        if region == 1:
            continue
        for j in range(4):
            spinel[low, bins[region, j]] += weights[region, j] * lower
            spinel[low + 1, bins[region, j]] += weights[region, j] * upper
        for j in range(2):
            others[j, low] += minor[region, j] * lower
            others[j, low + 1] += minor[region, j] * upper
    return optical, disc
