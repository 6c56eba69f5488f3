"""Ring intensities of a pattern, measured with the positions and shapes of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ._pattern_model import Model
from ._pattern_terms import bin_means, floored_widths
from .peak_profile import tch

__all__ = ["Ring", "measure_rings"]

FloatArray = npt.NDArray[np.float64]

#: Reflections nearer than this many FWHM are one ring.
_ONE_RING_FWHM = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """Intensity of one ring, or of several that overlap: as measured with its esd, and by the model.

    ``phase``, ``hkl`` and ``two_theta_deg`` are the strongest reflection's.
    """

    phase: str
    hkl: tuple[int, int, int]
    two_theta_deg: float
    measured: float
    calculated: float
    esd: float


@dataclass
class _Group:
    """Reflections that are one ring, and their pattern."""

    strongest: tuple[float, str, tuple[int, int, int], float]  # area, phase, hkl, 2θ
    last_deg: float
    area: float
    pattern: FloatArray


def measure_rings(
    model: Model, x: FloatArray, measured: FloatArray, weight: FloatArray, goodness: float
) -> tuple[Ring, ...]:
    """Return the rings of a pattern, by linear least squares of their intensities and the background.

    Parameters
    ----------
    measured, weight:
        Pattern, shape ``(bin,)``, and 1/sigma, 0 where a bin does not count.
    goodness:
        Factor on the esds.
    """
    groups, beyond = _groups(model, x)
    if not groups or len(groups) + model.basis.shape[1] > np.count_nonzero(weight):
        return ()
    design = np.column_stack([*(g.pattern for g in groups), model.basis]) * weight[:, None]
    size = np.maximum(np.linalg.norm(design, axis=0), 1e-300)
    normal = np.linalg.pinv((design / size).T @ (design / size), hermitian=True)
    factor = normal @ ((design / size).T @ ((measured - beyond) * weight)) / size
    esd = np.sqrt(np.maximum(np.diag(normal), 0.0)) / size * goodness
    return tuple(
        Ring(
            phase=g.strongest[1],
            hkl=g.strongest[2],
            two_theta_deg=g.strongest[3],
            measured=float(factor[i] * g.area),
            calculated=g.area,
            esd=float(esd[i] * g.area),
        )
        for i, g in enumerate(groups)
    )


def _groups(model: Model, x: FloatArray) -> tuple[list[_Group], FloatArray]:
    """Return the rings in the range by angle, and the pattern of what lies beyond it."""
    profile = model.setting(x).profile
    lines = sorted(_reflections(model, x), key=lambda entry: entry[0])
    groups: list[_Group] = []
    beyond = np.zeros(len(model.edges_deg) - 1)
    for position, p, hkl, centres, areas in lines:
        extra = model.sample_width(x, p, centres)
        pattern = bin_means(model.edges_deg, centres, areas, profile, extra)
        if not model.edges_deg[0] < position < model.edges_deg[-1]:
            beyond += pattern
            continue
        gauss, lorentz = floored_widths(profile, centres[:1])
        fwhm = float(tch(gauss, lorentz + extra[:1])[0][0])
        area = float(areas.sum())
        own = (area, model.lines[p].phase.name, hkl, position)
        if groups and position - groups[-1].last_deg < _ONE_RING_FWHM * fwhm:
            group = groups[-1]
            group.strongest, group.last_deg = max(group.strongest, own), position
            group.area += area
            group.pattern = group.pattern + pattern
        else:
            groups.append(_Group(own, position, area, pattern))
    return [g for g in groups if g.area > 0], beyond


def _reflections(
    model: Model, x: FloatArray
) -> list[tuple[float, int, tuple[int, int, int], FloatArray, FloatArray]]:
    """Return position, phase, hkl, and the emission lines' positions and areas of every reflection."""
    found = []
    for p, scale in enumerate(model.scales(x)):
        centres, areas, index = model.line_list(x, p)
        for reflection in np.unique(index):
            mine = index == reflection
            h, k, l = (int(i) for i in model.lines[p].hkl[reflection])  # noqa: E741
            found.append((float(centres[mine][0]), p, (h, k, l), centres[mine], scale * areas[mine]))
    return found
