"""Sets of patterns, and the text files of three columns that refinement programs read."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ConfigurationError, DataError

__all__ = [
    "INDEX",
    "PatternSet",
    "fxye_text",
    "in_two_theta",
    "lifted",
    "write_index",
    "write_text_files",
    "xye_text",
]

FloatArray = npt.NDArray[np.floating[Any]]
Progress = Callable[[int, int], None]

#: The table of what is in a folder of patterns.
INDEX = "index.csv"

#: Width of a line of .xye with its three numbers.
_XYE_LINE_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatternSet:
    """Patterns to be written, one file each.

    Parameters
    ----------
    names:
        Of the files, without ending.
    radial, unit:
        Bin centres ``(bin,)`` in a unit of pyFAI.
    intensity, sigma:
        ``(pattern, bin)``. Bins without an intensity or a positive sigma are left out of the files: a
        program would divide by it.
    columns:
        More of each pattern for the index: place, size.
    source:
        Where they come from, for the comment on top.
    """

    names: Sequence[str]
    radial: npt.NDArray[np.float64]
    unit: str
    intensity: FloatArray
    sigma: FloatArray
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        shape = (len(self.names), self.radial.size)
        if self.intensity.shape != shape or self.sigma.shape != shape:
            raise DataError(
                f"{len(self.names)} patterns of {self.radial.size} bins need arrays of shape {shape}, got "
                f"{self.intensity.shape} and {self.sigma.shape}"
            )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def n_bytes(self) -> int:
        """About how much room the files take."""
        return len(self) * (self.radial.size * _XYE_LINE_BYTES + 300)

    def table(self, index: int) -> npt.NDArray[np.float64]:
        """Return radial position, intensity and sigma of the bins of a pattern that hold something."""
        columns = np.column_stack([self.radial, self.intensity[index], self.sigma[index]]).astype(np.float64)
        return columns[np.isfinite(columns).all(axis=1) & (columns[:, 2] > 0)]


def in_two_theta(patterns: PatternSet, wavelength_A: float) -> PatternSet:
    """Return the patterns over 2θ in degrees; from q by the wavelength."""
    if patterns.unit == "2th_deg":
        return patterns
    per_A = {"q_A^-1": 1.0, "q_nm^-1": 0.1}.get(patterns.unit)
    if per_A is None:
        raise ConfigurationError(
            f"patterns over {patterns.unit} cannot be written over 2θ; process with 2th_deg or q_A^-1"
        )
    sine = patterns.radial * per_A * wavelength_A / (4 * np.pi)
    reachable = np.abs(sine) < 1
    return replace(
        patterns,
        radial=2 * np.degrees(np.arcsin(sine[reachable])),
        unit="2th_deg",
        intensity=patterns.intensity[:, reachable],
        sigma=patterns.sigma[:, reachable],
    )


def lifted(patterns: PatternSet) -> PatternSet:
    """Return the patterns with a constant added to each that has values of 0 and less.

    GSAS-II gives such values no weight, which would lift the mean of the noise; a constant goes into the
    background. The index tells what was added.
    """
    table = np.where(patterns.sigma > 0, patterns.intensity, np.nan)
    lowest = np.where(np.isfinite(table), table, np.inf).min(axis=1, initial=np.inf)
    typical = np.nanmedian(np.where(patterns.sigma > 0, patterns.sigma, np.nan)) if len(patterns) else 0.0
    added = np.array([float(f"{value:.6g}") for value in np.where(lowest <= 0, typical - lowest, 0.0)])
    columns: dict[str, Any] = {**patterns.columns, "added_to_intensity": added}
    return replace(patterns, intensity=patterns.intensity + added[:, np.newaxis], columns=columns)


def xye_text(patterns: PatternSet, index: int, *, comments: bool = True) -> str:
    """Return three columns: radial position, intensity, sigma; comments on top begin with #."""
    table = patterns.table(index)
    title = f"# {patterns.names[index]} of {patterns.source}\n"
    if "q" in title and patterns.unit == "2th_deg":
        title = ""  # GSAS-II takes a comment with a q in it for the wavelength of data over q
    head = f"{title}# {patterns.unit} intensity sigma\n"
    body = ("%.7f %.7g %.5g\n" * len(table)) % tuple(table.ravel())
    return head + body if comments else body


def fxye_text(patterns: PatternSet, index: int) -> str:
    """Return the GSAS format FXYE: 2θ in centidegrees, intensity, esd, in lines of 80 characters."""
    table = patterns.table(index)
    centidegrees = 100.0 * table[:, 0]
    step = float(np.diff(centidegrees).mean()) if len(table) > 1 else 0.0
    first = float(centidegrees[0]) if len(table) else 0.0
    title = f"{patterns.names[index]} of {patterns.source}"
    bank = f"BANK 1 {len(table)} {len(table)} CONS {first:.4f} {step:.4f} 0 0 FXYE"
    rows = np.column_stack([centidegrees, table[:, 1:]])
    body = "".join(f"{f'{x:15.5f}{y:18.7g}{e:18.6g}':<80}\n" for x, y, e in rows)
    return f"{title[:80]:<80}\n{bank:<80}\n{body}"


def write_text_files(
    folder: Path,
    patterns: PatternSet,
    ending: str,
    text: Callable[[PatternSet, int], str],
    progress: Progress | None = None,
) -> None:
    """Write one file per pattern into a folder."""
    for index, name in enumerate(patterns.names):
        (folder / f"{name}{ending}").write_text(text(patterns, index), encoding="utf-8")
        if progress is not None and (index % 100 == 99 or index + 1 == len(patterns)):
            progress(index + 1, len(patterns))


def write_index(folder: Path, patterns: PatternSet, ending: str, subfolder: str = "") -> None:
    """Write the table of the files: name, place, number of bins."""
    with (folder / INDEX).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *patterns.columns])
        columns = list(patterns.columns.values())
        for index, name in enumerate(patterns.names):
            path = f"{subfolder}/{name}{ending}" if subfolder else f"{name}{ending}"
            writer.writerow([path, *(column[index] for column in columns)])
