"""One attempt of a line, as its event tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.documents import Verdict
from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.domain.scan import ScanGeometry

__all__ = ["LineEvent"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineEvent:
    """What processing needs of an event of the stream ``lines``.

    ``position_mm`` and ``i0`` have one value per frame, in the order of acquisition.
    """

    rotation_index: int
    attempt: int
    verdict: Verdict
    reason: str
    raw_file: str
    position_mm: FloatArray
    i0: FloatArray
    ended_s: float

    @classmethod
    def from_data(cls, data: Mapping[str, Any], geometry: ScanGeometry) -> LineEvent:
        """Read an event's data and check it against the scan.

        Raises
        ------
        DataError
            If a key is missing, or a value cannot belong to this scan.
        """
        try:
            line = cls(
                rotation_index=int(data["line_rotation_index"]),
                attempt=int(data["line_attempt"]),
                verdict=Verdict(data["line_verdict"]),
                reason=str(data["line_reason"]),
                raw_file=str(data["line_raw_file"]),
                position_mm=np.asarray(data["line_position_mm"], dtype=np.float64),
                i0=np.asarray(data["line_i0"], dtype=np.float64),
                ended_s=float(data["line_ended_s"]),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"the event of a line cannot be used ({type(error).__name__}: {error}); "
                "was it written by this version?"
            ) from error
        n_rotations, n_translations = geometry.shape
        if not 0 <= line.rotation_index < n_rotations:
            raise DataError(f"line {line.rotation_index} is not among the scan's {n_rotations} rotations")
        for name, values in (("line_i0", line.i0), ("line_position_mm", line.position_mm)):
            if values.shape != (n_translations,):
                raise DataError(
                    f"line {line.rotation_index} has {values.size} values of {name}, the scan "
                    f"{n_translations} translations; one per frame is needed"
                )
        return line

    def check_direction(self, geometry: ScanGeometry) -> None:
        """Refuse a line whose captured positions run against the scan's plan.

        Placed as planned it would be mirrored, which no later step could notice. Positions that
        were not captured say nothing.

        Raises
        ------
        DataError
            If the captured positions fit the opposite direction better.
        """
        captured = np.isfinite(self.position_mm)
        if not captured.any():
            return
        planned = np.asarray(geometry.translation_mm)[geometry.line_translations(self.rotation_index)]
        along = np.abs(self.position_mm - planned)[captured].sum()
        against = np.abs(self.position_mm - planned[::-1])[captured].sum()
        if against < along:
            raise DataError(
                f"line {self.rotation_index} was captured from {self.position_mm[captured][0]:g} to "
                f"{self.position_mm[captured][-1]:g} mm, planned from {planned[0]:g} to {planned[-1]:g} mm; "
                "check the sign of the translation stage"
            )
