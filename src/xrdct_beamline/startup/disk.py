"""Whether there is room for a scan, before it and between its lines."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.scan import ScanGeometry

from .configuration import Configuration

__all__ = ["DiskNeeds", "Shortage", "check_disk", "disk_needs", "room_for_a_line", "shortages"]

#: Of an event of a line in the journal: three arrays of numbers in JSON, and the rest.
BYTES_PER_NUMBER, BYTES_PER_EVENT = 60, 4000
FLOAT32 = 4

FreeBytes = Callable[[Path], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskNeeds:
    """Bytes that some lines of a slice take: raw frames, journal, processed file."""

    raw: float
    journal: float
    processed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """A disk that does not have what is to be written to it."""

    folders: tuple[Path, ...]
    free: float
    needed: float

    def __str__(self) -> str:
        names = ", ".join(map(str, self.folders))
        return (
            f"the disk of {names} has {_size(self.free)} free, {_size(self.needed)} are needed; "
            "free space, or choose another folder under [paths] data"
        )


def disk_needs(
    configuration: Configuration, geometry: ScanGeometry, n_pixels: int, n_lines: int
) -> DiskNeeds:
    """Estimate what lines of a slice take; the processed file is laid out whole with the first."""
    n_rotations, n = geometry.shape
    bins = configuration.processing.bins
    values = 2 * n_rotations * n * bins + 2 * n * n * bins  # intensity and sigma of sinogram and slice
    return DiskNeeds(
        raw=n_lines * n * n_pixels * configuration.disk.bytes_per_pixel,
        journal=n_lines * (n * BYTES_PER_NUMBER + BYTES_PER_EVENT),
        processed=FLOAT32 * values,
    )


def shortages(
    configuration: Configuration, needs: DiskNeeds, free_bytes: FreeBytes | None = None
) -> list[Shortage]:
    """Return the disks on which there is too little room; what shares a disk is added up."""
    free_bytes = free_bytes or _free_bytes
    paths, reserve = configuration.paths, 1e6 * configuration.disk.reserve_MB
    needed: dict[Path, float] = {
        _existing(paths.raw): needs.raw,
        _existing(paths.journal.parent): needs.journal,
        _existing(paths.processed): needs.processed,
    }
    if len(needed) < 3:  # folders that are not made yet share their parent
        needed = {_existing(paths.data): needs.raw + needs.journal + needs.processed}
    disks: dict[int, list[Path]] = {}
    for folder in needed:
        disks.setdefault(folder.stat().st_dev, []).append(folder)
    found = []
    for folders in disks.values():
        total = sum(needed[folder] for folder in folders) + reserve
        free = free_bytes(folders[0])
        if free < total:
            found.append(Shortage(folders=tuple(folders), free=free, needed=total))
    return found


def check_disk(
    configuration: Configuration,
    geometry: ScanGeometry,
    n_pixels: int,
    *,
    n_slices: int = 1,
    n_lines: int | None = None,
    free_bytes: FreeBytes | None = None,
) -> None:
    """Refuse scans for which there is no room.

    Raises
    ------
    ConfigurationError
        Naming folder, free and needed space.
    """
    one = disk_needs(configuration, geometry, n_pixels, n_lines or len(geometry.rotation_deg))
    needs = DiskNeeds(
        raw=n_slices * one.raw, journal=n_slices * one.journal, processed=n_slices * one.processed
    )
    if found := shortages(configuration, needs, free_bytes):
        what = "the slice" if n_slices == 1 else f"{n_slices} slices"
        raise ConfigurationError(f"there is no room for {what}: {found[0]}")


def room_for_a_line(
    configuration: Configuration,
    geometry: ScanGeometry,
    n_pixels: int,
    free_bytes: FreeBytes | None = None,
) -> Callable[[], str]:
    """Return a condition of plans: why no line should be begun for want of space, or an empty string."""
    one = disk_needs(configuration, geometry, n_pixels, 1)
    needs = DiskNeeds(raw=2 * one.raw, journal=2 * one.journal, processed=0.0)  # it may be taken again

    def problem() -> str:
        found = shortages(configuration, needs, free_bytes)
        return str(found[0]) if found else ""

    return problem


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _size(count: float) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
