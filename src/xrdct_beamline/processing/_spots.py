"""Spots that hide among the counts of a weak ring: how many lie below the cut, told by those above it.

Below one count per pixel a spot of ten times the ring has a few counts, and many of its pixels have
none or one, like any other: no cut removes them. But spots are Poisson too. Rings side by side are
pooled until their histogram shows the spots' own distribution (a mixture of rates of at least ten
times the ring's, by maximum likelihood); then the pixels that a ring has above its cut say how many
of its pixels below it are spots. Where the mixture does not fit, only the cut is made.
``docs/integration.md`` derives it and says what no estimator can do.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from ._estimators import FLAG, INTENSITY, N_PIXELS, POISSON_CLIP, REMOVED, SIGMA, Plan
from ._trim import COUNTS, NORM, PIXELS

__all__ = ["N_LOW", "note_low_counts", "subtract_spots"]

Floats = npt.NDArray[np.floating[Any]]

_CLASSES = 16  # counts 0…15; brighter pixels tell nothing about those below the cut
#: Columns of the notes on a ring: its histogram, and its mean normalisation (0 where it has no part in this).
N_LOW = _CLASSES + 1

_BELOW = 1.0  # counts per pixel; above, spots of ten times the ring are clear of the cut
_CHANCE = 0.05  # of a good pixel above the cut
_TIMES = 10.0  # the ring is the faintest spot
_GROUP, _BLOCK = 1000.0, 65536.0  # pixels: of neighbours that share a rate, and that share a kind of spots
_SPOT_RATES = 8
_BRIGHTEST = 18.0
_ROUNDS, _STEPS = 3, 30
_SEEN_FROM = 12.0  # deviance of clean counts
_FITTED = 6  # classes by which the fit is judged
_FITS_TO = 10.0  # mean deviance of what is left: 4 are expected, 20 and more where spots are not Poisson

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


@_jit
def note_low_counts(entries: Floats, n: int, plan: Plan, row: Floats, low: Floats) -> None:
    """Note the histogram of a ring that a Poisson clip estimated, if its counts are few and whole."""
    low[_CLASSES] = 0.0
    total, norm = row[N_PIXELS], 0.0
    if not (plan.unbiased and total > 0.0 and (plan.method == POISSON_CLIP or row[FLAG] > 0.0)):
        return
    for j in range(n):
        norm += entries[NORM, j]
    if row[INTENSITY] * norm / total >= _BELOW:
        return
    for k in range(_CLASSES):
        low[k] = 0.0
    for j in range(n):
        count = entries[COUNTS, j] / entries[PIXELS, j]
        if count < _CLASSES:
            k = int(count)
            if count != k:
                return
            low[k] += entries[PIXELS, j]
    low[_CLASSES] = norm / total


@_jit
def _poisson(rate: float, out: Floats) -> None:
    p = math.exp(-rate)
    for k in range(_CLASSES):
        out[k] = p
        p *= rate / (k + 1)


@_jit
def _cut(rate: float) -> int:
    """Return the largest count that is kept; at least 1."""
    p = math.exp(-rate)
    k, above = 0, 1.0 - p
    while above > _CHANCE or k < 1:
        k += 1
        p *= rate / k
        above -= p
    return k


@_jit
def _below_cut(rate: float, cut: int) -> tuple[float, float, float]:
    """Return the chance of at most ``cut`` counts, and their mean and variance."""
    p = math.exp(-rate)
    s0, s1, s2 = 0.0, 0.0, 0.0
    for k in range(cut + 1):
        s0 += p
        s1 += p * k
        s2 += p * k * k
        p *= rate / (k + 1)
    return s0, s1 / s0, s2 / s0 - (s1 / s0) ** 2


@_jit
def _sums(histogram: Floats, cut: int) -> tuple[float, float, float]:
    """Return pixels and counts up to the cut, and the pixels above it."""
    m, s, above = 0.0, 0.0, 0.0
    for k in range(_CLASSES):
        if k <= cut:
            m += histogram[k]
            s += k * histogram[k]
        else:
            above += histogram[k]
    return m, s, above


@_jit
def _rate(histogram: Floats, spots: Floats, start: float, steps: int) -> float:
    """Return the rate of a ring whose spots are distributed like ``spots`` (any scale, 0 for none).

    Pixels above the cut less those that the rate explains are the spots' share; Newton's method on
    the mean below the cut, whose slope is Var/μ.
    """
    cut = _cut(start)
    m, s, above = _sums(histogram, cut)
    spots_m, spots_s, spots_above = _sums(spots, cut)
    share = 1.0 / spots_above if spots_above > 0.0 else 0.0
    rate = start
    for _ in range(steps):
        inside, mean, variance = _below_cut(rate, cut)
        good = (m - above * share * spots_m) / (inside - share * spots_m * (1.0 - inside))
        n_spots = share * (above - good * (1.0 - inside))
        wanted = (s - n_spots * spots_s) / (m - n_spots * spots_m)
        step = (wanted - mean) * rate / variance
        rate = min(max(rate + step, 0.25 * rate), 4.0 * rate)
        if abs(step) < 1e-6 * rate:
            break
    return rate


@_jit
def _one_step(histogram: Floats, spots: Floats, rate: float) -> tuple[float, float]:
    """Return what a ring adds to a rate near its own, linear in its counts, and its n·variance."""
    cut = _cut(rate)
    inside, mean, variance = _below_cut(rate, cut)
    spots_m, spots_s, spots_above = _sums(spots, cut)
    # An influence of k - mean below the cut, of -weight above, and a level that makes both fair.
    share = 1.0 / spots_above if spots_above > 0.0 else 0.0
    weight = share * (spots_s - mean * spots_m) * inside / (inside - share * spots_m * (1.0 - inside))
    level = weight * (1.0 - inside) / inside
    total, score, square = 0.0, 0.0, 0.0
    for k in range(_CLASSES):
        influence = k - mean + level if k <= cut else -weight
        total += histogram[k]
        score += histogram[k] * influence
        square += histogram[k] * influence * influence
    # d/dμ of E[influence]: that of the truncated mean, and of what leaves it upwards.
    edge = math.exp(-rate) * rate**cut / math.gamma(cut + 1.0)
    slope = inside * variance / rate - (level + weight) * edge
    return score / total / slope, square / total / (slope * slope)


@_jit
def _deviance(observed: Floats, expected: Floats) -> float:
    """Return twice the log-likelihood ratio of the classes that matter."""
    result = 0.0
    for k in range(_FITTED):
        result += 2.0 * (expected[k] - observed[k])
        if observed[k] > 0.0:
            result += 2.0 * observed[k] * math.log(observed[k] / expected[k])
    return result


@_jit
def _background(groups: Floats, rates: Floats, n: int, scratch: Floats, out: Floats) -> None:
    out[:] = 0.0
    for g in range(n):
        _poisson(rates[g], scratch)
        pixels = groups[g].sum()
        for k in range(_CLASSES):
            out[k] += pixels * scratch[k]


@_jit
def _mix(observed: Floats, shapes: Floats, weights: Floats, steps: int, fit: Floats) -> None:
    """Improve the weights of the shapes: Richardson and Lucy's steps, one and a half times as far."""
    ratio = np.empty(_CLASSES)
    for _ in range(steps):
        _blend(shapes, weights, 0, fit)
        for k in range(_CLASSES):
            ratio[k] = observed[k] / max(fit[k], 1e-300)
        for j in range(len(weights)):
            gain, norm = 0.0, 0.0
            for k in range(_CLASSES):
                gain += shapes[j, k] * ratio[k]
                norm += shapes[j, k]
            gain /= norm
            weights[j] *= gain * math.sqrt(gain)
    _blend(shapes, weights, 0, fit)


@_jit
def _blend(shapes: Floats, weights: Floats, first: int, out: Floats) -> None:
    out[:] = 0.0
    for j in range(first, len(weights)):
        for k in range(_CLASSES):
            out[k] += weights[j] * shapes[j, k]


@_jit
def _fit_spots(groups: Floats, rates: Floats, n: int, spots: Floats) -> float:
    """Fit the spots of a block of groups; return the deviance left, or -1 where there are none.

    ``rates`` becomes that of each group, ``spots`` the distribution of the spots' pixels.
    """
    observed = groups[:n].sum(axis=0)
    shapes, scratch = np.empty((_SPOT_RATES + 1, _CLASSES)), np.empty(_CLASSES)
    weights, fit = np.full(_SPOT_RATES + 1, 0.02 / _SPOT_RATES), np.empty(_CLASSES)
    spots[:] = 0.0
    for g in range(n):
        rates[g] = _rate(groups[g], spots, rates[g], 20)
    _background(groups, rates, n, scratch, shapes[0])
    cut = _cut(rates[:n].mean())
    clean = shapes[0] * (_sums(observed, cut)[0] / _sums(shapes[0], cut)[0])
    expected, above = _sums(clean, cut)[2], _sums(observed, cut)[2]
    if above < expected + 3.0 * math.sqrt(expected) + 3.0 or _deviance(observed, clean) < _SEEN_FROM:
        return -1.0
    weights[1:] *= observed.sum()
    weights[0] = 0.98
    for _ in range(_ROUNDS):
        faintest = _TIMES * rates[:n].min()
        ratio = max(_BRIGHTEST / faintest, 4.0) ** (1.0 / (_SPOT_RATES - 1))
        for j in range(_SPOT_RATES):
            _poisson(rates[:n].mean() + faintest * ratio**j, shapes[j + 1])
        _mix(observed, shapes, weights, _STEPS, fit)
        _blend(shapes, weights, 1, spots)
        for g in range(n):
            rates[g] = _rate(groups[g], spots, rates[g], 5)
        _background(groups, rates, n, scratch, shapes[0])
    _mix(observed, shapes, weights, 3, fit)
    return _deviance(observed, fit)


@_jit
def _write(low: Floats, group: Floats, rate: float, spots: Floats, row: Floats) -> None:
    """Replace the estimate of one ring, by a step from the rate of its group that is linear in its counts."""
    step, _ = _one_step(low[:_CLASSES], spots, rate)
    _, variance = _one_step(group, spots, rate)
    row[INTENSITY] = max(rate + step, 0.0) / low[_CLASSES]
    row[SIGMA] = math.sqrt(max(variance, 1.0 / row[N_PIXELS]) / row[N_PIXELS]) / low[_CLASSES]
    row[REMOVED] = 1.0 - _sums(low[:_CLASSES], _cut(rate))[0] / row[N_PIXELS]


@_jit
def subtract_spots(low: Floats, rows: Floats) -> None:
    """Estimate the noted rings anew where spots are seen around them and are Poisson.

    ``low`` holds what `note_low_counts` noted of each ring, ``rows`` their results.
    """
    n_rings = len(low)
    group_of = np.full(n_rings, -1)
    room = n_rings + 1
    groups, rates = np.zeros((room, _CLASSES)), np.empty(room)
    block_of = np.zeros(room, np.int64)
    n_groups, n_blocks = 0, 0
    in_group, in_block = 0.0, 0.0
    for r in range(n_rings):
        if low[r, _CLASSES] <= 0.0:
            continue
        if in_group >= _GROUP:
            n_groups += 1
            in_group = 0.0
            if in_block >= _BLOCK:
                n_blocks += 1
                in_block = 0.0
        group_of[r], block_of[n_groups] = n_groups, n_blocks
        pixels = low[r, :_CLASSES].sum()
        groups[n_groups] += low[r, :_CLASSES]
        in_group += pixels
        in_block += pixels
    if in_block == 0.0:
        return
    _subtract_in_blocks(low, rows, group_of, groups[: n_groups + 1], rates, block_of[: n_groups + 1])


@_jit
def _subtract_in_blocks(
    low: Floats, rows: Floats, group_of: npt.NDArray[np.int64], groups: Floats, rates: Floats,
    block_of: npt.NDArray[np.int64],
) -> None:  # fmt: skip
    n_groups = len(groups)
    n_blocks = block_of[n_groups - 1] + 1
    spots, deviance = np.empty((n_blocks, _CLASSES)), np.empty(n_blocks)
    for g in range(n_groups):
        rates[g] = min(max(groups[g, 1] / max(groups[g, 0], 1.0), 1e-3), _BELOW)
    first = 0
    for b in range(n_blocks):
        last = first
        while last < n_groups and block_of[last] == b:
            last += 1
        deviance[b] = _fit_spots(groups[first:last], rates[first:last], last - first, spots[b])
        first = last
    seen = deviance >= 0.0
    if not seen.any():
        return
    if deviance[seen].mean() > _FITS_TO:  # not Poisson: nothing is known of what lies below the cut
        spots[:] = 0.0
        for g in range(n_groups):
            rates[g] = _rate(groups[g], spots[0], rates[g], 20)
    for r in range(len(low)):
        g = group_of[r]
        if g >= 0 and seen[block_of[g]]:
            _write(low[r], groups[g], rates[g], spots[block_of[g]], rows[r])
