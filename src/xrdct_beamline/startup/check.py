"""What is wrong with a beamline before its users find out, and how to mend it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xrdct_beamline.domain.errors import XrdctError

from .configuration import Configuration, load_configuration
from .processes import confine_to_loopback

__all__ = ["Finding", "run_checks"]

#: A compressed 2-megapixel frame of a powder: what a slice needs on disk is counted with it.
BYTES_PER_FRAME = 1.3e6


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, in one sentence."""

    what: str
    is_good: bool
    text: str


def run_checks(config: Path | None, *, timeout_s: float | None = None) -> Iterator[Finding]:
    """Yield a finding for the configuration, the calibration, the disk and the process variables."""
    try:
        configuration = load_configuration(config)
    except XrdctError as error:
        yield Finding("configuration", False, str(error))
        return
    yield Finding("configuration", True, configuration.source)
    yield _check_calibration(configuration)
    yield _check_scan(configuration)
    yield _check_disk(configuration)
    yield _check_process_variables(configuration, timeout_s)


def _check_calibration(configuration: Configuration) -> Finding:
    try:
        detector = configuration.calibration.load()
    except XrdctError as error:
        return Finding("calibration", False, str(error))
    text = f"{configuration.calibration.poni}, {detector.shape[0]} x {detector.shape[1]} pixels"
    return Finding("calibration", True, f"{text}, wavelength {detector.wavelength_A:.6g} A")


def _check_scan(configuration: Configuration) -> Finding:
    try:
        geometry = configuration.scan.geometry()
    except XrdctError as error:
        return Finding("scan", False, str(error))
    minutes = geometry.n_frames * configuration.scan.period_s / 60
    return Finding(
        "scan",
        True,
        f"{geometry.shape[1]} x {geometry.shape[0]} points, {minutes:.3g} min of frames per slice",
    )


def _check_disk(configuration: Configuration) -> Finding:
    folder = configuration.paths.data
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    needed = configuration.scan.n_translations * configuration.scan.n_rotations * BYTES_PER_FRAME
    text = f"{free / 1e9:.3g} GB free in {folder}, a slice takes up to {needed / 1e9:.3g} GB"
    if free < needed:
        return Finding("disk", False, f"{text}; free space or choose another folder under [paths] data")
    return Finding("disk", True, text)


def _check_process_variables(configuration: Configuration, timeout_s: float | None) -> Finding:
    confine_to_loopback()  # before anything imports libca
    from xrdct_beamline.devices.beamline import build_beamline
    from xrdct_beamline.devices.connection import wait_for_connections

    beamline = build_beamline(configuration.beamline.prefix, configuration.devices)
    wait_s = configuration.beamline.connection_timeout_s if timeout_s is None else timeout_s
    try:
        wait_for_connections(beamline.devices, timeout_s=wait_s)
    except XrdctError as error:
        return Finding("process variables", False, str(error))
    names = ", ".join(device.name for device in beamline.devices)
    return Finding("process variables", True, f"{configuration.beamline.prefix} answers: {names}")
