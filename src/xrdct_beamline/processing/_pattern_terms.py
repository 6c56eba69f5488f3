"""Terms of a whole-pattern model: position, strength and shape of the lines of a phase."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from ..domain.phases import Phase
from .peak_profile import Profile, tch

__all__ = ["Emission", "PhaseLines", "bin_means", "cell_volume_A3", "chebyshev", "lorentz_polarisation"]

FloatArray = npt.NDArray[np.float64]

#: Wavelength in Å and share of the intensity of each line of the source.
Emission = tuple[tuple[float, float], ...]

#: FWHM from the line within which its asymmetry counts; further out only its mean position does.
_NEAR_FWHM = 8.0

#: The cell may change by this fraction before reflections enter or leave the range.
_MARGIN = 0.01

_LEAST_FWHM_DEG = 1e-4
_ROOT_LN2 = math.sqrt(math.log(2.0))


@dataclass(frozen=True)
class PhaseLines:
    """Reflections of a phase in a range: indices, shape ``(line, 3)``, and m·|F|², shape ``(line,)``."""

    phase: Phase
    hkl: npt.NDArray[np.float64]
    strength: FloatArray

    @classmethod
    def of(cls, phase: Phase, emission: Emission, low_deg: float, high_deg: float) -> PhaseLines:
        """Return the lines that lie, or may come to lie, between two angles.

        f′ is taken at the first wavelength. The ends are widened by what a cell may change and by a
        few widths, for tails.
        """
        wavelength_A = emission[0][0]
        low, high = low_deg - max(0.5, _MARGIN * low_deg), min(high_deg + max(0.5, _MARGIN * high_deg), 179.0)
        phase.reflections(wavelength_A, high_deg, max(low_deg, 1e-6))  # refuses a range without any
        found = phase.reflections(wavelength_A, high, max(low, 1e-6))
        hkl = np.array([r.hkl for r in found], dtype=np.float64)
        strength = np.array([r.multiplicity * r.f_squared for r in found])
        return cls(phase, hkl, strength)

    def spacings_A(self, cell: npt.ArrayLike) -> FloatArray:  # noqa: N802 (unit)
        """Return the spacings of the lines for a cell, Å."""
        reciprocal = np.linalg.inv(_metric(np.asarray(cell, dtype=np.float64)))
        return np.asarray(1.0 / np.sqrt(np.einsum("ni,ij,nj->n", self.hkl, reciprocal, self.hkl)))


def lorentz_polarisation(two_theta_deg: npt.ArrayLike, monochromator_deg: float | None) -> FloatArray:
    """Return the Lorentz factor of a powder, and the polarisation of a laboratory diffractometer.

    Parameters
    ----------
    monochromator_deg:
        2θ of a monochromator, 0 for an unpolarised beam without one; None if the pattern is corrected
        for polarisation, as integrated frames are.
    """
    angle = np.radians(np.asarray(two_theta_deg, dtype=np.float64))
    lorentz = 1.0 / (np.sin(angle / 2.0) ** 2 * np.cos(angle / 2.0))
    if monochromator_deg is None:
        return np.asarray(lorentz)
    k = math.cos(math.radians(monochromator_deg)) ** 2
    # Azaroff (1955); the same for a crystal before and behind the sample.
    return np.asarray(lorentz * (1.0 + k * np.cos(angle) ** 2) / (1.0 + k))


def bin_means(
    edges_deg: FloatArray,
    centres_deg: FloatArray,
    areas: FloatArray,
    profile: Profile,
    extra_lorentz_deg: FloatArray | float = 0.0,
) -> FloatArray:
    """Return the mean over each bin of the sum of lines, intensity per degree.

    Parameters
    ----------
    edges_deg:
        Edges of the bins, one more than there are bins.
    centres_deg, areas:
        Position and area of each line.
    extra_lorentz_deg:
        Lorentzian FWHM of the sample at each line, added to the instrument's.
    """
    gauss, lorentz = floored_widths(profile, centres_deg)
    fwhm, eta = tch(gauss, lorentz + extra_lorentz_deg)
    shift, weight = profile.shifts(centres_deg)
    mean_shift = np.sum(shift * weight, axis=-1)
    reach = _NEAR_FWHM * fwhm + np.max(np.abs(shift), axis=-1)
    lines = np.stack([centres_deg, areas, fwhm, eta, mean_shift, reach])
    total = np.zeros(len(edges_deg) - 1)
    _add_lines(total, np.ascontiguousarray(edges_deg), lines, shift, weight)
    return np.asarray(total / np.diff(edges_deg))


@njit(cache=True, nogil=True, error_model="numpy")
def _add_lines(
    total: FloatArray, edges_deg: FloatArray, lines: FloatArray, shift: FloatArray, weight: FloatArray
) -> None:
    """Add the integral over each bin of each line.

    Only the Lorentzian reaches far, and only near the line does more than its mean shift matter.
    """
    for i in range(lines.shape[1]):
        centre, area, fwhm, eta, mean_shift, reach = lines[:, i]
        far_before = near_before = 0.0
        was_near = False
        for k in range(len(edges_deg)):
            delta = edges_deg[k] - centre
            far = eta * math.atan(2.0 * (delta - mean_shift) / fwhm) / math.pi
            is_near = -reach < delta < reach
            near = 0.0
            if is_near:
                for n in range(shift.shape[1]):
                    t = 2.0 * (delta - shift[i, n]) / fwhm
                    gaussian, lorentzian = 0.5 * math.erf(_ROOT_LN2 * t), math.atan(t) / math.pi
                    near += weight[i, n] * ((1.0 - eta) * gaussian + eta * lorentzian)
            if k:
                # One bin is all near or all far: the two cumulated functions differ by a little.
                total[k - 1] += area * (near - near_before if is_near and was_near else far - far_before)
            far_before, near_before, was_near = far, near, is_near


def floored_widths(profile: Profile, two_theta_deg: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return Gaussian and Lorentzian FWHM, kept positive where letters on trial would make them negative."""
    tan, cos = np.tan(np.radians(two_theta_deg) / 2), np.cos(np.radians(two_theta_deg) / 2)
    square = (profile.u * tan + profile.v) * tan + profile.w
    lorentz = profile.x / cos + profile.y * tan + profile.z
    return np.sqrt(np.maximum(square, _LEAST_FWHM_DEG**2)), np.maximum(lorentz, 0.0)


def chebyshev(two_theta_deg: FloatArray, n_terms: int) -> FloatArray:
    """Return the first Chebyshev polynomials over the range of the angles, shape ``(bin, term)``."""
    low, high = two_theta_deg[0], two_theta_deg[-1]
    scaled = (2.0 * two_theta_deg - low - high) / (high - low)
    return np.asarray(np.polynomial.chebyshev.chebvander(scaled, n_terms - 1))


def cell_volume_A3(cell: npt.ArrayLike) -> float:  # noqa: N802 (unit)
    """Return the volume of a cell."""
    return math.sqrt(float(np.linalg.det(_metric(np.asarray(cell, dtype=np.float64)))))


def _metric(cell: FloatArray) -> FloatArray:
    cos_a, cos_b, cos_g = np.cos(np.radians(cell[3:]))
    cosines = np.array([[1.0, cos_g, cos_b], [cos_g, 1.0, cos_a], [cos_b, cos_a, 1.0]])
    return np.asarray(cosines * np.outer(cell[:3], cell[:3]))
