"""Figures 2 to 6 of the paper, from recovered maps, beside the truth."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from xrdct_beamline.processing.histograms import EDGES_A, NON_CHARACTERISTIC_A, lattice_histogram

from .assess import PARTICLES
from .run import Experiment, Pause

__all__ = ["draw"]

FloatArray = npt.NDArray[np.float64]

_RANGE_A = (8.05, 8.25)
_COLOURS = {"spinel": "#4477aa", "LiMnO2": "#cc6677", "Li2MnO3": "#ddaa33"}
_LABELS = {"spinel": "LiMn$_2$O$_4$", "LiMnO2": "LiMnO$_2$", "Li2MnO3": "Li$_2$MnO$_3$"}
_PINK = "#f4b6c2"


def draw(experiment: Experiment, folder: Path) -> list[Path]:
    """Write what can be drawn of an experiment; return the files."""
    mpl.use("Agg")
    plt.rcParams.update({"font.size": 8, "axes.linewidth": 0.6, "image.interpolation": "nearest"})
    figures: dict[str, Figure] = {}
    if experiment.pauses:
        figures["figure-2"] = _slices(experiment.pauses)
        figures["figure-3"] = _particles(experiment.pauses)
        figures["figure-4"] = _depth_profiles(experiment.pauses)
        figures["figure-5"] = _shells(experiment.pauses)
    if experiment.degraded is not None:
        figures["figure-6"] = _degraded(experiment)
    if len(experiment.flux) > 1:
        figures["flux"] = _flux(experiment)
    written = []
    for name, figure in figures.items():
        path = folder / f"finegan2020-{name}.png"
        figure.savefig(path, dpi=90, pil_kwargs={"optimize": True})
        plt.close(figure)
        written.append(path)
    return written


def _lit(pause: Pause) -> npt.NDArray[np.bool_]:
    return np.asarray(pause.labels > 0)


def _show(axes: Axes, values: FloatArray, where: npt.NDArray[np.bool_]) -> AxesImage:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("0.15")
    colours = mpl.colormaps["turbo"].resampled(64)
    return axes.imshow(np.where(where, values, np.nan), cmap=colours, vmin=_RANGE_A[0], vmax=_RANGE_A[1])


def _histogram(axes: Axes, values: FloatArray, planted: FloatArray, title: str) -> None:
    axes.axvspan(*NON_CHARACTERISTIC_A, color=_PINK, alpha=0.6, lw=0)
    found, truth = lattice_histogram(values), lattice_histogram(planted)
    axes.stairs(found.counts / max(found.n_voxels, 1), EDGES_A, fill=True, color="#4477aa")
    axes.stairs(truth.counts / max(truth.n_voxels, 1), EDGES_A, color="k", lw=0.8)
    axes.set_xlim(8.03, 8.27)
    axes.set_yticks([])
    axes.set_title(title, fontsize=7)


def _slices(pauses: list[Pause]) -> Figure:
    n = len(pauses)
    figure, axes = plt.subplots(3, n, figsize=(1.9 * n + 0.8, 5.6), squeeze=False, layout="constrained")
    for column, pause in enumerate(pauses):
        lit = _lit(pause)
        image = _show(axes[0, column], pause.a_A, lit)
        _show(axes[1, column], pause.truth.a_A, np.isfinite(pause.a_A) & (pause.truth.spinel > 0.45))
        axes[0, column].set_title(f"XRD-CT {pause.number}, x = {pause.lithium:.2f}")
        inside = np.isfinite(pause.a_A)
        _histogram(axes[2, column], pause.a_A[lit], pause.truth.a_A[inside & (pause.truth.spinel > 0.45)], "")
        axes[2, column].set_xlabel("a, Å")
    axes[0, 0].set_ylabel("recovered")
    axes[1, 0].set_ylabel("planted")
    axes[2, 0].set_ylabel("recovered; planted: line")
    figure.colorbar(image, ax=axes[:2, :], label="a, Å", shrink=0.7)
    return figure


def _particles(pauses: list[Pause]) -> Figure:
    n = len(pauses)
    figure, axes = plt.subplots(4, n, figsize=(1.7 * n + 0.8, 6.4), squeeze=False, layout="constrained")
    for row, number in enumerate(PARTICLES):
        for column, pause in enumerate(pauses):
            where = pause.regions // 10 == number
            planted = pause.truth.label == number
            crop = _crop(planted)
            image = _show(axes[2 * row, column], pause.a_A[crop], where[crop])
            _histogram(axes[2 * row + 1, column], pause.a_A[where], pause.truth.a_A[planted], "")
            axes[2 * row, column].set_title(f"XRD-CT {pause.number}")
        axes[2 * row, 0].set_ylabel(PARTICLES[number])
        axes[2 * row + 1, 0].set_ylabel("voxels")
    figure.colorbar(image, ax=axes[:, :], label="a, Å", shrink=0.5)
    return figure


def _crop(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = np.nonzero(mask)
    pad = 3
    return (
        slice(max(rows.min() - pad, 0), rows.max() + pad + 1),
        slice(max(columns.min() - pad, 0), columns.max() + pad + 1),
    )


def _depth_profiles(pauses: list[Pause]) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.4), sharey=True, layout="constrained")
    colours = mpl.colormaps["viridis"](np.linspace(0, 0.9, len(pauses)))
    for ax, number in zip(axes, PARTICLES, strict=True):
        for pause, colour in zip(pauses, colours, strict=True):
            own = pause.truth.label == number
            depth = 1e3 * pause.truth.depth_mm[own]
            order = np.argsort(depth)
            ax.plot(depth[order], pause.truth.a_A[own][order], "-", color=colour, lw=0.8)
            x, y, e = _binned(depth, pause.a_A[own])
            ax.errorbar(x, y, e, fmt="o", ms=3, lw=0.8, color=colour, label=f"XRD-CT {pause.number}")
        ax.axhspan(*NON_CHARACTERISTIC_A, color=_PINK, alpha=0.5, lw=0)
        ax.set_title(PARTICLES[number])
        ax.set_xlabel("depth below the surface, µm")
    axes[0].set_ylabel("a, Å (planted: lines)")
    axes[0].legend(fontsize=6, frameon=False)
    return figure


def _binned(depth_um: FloatArray, a_A: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean depth, mean and standard error of the lattice parameter in steps of a micrometre."""
    x, y, e = [], [], []
    for low in np.arange(0.0, depth_um.max(), 1.0):
        values = a_A[(depth_um >= low) & (depth_um < low + 1.0) & np.isfinite(a_A)]
        if values.size > 2:
            x.append(low + 0.5)
            y.append(values.mean())
            e.append(values.std() / np.sqrt(values.size))
    return np.array(x), np.array(y), np.array(e)


def _shells(pauses: list[Pause]) -> Figure:
    n = len(pauses)
    figure, axes = plt.subplots(2, n, figsize=(1.7 * n + 0.8, 4.2), squeeze=False, sharey="row")
    figure.set_layout_engine("constrained")
    for row, name in enumerate(PARTICLES.values()):
        for column, pause in enumerate(pauses):
            ax = axes[row, column]
            own = [shell for shell in pause.shells if shell.particle == name]
            place = np.arange(len(own))
            for k, phase in enumerate(("LiMnO2", "Li2MnO3")):
                x = place + 0.4 * (k - 0.5)
                found = [s.found[phase] for s in own]
                ax.bar(
                    x, found, 0.36, yerr=[2 * s.esd[phase] for s in own], color=_COLOURS[phase],
                    error_kw={"lw": 0.8}, label=_LABELS[phase],
                )  # fmt: skip
                ax.plot(x, [s.planted[phase] for s in own], "k_", ms=8)
            ax.set_xticks(place, [f"{s.depth_um:.1f}" for s in own])
            ax.set_title(f"XRD-CT {pause.number}")
        axes[row, 0].set_ylabel(f"{name}, wt %")
    axes[0, 0].legend(fontsize=6, frameon=False)
    figure.supxlabel("depth of the shell, µm; bars with 2 esd; planted: dashes", fontsize=8)
    return figure


def _degraded(experiment: Experiment) -> Figure:
    degraded = experiment.degraded
    figure, axes = plt.subplots(1, 4, figsize=(11, 3.0), layout="constrained")
    if degraded is None:
        return figure
    lit = degraded.truth.spinel > 0.45
    image = _show(axes[0], degraded.a_A, degraded.classes > 0)
    axes[0].set_title("recovered")
    _show(axes[1], degraded.truth.a_A, np.isfinite(degraded.a_A) & lit)
    axes[1].set_title("planted")
    figure.colorbar(image, ax=axes[:2], label="a, Å", shrink=0.8)
    _histogram(
        axes[2], degraded.a_A[degraded.classes > 0], degraded.truth.a_A[degraded.truth.spinel > 0.45], ""
    )
    axes[2].set_xlabel("a, Å")
    for limit in degraded.limits_A:
        axes[2].axvline(limit, color="0.4", lw=0.7, ls=":")
    place = np.arange(len(degraded.labels))
    for k, phase in enumerate(_COLOURS):
        x = place + 0.28 * (k - 1)
        axes[3].bar(
            x, [f[phase] for f in degraded.found], 0.26, yerr=[2 * e[phase] for e in degraded.esd],
            color=_COLOURS[phase], label=_LABELS[phase],
        )  # fmt: skip
        axes[3].plot(x, [p[phase] for p in degraded.planted], "k_", ms=9)
    axes[3].set_xticks(place, [("low a", "middle", "high a")[n - 1] for n in degraded.labels])
    axes[3].set_ylabel("wt %; planted: dashes")
    axes[3].set_yscale("log")
    axes[3].legend(fontsize=6, frameon=False)
    return figure


def _flux(experiment: Experiment) -> Figure:
    figure, ax = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    flux = [p.photons_s for p in experiment.flux]
    ax.loglog(flux, [1e3 * p.errors.rms_A for p in experiment.flux], "o-", label="rms error")
    ax.loglog(flux, [1e3 * p.errors.median_A for p in experiment.flux], "s-", label="median error")
    ax.loglog(flux, [1e3 * p.noise_rms_A for p in experiment.flux], "^-", label="rms scatter from counting")
    ax.loglog(flux, [1e3 * p.errors.bound_A for p in experiment.flux], "k--", label="Cramér-Rao bound")
    ax.axvline(2e11, color="0.6", lw=0.8, ls=":")
    ax.set_xlabel("photons per s on the sample, 10 ms")
    ax.set_ylabel("lattice parameter, mÅ")
    ax.legend(frameon=False)
    return figure
