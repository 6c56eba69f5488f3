"""What robust estimators make of Poisson counts: expectations, their inverses and variances.

Everything is in counts per pixel. Below `GAUSSIAN_FROM` sums over the distribution are exact;
above it a Cornish-Fisher expansion in 1/√μ is good to 1e-5. The derivations are in
``docs/integration.md``.
"""

from __future__ import annotations

import math

import numba

__all__ = [
    "GAUSSIAN_FROM",
    "clip_cuts",
    "invert_median",
    "invert_trimmed",
    "median_expectation",
    "normal_deviate",
    "trimmed_expectation",
    "truncated_rate",
]

#: Rate from which the distribution is treated as continuous.
GAUSSIAN_FROM = 60.0

_TERMS = 512  # enough for every rate below GAUSSIAN_FROM; the loops leave much earlier
_SQRT_2PI = math.sqrt(2 * math.pi)

_jit = numba.njit(cache=True, nogil=True, error_model="numpy")


@_jit
def _normal_density(z: float) -> float:
    return math.exp(-0.5 * z * z) / _SQRT_2PI


@_jit
def normal_deviate(chance: float) -> float:
    """Return the z beyond which a standard normal lies with a chance of at most one half.

    Abramowitz and Stegun 26.2.23, then two Newton steps.
    """
    t = math.sqrt(-2.0 * math.log(chance))
    above = 2.515517 + t * (0.802853 + t * 0.010328)
    z = t - above / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)))
    for _ in range(2):
        z += (0.5 * math.erfc(z / math.sqrt(2.0)) - chance) / _normal_density(z)
    return z


@_jit
def _normal_quantile(p: float) -> float:
    return -normal_deviate(p) if p < 0.5 else normal_deviate(1.0 - p)


@_jit
def normal_trim(lower: float, upper: float) -> tuple[float, float, float, float]:
    """Return A, B, C of ``T(μ) = μ + A√μ + B + C/√μ`` and the winsorised variance in units of μ.

    Moments of a standard normal between its quantiles ``lower`` and ``1 - upper``, put into the
    Cornish-Fisher expansion of the Poisson quantile.
    """
    kept = 1.0 - lower - upper
    a = _normal_quantile(lower) if lower > 0 else -9.0
    b = _normal_quantile(1.0 - upper) if upper > 0 else 9.0
    fa, fb = _normal_density(a), _normal_density(b)
    m1 = (fa - fb) / kept
    m2 = 1.0 + (a * fa - b * fb) / kept
    m3 = (fa * (a * a + 2.0) - fb * (b * b + 2.0)) / kept
    c3 = (m3 - 3.0 * m1) / 24.0 - (2.0 * m3 - 5.0 * m1) / 36.0
    mean = lower * a + kept * m1 + upper * b
    square = lower * a * a + kept * m2 + upper * b * b
    return m1, (m2 - 1.0) / 6.0, c3, (square - mean * mean) / (kept * kept)


@_jit
def trimmed_expectation(mu: float, lower: float, upper: float) -> tuple[float, float, float]:
    """Return expectation, slope dT/dμ and n·variance of the trimmed mean of many Poisson counts.

    The slope is the mass of the classes whose distribution function lies between the cuts; the
    variance is that of the counts clipped to the classes at the cuts (winsorised).
    """
    kept = 1.0 - lower - upper
    if mu >= GAUSSIAN_FROM:
        a, b, c, v = normal_trim(lower, upper)
        root = math.sqrt(mu)
        return mu + a * root + b + c / root, 1.0 + 0.5 * a / root, v * mu
    p = math.exp(-mu)
    cumulated = 0.0
    total, slope, mean, square = 0.0, 0.0, 0.0, 0.0
    for k in range(_TERMS):
        below = cumulated
        cumulated += p
        inside = min(cumulated, 1.0 - upper) - max(below, lower)
        if inside > 0.0:
            total += k * inside
            weight = inside
            if below <= lower:  # the class at the lower cut takes what is clipped to it
                weight = min(cumulated, 1.0 - upper)
            mean += k * weight
            square += k * k * weight
        if lower < cumulated < 1.0 - upper:
            slope += p
        if cumulated >= 1.0 - upper or (upper == 0.0 and k > mu and p < 1e-17):
            mean += k * upper
            square += k * k * upper
            break
        p *= mu / (k + 1)
    return total / kept, slope / kept, (square - mean * mean) / (kept * kept)


@_jit
def invert_trimmed(value: float, lower: float, upper: float) -> float:
    """Return the rate whose trimmed mean is expected to be ``value``; 0 where it is 0."""
    if value <= 0.0 or lower + upper == 0.0:
        return max(value, 0.0)
    if value >= GAUSSIAN_FROM:
        a, b, c, _ = normal_trim(lower, upper)
        mu = value
        for _ in range(3):
            root = math.sqrt(mu)
            mu -= (mu + a * root + b + c / root - value) / (1.0 + 0.5 * a / root)
        return mu
    mu = value + upper / (1.0 - upper)
    low, high = 0.0, math.inf
    for _ in range(60):
        expected, slope, _ = trimmed_expectation(mu, lower, upper)
        if expected < value:
            low = mu
        else:
            high = mu
        new = mu - (expected - value) / slope if slope > 1e-3 else -1.0
        if not low < new < high:
            new = 2.0 * mu if high == math.inf else 0.5 * (low + high)
        if abs(new - mu) < 1e-7 * (1.0 + mu):
            return new
        mu = new
    return mu


@_jit
def median_expectation(mu: float) -> tuple[float, float]:
    """Return the median of Poisson counts spread evenly over k ± ½, and its n·variance.

    The spread (the "grouped" median) makes it continuous in the rate.
    """
    if mu >= GAUSSIAN_FROM:
        return mu - 1.0 / 6.0 - 0.02 / mu, 0.5 * math.pi * mu
    p = math.exp(-mu)
    below = 0.0
    k = 0
    while below + p < 0.5:
        below += p
        k += 1
        p *= mu / k
    share = (0.5 - below) / p
    return k - 0.5 + share, (below + share * share * p - 0.25) / (p * p)


@_jit
def invert_median(value: float) -> float:
    """Return the rate whose grouped median is expected to be ``value``."""
    if value >= GAUSSIAN_FROM:
        return value + 1.0 / 6.0 + 0.02 / value
    low, high = 1e-9, value + 2.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        if median_expectation(middle)[0] < value:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@_jit
def clip_cuts(
    mu: float, dispersion: float, chance: float, z: float, upper_chance: float
) -> tuple[float, float]:
    """Return the counts between which a pixel is believed: outside of them ``chance`` on each side.

    ``z`` is the normal deviate of ``chance``; small counts may have another chance above. Both cuts
    lie half-way between counts.
    """
    spread = math.sqrt(max(dispersion, 1.0) * mu)
    if mu >= GAUSSIAN_FROM or dispersion > 1.5:
        skew = (z * z - 1.0) / 6.0
        return math.floor(mu - z * spread + skew) - 0.5, math.floor(mu + z * spread + skew) + 0.5
    p = math.exp(-mu)
    cumulated = p
    k = 0
    lowest = 0
    while 1.0 - cumulated > upper_chance or k < 1:
        if cumulated < chance:
            lowest = k + 1
        k += 1
        p *= mu / k
        cumulated += p
    widen = math.sqrt(max(dispersion, 1.0)) - 1.0
    return math.floor(lowest - widen * z * math.sqrt(mu)) - 0.5, math.ceil(
        k + widen * z * math.sqrt(mu)
    ) + 0.5


@_jit
def _window(mu: float, low: float, high: float) -> tuple[float, float, float, float]:
    """Return P, mean and variance of a Poisson variable between two cuts, and P one count lower."""
    p = math.exp(-mu)
    first, last = math.ceil(low), math.floor(high)
    s0, s1, s2, shifted = 0.0, 0.0, 0.0, 0.0
    for k in range(max(last, 0) + 1):
        if k >= first:
            s0 += p
            s1 += p * k
            s2 += p * k * k
        if first - 1 <= k <= last - 1:
            shifted += p
        if k > mu and p < 1e-17:
            break
        p *= mu / (k + 1)
    if s0 <= 0.0:
        return 0.0, mu, mu, 1.0
    mean = s1 / s0
    return s0, mean, s2 / s0 - mean * mean, shifted


@_jit
def truncated_rate(mean: float, low: float, high: float, dispersion: float) -> tuple[float, float]:
    """Return the rate whose counts between two cuts average to ``mean``, and its n·variance.

    From E[X; a ≤ X ≤ b] = μ·P(a-1 ≤ X ≤ b-1). ``n`` counts the pixels before the cut.
    """
    if mean <= 0.0:
        return 0.0, 0.0
    if mean >= GAUSSIAN_FROM:
        return _truncated_normal_rate(mean, low, high, dispersion)
    mu = mean
    probability, variance = 1.0, mean
    for _ in range(60):
        probability, expected, variance, shifted = _window(mu, low, high)
        if probability <= 0.0 or shifted <= 0.0 or variance <= 1e-9:
            return mean, mean
        # dE/dμ = Var/μ, as in every exponential family
        new = mu - (expected - mean) * mu / variance
        new = min(max(new, 0.5 * mu), 2.0 * mu)
        if abs(new - mu) < 1e-9 * (1.0 + mu):
            mu = new
            break
        mu = new
    return mu, mu * mu / (variance * probability)


@_jit
def _truncated_normal_rate(mean: float, low: float, high: float, dispersion: float) -> tuple[float, float]:
    mu = mean
    factor = 1.0
    for _ in range(8):
        spread = math.sqrt(max(dispersion, 1.0) * mu)
        a, b = (low - mu) / spread, (high - mu) / spread
        skew = 1.0 / (6.0 * math.sqrt(mu))
        fa = _normal_density(a) * (1.0 + skew * (a * a * a - 3.0 * a))
        fb = _normal_density(b) * (1.0 + skew * (b * b * b - 3.0 * b))
        inside = 0.5 * (math.erfc(-b / math.sqrt(2.0)) - math.erfc(-a / math.sqrt(2.0)))
        if inside < 0.1:
            return mean, mean
        mu = mean + spread * (fb - fa) / inside
        factor = 1.0 + (a * fa - b * fb) / inside
        mu = min(max(mu, 0.5 * mean), 2.0 * mean)
    return mu, mu / (max(factor, 0.1) * inside)
