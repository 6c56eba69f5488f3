"""Shape of a powder reflection: Thompson-Cox-Hastings pseudo-Voigt, with two asymmetries.

Sources: P. Thompson, D. E. Cox and J. B. Hastings, J. Appl. Cryst. 20 (1987) 79 (widths and mixing);
L. W. Finger, D. E. Cox and A. P. Jephcoat, J. Appl. Cryst. 27 (1994) 892 (axial divergence).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ProcessingError

__all__ = ["Profile", "pseudo_voigt", "tch"]

FloatArray = npt.NDArray[np.float64]

#: Γ⁵ = Σ c Γ_G^(5-k) Γ_L^k of Thompson, Cox and Hastings.
_TCH = (1.0, 2.69269, 2.42843, 4.47163, 0.07842, 1.0)
_ETA = (1.36603, -0.47719, 0.11116)

#: Nodes of the quadratures over the heights of slits and over the depth of a sensor.
_AXIAL_NODES = 24
_DEPTH_PANELS = (0.0, 0.5, 1.5, 3.5, 7.5, 16.0)
_DEPTH_NODES = 5


@dataclass(frozen=True, slots=True)
class Profile:
    """Width and asymmetry of reflections over 2θ.

    Gaussian FWHM² = u tan²θ + v tanθ + w, Lorentzian FWHM = x/cosθ + y tanθ + z, in degrees (the letters
    of GSAS-II, which counts in centidegrees and variances).

    Parameters
    ----------
    axial:
        Half height of sample and of receiving slit over the radius, S/L = H/L: a tail towards lower 2θ
        below 90°. 0 is none; not meant for area detectors.
    sensor_depth_deg:
        Absorption length of a flat sensor, along the ray, over its distance, in degrees: photons that are
        absorbed deeper land further out. A tail towards higher 2θ, exponential with mean
        ``sensor_depth_deg sin2θ cos²2θ``, about its own mean: a PONI's distance, calibrated on rings,
        is that of the mean depth already. 0 is none.
    """

    u: float = 0.0
    v: float = 0.0
    w: float = 1e-3
    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    axial: float = 0.0
    sensor_depth_deg: float = 0.0

    def __post_init__(self) -> None:
        for f in fields(self):
            if not math.isfinite(getattr(self, f.name)):
                raise ProcessingError(f"profile parameter {f.name} is {getattr(self, f.name)}; give a number")
        for name in ("axial", "sensor_depth_deg"):
            if getattr(self, name) < 0:
                raise ProcessingError(f"profile parameter {name} is {getattr(self, name):g}; 0 is the least")

    @property
    def is_symmetric(self) -> bool:
        """Whether neither asymmetry is there."""
        return self.axial == 0 and self.sensor_depth_deg == 0

    def widths(self, two_theta_deg: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the Gaussian and the Lorentzian FWHM in degrees.

        Raises
        ------
        ProcessingError
            If a width is negative at one of the angles, or both are 0.
        """
        two_theta = np.asarray(two_theta_deg, dtype=np.float64)
        tan, cos = np.tan(np.radians(two_theta) / 2), np.cos(np.radians(two_theta) / 2)
        square = (self.u * tan + self.v) * tan + self.w
        lorentz = self.x / cos + self.y * tan + self.z
        bad = (square < 0) | (lorentz < 0) | ((square == 0) & (lorentz == 0))
        if np.any(bad):
            where = float(np.atleast_1d(two_theta)[np.flatnonzero(bad)[0]])
            raise ProcessingError(
                f"at 2θ = {where:.4g}° the profile {self} has no positive width; change its letters"
            )
        return np.sqrt(square), lorentz

    def fwhm(self, two_theta_deg: npt.ArrayLike) -> FloatArray:
        """Return the FWHM of the symmetric part, in degrees."""
        return tch(*self.widths(two_theta_deg))[0]

    def shifts(self, two_theta_deg: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return shifts in degrees, and weights that sum to 1, whose peaks make up the asymmetric one.

        Both have the shape of ``two_theta_deg`` and a last axis of its own; symmetric profiles have one.
        """
        two_theta = np.atleast_1d(np.asarray(two_theta_deg, dtype=np.float64))
        shift, weight = np.zeros((*two_theta.shape, 1)), np.ones((*two_theta.shape, 1))
        if self.axial > 0:
            shift, weight = _axial(two_theta, self.axial)
        if self.sensor_depth_deg > 0:
            depth, share = _exponential_nodes()
            angle = np.radians(two_theta)
            mean = self.sensor_depth_deg * np.sin(angle) * np.cos(angle) ** 2
            shift = (shift[..., :, None] + mean[..., None, None] * (depth - 1.0)).reshape(
                *two_theta.shape, -1
            )
            weight = (weight[..., :, None] * share).reshape(*two_theta.shape, -1)
        return shift, weight

    def shape(
        self,
        delta_deg: npt.ArrayLike,
        two_theta_deg: npt.ArrayLike,
        *,
        extra_lorentz_deg: npt.ArrayLike = 0.0,
    ) -> FloatArray:
        """Return the intensity per degree of a reflection of unit area.

        Parameters
        ----------
        delta_deg:
            2θ minus the reflection's 2θ.
        two_theta_deg:
            The reflection's 2θ; broadcasts with ``delta_deg``.
        extra_lorentz_deg:
            Lorentzian FWHM of the sample, added to the instrument's.
        """
        delta, two_theta, extra = np.broadcast_arrays(
            np.asarray(delta_deg, dtype=np.float64),
            np.asarray(two_theta_deg, dtype=np.float64),
            extra_lorentz_deg,
        )
        gauss, lorentz = self.widths(two_theta)
        fwhm, eta = tch(gauss, lorentz + extra)
        if self.is_symmetric:
            return pseudo_voigt(delta, fwhm, eta)
        shift, weight = self.shifts(two_theta)
        shift, weight = (part.reshape(*two_theta.shape, -1) for part in (shift, weight))
        total = np.zeros(delta.shape)
        for k in range(shift.shape[-1]):
            total += weight[..., k] * pseudo_voigt(delta - shift[..., k], fwhm, eta)
        return total


def tch(gauss: npt.ArrayLike, lorentz: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return FWHM and Lorentzian share of the pseudo-Voigt nearest to a Voigt of the two FWHM."""
    g, l = np.asarray(gauss, dtype=np.float64), np.asarray(lorentz, dtype=np.float64)  # noqa: E741
    fwhm = sum(c * g ** (5 - k) * l**k for k, c in enumerate(_TCH)) ** 0.2
    q = l / fwhm
    return fwhm, np.asarray(((_ETA[2] * q + _ETA[1]) * q + _ETA[0]) * q)


def pseudo_voigt(delta: npt.ArrayLike, fwhm: npt.ArrayLike, eta: npt.ArrayLike) -> FloatArray:
    """Return the pseudo-Voigt function of unit area."""
    width, share = np.asarray(fwhm, dtype=np.float64), np.asarray(eta, dtype=np.float64)
    t = (2.0 * np.asarray(delta, dtype=np.float64) / width) ** 2
    lorentz = 2.0 / (math.pi * width) / (1.0 + t)
    gauss = 2.0 * math.sqrt(math.log(2) / math.pi) / width * np.exp(-math.log(2) * t)
    return np.asarray(share * lorentz + (1.0 - share) * gauss)


@lru_cache(maxsize=1)
def _exponential_nodes() -> tuple[FloatArray, FloatArray]:
    """Return nodes and weights of ∫ exp(-t) f(t) dt: Gauss-Legendre in panels, for narrow f too."""
    x, w = np.polynomial.legendre.leggauss(_DEPTH_NODES)
    pairs = list(pairwise(_DEPTH_PANELS))
    t = np.concatenate([low + (high - low) * (x + 1) / 2 for low, high in pairs])
    share = np.concatenate([w * (high - low) / 2 for low, high in pairs]) * np.exp(-t)
    return t, share / share.sum()


def _axial(two_theta_deg: FloatArray, ratio: float) -> tuple[FloatArray, FloatArray]:
    """Return shifts and weights of axial divergence, S/L = H/L = ``ratio``.

    Finger, Cox and Jephcoat (1994), equations 2 and 3: cos2φ = cos2θ √(1 + h²), with weight
    (2 ratio - h)/(h cos2φ) over 2φ; over the height h the singularity is gone.
    """
    x, w = np.polynomial.legendre.leggauss(_AXIAL_NODES)
    h = ratio * (x + 1)
    angle = np.radians(two_theta_deg)[..., None]
    cos = np.cos(angle) * np.sqrt(1 + h**2)
    reachable = np.abs(cos) < 1
    phi = np.arccos(np.clip(cos, -1, 1))
    with np.errstate(divide="ignore"):
        weight = np.where(reachable, w * (2 * ratio - h) / (np.sin(phi) * (1 + h**2)), 0.0)
    total = weight.sum(axis=-1, keepdims=True)
    if np.any(total <= 0):
        raise ProcessingError(
            f"axial = {ratio:g} leaves no ray at 2θ = {float(np.min(two_theta_deg)):.4g}°; make it smaller"
        )
    return np.degrees(phi - angle), weight / total
