"""Fit of one powder pattern by the Rietveld method, with many free parameters.

For calibrants, laboratory patterns and as the reference for the fit of every voxel; the structures are
fixed. A pattern is Σ scale Σ m |F|² LP · shape + background, intensity per degree, averaged over bins.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d
from scipy.optimize import least_squares, lsq_linear

from ..domain.errors import ProcessingError
from ..domain.phases import Phase
from ._pattern_model import COPPER_K_ALPHA, Model, Radiation, Setting
from ._pattern_rings import Ring, measure_rings

__all__ = ["COPPER_K_ALPHA", "PatternFit", "Radiation", "Ring", "Setting", "fit_pattern"]

FloatArray = npt.NDArray[np.float64]

#: Rounds of a fit at most: weights of counts, and |F|² of a cell that moved by more than _MOVED, are
#: those of the round before.
_ROUNDS = 3
_MOVED = 2e-4

_SMOOTHED_BINS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class PatternFit:
    """What a fit found.

    Parameters
    ----------
    values, esds:
        Each free parameter by name: ``zero_deg``, the letters of the profile, ``NAME:a_A``,
        ``NAME:scale``, ``background:0`` and so on; esds are from the normal matrix, times the goodness
        of fit where that is above 1.
    covariance:
        In the order of ``values``, scaled likewise.
    setting:
        Profile, zero and displacement, free or not.
    phases:
        With their refined cells.
    mass_fractions, mass_fraction_esds:
        By Hill and Howard (1987), of the phases in the model.
    two_theta_deg, measured, calculated, background, residual:
        Bins that counted, shape ``(bin,)``; the residual is in units of sigma.
    rwp, goodness_of_fit:
        Weighted profile R factor, and the square root of the reduced χ².
    at_limit:
        Names of parameters that ended at a limit; they have no esd.
    rings, ring_r:
        Ring intensities measured with the positions and shapes of the model, and their R factor
        Σ|measured - calculated| / Σ measured.
    """

    values: Mapping[str, float]
    esds: Mapping[str, float]
    covariance: FloatArray
    setting: Setting
    phases: tuple[Phase, ...]
    mass_fractions: Mapping[str, float]
    mass_fraction_esds: Mapping[str, float]
    two_theta_deg: FloatArray
    measured: FloatArray
    calculated: FloatArray
    background: FloatArray
    residual: FloatArray
    rwp: float
    goodness_of_fit: float
    at_limit: tuple[str, ...]
    rings: tuple[Ring, ...]
    ring_r: float


def fit_pattern(
    two_theta_deg: npt.ArrayLike,
    intensity: npt.ArrayLike,
    phases: Sequence[Phase],
    radiation: Radiation,
    *,
    sigma: npt.ArrayLike | None = None,
    counts: bool = False,
    free: Sequence[str] = ("cell",),
    start: Setting | None = None,
    background: int = 6,
) -> PatternFit:
    """Fit phases to a pattern by least squares.

    Parameters
    ----------
    two_theta_deg, intensity:
        Centres of bins, ascending, and the mean intensity in each; NaN bins do not count.
    phases:
        Structures, with cells to start from, right to 0.5 % or so.
    sigma:
        Standard deviations. Without them all bins weigh the same, or, with ``counts``, by the Poisson
        variance of the model.
    free:
        Of ``cell``, ``zero_deg``, ``displacement_deg``, the letters of the profile, ``axial``,
        ``sensor_depth_deg``; for each phase ``size_deg`` and ``strain_deg``, Lorentzian FWHM that go as
        1/cos θ and tan θ. Scales and background always are.
    start:
        What the instrument is like, and what is not free stays.
    background:
        Number of Chebyshev terms.

    Raises
    ------
    ProcessingError
        If there are too few bins, or arrays do not fit together.
    PhaseError
        If a phase has no reflection in the range.
    """
    edges, measured, weight, used = _arrays(two_theta_deg, intensity, sigma, counts)
    model = Model(edges, phases, radiation, start or Setting(), free, background)
    if np.count_nonzero(used) <= len(model.names):
        raise ProcessingError(
            f"{np.count_nonzero(used)} bins cannot determine {len(model.names)} parameters; free fewer"
        )
    x = _first_guess(model, measured, weight, used)
    reweighted = counts and sigma is None
    for last in range(_ROUNDS):
        x = _refine(model, x, measured, weight, used)
        moved = _refined_phases(model, x) if _has_moved(model, x) else None
        if last + 1 == _ROUNDS or (moved is None and not (reweighted and last == 0)):
            break
        if moved is not None:  # |F|² belongs to a cell, and so do the lines in the range
            model = Model(edges, moved, radiation, start or Setting(), free, background)
        if reweighted:
            weight = np.where(used, 1.0 / np.sqrt(np.maximum(model.pattern(x), 1.0)), 0.0)
    return _result(model, x, measured, weight, used, has_sigma=counts or sigma is not None)


def _arrays(
    two_theta_deg: npt.ArrayLike, intensity: npt.ArrayLike, sigma: npt.ArrayLike | None, counts: bool
) -> tuple[FloatArray, FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Return edges, intensities, weights (1/sigma) and which bins count."""
    angle, measured = (np.asarray(v, dtype=np.float64) for v in (two_theta_deg, intensity))
    if angle.ndim != 1 or angle.shape != measured.shape or len(angle) < 2:
        raise ProcessingError(
            f"2θ of shape {angle.shape} and intensity of shape {measured.shape} do not make a pattern"
        )
    if np.any(np.diff(angle) <= 0) or angle[0] <= 0 or angle[-1] >= 180:
        raise ProcessingError("2θ must ascend, between 0 and 180°")
    middle = 0.5 * (angle[1:] + angle[:-1])
    edges = np.concatenate([[2 * angle[0] - middle[0]], middle, [2 * angle[-1] - middle[-1]]])
    deviation = np.ones_like(measured)
    if sigma is not None:
        deviation = np.broadcast_to(np.asarray(sigma, dtype=np.float64), measured.shape)
    elif counts:
        # A bin's own count is a biased weight: low counts would weigh more. Its neighbours' mean is less so.
        smooth = uniform_filter1d(np.where(np.isfinite(measured), measured, 0.0), _SMOOTHED_BINS)
        deviation = np.sqrt(np.maximum(smooth, 1.0))
    used = np.isfinite(measured) & np.isfinite(deviation) & (deviation > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(used, 1.0 / deviation, 0.0)
    return edges, np.where(used, measured, 0.0), weight, used


def _first_guess(
    model: Model, measured: FloatArray, weight: FloatArray, used: npt.NDArray[np.bool_]
) -> FloatArray:
    """Return the start, with scales and background from linear least squares."""
    inside = np.clip(model.start_shape, model.low[: model.n_shape], model.high[: model.n_shape])
    shape = np.concatenate([inside, np.zeros(len(model.names) - model.n_shape)])
    design = np.column_stack([model.unit_patterns(shape), model.basis]) * weight[:, None]
    size = np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    limits = (model.low[model.n_shape :], np.full(design.shape[1], np.inf))
    solution = lsq_linear(design[used] / size, (measured * weight)[used], limits, method="bvls")
    return np.concatenate([inside, solution.x / size])


def _refine(
    model: Model, x: FloatArray, measured: FloatArray, weight: FloatArray, used: npt.NDArray[np.bool_]
) -> FloatArray:
    low, high = model.low, model.high
    solution = least_squares(
        lambda x: ((model.pattern(x) - measured) * weight)[used],
        np.clip(x, low + 1e-12, high),
        jac=lambda x: (model.jacobian(x) * weight[:, None])[used],
        bounds=(low, high),
        x_scale="jac",
        xtol=1e-10,
        ftol=1e-8,
        gtol=1e-10,
        max_nfev=200,
    )
    return np.asarray(solution.x)


def _result(
    model: Model,
    x: FloatArray,
    measured: FloatArray,
    weight: FloatArray,
    used: npt.NDArray[np.bool_],
    *,
    has_sigma: bool,
) -> PatternFit:
    calculated = model.pattern(x)
    residual = ((measured - calculated) * weight)[used]
    n_free = max(len(residual) - len(x), 1)
    goodness = math.sqrt(float(residual @ residual) / n_free)
    bound = _at_limit(model, x)
    covariance = _covariance((model.jacobian(x) * weight[:, None])[used], bound)
    # Where the model is not perfect, or weights are no sigma, the scatter is what counts.
    covariance *= max(goodness, 1.0 if has_sigma else 0.0) ** 2
    esds = np.sqrt(np.diag(covariance))
    phases = _refined_phases(model, x)
    fractions, fraction_esds = _mass_fractions(model, x, covariance, phases)
    rings = measure_rings(model, x, measured, weight, goodness)
    total = sum(ring.measured for ring in rings)
    return PatternFit(
        values=dict(zip(model.names, x.tolist(), strict=True)),
        esds=dict(zip(model.names, esds.tolist(), strict=True)),
        covariance=covariance,
        setting=model.setting(x),
        phases=phases,
        mass_fractions=fractions,
        mass_fraction_esds=fraction_esds,
        two_theta_deg=(0.5 * (model.edges_deg[1:] + model.edges_deg[:-1]))[used],
        measured=measured[used],
        calculated=calculated[used],
        background=(model.basis @ model.background(x))[used],
        residual=residual,
        rwp=float(np.linalg.norm(residual) / np.linalg.norm((measured * weight)[used])),
        goodness_of_fit=goodness,
        at_limit=tuple(name for name, is_bound in zip(model.names, bound, strict=True) if is_bound),
        rings=rings,
        ring_r=sum(abs(r.measured - r.calculated) for r in rings) / total if total > 0 else math.nan,
    )


def _at_limit(model: Model, x: FloatArray) -> npt.NDArray[np.bool_]:
    near = 1e-3 * model.steps
    near[model.n_shape :] = 1e-9 * np.max(model.scales(x))
    return np.asarray((x - model.low <= near) | (model.high - x <= near))


def _covariance(weighted: FloatArray, bound: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the inverse of the normal matrix of the parameters within their limits, NaN for others."""
    covariance = np.full((len(bound), len(bound)), np.nan)
    columns = weighted[:, ~bound]
    size = np.maximum(np.linalg.norm(columns, axis=0), 1e-300)
    _, singular, rotated = np.linalg.svd(columns / size, full_matrices=False)
    inverse = 1.0 / np.maximum(singular, 1e-12 * singular[0]) ** 2
    free = np.flatnonzero(~bound)
    covariance[np.ix_(free, free)] = (rotated.T * inverse) @ rotated / np.outer(size, size)
    return covariance


def _has_moved(model: Model, x: FloatArray) -> bool:
    cells = [(line.phase.cell, model.cell(x, p)) for p, line in enumerate(model.lines)]
    return any(np.any(np.abs(new / np.array(old) - 1.0) > _MOVED) for old, new in cells)


def _refined_phases(model: Model, x: FloatArray) -> tuple[Phase, ...]:
    return tuple(_with_cell(line.phase, model.cell(x, p)) for p, line in enumerate(model.lines))


def _with_cell(phase: Phase, cell: FloatArray) -> Phase:
    a, b, c, alpha, beta, gamma = (float(v) for v in cell)
    return phase.with_cell(a_A=a, b_A=b, c_A=c, alpha_deg=alpha, beta_deg=beta, gamma_deg=gamma)


def _mass_fractions(
    model: Model, x: FloatArray, covariance: FloatArray, phases: Sequence[Phase]
) -> tuple[dict[str, float], dict[str, float]]:
    zmv = np.array([phase.cell_mass_g_mol * phase.volume_A3 for phase in phases])
    mass = model.scales(x) * zmv
    total = float(mass.sum())
    if total <= 0:
        nothing = {phase.name: math.nan for phase in phases}
        return nothing, dict(nothing)
    fraction = mass / total
    derivative = (np.eye(len(zmv)) - fraction[:, None]) * zmv[None] / total
    which = slice(model.n_shape, model.n_shape + len(zmv))
    variance = np.einsum("pi,ij,pj->p", derivative, np.nan_to_num(covariance[which, which]), derivative)
    names = [phase.name for phase in phases]
    esds = np.sqrt(np.maximum(variance, 0.0)).tolist()
    return dict(zip(names, fraction.tolist(), strict=True)), dict(zip(names, esds, strict=True))
