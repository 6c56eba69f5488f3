"""The bins of a pattern in 2θ, and the means of peaks over them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from xrdct_beamline.domain.errors import ProcessingError

from .peak_profile import Profile, tch

__all__ = ["Bins", "Peaks", "add_peaks", "check_bins"]

FloatArray = npt.NDArray[np.float64]

#: Scattering vectors to 1/Å.
_PER_ANGSTROM = {"q_A^-1": 1.0, "q_nm^-1": 0.1}

#: Beyond so many FWHM from a peak the asymmetry shows in its centroid alone.
_NEAR_FWHM = 8.0


@dataclass(frozen=True)
class Bins:
    """Bins of a pattern: their edges in degrees 2θ, ascending."""

    edges_deg: FloatArray

    @cached_property
    def centre_deg(self) -> FloatArray:
        """Middle of each bin."""
        return np.asarray(0.5 * (self.edges_deg[1:] + self.edges_deg[:-1]))

    @cached_property
    def width_deg(self) -> FloatArray:
        """Width of each bin."""
        return np.diff(self.edges_deg)

    @property
    def size(self) -> int:
        """Number of bins."""
        return self.edges_deg.size - 1

    def chebyshev(self, n: int) -> FloatArray:
        """Return the polynomials T_0 … T_(n-1) over the range of the bins, shape ``(n, bin)``."""
        low, high = self.edges_deg[0], self.edges_deg[-1]
        x = (2 * self.centre_deg - low - high) / (high - low)
        return np.polynomial.chebyshev.chebvander(x, n - 1).T.copy() if n else np.zeros((0, self.size))

    def samples(self, n: int) -> tuple[FloatArray, FloatArray]:
        """Return 2θ ``(bin, sample)`` and weights ``(sample,)`` whose weighted sum is the mean over a bin."""
        x, w = np.polynomial.legendre.leggauss(n)
        return self.centre_deg[:, None] + 0.5 * self.width_deg[:, None] * x, w / 2


def check_bins(radial: npt.ArrayLike, unit: str, wavelength_A: float) -> Bins:
    """Return the bins whose centres are ``radial``; the edges lie half-way between the centres."""
    centres = np.asarray(radial, dtype=np.float64)
    if centres.ndim != 1 or centres.size < 3:
        raise ProcessingError(f"radial has shape {centres.shape}; a list of at least 3 bin centres is needed")
    if not np.all(np.isfinite(centres)):
        raise ProcessingError(
            f"radial has {np.count_nonzero(~np.isfinite(centres))} values that are not finite; mend the bins"
        )
    if not np.all(np.diff(centres) > 0):
        raise ProcessingError("radial does not ascend; sort the bins, and the patterns with them")
    edges = np.concatenate(
        [
            [1.5 * centres[0] - 0.5 * centres[1]],
            0.5 * (centres[1:] + centres[:-1]),
            [1.5 * centres[-1] - 0.5 * centres[-2]],
        ]
    )
    edges[0] = max(edges[0], min(0.0, centres[0]))
    if unit != "2th_deg":
        if unit not in _PER_ANGSTROM:
            raise ProcessingError(f"unit {unit!r} is unknown; use 2th_deg, {' or '.join(_PER_ANGSTROM)}")
        sine = edges * _PER_ANGSTROM[unit] * wavelength_A / (4 * np.pi)
        edges = np.degrees(2 * np.arcsin(np.clip(sine, -1, 1)))
    if edges[0] < 0 or edges[-1] >= 180:
        raise ProcessingError(
            f"the bins reach from {edges[0]:.4g}° to {edges[-1]:.4g}° in 2θ; they must lie between 0 and 180°"
        )
    return Bins(edges)


@dataclass(frozen=True)
class Peaks:
    """Reflections of one pattern: their 2θ and area, in the same order."""

    two_theta_deg: FloatArray
    area: FloatArray

    def add_to(self, out: FloatArray, bins: Bins, profile: Profile, extra_lorentz_deg: FloatArray) -> None:
        """Add the mean over each bin to ``out``, shape ``(bin,)``; the extra widths go by peak."""
        if not self.two_theta_deg.size:
            return
        gauss, lorentz = profile.widths(self.two_theta_deg)
        fwhm, eta = tch(gauss, lorentz + extra_lorentz_deg)
        shift, weight = profile.shifts(self.two_theta_deg)
        n = int(np.clip(np.ceil(2 + 3 * bins.width_deg.max() / fwhm.min()), 3, 24))
        x, w = bins.samples(n)
        add_peaks(out, x, w, self.two_theta_deg, self.area, fwhm, eta, shift, weight)


@njit(cache=True, nogil=True)
def add_peaks(  # type: ignore[no-untyped-def] # numba infers
    out: Any, x: Any, w: Any, centre: Any, area: Any, fwhm: Any, eta: Any, shift: Any, weight: Any
):
    """Add the means of pseudo-Voigt peaks over bins, each the weighted sum of shifted ones."""
    n_shifts = shift.shape[1]
    for p in range(centre.size):
        mean_shift = 0.0
        reach = 0.0
        for q in range(n_shifts):
            mean_shift += weight[p, q] * shift[p, q]
            if weight[p, q] > 1e-7:
                reach = max(reach, abs(shift[p, q]))
        near = _NEAR_FWHM * fwhm[p] + 2.0 * reach
        height_l = area[p] * eta[p] * 2.0 / (np.pi * fwhm[p])
        height_g = area[p] * (1.0 - eta[p]) * 2.0 * np.sqrt(np.log(2.0) / np.pi) / fwhm[p]
        for b in range(out.size):
            total = 0.0
            for s in range(w.size):
                delta = x[b, s] - centre[p]
                if abs(delta) > near:
                    t = (2.0 * (delta - mean_shift) / fwhm[p]) ** 2
                    total += w[s] * height_l / (1.0 + t)
                    continue
                for q in range(n_shifts):
                    t = (2.0 * (delta - shift[p, q]) / fwhm[p]) ** 2
                    total += (
                        w[s] * weight[p, q] * (height_l / (1.0 + t) + height_g * np.exp(-np.log(2.0) * t))
                    )
            out[b] += total
