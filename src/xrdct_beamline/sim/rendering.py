"""From the mean counts of each pixel to a frame: Poisson noise and what else a detector writes.

Random numbers are a hash of (key, pixel, draw), so that a frame depends on its key alone and not
on the order, the thread or the process in which pixels are drawn.
"""

from __future__ import annotations

import hashlib
import math
import struct

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["combine", "draw_counts", "frame_key", "mean_counts", "poisson"]

Float32Array = npt.NDArray[np.float32]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_TO_UNIT = 1.0 / 9007199254740992.0  # 2**-53

#: Draws reserved for each pixel; only large means need more than one, and rarely more than a few.
_DRAWS = np.uint64(64)

#: Means above this are drawn by rejection, below by inversion.
_INVERSION_LIMIT = 12.0


def frame_key(*values: float) -> int:
    """Return a 64-bit hash of numbers, the same on every machine."""
    packed = b"".join(
        struct.pack("<q", v) if isinstance(v, int) else struct.pack("<d", v + 0.0) for v in values
    )
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little")


@njit(cache=True, nogil=True, inline="always")
def _uniform(counter):  # type: ignore[no-untyped-def]
    """SplitMix64 of a counter, as a number in [0, 1)."""
    z = counter * _GOLDEN
    z = (z ^ (z >> _S30)) * _MIX_1
    z = (z ^ (z >> _S27)) * _MIX_2
    return float((z ^ (z >> _S31)) >> _S11) * _TO_UNIT


@njit(cache=True, nogil=True)
def _invert(mean, u):  # type: ignore[no-untyped-def]
    """Return the Poisson quantile of u."""
    p = math.exp(-mean)
    k = 0
    while u >= p:
        u -= p
        k += 1
        p *= mean / k
        if k > 200:
            break
    return k


@njit(cache=True, nogil=True)
def _reject(mean, counter):  # type: ignore[no-untyped-def]
    """Draw from a Poisson distribution of a large mean: PTRS of Hörmann 1993, exact."""
    root, log_mean = math.sqrt(mean), math.log(mean)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2.0)
    for _ in range(31):
        u = _uniform(counter) - 0.5
        v = _uniform(counter + np.uint64(1))
        counter += np.uint64(2)
        us = 0.5 - abs(u)
        k = math.floor((2.0 * a / us + b) * u + mean + 0.43) if us > 0.0 else -1.0
        if us >= 0.07 and v <= v_r:
            return int(k)
        if k < 0.0 or (us < 0.013 and v > us) or v <= 0.0:
            continue
        left = math.log(v) + math.log(inverse_alpha) - math.log(a / (us * us) + b)
        if left <= -mean + k * log_mean - math.lgamma(k + 1.0):
            return int(k)
    return int(mean + 0.5)


@njit(cache=True, nogil=True)
def poisson(mean, key, index):  # type: ignore[no-untyped-def]
    """Draw number ``index`` of the stream ``key`` from a Poisson distribution."""
    counter = key + np.uint64(index) * _DRAWS
    if mean < _INVERSION_LIMIT:
        return _invert(mean, _uniform(counter))
    return _reject(mean, counter + np.uint64(1))


@njit(cache=True, nogil=True)
def draw_counts(pattern, place, factor, key, frame):  # type: ignore[no-untyped-def]
    """Fill a frame with Poisson counts; pixels whose factor is 0 keep what they hold.

    ``pattern`` is on a grid, ``place`` the position of each pixel on it, ``factor`` what the
    pixel's value is multiplied with.
    """
    for i in range(len(place)):
        f = factor[i]
        if f <= 0.0:
            continue
        low = int(place[i])
        mean = f * (pattern[low] + (place[i] - low) * (pattern[low + 1] - pattern[low]))
        counter = key + np.uint64(i) * _DRAWS
        u = _uniform(counter)
        # exp(-m) ≥ 1 − m: most pixels of a sparse frame are decided without the exponential
        if u < 1.0 - mean:
            frame[i] = 0
        elif mean < _INVERSION_LIMIT:
            frame[i] = _invert(mean, u)
        else:
            frame[i] = _reject(mean, counter + np.uint64(1))


@njit(cache=True, nogil=True)
def mean_counts(pattern, place, factor, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the means from which `draw_counts` draws."""
    for i in range(len(place)):
        low = int(place[i])
        out[i] = factor[i] * (pattern[low] + (place[i] - low) * (pattern[low + 1] - pattern[low]))


@njit(cache=True, nogil=True)
def combine(weights, patterns, out):  # type: ignore[no-untyped-def]
    """Add weighted patterns, rows of weight 0 skipped; in a fixed order, so that sums repeat exactly."""
    for i in range(weights.shape[0]):
        for j in range(weights.shape[1]):
            w = weights[i, j]
            if w != 0.0:
                row = patterns[i, j]
                for k in range(len(out)):
                    out[k] += w * row[k]
