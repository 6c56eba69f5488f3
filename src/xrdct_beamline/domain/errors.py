"""Everything that this package raises on purpose.

XrdctError
├── ConfigurationError      a setting, a file or an argument that cannot be used
│   ├── GeometryError       a scan that does not describe a raster
│   ├── CalibrationError    PONI, mask or detector that do not fit together
│   ├── PhaseError          a CIF without what a pattern needs
│   └── OwnerError          somebody else already holds this beamline or output
├── DeviceError             hardware that does not answer, or answers wrongly
│   ├── ConnectionFailed    PVs that did not connect
│   ├── MoveFailed          a motor that is not where it was sent
│   ├── LineFailed          a line that could not be armed or completed
│   └── TriggerError        a trigger line that is early, stuck, late or invalid
├── DataError               frames, journals or files that are damaged or missing
└── ProcessingError         numbers that cannot be reduced

Each message is one sentence for a person: what, which value, the limit, the remedy.
The command line prints it and exits with 2.
"""

from __future__ import annotations

__all__ = [
    "CalibrationError",
    "ConfigurationError",
    "ConnectionFailed",
    "DataError",
    "DeviceError",
    "GeometryError",
    "LineFailed",
    "MoveFailed",
    "OwnerError",
    "PhaseError",
    "ProcessingError",
    "TriggerError",
    "XrdctError",
]


class XrdctError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(XrdctError, ValueError):
    """A setting, a file or an argument that cannot be used."""


class GeometryError(ConfigurationError):
    """A scan that does not describe a raster."""


class CalibrationError(ConfigurationError):
    """PONI, mask or detector that do not fit together."""


class PhaseError(ConfigurationError):
    """A CIF that lacks what a powder pattern needs."""


class OwnerError(ConfigurationError):
    """Another process already holds this beamline or this output."""


class DeviceError(XrdctError, RuntimeError):
    """Hardware that does not answer, or answers wrongly."""


class ConnectionFailed(DeviceError):
    """Process variables that did not connect; the message names each."""


class MoveFailed(DeviceError):
    """A motor that is not where it was sent."""


class LineFailed(DeviceError):
    """A line that could not be armed or completed."""


class TriggerError(DeviceError):
    """A trigger line that is early, stuck, late or invalid."""


class DataError(XrdctError, RuntimeError):
    """Frames, journals or files that are damaged or missing."""


class ProcessingError(XrdctError, ValueError):
    """Numbers that cannot be reduced."""
