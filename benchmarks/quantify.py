"""Mass fractions in depth shells: what bleeds between shells, what unmixing mends and what it costs.

    python benchmarks/quantify.py [--radius PX] [--beam PX] [--counts N] [--trials N]

A round particle of four phases in shells of equal depth is projected in closed form, with rays averaged over
the beam, reconstructed and refined with and without unmixing. Bias is that
of a fit without noise, against what is at the pixels of each shell; scatter that of Poisson trials.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.processing.particles import depth_shells
from xrdct_beamline.processing.peak_profile import Profile
from xrdct_beamline.processing.quantify import Quantified, mass_fractions
from xrdct_beamline.processing.refinement import PatternModel
from xrdct_beamline.processing.regions import blur_fwhm_px, region_patterns

Array = npt.NDArray[np.float64]

WAVELENGTH_A = 0.248
NAMES = ("LiMn2O4", "LiMnO2", "Li2MnO3")
#: From the surface to the core, as the paper's first particle has them, and a gradient of 10 mÅ a shell.
WEIGHTS = np.array([[0.90, 0.06, 0.04], [0.92, 0.05, 0.03], [0.96, 0.04, 0.0], [0.97, 0.03, 0.0]])
A_A = np.array([8.190, 8.200, 8.210, 8.220])
#: Counts under everything, as a share of the 111 crest.
BACKGROUND = 0.05


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--radius", type=float, default=12.0, help="of the particle, in translation steps")
    parser.add_argument("--beam", type=float, default=1.0, help="FWHM of the beam, in steps")
    parser.add_argument("--counts", type=float, default=3000.0, help="at the crest of 111, in the best ray")
    parser.add_argument("--trials", type=int, default=40)
    options = parser.parse_args(arguments)
    model = PatternModel(
        [Phase.shipped(name) for name in NAMES],
        np.linspace(2.5, 13.5, 600),
        WAVELENGTH_A,
        profile=Profile(w=4e-4, x=0.002),
        background=4,
        cell_limits={"LiMn2O4": (8.1, 8.26), "LiMnO2": (4.11, 4.15)},
        free_width=True,
        width_limit_deg=0.3,
    )
    sinogram, labels, angles, axis_px = scan(model, options.radius, options.beam)
    truth = held_by_pixels(labels, options.radius)
    sinogram = sinogram * options.counts / sinogram.max() + BACKGROUND * options.counts
    setting = {"labels": labels, "rotation_deg": angles, "axis_px": axis_px, "sigma": np.sqrt(sinogram)}
    print(f"radius {options.radius:g} px, beam {options.beam:g} px; shells from surface to core")
    for how, blur_px in (("as reconstructed", None), ("unmixed", blur_fwhm_px(options.beam))):
        exact, counts = quantified(sinogram, model, blur_px, setting)
        print(f"\n{how}: counts in 111 that each shell is worth {np.round(counts, -2)}")
        tell_bias(exact, *truth)
        tell_scatter(sinogram, model, blur_px, setting, options.trials, truth[0])


def scan(model: PatternModel, radius_px: float, beam_px: float) -> tuple[Array, Any, Array, float]:
    """Return sinogram ``(rotation, translation, bin)`` and shells of a particle beside the axis."""
    n = 2 * int(1.3 * radius_px + 8) + 1
    axis_px = (n - 1) / 2
    angles = np.arange(n) * 180.0 / n
    x, y = centre_of(radius_px)
    centre = x * np.cos(np.radians(angles)) + y * np.sin(np.radians(angles))
    offsets = ndtri((np.arange(60) + 0.5) / 60) * beam_px / 2.3548 if beam_px else np.zeros(1)
    radii = radius_px * np.array([1.0, 0.75, 0.5, 0.25, 0.0])
    t = np.arange(n) - axis_px - centre[:, None]
    chords = np.array(
        [np.mean([2 * np.sqrt(np.maximum(r**2 - (t + o) ** 2, 0)) for o in offsets], axis=0) for r in radii]
    )
    patterns = np.array([shell_pattern(model, w, a) for w, a in zip(WEIGHTS, A_A, strict=True)])
    sinogram = np.einsum("krt,kb->rtb", chords[:-1] - chords[1:], patterns)
    rows, columns = np.indices((n, n))
    disc = np.hypot(columns - axis_px - x, axis_px - rows - y) <= radius_px
    return sinogram, depth_shells(disc.astype(np.int32), 4), angles, axis_px


def shell_pattern(model: PatternModel, weights: Array, a_A: float) -> Array:
    """Return the pattern of a mixture by mass fractions, after Hill and Howard."""
    phases = [phase.phase for phase in model.phases]
    phases[0] = phases[0].with_cell(a_A=a_A)
    scales = [w / (phase.cell_mass_g_mol * phase.volume_A3) for w, phase in zip(weights, phases, strict=True)]
    return model.pattern({NAMES[0]: a_A}, scales)


def quantified(
    sinogram: Array, model: PatternModel, blur_px: float | None, setting: dict[str, Any]
) -> tuple[Quantified, Array]:
    """Return the refined shells, and the counts in 111 without background that would tell as much."""
    patterns = region_patterns(sinogram, blur_px=blur_px, **setting)
    assert patterns.sigma is not None
    found = mass_fractions(patterns, model)
    counts = np.zeros(4)
    for k, a_A in enumerate(A_A):
        crest = 2 * np.degrees(np.arcsin(WAVELENGTH_A * np.sqrt(3) / 2 / a_A))
        near = np.abs(model.radial - crest) < 0.12
        unit = model.phase_pattern(model.phases[0], model.full_cell(NAMES[0], a_A), 0.0)[near]
        counts[k] = np.sum((found.maps.scale[NAMES[0]][k] * unit / patterns.sigma[k, near]) ** 2)
    return found, counts


def held_by_pixels(shells: npt.NDArray[np.int32], radius_px: float) -> tuple[Array, Array]:
    """Return mass fractions and lattice parameter at the pixel centres of each shell."""
    n, (x, y) = len(shells), centre_of(radius_px)
    rows, columns = np.indices((n, n))
    radius = np.hypot(columns - (n - 1) / 2 - x, (n - 1) / 2 - rows - y)
    ring = np.floor(4 * (1 - radius / radius_px))
    share = np.array([[np.mean(ring[shells == k] == j) for j in range(4)] for k in range(1, 5)])
    spinel = share * WEIGHTS[:, 0]
    return share @ WEIGHTS, spinel @ A_A / spinel.sum(axis=1)


def centre_of(radius_px: float) -> tuple[float, float]:
    """Return where the particle lies, from the axis."""
    return 0.25 * radius_px + 0.3, -0.2 * radius_px - 0.2


def tell_bias(exact: Quantified, weights: Array, a_A: Array) -> None:
    """Print the errors of a fit without noise."""
    for phase, name in enumerate(NAMES):
        percent, esd = exact.weight_percent(name)
        error = percent - 100 * weights[:, phase]
        print(f"  {name:8s} bias {line(error, 2)} wt%   esd {line(esd, 2)}")
    a_error = 1e3 * (exact.maps.a_A[NAMES[0]] - a_A)
    print(f"  a        bias {line(a_error, 2)} mÅ    esd {line(1e3 * exact.maps.a_esd_A[NAMES[0]], 2)}")


def tell_scatter(
    sinogram: Array,
    model: PatternModel,
    blur_px: float | None,
    setting: dict[str, Any],
    n_trials: int,
    weights: Array,
) -> None:
    """Print scatter over esd, and how many shells lie within max(0.5 wt%, 2 esd) of the truth."""
    rng = np.random.default_rng(1)
    found = [
        quantified(rng.poisson(sinogram).astype(float), model, blur_px, setting)[0] for _ in range(n_trials)
    ]
    for phase, name in enumerate(NAMES):
        percent = np.array([f.weight_percent(name)[0] for f in found])
        esd = np.array([f.weight_percent(name)[1] for f in found])
        within = np.abs(percent - 100 * weights[:, phase]) <= np.maximum(0.5, 2 * esd)
        ratio = percent.std(axis=0) / np.median(esd, axis=0)
        print(f"  {name:8s} scatter/esd {line(ratio, 2)}   within max(0.5 wt%, 2 esd): {within.mean():.0%}")


def line(values: Array, digits: int) -> str:
    """Return numbers of equal width."""
    return " ".join(f"{value:+7.{digits}f}" for value in values)


if __name__ == "__main__":
    main()
