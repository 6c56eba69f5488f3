"""What is known of a scan when it has ended, gathered from its documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .documents import CalibrationMetadata
from .scan import ScanGeometry

__all__ = ["ScanLine", "ScanRecord"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanLine:
    """One accepted line. Positions and monitors are in the order of acquisition, one per planned frame."""

    rotation_index: int
    raw_file: Path
    attempt: int
    position_mm: FloatArray
    i0: FloatArray
    i1: FloatArray
    started_s: float
    ended_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanRecord:
    """All that is known of a scan when it has ended.

    Parameters
    ----------
    start:
        The start document, which the file keeps whole.
    lines:
        The accepted lines, in any order.
    exit_status:
        How the run ended.
    cell:
        Samples of the cell during the scan, by name, with ``time_s`` (epoch); empty if there are none.
    baseline:
        Numbers read before and after the scan, by name.
    """

    start: Mapping[str, Any]
    geometry: ScanGeometry
    calibration: CalibrationMetadata | None
    lines: Sequence[ScanLine]
    exit_status: str
    ended_s: float
    cell: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    baseline: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
