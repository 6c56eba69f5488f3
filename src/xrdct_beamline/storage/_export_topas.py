"""Input for TOPAS (5 and later): one .inp for all patterns, a list of them, and a batch file.

TOPAS' Thompson-Cox-Hastings peak has a Lorentzian FWHM of X tanθ + Y/cosθ: its X is our y, its Y our x.
A constant share is convoluted as ``lor_fwhm``. The patterns are corrected for polarisation, so the
Lorentz factor alone remains: ``LP_Factor(90)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import gemmi

from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.processing.peak_profile import Profile

__all__ = ["BATCH", "BATCH_LIST", "INPUT", "batch_text", "input_text", "space_group_symbol"]

INPUT, BATCH_LIST, BATCH = "refine.inp", "batch.txt", "run_batch.bat"

#: How TOPAS marks origin choices and axes behind a symbol.
_CHOICE = {"1": "S", "2": "Z", "H": "H", "R": "R"}

_CELL = ("a", "b", "c", "al", "be", "ga")


def input_text(
    phases: Sequence[Phase],
    *,
    wavelength_A: float,
    profile: Profile,
    zero_deg: float = 0.0,
    background: int = 6,
    source: str = "",
) -> str:
    """Return the .inp; the macro PATTERN, given on the command line, names the pattern.

    Scales, cells and background are refined; the instrument is fixed.
    """
    lines = [
        f"' Patterns of {source}, corrected for polarisation and solid angle.",
        f"' All patterns of {BATCH_LIST}: {BATCH}. One of them: put a line like",
        "' macro PATTERN { name.xye }",
        "' on top of this file, or give it to tc behind the file's name.",
        *_not_expressed(profile),
        "",
        "r_wp 0 r_exp 0 gof 0",
        "iters 100",
        "do_errors",
        "xdd PATTERN xye_format",
        "   weighting = 1 / SigmaYobs^2;",
        "   x_calculation_step = Yobs_dx_at(Xo); convolution_step 2",
        f"   bkg @ {' '.join(['0'] * max(1, background))}",
        "   LP_Factor(90)",
        f"   lam ymin_on_ymax 0.0001 la 1 lo {wavelength_A:.7f} lh 0.0001",
        f"   th2_offset = {zero_deg:.6f};",
    ]
    for phase in phases:
        lines += _phase_lines(phase, profile)
    return "\n".join(lines) + "\n"


def batch_text() -> str:
    """Return the Windows batch that refines every pattern of the list and keeps each outcome."""
    return (
        "@echo off\r\n"
        "rem Set TC to the full path of tc.exe if it is not on the PATH.\r\n"
        'if "%TC%"=="" set TC=tc\r\n'
        "if not exist results mkdir results\r\n"
        f"for /f %%f in ({BATCH_LIST}) do (\r\n"
        f'  "%TC%" "%~dp0{INPUT}" "macro PATTERN {{ %%f }}"\r\n'
        f'  copy /y "%~dp0{INPUT[:-4]}.out" "results\\%%~nf.out"\r\n'
        ")\r\n"
    )


def space_group_symbol(name: str) -> str | None:
    """Return TOPAS' symbol of a space group: no blanks, S and Z for origin choice 1 and 2.

    None for a setting that no table knows.
    """
    for group in gemmi.spacegroup_table():
        if group.xhm() == name:
            return str(group.short_name()) + _CHOICE.get(str(group.ext).strip("\0 "), "")
    return None


def _not_expressed(profile: Profile) -> list[str]:
    lines = []
    if profile.axial > 0:
        lines.append(
            f"' The instrument's axial divergence (S/L = H/L = {profile.axial:g}) is not expressed here; add "
            "Simple_Axial_Model with the radius of your instrument."
        )
    if profile.sensor_depth_deg > 0:
        lines.append(
            f"' The tail of a thick sensor ({profile.sensor_depth_deg:g} deg) is not expressed here; add "
            "exp_conv_const if the misfit shows it."
        )
    return lines


def _phase_lines(phase: Phase, profile: Profile) -> list[str]:
    symbol = space_group_symbol(phase.space_group)
    lines = [
        "   str",
        f'      phase_name "{phase.name}"',
        f'      space_group "{symbol or "P1"}"',
        *(f"      {line}" for line in _cell_lines(phase)),
        f"      TCHZ_Peak_Type(, {profile.u:.8g}, , {profile.v:.8g}, , {profile.w:.8g}, , 0, , "
        f"{profile.y:.8g}, , {profile.x:.8g})",
    ]
    if profile.z > 0:
        lines.append(f"      lor_fwhm = {profile.z:.8g};")
    lines += ["      scale @ 0.0001", "      MVW(0, 0, 0)"]
    for site, occupancy in phase.sites:
        # Without a symbol of its own the cell is written out, atom by atom.
        positions = site.positions[:1] if symbol else site.positions
        for number, position in enumerate(positions):
            label = site.label if number == 0 else f"{site.label}_{number}"
            x, y, z = (_coordinate(float(value)) for value in position)
            lines.append(
                f"      site {label} x {x} y {y} z {z} occ {site.element} {occupancy:.6g} "
                f"beq {8 * math.pi**2 * site.u_iso_A2:.5g}"
            )
    return lines


def _cell_lines(phase: Phase) -> list[str]:
    """Return the cell: what symmetry leaves free is refined, what it ties follows."""
    lines = []
    for i, (leader, value) in enumerate(zip(phase.cell_ties, phase.cell, strict=True)):
        if leader == i:
            lines.append(f"{_CELL[i]} @ {value:.6f}")
        elif leader < 0:
            lines.append(f"{_CELL[i]} {value:.6f}")
        else:
            lines.append(f"{_CELL[i]} = Get({_CELL[leader]});")
    return lines


def _coordinate(value: float) -> str:
    """Return a coordinate; sixths are written as fractions, or special positions would be missed."""
    sixths = value * 6
    if abs(sixths - round(sixths)) < 1e-3 and round(sixths) % 3:
        return f"= {round(sixths)}/6;"
    return f"{value:.6f}".rstrip("0").rstrip(".") if value else "0"
