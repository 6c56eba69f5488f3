"""Whether the detector's counts can be believed: a look at one frame of each line."""

from __future__ import annotations

import logging

import numpy as np

from xrdct_beamline.devices.line_record import LineValues
from xrdct_beamline.domain.errors import DataError
from xrdct_beamline.storage.raw import Hdf5Frames

__all__ = ["CountRateCheck"]

logger = logging.getLogger(__name__)

#: Pixels above the limit that may be hot ones.
N_HOT_PIXELS = 10
#: Counter of a Pilatus: 20 bits.
FULL_COUNTS = 1_048_573


class CountRateCheck:
    """Warns of lines whose frames have pixels beyond the detector's linear range (FACTS §3).

    One frame is decoded per line: that behind which the least beam arrives, where most sample is.

    Parameters
    ----------
    frames:
        Reads the raw files.
    exposure_s:
        Of each frame.
    limit_per_s:
        Counts per pixel and second beyond which counts are too low; 1e7 for a Pilatus3.
    """

    def __init__(self, frames: Hdf5Frames, exposure_s: float, limit_per_s: float) -> None:
        self._frames, self._exposure_s, self._limit_per_s = frames, exposure_s, limit_per_s
        self._limit = min(limit_per_s * exposure_s, FULL_COUNTS)

    def __call__(self, values: LineValues) -> str:
        """Return a warning on a line, or an empty string."""
        with np.errstate(divide="ignore", invalid="ignore"):
            transmission = values.i1 / values.i0
        darkest = int(np.argmin(np.where(np.isfinite(transmission), transmission, np.inf)))
        n_pixels, brightest = self._look(values.raw_file, darkest)
        if n_pixels <= N_HOT_PIXELS:
            return ""
        return (
            f"{n_pixels} pixels of a frame have more than {self._limit:.3g} counts, up to {brightest}: "
            f"beyond {self._limit_per_s:.3g} per second counts are lost; attenuate the beam"
        )

    def _look(self, raw_file: str, index: int) -> tuple[int, int]:
        try:
            frame = self._frames.frame(raw_file, index)
        except DataError as error:
            logger.warning("the count rate is not known: %s", error)
            return 0, 0
        return (0, 0) if frame is None else (int(np.count_nonzero(frame > self._limit)), int(frame.max()))
