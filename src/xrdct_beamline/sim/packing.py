"""Where the particles of an electrode lie, and what outline they have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numba import njit

from xrdct_beamline.domain.errors import ConfigurationError

__all__ = ["Disc", "Particle", "pack_particles", "sample_radii"]

FloatArray = npt.NDArray[np.float64]

#: Places tried for each particle before it is left out.
_TRIES = 3000

#: Gap between neighbours, as a share of the median radius: what binder and pores take.
_GAP = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Particle:
    """One spinel particle of the slice.

    Parameters
    ----------
    x_mm, y_mm, radius_mm:
        Centre, and radius of the circle around it.
    harmonics:
        ``(order, amplitude, phase)`` of the outline's dents: it lies at
        ``radius · (1 − Σ amplitude · (1 + cos(order · φ − phase)) / 2)``.
    kind:
        "ordinary", or "Li-rich" (Particle 1) or "bulk" (Particle 2) of the published electrode.
    """

    x_mm: float
    y_mm: float
    radius_mm: float
    harmonics: tuple[tuple[int, float, float], ...] = ()
    kind: str = "ordinary"

    def outline_mm(self, azimuth_rad: FloatArray) -> FloatArray:
        """Return the distance of the outline from the centre at each azimuth."""
        dent = np.zeros_like(azimuth_rad)
        for order, amplitude, phase in self.harmonics:
            dent += 0.5 * amplitude * (1.0 + np.cos(order * azimuth_rad - phase))
        return self.radius_mm * (1.0 - dent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disc:
    """The punched electrode in its chamber; the rotation axis is the origin.

    A segment is missing from its edge (a chip of the punch), so that no rotation or mirror image
    of the slice can be taken for the slice itself.
    """

    radius_mm: float = 0.5
    x_mm: float = 0.02
    y_mm: float = -0.03
    chip_azimuth_deg: float = 35.0
    chip_depth_mm: float = 0.10

    def margin_mm(self, x_mm: FloatArray, y_mm: FloatArray) -> FloatArray:
        """Return how far inside of the disc each point lies; negative outside."""
        dx, dy = x_mm - self.x_mm, y_mm - self.y_mm
        azimuth = math.radians(self.chip_azimuth_deg)
        to_chip = self.radius_mm - self.chip_depth_mm - (dx * math.cos(azimuth) + dy * math.sin(azimuth))
        return np.minimum(self.radius_mm - np.hypot(dx, dy), to_chip)

    def as_array(self) -> FloatArray:
        """Return (x, y, radius, chip direction x and y, distance of the chip's edge from the origin)."""
        azimuth = math.radians(self.chip_azimuth_deg)
        along = self.x_mm * math.cos(azimuth) + self.y_mm * math.sin(azimuth)
        edge = self.radius_mm - self.chip_depth_mm + along
        return np.array([self.x_mm, self.y_mm, self.radius_mm, math.cos(azimuth), math.sin(azimuth), edge])


def sample_radii(
    rng: np.random.Generator, *, median_mm: float, spread: float, area_mm2: float
) -> list[float]:
    """Return log-normal radii, largest first, whose circles have the given area in all."""
    radii: list[float] = []
    remaining = area_mm2
    while remaining > 0:
        radius = median_mm * float(np.clip(np.exp(rng.normal(0.0, spread)), 0.3, 2.0))
        radii.append(radius)
        remaining -= math.pi * radius**2
    return sorted(radii, reverse=True)


def pack_particles(
    rng: np.random.Generator,
    disc: Disc,
    *,
    median_mm: float,
    spread: float,
    area_fraction: float,
    interest_mm: float | None = None,
) -> tuple[Particle, ...]:
    """Place the two particles of interest, then the others, largest first, without overlap.

    The first particle has the radius ``interest_mm``, by default 1.4 times the median.

    Raises
    ------
    ConfigurationError
        If a particle is larger than a quarter of the disc.
    """
    if not 0 < median_mm <= disc.radius_mm / 4:
        raise ConfigurationError(
            f"median particle radius is {median_mm:g} mm; in a disc of radius {disc.radius_mm:g} mm "
            f"it must be above 0 and at most {disc.radius_mm / 4:g} mm"
        )
    first = _particles_of_interest(rng, disc, 1.4 * median_mm if interest_mm is None else interest_mm)
    radii = sample_radii(
        rng, median_mm=median_mm, spread=spread, area_mm2=area_fraction * math.pi * disc.radius_mm**2
    )
    placed = _place(
        rng,
        np.array([(p.x_mm, p.y_mm, p.radius_mm) for p in first]),
        np.array(radii),
        disc.as_array(),
        _GAP * median_mm,
        _TRIES,
    )
    others = [
        Particle(x_mm=float(x), y_mm=float(y), radius_mm=float(r), harmonics=_dents(rng))
        for x, y, r in placed[len(first) :]
    ]
    return (*first, *others)


def _particles_of_interest(
    rng: np.random.Generator, disc: Disc, radius_mm: float
) -> tuple[Particle, Particle]:
    """Particle 1 and Particle 2, both within the 0.35 mm region that a fine scan covers."""
    scale = disc.radius_mm / 0.5
    first = Particle(
        x_mm=0.095 * scale, y_mm=0.065 * scale, radius_mm=radius_mm, harmonics=_dents(rng), kind="Li-rich"
    )
    second = Particle(
        x_mm=-0.085 * scale,
        y_mm=-0.070 * scale,
        radius_mm=0.9 * radius_mm,
        harmonics=_dents(rng),
        kind="bulk",
    )
    return first, second


def _dents(rng: np.random.Generator) -> tuple[tuple[int, float, float], ...]:
    return tuple(
        (order, float(rng.uniform(0.0, 0.20 / order)), float(rng.uniform(0.0, 2.0 * math.pi)))
        for order in (2, 3, 4, 5)
    )


@njit(cache=True, nogil=True)
def _place(
    rng: np.random.Generator,
    fixed: FloatArray,
    radii: FloatArray,
    disc: FloatArray,
    gap_mm: float,
    tries: int,
) -> FloatArray:
    """Place circles one after the other at random, by a grid of the circles that are there.

    ``fixed`` has rows (x, y, radius); ``disc`` is (x, y, radius, chip x, chip y, chip distance).
    Returns rows (x, y, radius), the fixed ones first; circles without a place are left out.
    """
    placed = np.empty((len(fixed) + len(radii), 3))
    placed[: len(fixed)] = fixed
    cell = 2.0 * max(fixed[:, 2].max(), radii.max()) + gap_mm
    cells = int(np.ceil(2.0 * disc[2] / cell)) + 2
    head, following = np.full((cells, cells), -1), np.full(len(placed), -1)
    n = 0
    for k in range(len(placed)):
        radius = fixed[k, 2] if k < len(fixed) else radii[k - len(fixed)]
        for _ in range(tries):
            distance, azimuth = disc[2] * math.sqrt(rng.random()), 2.0 * math.pi * rng.random()
            x, y = disc[0] + distance * math.cos(azimuth), disc[1] + distance * math.sin(azimuth)
            if k < len(fixed):
                x, y = fixed[k, 0], fixed[k, 1]
            elif distance + radius > disc[2] or x * disc[3] + y * disc[4] + radius > disc[5]:
                continue
            row, column = int((y - disc[1] + disc[2]) / cell) + 1, int((x - disc[0] + disc[2]) / cell) + 1
            if k >= len(fixed) and _overlaps(x, y, radius + gap_mm, row, column, placed, head, following):
                continue
            placed[n] = x, y, radius
            following[n], head[row, column] = head[row, column], n
            n += 1
            break
    return placed[:n]


@njit(cache=True, nogil=True)
def _overlaps(x, y, reach, row, column, placed, head, following):  # type: ignore[no-untyped-def]
    for i in range(max(row - 1, 0), min(row + 2, head.shape[0])):
        for j in range(max(column - 1, 0), min(column + 2, head.shape[1])):
            other = head[i, j]
            while other >= 0:
                apart = reach + placed[other, 2]
                if (x - placed[other, 0]) ** 2 + (y - placed[other, 1]) ** 2 < apart * apart:
                    return True
                other = following[other]
    return False
