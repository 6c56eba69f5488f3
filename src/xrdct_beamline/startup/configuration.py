"""The one configuration file: the only place with PV prefixes and paths."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xrdct_beamline.devices.settings import BeamlineSettings as DeviceSettings
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.policies import CellRunning
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.plans.motion import check_period
from xrdct_beamline.services.alerts import AlertSettings

from .toml import read_toml

if TYPE_CHECKING:
    from xrdct_beamline.domain.detector import DetectorGeometry

__all__ = ["Configuration", "load_configuration", "package_file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BeamlineSettings:
    """Where the hardware answers."""

    name: str
    prefix: str
    connection_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSettings:
    """Where things are kept; all below one folder."""

    data: Path

    @property
    def journal(self) -> Path:
        """The journal of the beamline."""
        return self.data / "journal.jsonl"

    @property
    def raw(self) -> Path:
        """Raw files, one per attempt of a line."""
        return self.data / "raw"

    @property
    def processed(self) -> Path:
        """Processed files, one per slice."""
        return self.data / "processed"

    @property
    def catalog(self) -> Path:
        """The catalog's databases."""
        return self.data / "catalog"


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSettings:
    """The detector's geometry, as calibrated."""

    poni: Path
    mask: Path | None = None
    detector: str | None = None

    def load(self) -> DetectorGeometry:
        """Read and check the files."""
        from xrdct_beamline.domain.detector import DetectorGeometry  # pyFAI takes seconds to import

        return DetectorGeometry.from_poni(self.poni, mask=self.mask, detector=self.detector)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSettings:
    """The slice that a session measures unless told otherwise.

    ``whole_sample`` says that nothing lies outside of the slice; otherwise it is a region of interest,
    freed of its surroundings where they have been scanned.
    """

    exposure_s: float = 0.010
    period_s: float = 0.0112
    n_translations: int = 351
    step_mm: float = 0.001
    n_rotations: int = 350
    span_deg: float = 180.0
    order: str = "sequential"
    zigzag: bool = True
    whole_sample: bool = False

    def __post_init__(self) -> None:
        check_period(self.exposure_s, self.period_s)
        self.geometry()

    def geometry(self) -> ScanGeometry:
        """Return the raster."""
        return ScanGeometry.raster(
            n_translations=self.n_translations,
            step_mm=self.step_mm,
            n_rotations=self.n_rotations,
            span_deg=self.span_deg,
            zigzag=self.zigzag,
            order=self.order,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessingSettings:
    """How frames become patterns and patterns a slice."""

    bins: int = 1000
    unit: str = "2th_deg"
    estimator: str = "trimmed_mean"
    lower: float = 0.05
    upper: float = 0.05
    axis_mm: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RefinementSettings:
    """What is refined in each voxel while the scan goes on.

    ``phases`` are names of shipped structures or paths of CIFs, the first one's lattice parameter is
    mapped; none refines nothing. ``instrument`` is what `xrdct calibrate` writes.
    """

    phases: tuple[str, ...] = ()
    instrument: Path | None = None
    radial_range: tuple[float, float] | None = None
    background: int = 6
    limits_A: tuple[float, float] = (8.0, 8.3)
    window_A: tuple[float, float] | None = (8.076, 8.145)

    def __post_init__(self) -> None:
        if self.phases and self.instrument is None:
            raise ConfigurationError(
                "instrument is missing; without the widths of the instrument no phase can be refined: "
                "write one with xrdct calibrate"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSettings:
    """How much space a scan needs, and how much it must leave.

    Parameters
    ----------
    bytes_per_pixel:
        Of a compressed frame; a powder's takes half a byte.
    reserve_MB:
        Below which no line is begun: the scan waits until there is more.
    """

    bytes_per_pixel: float = 0.55
    reserve_MB: float = 500.0

    def __post_init__(self) -> None:
        for name in ("bytes_per_pixel", "reserve_MB"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name):g}; give a positive number")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperandoSettings:
    """What a series does by itself.

    Parameters
    ----------
    on_cell_running:
        When the cell runs on before the slice is done, the line under way is finished; then "mark" takes
        the later lines and marks them, "close" leaves them out, "ignore" does nothing.
    count_rate_limit:
        Counts per pixel and second above which a line is warned of (FACTS §3).
    """

    on_cell_running: CellRunning = CellRunning.MARK
    count_rate_limit: float = 1e7

    def __post_init__(self) -> None:
        if not self.count_rate_limit > 0:
            raise ConfigurationError(
                f"count_rate_limit is {self.count_rate_limit:g}; give counts per pixel and second, as 1e7"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    """The live page."""

    port: int = 8050


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogSettings:
    """The catalog of runs."""

    enabled: bool = True
    profile: str = "xrdct"
    database: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything that differs from one beamline to the next."""

    source: str
    beamline: BeamlineSettings
    paths: PathSettings
    calibration: CalibrationSettings
    devices: DeviceSettings = field(default_factory=DeviceSettings)
    scan: ScanSettings = field(default_factory=ScanSettings)
    processing: ProcessingSettings = field(default_factory=ProcessingSettings)
    refinement: RefinementSettings = field(default_factory=RefinementSettings)
    disk: DiskSettings = field(default_factory=DiskSettings)
    operando: OperandoSettings = field(default_factory=OperandoSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    page: PageSettings = field(default_factory=PageSettings)
    catalog: CatalogSettings = field(default_factory=CatalogSettings)

    def with_data(self, folder: Path) -> Configuration:
        """Return the same configuration with its data kept in another folder."""
        return replace(self, paths=PathSettings(data=folder.absolute()))

    def with_profile(self, name: str) -> Configuration:
        """Return the same configuration with its catalog under another name."""
        return replace(self, catalog=replace(self.catalog, profile=name))

    def with_refinement(self, **changes: Any) -> Configuration:
        """Return the same configuration with those settings of the refinement that are not None."""
        given = {name: value for name, value in changes.items() if value is not None}
        if "phases" in given:
            given["phases"] = tuple(given["phases"])
        return replace(self, refinement=replace(self.refinement, **given))


def package_file(name: str) -> Path:
    """Return a file of the shipped configuration."""
    return Path(str(files("xrdct_beamline.config").joinpath(name)))


def load_configuration(path: Path | None = None) -> Configuration:
    """Read a configuration file; without one, the simulated beamline's.

    Raises
    ------
    ConfigurationError
        If the file is missing, is not TOML, lacks a setting or has one that is not known or cannot be;
        it names file, line, setting, value and remedy.
    """
    source = package_file("simulated.toml") if path is None else path
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ConfigurationError(
            f"configuration {source} cannot be read ({reason}); "
            "copy config/simulated.toml of the package and edit it"
        ) from error
    base = Path.cwd() if path is None else source.absolute().parent
    return read_toml(
        Configuration, text, file=source, resolve=lambda value: _resolve(value, base), source=str(source)
    )


def _resolve(value: str, base: Path) -> Path:
    """Return the file that a setting names: one of the package, or relative to the configuration."""
    package, _, name = value.partition("package:")
    return package_file(name) if not package and name else base / Path(value).expanduser()
