"""Filtering and oversampling a projection as one convolution.

A line of 1000 channels is filtered by products with a kernel along the translation, which beats 1000
padded Fourier transforms on a few cores and has no wrap-around. The kernel is evaluated where it is
needed, between the samples too: that is the oversampling. The back-projection interpolates linearly
between those points, which damps the frequency f by sinc²(f/oversampling); the kernel is divided by
that, so that the scale is right on average (slope 1.00001 instead of 0.9990 at two points per step).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import roots_legendre

from xrdct_beamline.domain.errors import ProcessingError

__all__ = ["FILTERS", "check_filter", "filter_kernel", "variance_kernel"]

FloatArray = npt.NDArray[np.float64]

#: Windows on the ramp, of the frequency in cycles per step (0 to 1/2).
FILTERS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "ramp": np.ones_like,
    "shepp-logan": np.sinc,
    "cosine": lambda f: np.cos(np.pi * f),
    "hann": lambda f: 0.5 + 0.5 * np.cos(2 * np.pi * f),
}


def check_filter(name: str) -> None:
    """Refuse the name of an unknown filter."""
    if name not in FILTERS:
        raise ProcessingError(f"filter {name!r} is unknown; use one of {', '.join(FILTERS)}")


@lru_cache(maxsize=8)
def _kernel(name: str, oversampling: int, n_points: int) -> FloatArray:
    """Kernel at 0, 1, … steps of 1/oversampling: ∫|f| window(f) cos(2πfs) df, by Gauss-Legendre."""
    distance = np.arange(n_points) / oversampling
    node, weight = roots_legendre(int(distance[-1]) + 64)  # more than two nodes per oscillation
    frequency = 0.25 * (node + 1)
    spectrum = 0.5 * weight * frequency * FILTERS[name](frequency) / np.sinc(frequency / oversampling) ** 2
    return np.cos(2 * np.pi * np.outer(distance, frequency)) @ spectrum


def filter_kernel(name: str, *, first: int, n_points: int, oversampling: int) -> FloatArray:
    """Return what a sample counts for at ``n_points`` points, the first one at ``first``.

    Parameters
    ----------
    name:
        One of `FILTERS`.
    first:
        Of the points, counted from the sample, in steps of 1/oversampling.
    n_points:
        Number of points.
    oversampling:
        Points per translation step.
    """
    check_filter(name)
    lag = np.abs(np.arange(first, first + n_points))
    return _kernel(name, oversampling, int(lag.max()) + 1)[lag]


def variance_kernel(kernel: FloatArray) -> FloatArray:
    """Return the kernel that takes variances of a projection to those of interpolated values.

    A value at the fraction u between two points has (1−u)·F₀ + u·F₁ as its weights. Their square,
    averaged over u, is reached by interpolating ⅔F² + ⅙F·(F₋ + F₊) linearly: exact on average over
    the angles of a voxel, at the price of one more linear interpolation.
    """
    before = np.concatenate([kernel[:1], kernel[:-1]])
    after = np.concatenate([kernel[1:], kernel[-1:]])
    return np.maximum(kernel * (4 * kernel + before + after) / 6, 0.0)
