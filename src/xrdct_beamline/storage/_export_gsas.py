"""Files for GSAS-II: instrument parameters, histograms, structures and a script that joins them.

GSAS-II counts in centidegrees, and U, V, W are those of the variance, not of the FWHM squared:
U = 10⁴ u / (8 ln 2). Its SH/L is the sum of S/L and H/L. The patterns are corrected for polarisation: with
Polariz. 1 and azimuth 0 GSAS-II's factor is 1 at every angle. Read in its sources (2026): G2pwd_fxye.py,
GSASIIpwd.py, GSASIIfiles.ReadInstprm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.processing.peak_profile import Profile

__all__ = ["INSTRUMENT", "SCRIPT", "instprm_text", "profile_of_instprm", "script_text", "structure_names"]

INSTRUMENT, SCRIPT = "instrument.instprm", "make_project.py"

#: Degrees² of FWHM² to centidegrees² of variance.
_VARIANCE = 1e4 / (8.0 * math.log(2.0))

#: GSAS-II's smallest SH/L; at 0 its peak function divides by it.
_LEAST_SH_L = 0.0005


def instprm_text(profile: Profile, wavelength_A: float, zero_deg: float = 0.0) -> str:
    """Return an instrument parameter file for constant wavelength X-rays (PXC)."""
    values: Mapping[str, object] = {
        "Type": "PXC",
        "Bank": 1.0,
        "Lam": f"{wavelength_A:.7f}",
        "Polariz.": 1.0,
        "Azimuth": 0.0,
        "Zero": f"{zero_deg:.6f}",
        "U": f"{profile.u * _VARIANCE:.8g}",
        "V": f"{profile.v * _VARIANCE:.8g}",
        "W": f"{profile.w * _VARIANCE:.8g}",
        "X": f"{profile.x * 100:.8g}",
        "Y": f"{profile.y * 100:.8g}",
        "Z": f"{profile.z * 100:.8g}",
        "SH/L": f"{max(2.0 * profile.axial, _LEAST_SH_L):.8g}",
    }
    head = "#GSAS-II instrument parameter file; do not add/delete items!\n"
    return head + "".join(f"{key}:{value}\n" for key, value in values.items())


def profile_of_instprm(text: str) -> tuple[Profile, float, float]:
    """Return profile, wavelength in Å and zero in degrees of an instrument parameter file.

    Raises
    ------
    DataError
        If a letter is missing, or the file is not of constant wavelength X-rays.
    """
    found = {
        key.strip(): value.strip()
        for line in text.splitlines()
        if not line.startswith("#")
        for key, _, value in (item.partition(":") for item in line.split(";"))
        if value
    }
    if not found.get("Type", "").startswith("PXC"):
        raise DataError(f"the instrument is of type {found.get('Type', 'none')}; PXC is needed")
    try:
        numbers = {key: float(found[key]) for key in ("Lam", "Zero", "U", "V", "W", "X", "Y", "SH/L")}
    except (KeyError, ValueError) as error:
        raise DataError(f"the instrument parameter file lacks {error} as a number") from error
    z = float(found.get("Z", 0.0))
    axial = numbers["SH/L"] / 2.0
    profile = Profile(
        u=numbers["U"] / _VARIANCE,
        v=numbers["V"] / _VARIANCE,
        w=numbers["W"] / _VARIANCE,
        x=numbers["X"] / 100,
        y=numbers["Y"] / 100,
        z=z / 100,
        axial=0.0 if numbers["SH/L"] <= _LEAST_SH_L else axial,
    )
    return profile, numbers["Lam"], numbers["Zero"]


def structure_names(phases: Sequence[Phase]) -> list[str]:
    """Return a file name for the CIF of each phase."""
    return [f"{re.sub(r'[^A-Za-z0-9._-]', '_', phase.name)}.cif" for phase in phases]


def script_text(histograms: Sequence[str], phases: Sequence[Phase], first: int = 1) -> str:
    """Return a script that makes a project of the histograms and refines them, with GSAS-II's Python.

    Parameters
    ----------
    histograms:
        Paths of the histograms, relative to the script.
    first:
        How many of them go into the project by default: one project of thousands would not open.
    """
    cifs = [f"phases/{name}" for name in structure_names(phases)]
    names = [phase.name for phase in phases]
    return f'''"""Makes project.gpx of the patterns given (default: the first {first}), with GSAS-II's Python.

Run: python make_project.py [data/NAME.fxye ...]
"""

import sys
from pathlib import Path

try:
    from GSASII import GSASIIscriptable as G2sc
except ImportError:
    import GSASIIscriptable as G2sc

HERE = Path(__file__).resolve().parent
HISTOGRAMS = sys.argv[1:] or {list(histograms[:first])!r}
PHASES = {list(zip(cifs, names, strict=True))!r}

project = G2sc.G2Project(newgpx=str(HERE / "project.gpx"))
instrument = str(HERE / "{INSTRUMENT}")
histograms = [
    project.add_powder_histogram(str(HERE / name), instrument, fmthint="GSAS powder") for name in HISTOGRAMS
]
for cif, name in PHASES:
    project.add_phase(str(HERE / cif), phasename=name, histograms=histograms, fmthint="CIF")
if PHASES:
    project.do_refinements(
        [
            {{"set": {{"Background": {{"type": "chebyschev-1", "no. coeffs": 6, "refine": True}}}}}},
            {{"set": {{"Cell": True}}}},
        ]
    )
project.save()
'''
