"""Calibrant frame to instrument file: what ``xrdct calibrate`` does."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..domain.detector import DetectorGeometry
from ..domain.errors import ConfigurationError, ProcessingError
from ..domain.instrument import LETTERS, Instrument
from ..domain.phases import Phase
from ..domain.results import Pattern
from ..processing.integration import Integrator
from ..processing.peak_profile import Profile
from ..processing.whole_pattern import PatternFit, Radiation, Setting, fit_pattern
from ..storage.raw import read_image

__all__ = ["FREE", "Calibration", "CalibrationOptions", "calibrate", "table"]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

#: What is free beside the profile: the cell, with the zero fixed at 0, or the zero, with the cell fixed.
FREE = {"profile": "cell", "zero": "zero_deg"}

_CELL = ("a_A", "b_A", "c_A", "alpha_deg", "beta_deg", "gamma_deg")

#: A profile R factor above which the fit is not one.
_HOPELESS_RWP = 0.4
_FEWEST_RINGS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationOptions:
    """How a calibrant is fitted.

    Parameters
    ----------
    free:
        ``profile``: lattice parameter free and zero 0; ``zero``: zero free and lattice parameter the CIF's.
    letters:
        Of the profile, to refine. x and z cannot be told apart at small angles, hence only z.
    sensor_depth:
        Whether the asymmetry of a thick sensor is refined.
    two_theta_range_deg:
        By default from 0.78 of the first reflection to where half of the detector's widest ring is left.
    bins, estimator:
        Of the integration; the estimator should be the one that the scans are processed with.
    background:
        Chebyshev terms.
    """

    free: str = "profile"
    letters: tuple[str, ...] = ("u", "v", "w", "y", "z")
    sensor_depth: bool = True
    two_theta_range_deg: tuple[float, float] | None = None
    bins: int = 2000
    estimator: str = "trimmed_mean"
    polarisation: float = 0.99
    background: int = 10

    def __post_init__(self) -> None:
        if self.free not in FREE:
            raise ConfigurationError(f"free is {self.free!r}; choose from {', '.join(FREE)}")
        unknown = [letter for letter in self.letters if letter not in LETTERS[:6]]
        if unknown or not self.letters:
            raise ConfigurationError(
                f"letters {self.letters} of the profile must be of {', '.join(LETTERS[:6])}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The instrument, the fit that it comes from, the pattern fitted, and what should be looked at."""

    instrument: Instrument
    fit: PatternFit
    pattern: Pattern
    remarks: tuple[str, ...]


def calibrate(
    frame: str | Path,
    *,
    poni: str | Path,
    cif: str | Path,
    mask: str | Path | None = None,
    detector: str | None = None,
    options: CalibrationOptions | None = None,
) -> Calibration:
    """Integrate the frame of a calibrant and refine the instrument from it.

    Parameters
    ----------
    cif:
        A file, or the name of a shipped structure.

    Raises
    ------
    ConfigurationError, DataError, ProcessingError
        If something cannot be used, or the calibrant's rings are not where the PONI puts them.
    """
    chosen = options or CalibrationOptions()
    phase = Phase.from_cif(cif) if Path(cif).suffix else Phase.shipped(str(cif))
    geometry = DetectorGeometry.from_poni(poni, mask, detector)
    image = read_image(Path(frame))
    integrator = Integrator(
        geometry, bins=chosen.bins, estimator=chosen.estimator, polarisation=chosen.polarisation
    )
    pattern = integrator(image)
    used = _range(pattern, phase, geometry.wavelength_A, chosen.two_theta_range_deg)
    fit = _fit(pattern, used, phase, geometry.wavelength_A, chosen)
    _refuse_misfit(fit, phase)
    instrument = Instrument(
        wavelength_A=geometry.wavelength_A,
        profile={letter: float(getattr(fit.setting.profile, letter)) for letter in LETTERS},
        zero_deg=fit.setting.zero_deg,
        two_theta_range_deg=(float(fit.two_theta_deg[0]), float(fit.two_theta_deg[-1])),
        esds={n: e for n, e in fit.esds.items() if n in (*LETTERS, "zero_deg") and np.isfinite(e)},
        provenance=_provenance(frame, poni, mask, detector, phase, fit, chosen),
    )
    remarks = (*(f"{phase.name}: {text}" for text in phase.assumptions), *_remarks(fit, phase, chosen))
    return Calibration(instrument=instrument, fit=fit, pattern=pattern, remarks=remarks)


def table(calibration: Calibration) -> list[str]:
    """Return the lines of a small table: what was refined with its esd, what was fixed, how well it fits."""
    fit, instrument = calibration.fit, calibration.instrument
    phase = fit.phases[0]
    rows = [(name, value, instrument.esds.get(name)) for name, value in instrument.profile.items()]
    rows.append(("zero_deg", instrument.zero_deg, instrument.esds.get("zero_deg")))
    rows += [
        (name, phase.cell[_CELL.index(name)], fit.esds.get(f"{phase.name}:{name}"))
        for name in phase.free_cell
    ]
    lines = [f"{'':18s}{'value':>14s}{'esd':>11s}"]
    for name, value, esd in rows:
        lines.append(f"{name:18s}{value:14.6g}{'fixed' if esd is None else format(esd, '.1g'):>11s}")
    low, high = instrument.two_theta_range_deg
    lines.append(
        f"{phase.name}, {low:.2f} to {high:.2f}°: Rwp {100 * fit.rwp:.2f} %, "
        f"R of {len(fit.rings)} ring intensities {100 * fit.ring_r:.2f} %"
    )
    lines.append(f"esds are those of counting times the goodness of fit, {fit.goodness_of_fit:.1f}")
    return lines + [f"note: {remark}" for remark in calibration.remarks]


def _range(
    pattern: Pattern, phase: Phase, wavelength_A: float, asked: tuple[float, float] | None
) -> npt.NDArray[np.bool_]:
    """Return which bins count."""
    if asked is None:
        wide = np.flatnonzero(pattern.n_pixels >= 0.5 * pattern.n_pixels.max())
        high = float(pattern.radial[wide[-1]])
        low = 0.78 * phase.reflections(wavelength_A, high, 1e-3)[0].two_theta_deg
    else:
        low, high = asked
    used = (pattern.radial >= low) & (pattern.radial <= high) & np.isfinite(pattern.intensity)
    if np.count_nonzero(used) < 50:
        raise ProcessingError(
            f"between {low:g} and {high:g}° there are {np.count_nonzero(used)} bins; widen the range"
        )
    return np.asarray(used)


def _fit(
    pattern: Pattern,
    used: npt.NDArray[np.bool_],
    phase: Phase,
    wavelength_A: float,
    options: CalibrationOptions,
) -> PatternFit:
    """Return the fit, in steps: position and width first, then the whole profile, then its asymmetry."""
    place = FREE[options.free]
    letters = list(options.letters)
    fwhm = _apparent_fwhm(pattern, used)
    setting = Setting(profile=Profile(w=(0.8 * fwhm) ** 2, z=0.2 * fwhm))
    if "z" not in letters:
        setting = Setting(profile=Profile(w=fwhm**2))

    def step(free: Sequence[str], start: Setting) -> PatternFit:
        return fit_pattern(
            pattern.radial[used],
            pattern.intensity[used],
            [phase],
            Radiation.monochromatic(wavelength_A),
            sigma=pattern.sigma[used],
            free=free,
            start=start,
            background=options.background,
        )

    fit = step((place, "w"), setting)
    _refuse_misfit(fit, phase)
    fit = step((place, *letters), fit.setting)
    if options.sensor_depth:
        begin = replace(fit.setting, profile=replace(fit.setting.profile, sensor_depth_deg=0.02))
        fit = step((place, *letters, "sensor_depth_deg"), begin)
    fit.setting.profile.widths(pattern.radial[used])  # refuses a width that is negative somewhere
    return fit


def _refuse_misfit(fit: PatternFit, phase: Phase) -> None:
    """Refuse a fit that says nothing about the instrument."""
    remedy = "check that PONI, wavelength and CIF belong to this frame"
    if fit.rwp > _HOPELESS_RWP:
        raise ProcessingError(
            f"the rings of {phase.name} do not fit: Rwp is {100 * fit.rwp:.0f} %, "
            f"above {100 * _HOPELESS_RWP:.0f} %; {remedy}"
        )
    if len(fit.rings) < _FEWEST_RINGS:
        raise ProcessingError(
            f"{len(fit.rings)} rings of {phase.name} are in the range, and {_FEWEST_RINGS} are needed; "
            "widen the range"
        )
    moved = [name for name in fit.at_limit if name == "zero_deg" or name.endswith("_A")]
    if moved:
        raise ProcessingError(f"{moved[0]} of {phase.name} ran to its limit in the fit; {remedy}")


def _apparent_fwhm(pattern: Pattern, used: npt.NDArray[np.bool_]) -> float:
    """Return the width at half height of the highest ring, degrees."""
    angle, intensity = pattern.radial[used], pattern.intensity[used]
    top = int(np.argmax(intensity))
    half = 0.5 * (intensity[top] + np.median(intensity))
    above = intensity > half
    left = top - int(np.argmin(above[: top + 1][::-1])) if not above[: top + 1].all() else 0
    right = top + int(np.argmin(above[top:])) if not above[top:].all() else len(above) - 1
    step = float(np.median(np.diff(angle)))
    return max(float(angle[right] - angle[left]) - step, step)


def _remarks(fit: PatternFit, phase: Phase, options: CalibrationOptions) -> list[str]:
    remarks = [f"{name} ended at its limit" for name in fit.at_limit]
    if options.free == "profile":
        relative = fit.phases[0].cell[0] / phase.cell[0] - 1.0
        if abs(relative) > 5e-5:
            remarks.append(
                f"the cell comes out {relative:+.1e} of the CIF's away: "
                "distance or wavelength of the PONI is off by as much"
            )
    return remarks


def _provenance(
    frame: str | Path,
    poni: str | Path,
    mask: str | Path | None,
    detector: str | None,
    phase: Phase,
    fit: PatternFit,
    options: CalibrationOptions,
) -> dict[str, str | float]:
    found: dict[str, str | float] = {
        "calibrant": phase.name,
        "calibrant_sha256": hashlib.sha256(phase.cif_text.encode()).hexdigest(),
        "free": options.free,
        "estimator": options.estimator,
    }
    for name, path in (("frame", frame), ("poni", poni), ("mask", mask)):
        if path is not None:
            found[name] = Path(path).name
            found[f"{name}_sha256"] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if detector is not None:
        found["detector"] = detector
    found["a_A"] = fit.phases[0].cell[0]
    found["rwp"] = fit.rwp
    found["ring_r"] = fit.ring_r
    found["written"] = datetime.now().astimezone().isoformat(timespec="seconds")
    found["software"] = f"xrdct-beamline {version('xrdct-beamline')}"
    return found
