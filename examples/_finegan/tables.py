"""Tables of an experiment: as text for people, as JSON for tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .assess import PARTICLES, VoxelErrors
from .run import Experiment, FluxPoint, Pause

__all__ = ["as_json", "as_markdown"]


def as_json(experiment: Experiment) -> dict[str, Any]:
    """Return everything that was found, without the maps."""
    return {
        "seed": experiment.seed,
        "photons_per_exposure": experiment.plan.photons,
        "profile_rwp": experiment.instrument.rwp,
        "zero_deg": experiment.instrument.zero_deg,
        "pauses": [_pause(p) for p in experiment.pauses],
        "flux": [_flux_point(p) for p in experiment.flux],
        "systematic": [row.row() for row in experiment.systematic],
        "degraded": None if experiment.degraded is None else experiment.degraded.row(),
    }


def _flux_point(point: FluxPoint) -> dict[str, float]:
    own = {"photons_s": point.photons_s, "noise_rms_A": point.noise_rms_A, "noise_ratio": point.noise_ratio}
    return {**own, **point.errors.row()}


def _pause(pause: Pause) -> dict[str, Any]:
    return {
        "number": pause.number,
        "lithium": pause.lithium,
        "single_phase": pause.single.row(),
        "two_phase": pause.double.row(),
        "shells": [row.row() for row in pause.shells],
        "gradients": {
            PARTICLES[k]: {
                "slope_A_per_um": g.slope,
                "slope_esd": g.slope_esd,
                "planted": planted,
                "chance_of_constant": g.chance_of_constant,
            }
            for k, (g, planted) in pause.gradients.items()
        },
        "statuses": pause.statuses,
        "verdicts": list(pause.verdicts),
        "seconds": pause.seconds,
    }


def as_markdown(experiment: Experiment) -> str:
    """Return the tables."""
    lines = [*_voxel_table(experiment), "", *_shell_table(experiment), "", *_gradient_table(experiment)]
    if experiment.flux:
        lines += ["", *_flux_table(experiment)]
    if experiment.degraded is not None:
        lines += ["", *_degraded_table(experiment)]
    if experiment.systematic:
        lines += ["", *_systematic_table(experiment)]
    return "\n".join(lines) + "\n"


def _error_cells(errors: VoxelErrors) -> str:
    if not errors.n:
        return "0 | | | | | "
    return (
        f"{errors.n} | {1e3 * errors.median_A:.2f} | {1e3 * errors.p95_A:.2f} | {1e3 * errors.bias_A:+.2f} | "
        f"{1e3 * errors.bound_A:.2f} | {errors.ratio:.2f}"
    )


def _voxel_table(experiment: Experiment) -> Iterator[str]:
    yield "Lattice parameters of well-lit voxels, in mÅ: error against the planted mean of the voxel.\n"
    yield "| pause | x | voxels with | n | median | 95 % | mean | Cramér-Rao, rms | rms error / bound |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for pause in experiment.pauses:
        for name, errors in (("one spinel", pause.single), ("two spinels", pause.double)):
            if errors.n:
                yield f"| {pause.number} | {pause.lithium:.2f} | {name} | {_error_cells(errors)} |"


def _shell_table(experiment: Experiment) -> Iterator[str]:
    yield "Depth shells: weight percent found (esd) / planted; the last column is the largest error over"
    yield "max(0.5 wt %, 2 esd).\n"
    yield (
        "| pause | particle | shell | depth, µm | counts in 111 | LiMnO2 | Li2MnO3 | a found (esd), Å | "
        "a planted | error |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for pause in experiment.pauses:
        for row in pause.shells:
            phases = " | ".join(
                f"{row.found[p]:.2f} ({row.esd[p]:.2f}) / {row.planted[p]:.2f}" for p in ("LiMnO2", "Li2MnO3")
            )
            excess = max(row.excess(p) for p in ("spinel", "LiMnO2", "Li2MnO3"))
            yield (
                f"| {pause.number} | {row.particle[-1]} | {row.shell} | {row.depth_um:.1f} | "
                f"{row.net_counts:.1e} | {phases} | {row.a_A:.5f} ({row.a_esd_A:.5f}) | "
                f"{row.a_planted_A:.5f} | {excess:.2f} |"
            )


def _gradient_table(experiment: Experiment) -> Iterator[str]:
    yield "Gradient of the lattice parameter over depth, mÅ/µm, from the shells.\n"
    yield "| pause | particle | found | esd | planted | chance that it is flat |"
    yield "|---|---|---|---|---|---|"
    for pause in experiment.pauses:
        for k, (found, planted) in pause.gradients.items():
            yield (
                f"| {pause.number} | {PARTICLES[k][-1]} | {1e3 * found.slope:+.3f} | "
                f"{1e3 * found.slope_esd:.3f} | {1e3 * planted:+.3f} | {found.chance_of_constant:.2g} |"
            )


def _flux_table(experiment: Experiment) -> Iterator[str]:
    yield "Error against flux, mÅ; scatter is the part that counting makes.\n"
    yield (
        "| photons/s | n | median | 95 % | mean | Cramér-Rao, rms | rms error / bound | scatter, rms | "
        "scatter / bound |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for point in experiment.flux:
        scatter = f"{1e3 * point.noise_rms_A:.3f} | {point.noise_ratio:.2f}"
        yield f"| {point.photons_s:.0e} | {_error_cells(point.errors)} | {scatter} |"


def _degraded_table(experiment: Experiment) -> Iterator[str]:
    degraded = experiment.degraded
    if degraded is None:
        return
    yield "After 150 cycles: weight percent found (esd) / planted, by lattice parameter.\n"
    yield "| part | mean a, Å | spinel | LiMnO2 | Li2MnO3 |"
    yield "|---|---|---|---|---|"
    names = ("low", "middle", "high")
    for i, label in enumerate(degraded.labels):
        phases = " | ".join(
            f"{degraded.found[i][p]:.2f} ({degraded.esd[i][p]:.2f}) / {degraded.planted[i][p]:.2f}"
            for p in ("spinel", "LiMnO2", "Li2MnO3")
        )
        yield f"| {names[label - 1]} | {degraded.mean_a_A[i]:.4f} | {phases} |"


def _systematic_table(experiment: Experiment) -> Iterator[str]:
    yield "Systematic errors where the sample differs from the structures assumed, without noise: wt %, mÅ.\n"
    yield "| sample | composition | LiMnO2 | Li2MnO3 | a |"
    yield "|---|---|---|---|---|"
    for row in experiment.systematic:
        errors = f"{row.LiMnO2:+.2f} | {row.Li2MnO3:+.2f} | {row.a_mA:+.3f}"
        yield f"| {row.variant} | {row.composition} | {errors} |"
