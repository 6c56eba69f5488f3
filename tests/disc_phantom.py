"""An electrode of discs whose rays are chords in closed form: no code in common with what is tested."""

from functools import cache
from types import SimpleNamespace

import numpy as np

from xrdct_beamline.domain.scan import ScanGeometry

PEAK_A = np.arange(8.06, 8.20, 0.008)  # channels across one reflection, as lattice parameters
INSIDE_A, OUTSIDE_A, WIDTH_A = 8.12, 8.14, 0.008


def chords(discs, per_mm, rotation_deg, t_mm):
    """Line integrals ``(rotation, translation, channel)`` of discs (x, y, radius) in mm."""
    kinds, kind = np.unique(per_mm, axis=0, return_inverse=True)
    of_kind = np.eye(len(kinds))[kind.ravel()]  # few kinds of discs, many channels
    out = np.empty((len(rotation_deg), len(t_mm), per_mm.shape[1]), np.float32)
    for line, angle in zip(out, np.radians(rotation_deg), strict=True):
        distance = t_mm[:, None] - (discs[:, 0] * np.cos(angle) + discs[:, 1] * np.sin(angle))
        line[...] = 2 * np.sqrt(np.maximum(discs[:, 2] ** 2 - distance**2, 0)) @ of_kind @ kinds
    return out


def packed(rng, n, *, within_mm, median_mm):
    """Discs that do not overlap, the largest placed first."""
    radii = np.sort(median_mm * np.exp(0.4 * rng.normal(size=n)).clip(0.4, 2.5))[::-1]
    discs = np.zeros((0, 3))
    for radius in radii:
        for _ in range(300):
            rho, phi = (within_mm - radius) * np.sqrt(rng.random()), 2 * np.pi * rng.random()
            x, y = rho * np.cos(phi), rho * np.sin(phi)
            if (np.hypot(discs[:, 0] - x, discs[:, 1] - y) > discs[:, 2] + radius).all():
                discs = np.vstack([discs, [x, y, radius]])
                break
    return discs


@cache
def cell(n_particles, median_mm, holder_mm, *, peaks):
    """A 1 mm electrode in a 1.2 mm chamber in a holder; channel 0 is spinel, channel 1 the holder.

    With ``peaks``, further channels are a reflection whose lattice parameter differs inside.
    """
    particles = packed(np.random.default_rng(4), n_particles, within_mm=0.5, median_mm=median_mm)
    discs = np.vstack([particles, [[0, 0, holder_mm], [0.02, -0.01, 0.6]]])
    per_mm = np.zeros((len(discs), 2 + peaks * PEAK_A.size))
    per_mm[:-2, 0] = 1.0
    per_mm[-2:, 1] = [1.0, -1.0]
    if peaks:
        a = np.where(np.hypot(particles[:, 0], particles[:, 1]) < 0.19, INSIDE_A, OUTSIDE_A)
        per_mm[:-2, 2:] = np.exp(-((PEAK_A - a[:, None]) ** 2) / (2 * WIDTH_A**2))
    return particles, discs, per_mm


def measured(sample, n, step_mm, n_rotations, shift_mm=0.0):
    _, discs, per_mm = sample
    geometry = ScanGeometry.raster(n, step_mm, n_rotations)
    t_mm = np.asarray(geometry.translation_mm) + shift_mm
    rays = chords(discs, per_mm, geometry.rotation_deg, t_mm)
    return SimpleNamespace(geometry=geometry, axis_px=(n - 1) / 2, sinogram=rays)
