"""Processed files for other programs: what is exported, said before it is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

from xrdct_beamline.domain.detector import DetectorGeometry
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.instrument import Instrument
from xrdct_beamline.domain.phases import Phase
from xrdct_beamline.processing.outliers import find_outliers
from xrdct_beamline.processing.peak_profile import Profile
from xrdct_beamline.storage.export import (
    BeamAndProfile,
    PatternSet,
    check_free,
    check_room,
    in_two_theta,
    profile_of_instprm,
    write_gsas,
    write_particles,
    write_topas,
    write_xye,
)

from ._export_regions import ParticleSettings, Source

__all__ = ["Export", "ExportOptions", "Format", "ParticleSettings", "Region", "prepare_export"]

Progress = Callable[[int, int], None]
Write = Callable[..., None]

#: FXYE has lines of 80 characters, .xye of some 27.
_FXYE_SHARE = 3

#: A row of the table of particles.
_ROW_BYTES = 150


class Format(StrEnum):
    """What an export is for."""

    XYE = "xye"
    TOPAS = "topas"
    GSAS = "gsas"
    CSV = "csv"


class Region(StrEnum):
    """What a pattern is of."""

    VOXEL = "voxel"
    PARTICLE = "particle"
    SHELL = "shell"
    SLICE = "slice"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What is exported, and how.

    Parameters
    ----------
    format, region:
        See `Format` and `Region`; CSV is the table of particles, whatever the region.
    cifs:
        Structures for TOPAS and GSAS-II.
    instrument:
        File of `xrdct calibrate`, or of GSAS-II (.instprm). Without, the profile is a guess.
    particles:
        How particles are found.
    n_shells:
        Of each particle, where the region is a shell.
    everything:
        Export the voxels outside of particles too.
    blur_px:
        Take out what the resolution mixes between regions; its FWHM in pixels.
    force:
        Replace what is there.
    """

    format: Format = Format.XYE
    region: Region = Region.PARTICLE
    cifs: tuple[Path, ...] = ()
    instrument: Path | None = None
    particles: ParticleSettings = field(default_factory=ParticleSettings)
    n_shells: int = 4
    everything: bool = False
    blur_px: float | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.blur_px is not None and self.region in (Region.VOXEL, Region.SLICE):
            raise ConfigurationError(
                f"a {self.region} cannot be unmixed from its neighbours; export particles or shells"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An export that is ready to be written.

    Parameters
    ----------
    output:
        The file or folder to come.
    what, n_items, n_bytes:
        What it will hold, how many, and about how much room it takes.
    notes:
        Sentences on what was assumed.
    """

    output: Path
    what: str
    n_items: int
    n_bytes: int
    notes: tuple[str, ...]
    _write: Write

    def __str__(self) -> str:
        size = f"{self.n_bytes / 1e6:.1f} MB" if self.n_bytes >= 1e5 else f"{self.n_bytes / 1e3:.1f} kB"
        return f"{self.n_items} {self.what}, about {size}, to {self.output}"

    def write(self, progress: Progress | None = None) -> None:
        """Write it; the output appears whole or not at all."""
        self._write(progress=progress)


def prepare_export(path: Path, output: Path | None = None, options: ExportOptions | None = None) -> Export:
    """Read a processed file and gather what is to be exported; nothing is written yet.

    Parameters
    ----------
    output:
        By default beside the file, named after it and what is exported.

    Raises
    ------
    ConfigurationError
        If the output is there already or would not fit on the disk, or an option does not fit the file.
    DataError, ProcessingError, PhaseError
        If the file holds no slice, no particle, or a CIF cannot be used.
    """
    options = options or ExportOptions()
    output = output or _default_output(path, options)
    check_free(output, force=options.force)
    phases = [Phase.from_cif(cif) for cif in options.cifs]
    source = Source(path, options.particles)
    if options.format is Format.CSV:
        return _table(source, output, options)
    patterns = _patterns(source, options)
    n_bytes = patterns.n_bytes * (_FXYE_SHARE if options.format is Format.GSAS else 1)
    check_room(output, n_bytes)
    write, notes = _writer(source, output, patterns, phases, options)
    several = "s" if len(patterns) != 1 else ""
    return Export(
        output=output,
        what=f"pattern{several} of {'the slice' if options.region is Region.SLICE else f'{options.region}s'}",
        n_items=len(patterns),
        n_bytes=n_bytes,
        notes=notes,
        _write=write,
    )


def _default_output(path: Path, options: ExportOptions) -> Path:
    if options.format is Format.CSV:
        return path.with_name(f"{path.stem}-particles.csv")
    if options.format is Format.XYE and options.region is Region.SLICE:
        return path.with_name(f"{path.stem}.xye")
    return path.with_name(f"{path.stem}-{options.region}s-{options.format}")


def _patterns(source: Source, options: ExportOptions) -> PatternSet:
    if options.region is Region.VOXEL:
        return source.voxels(everything=options.everything)
    if options.region is Region.SLICE:
        return source.whole()
    if options.region is Region.SHELL:
        return source.each_shell(options.n_shells, options.blur_px)
    return source.each_particle(options.blur_px)


def _writer(
    source: Source, output: Path, patterns: PatternSet, phases: Sequence[Phase], options: ExportOptions
) -> tuple[Write, tuple[str, ...]]:
    wavelength_A = DetectorGeometry(poni_text=source.rays.poni).wavelength_A
    if options.format is Format.XYE:
        patterns = in_two_theta(patterns, wavelength_A)
        return partial(write_xye, output, patterns, force=options.force), ()
    notes = [f"{phase.name}: {assumed}" for phase in phases for assumed in phase.assumptions]
    if not phases:
        notes.append("no structures were given: add them with --cif, or in the program")
    if options.instrument is None:
        notes.append("the profile is a guess: give the instrument file of xrdct calibrate with --instrument")
    instrument = _instrument(options.instrument, wavelength_A)
    write = write_topas if options.format is Format.TOPAS else write_gsas
    return partial(write, output, patterns, phases, instrument, force=options.force), tuple(notes)


def _instrument(path: Path | None, wavelength_A: float) -> BeamAndProfile:
    """Return the instrument of a file; one of another wavelength than the PONI's is refused."""
    if path is None:
        return BeamAndProfile(wavelength_A=wavelength_A, profile=Profile())
    if path.suffix == ".instprm":
        found = _of_gsas(path)
    else:
        found = Instrument.load(path)
    found.refuse_other_wavelength(wavelength_A)
    return BeamAndProfile(
        wavelength_A=wavelength_A, profile=Profile(**found.profile), zero_deg=found.zero_deg
    )


def _of_gsas(path: Path) -> Instrument:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the instrument file {path} cannot be read: {error}") from error
    profile, wavelength_A, zero_deg = profile_of_instprm(text)
    letters = {name: getattr(profile, name) for name in ("u", "v", "w", "x", "y", "z", "axial")}
    return Instrument(
        wavelength_A=wavelength_A, profile=letters, zero_deg=zero_deg, two_theta_range_deg=(0.0, 179.0)
    )


def _table(source: Source, output: Path, options: ExportOptions) -> Export:
    particles = source.particles()
    outliers = find_outliers(particles)
    more: dict[str, Any] = {f"z_{quantity}": z for quantity, z in outliers.z.items()}
    more["is_outlier"] = outliers.is_outlier
    note = (
        "the file holds no refined maps: places and sizes only"
        if source.phase is None
        else f"lattice parameters and scales are those of {source.phase}"
    )

    def write(progress: Progress | None = None) -> None:
        write_particles(output, particles, more=more, force=options.force)

    return Export(
        output=output,
        what="particles",
        n_items=len(particles),
        n_bytes=_ROW_BYTES * (len(particles) + 1),
        notes=(note,),
        _write=write,
    )
