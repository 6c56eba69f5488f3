"""Particles that differ from the bulk: in lattice parameter, scale or width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.domain.results import Particles

__all__ = ["Outliers", "find_outliers", "robust_z"]

FloatArray = npt.NDArray[np.float64]

#: A normal distribution's standard deviation over its median absolute deviation.
MAD_TO_SIGMA = 1.4826

#: Of fewer particles the scatter of the bulk is not known.
FEWEST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """How far each particle lies from the bulk.

    Parameters
    ----------
    label:
        Number of each particle, as in the table.
    z:
        By quantity ("a", "scale", "width"; those that are known), the distance of each particle from
        the median in standard deviations: intrinsic scatter of the bulk and the particle's esd.
    median, scatter:
        Of the bulk, by quantity; the scatter is the intrinsic one, without the esds.
    is_outlier:
        Beyond the limit in any quantity.
    limit:
        In standard deviations.
    """

    label: npt.NDArray[np.int64]
    z: dict[str, FloatArray]
    median: dict[str, float]
    scatter: dict[str, float]
    is_outlier: npt.NDArray[np.bool_]
    limit: float

    def reasons(self, label: int) -> tuple[str, ...]:
        """Return in which quantities a particle lies beyond the limit, and how far."""
        index = int(np.flatnonzero(self.label == label)[0])
        return tuple(f"{name} {z[index]:+.1f}σ" for name, z in self.z.items() if abs(z[index]) > self.limit)

    @property
    def order(self) -> npt.NDArray[np.int64]:
        """Labels, the particle farthest from the bulk first."""
        if not self.z:
            return self.label
        farthest = np.nan_to_num(np.max(np.abs(np.nan_to_num(np.stack(list(self.z.values())))), axis=0))
        return self.label[np.argsort(-farthest, kind="stable")]


def find_outliers(particles: Particles, *, limit: float = 4.0) -> Outliers:
    """Compare each particle with the bulk of the slice.

    Quantities that are unknown in the table are left out. In a table of fewer than 5 particles none
    is an outlier, and every z is NaN.
    """
    if not limit > 0:
        raise ProcessingError(
            f"the limit of an outlier is {limit:g} standard deviations; it must be positive"
        )
    z: dict[str, FloatArray] = {}
    median: dict[str, float] = {}
    scatter: dict[str, float] = {}
    for name, value, esd in (
        ("a", particles.a_A, particles.a_esd_A),
        ("scale", particles.scale, particles.scale_esd),
        ("width", particles.width, particles.width_esd),
    ):
        if np.isfinite(value).any():
            z[name], median[name], scatter[name] = robust_z(value, esd)
    beyond = np.zeros(len(particles), dtype=np.bool_)
    for values in z.values():
        beyond |= np.abs(values) > limit
    return Outliers(
        label=particles.label, z=z, median=median, scatter=scatter, is_outlier=beyond, limit=limit
    )


def robust_z(value: FloatArray, esd: FloatArray) -> tuple[FloatArray, float, float]:
    """Return the distance of each value from the bulk in standard deviations, median and scatter.

    The intrinsic scatter s of the bulk is what makes the median absolute deviation of
    (value − median) / √(s² + esd²) that of a normal distribution; 0 where the esds explain it all.
    Unknown esds count as 0.
    """
    known = np.isfinite(value)
    nothing = np.full(value.shape, np.nan)
    if known.sum() < FEWEST:
        return nothing, float(np.median(value[known])) if known.any() else np.nan, np.nan
    median = float(np.median(value[known]))
    distance = value - median
    own = np.where(np.isfinite(esd), esd, 0.0)
    scatter = _intrinsic(np.abs(distance[known]), own[known])
    width = np.sqrt(scatter**2 + own**2)
    certain = np.where(distance == 0, 0.0, np.copysign(np.inf, distance))
    z = np.divide(distance, width, out=certain, where=width > 0)
    return np.where(known, z, np.nan), median, scatter


def _intrinsic(distance: FloatArray, esd: FloatArray) -> float:
    """Return the scatter at which the scaled distances have a normal distribution's median."""

    def excess(s: float) -> float:
        return float(np.median(distance / np.sqrt(s**2 + esd**2))) * MAD_TO_SIGMA - 1.0

    high = MAD_TO_SIGMA * float(np.median(distance))
    tiny = 1e-12 * max(high, float(esd.max(initial=0.0)), 1e-300)
    if high == 0 or excess(tiny) <= 0:
        return 0.0
    low = tiny
    for _ in range(60):  # halving: the median falls with s, in steps
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high
