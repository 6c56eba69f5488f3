"""Patterns and particles for other programs: .xye, TOPAS, GSAS-II, tables.

What is written appears whole or not at all. A folder of patterns has an ``index.csv`` that says which file
is which.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.domain.results import Particles
from xrdct_beamline.processing.peak_profile import Profile

from ._export_gsas import INSTRUMENT, SCRIPT, instprm_text, profile_of_instprm, script_text, structure_names
from ._export_patterns import (
    INDEX,
    PatternSet,
    Progress,
    fxye_text,
    in_two_theta,
    lifted,
    write_index,
    write_text_files,
    xye_text,
)
from ._export_topas import BATCH, BATCH_LIST, INPUT, batch_text, input_text
from .whole import appearing_file, appearing_folder, check_free, check_room

__all__ = [
    "INDEX",
    "BeamAndProfile",
    "PatternSet",
    "check_free",
    "check_room",
    "in_two_theta",
    "instprm_text",
    "profile_of_instprm",
    "write_gsas",
    "write_particles",
    "write_topas",
    "write_xye",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamAndProfile:
    """What other programs need to know of the instrument."""

    wavelength_A: float
    profile: Profile
    zero_deg: float = 0.0


def write_xye(
    output: Path, patterns: PatternSet, *, force: bool = False, progress: Progress | None = None
) -> None:
    """Write one .xye per pattern into a folder with an index; a single pattern into ``output`` itself.

    Raises
    ------
    ConfigurationError
        If the output is there already, cannot be written, or would not fit on the disk.
    """
    check_room(output, patterns.n_bytes)
    if output.suffix.lower() == ".xye" and len(patterns) == 1:
        with appearing_file(output, force=force) as part:
            part.write_text(xye_text(patterns, 0), encoding="utf-8")
        return
    with appearing_folder(output, force=force) as folder:
        write_text_files(folder, patterns, ".xye", xye_text, progress)
        write_index(folder, patterns, ".xye")


def write_topas(
    output: Path,
    patterns: PatternSet,
    phases: Sequence[Phase],
    instrument: BeamAndProfile,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a folder for TOPAS: patterns over 2θ, ``refine.inp``, the list and the batch file."""
    check_room(output, patterns.n_bytes)
    patterns = in_two_theta(patterns, instrument.wavelength_A)
    with appearing_folder(output, force=force) as folder:
        write_text_files(
            folder, patterns, ".xye", lambda p, index: xye_text(p, index, comments=False), progress
        )
        write_index(folder, patterns, ".xye")
        text = input_text(
            phases,
            wavelength_A=instrument.wavelength_A,
            profile=instrument.profile,
            zero_deg=instrument.zero_deg,
            source=patterns.source,
        )
        (folder / INPUT).write_text(text, encoding="utf-8")
        (folder / BATCH_LIST).write_text(
            "".join(f"{name}.xye\n" for name in patterns.names), encoding="utf-8"
        )
        (folder / BATCH).write_text(batch_text(), encoding="utf-8", newline="")


def write_gsas(
    output: Path,
    patterns: PatternSet,
    phases: Sequence[Phase],
    instrument: BeamAndProfile,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a folder for GSAS-II: instrument, patterns as .fxye, CIFs, and a script that makes a project."""
    check_room(output, patterns.n_bytes * 3)  # lines of 80 characters
    patterns = lifted(in_two_theta(patterns, instrument.wavelength_A))
    with appearing_folder(output, force=force) as folder:
        (folder / "data").mkdir()
        (folder / "phases").mkdir()
        write_text_files(folder / "data", patterns, ".fxye", fxye_text, progress)
        write_index(folder, patterns, ".fxye", subfolder="data")
        text = instprm_text(instrument.profile, instrument.wavelength_A, instrument.zero_deg)
        (folder / INSTRUMENT).write_text(text, encoding="utf-8")
        for name, phase in zip(structure_names(phases), phases, strict=True):
            (folder / "phases" / name).write_text(phase.cif_text, encoding="utf-8")
        histograms = [f"data/{name}.fxye" for name in patterns.names]
        (folder / SCRIPT).write_text(script_text(histograms, phases), encoding="utf-8")


def write_particles(
    output: Path,
    particles: Particles,
    *,
    more: Mapping[str, Sequence[Any]] | None = None,
    force: bool = False,
) -> None:
    """Write the table of particles, one row each, with units in the names of the columns.

    Parameters
    ----------
    more:
        Further columns, such as whether a particle is an outlier.
    """
    columns: dict[str, Sequence[Any]] = {
        field.name: getattr(particles, field.name) for field in dataclasses.fields(particles)
    }
    columns |= more or {}
    with appearing_file(output, force=force) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([_entry(value) for value in row])


def _entry(value: Any) -> Any:
    """Return a number as text: unknown ones are empty."""
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else f"{float(value):.9g}"
    return value
