"""Strain and crystallite size from the widths of reflections, the instrument's share taken off.

Strain is Stokes and Wilson's: a Lorentzian FWHM of 4 e tanθ in radians (TOPAS' ``e0``; GSAS-II's
microstrain is 4 · 10⁶ times as large). Size broadens by λ / (L cosθ), with a Scherrer constant of 1.
A. R. Stokes and A. J. C. Wilson, Proc. Phys. Soc. 56 (1944) 174; G. K. Williamson and W. H. Hall, Acta
Metall. 1 (1953) 22.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from xrdct_beamline.domain.errors import ProcessingError

from .peak_profile import Profile, tch

__all__ = ["Broadening", "sample_widths", "strain_and_size", "strain_of_width"]

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broadening:
    """What widens the reflections of a sample.

    Parameters
    ----------
    strain, strain_esd:
        Stokes and Wilson's, as a fraction; the esd is NaN where the strain is held at 0.
    size_A, size_esd_A:
        Length of the crystallites; infinite where nothing broadens like a size.
    """

    strain: float
    strain_esd: float
    size_A: float
    size_esd_A: float


def strain_of_width(
    width_deg: npt.ArrayLike, width_esd_deg: npt.ArrayLike | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return strain and its esd, of the width w of a Lorentzian FWHM w tanθ in degrees.

    That is the free width of a refinement, from which the instrument is taken off already. Keeps NaN.
    """
    width = np.asarray(width_deg, dtype=np.float64)
    esd = np.full(width.shape, np.nan) if width_esd_deg is None else np.asarray(width_esd_deg, np.float64)
    return np.radians(width) / 4.0, np.radians(esd) / 4.0


def sample_widths(
    fwhm_deg: npt.ArrayLike, two_theta_deg: npt.ArrayLike, instrument: Profile
) -> npt.NDArray[np.float64]:
    """Return the Lorentzian FWHM that the sample adds to the instrument's to make the measured FWHM.

    0 where a reflection is not wider than the instrument's.
    """
    measured = np.asarray(fwhm_deg, dtype=np.float64)
    gauss, lorentz = instrument.widths(two_theta_deg)
    low, high = np.zeros_like(measured), np.maximum(measured, 0.0)
    for _ in range(40):  # halving: the width grows with the Lorentzian's
        middle = 0.5 * (low + high)
        is_wider = tch(gauss, lorentz + middle)[0] > measured
        low, high = np.where(is_wider, low, middle), np.where(is_wider, middle, high)
    return np.asarray(0.5 * (low + high))


def strain_and_size(
    fwhm_deg: npt.ArrayLike,
    two_theta_deg: npt.ArrayLike,
    instrument: Profile,
    wavelength_A: float,
    *,
    fwhm_esd_deg: npt.ArrayLike | None = None,
) -> Broadening:
    """Fit strain and size, neither negative, to the widths of reflections: a Williamson-Hall plot.

    Without esds the widths weigh alike, and the esds come from how well the line fits.

    Raises
    ------
    ProcessingError
        For fewer than two reflections, or widths that are no numbers.
    """
    measured = np.asarray(fwhm_deg, dtype=np.float64)
    theta = np.radians(np.asarray(two_theta_deg, dtype=np.float64)) / 2
    if measured.ndim != 1 or measured.size < 2 or theta.shape != measured.shape:
        raise ProcessingError(
            f"strain and size need widths of at least two reflections, got {measured.shape} for {theta.shape}"
        )
    if not np.isfinite(measured).all():
        raise ProcessingError("a width is no number; leave that reflection out")
    sample = np.radians(sample_widths(measured, two_theta_deg, instrument))
    weight = _weights(measured, two_theta_deg, instrument, fwhm_esd_deg)
    design = np.column_stack([4 * np.tan(theta), 1 / np.cos(theta)]) * weight[:, np.newaxis]
    found, misfit = nnls(design, sample * weight)
    esd = np.full(2, np.nan)
    free = found > 0
    if free.any():
        esd[free] = np.sqrt(np.diag(np.linalg.inv(design[:, free].T @ design[:, free])))
        if fwhm_esd_deg is None:
            esd *= misfit / np.sqrt(max(1, measured.size - int(free.sum())))
    inverse_A = float(found[1])
    return Broadening(
        strain=float(found[0]),
        strain_esd=float(esd[0]),
        size_A=wavelength_A / inverse_A if inverse_A > 0 else np.inf,
        size_esd_A=float(wavelength_A * esd[1] / inverse_A**2) if inverse_A > 0 else np.nan,
    )


def _weights(
    measured: npt.NDArray[np.float64],
    two_theta_deg: npt.ArrayLike,
    instrument: Profile,
    fwhm_esd_deg: npt.ArrayLike | None,
) -> npt.NDArray[np.float64]:
    """Return one over the esd of each sample width in radians; 1 where esds are unknown."""
    if fwhm_esd_deg is None:
        return np.ones_like(measured)
    esd = np.asarray(fwhm_esd_deg, dtype=np.float64)
    if esd.shape != measured.shape or not (esd > 0).all():
        raise ProcessingError("the esds of the widths must be positive, one per reflection")
    # what 1 % of the width changes in the sample's share
    step = 0.01 * measured
    wider = sample_widths(measured + step, two_theta_deg, instrument)
    narrower = sample_widths(measured - step, two_theta_deg, instrument)
    slope = np.maximum((wider - narrower) / (2 * step), 1.0)
    return 1.0 / np.radians(esd * slope)
