"""What is wrong with a beamline before its users find out, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xrdct_beamline.domain.errors import XrdctError

from .configuration import Configuration, load_configuration
from .disk import check_disk, disk_needs
from .processes import confine_to_loopback

__all__ = ["Finding", "run_checks"]


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
    geometry = configuration.scan.geometry()
    try:
        rows, columns = configuration.calibration.load().shape
        check_disk(configuration, geometry, rows * columns)
    except XrdctError as error:
        return Finding("disk", False, str(error))
    needs = disk_needs(configuration, geometry, rows * columns, len(geometry.rotation_deg))
    gigabytes = (needs.raw + needs.journal + needs.processed) / 1e9
    return Finding("disk", True, f"room for a slice in {configuration.paths.data}, {gigabytes:.3g} GB")


def _check_process_variables(configuration: Configuration, timeout_s: float | None) -> Finding:
    confine_to_loopback()  # before anything imports libca
    from xrdct_beamline.devices.beamline import build_beamline
    from xrdct_beamline.devices.connection import wait_for_connections

    wait_s = configuration.beamline.connection_timeout_s if timeout_s is None else timeout_s
    try:
        beamline = build_beamline(configuration.beamline.prefix, configuration.devices)
        wait_for_connections(beamline.devices, timeout_s=wait_s)
    except XrdctError as error:
        return Finding("process variables", False, str(error))
    names = ", ".join(device.name for device in beamline.devices)
    return Finding("process variables", True, f"{configuration.beamline.prefix} answers: {names}")
