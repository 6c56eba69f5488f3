"""Make the figures of docs/calibration.md from real patterns, and print the figures of its tables.

    python docs/make_calibration_figures.py PATH/TO/data

The folder holds ``ceo2_cdte2m`` (a Pilatus3 X CdTe 2M frame of CeO2, with PONI and mask) and
``cpd_round_robin`` (sample 1g of the IUCr round robin on quantitative phase analysis, and CIFs).
"""

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np

from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.processing.peak_profile import Profile
from xrdct_beamline.processing.whole_pattern import (
    COPPER_K_ALPHA,
    PatternFit,
    Radiation,
    Setting,
    fit_pattern,
)
from xrdct_beamline.services.calibrate import Calibration, CalibrationOptions, calibrate, table

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
WEIGHED = {"Al2O3": 31.37, "ZnO": 34.21, "CaF2": 34.42}
FREE = ("cell", "displacement_deg", "u", "v", "w", "axial", "size_deg", "strain_deg")


def main(data: Path) -> None:
    draw_ceo2(calibrations(data / "ceo2_cdte2m"))
    draw_round_robin(round_robin(data / "cpd_round_robin"))


def calibrations(folder: Path) -> Calibration:
    ways = {
        "zero fixed": CalibrationOptions(),
        "zero fixed, no sensor depth": CalibrationOptions(sensor_depth=False),
        "zero fixed, plain mean": CalibrationOptions(estimator="mean"),
        "zero fixed, 2.5 to 14°": CalibrationOptions(two_theta_range_deg=(2.5, 14.0)),
        "cell fixed": CalibrationOptions(free="zero"),
    }
    done = {}
    for name, options in ways.items():
        found = calibrate(
            folder / "CeO2.cbf",
            poni=folder / "CeO2.poni",
            mask=folder / "mask.edf",
            cif="CeO2",
            detector="Pilatus CdTe 2M",
            options=options,
        )
        fit, profile = found.fit, found.fit.setting.profile
        print(
            f"| {name} | {fit.phases[0].cell[0]:.5f} | {found.instrument.zero_deg:.4f} "
            f"| {profile.sensor_depth_deg:.3f} | {100 * fit.rwp:.1f} % | {100 * fit.ring_r:.1f} % |"
        )
        done[name] = found
    print(*table(done["zero fixed"]), sep="\n")
    return done["zero fixed"]


def round_robin(folder: Path) -> PatternFit:
    angle, counts = np.loadtxt(folder / "cpd-1g.prn", unpack=True)
    shipped = [Phase.shipped(name) for name in WEIGHED]
    given = [replace(Phase.from_cif(folder / f"{name}.cif"), name=name) for name in WEIGHED]
    ways = {
        "as above": {},
        "20 to 100°": {"low": 20.0, "high": 100.0},
        "20 background terms": {"background": 20},
        "no monochromator": {"monochromator_deg": 0.0},
        "zero instead of displacement": {"free": tuple(f.replace("displacement", "zero") for f in FREE)},
        "CIFs of the database": {"phases": given},
    }
    fits = {name: fit_sample(angle, counts, **{"phases": shipped, **way}) for name, way in ways.items()}
    for name, fit in fits.items():
        shares = " | ".join(
            f"{100 * fit.mass_fractions[p]:.2f} ± {100 * fit.mass_fraction_esds[p]:.2f}" for p in WEIGHED
        )
        print(f"| {name} | {shares} | {100 * fit.rwp:.1f} % | {fit.goodness_of_fit:.2f} |")
    first = fits["as above"]
    for name, value in first.values.items():
        print(f"{name:20s}{value:14.6g}{first.esds[name]:12.2g}")
    return first


def fit_sample(angle, counts, phases, low=15.0, high=150.0, background=12, monochromator_deg=26.6, free=FREE):
    used = (angle >= low) & (angle <= high)
    return fit_pattern(
        angle[used],
        counts[used],
        phases,
        Radiation(emission=COPPER_K_ALPHA, monochromator_deg=monochromator_deg),
        counts=True,
        free=free,
        start=Setting(profile=Profile(u=0.01, w=0.004, x=0.02, y=0.05, axial=0.03)),
        background=background,
    )


def draw_ceo2(found: Calibration) -> None:
    fit = found.fit
    figure, panels = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained", width_ratios=(2, 1, 1))
    draw_fit(panels[0], fit, "CeO2, 71 keV, 0.544 m")
    one = np.abs(fit.two_theta_deg - fit.rings[0].two_theta_deg) < 0.12
    panels[1].plot(fit.two_theta_deg[one], fit.measured[one], "k.", ms=4)
    panels[1].plot(fit.two_theta_deg[one], fit.calculated[one], "C3", lw=1)
    panels[1].set(title="111", xlabel="2θ / °")
    angles = [ring.two_theta_deg for ring in fit.rings]
    ratios = [ring.measured / ring.calculated for ring in fit.rings]
    esds = [ring.esd / ring.calculated for ring in fit.rings]
    panels[2].errorbar(angles, ratios, esds, fmt="ko", ms=3, lw=1)
    panels[2].axhline(1, color="C3", lw=1)
    panels[2].set(title=f"rings, R {100 * fit.ring_r:.1f} %", xlabel="2θ / °", ylabel="measured / |F|²")
    figure.savefig(HERE / "calibration-ceo2.png", dpi=110)


def draw_round_robin(fit: PatternFit) -> None:
    figure, panel = plt.subplots(figsize=(11, 3.4), layout="constrained")
    draw_fit(panel, fit, "CPD 1g, Cu Kα")
    for row, name in enumerate(WEIGHED):
        angles = [ring.two_theta_deg for ring in fit.rings if ring.phase == name]
        panel.plot(angles, np.full(len(angles), -0.3 - 0.2 * row) * 1e1, f"C{row}|", ms=6, label=name)
    panel.legend(ncols=3, loc="upper right", fontsize="small")
    figure.savefig(HERE / "calibration-round-robin.png", dpi=110)


def draw_fit(panel, fit: PatternFit, title: str) -> None:
    """Draw on a scale of square roots, in which counting errors are the same everywhere."""
    root = np.sqrt(np.maximum(fit.measured, 0)), np.sqrt(np.maximum(fit.calculated, 0))
    panel.plot(fit.two_theta_deg, root[0], "k.", ms=2)
    panel.plot(fit.two_theta_deg, root[1], "C3", lw=0.8)
    panel.plot(fit.two_theta_deg, root[0] - root[1] - 0.15 * root[0].max(), "0.5", lw=0.6)
    panel.set(title=f"{title}: Rwp {100 * fit.rwp:.1f} %", xlabel="2θ / °", ylabel="√intensity")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
