"""The scans of a pause, within the time that the cell waits."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bluesky import plan_stubs as bps

from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.plans.budget import LineTime, fitted, line_time
from xrdct_beamline.plans.conditions import until_time_is_up

if TYPE_CHECKING:
    from bluesky.utils import MsgGenerator

    from xrdct_beamline.plans.multiscale import Scales

    from .session import Session

__all__ = ["PauseScans"]

logger = logging.getLogger(__name__)

#: Of the pause, left for its end: the last line, documents, the lines' states.
MARGIN_S = 1.0


class PauseScans:
    """Takes the scans of one pause after another, each in the time that is left.

    Parameters
    ----------
    session:
        Measures.
    scales:
        What is taken in a pause.
    pause_s:
        How long the cell waits; None until DONE.
    may_shrink:
        Whether the scan of the region takes fewer angles if time is short.

    Raises
    ------
    ConfigurationError
        If the scans of the first pause, the longest, do not fit.
    """

    def __init__(
        self, session: Session, scales: Scales, *, pause_s: float | None, may_shrink: bool = False
    ) -> None:
        self._session, self._pause_s, self._may_shrink = session, pause_s, may_shrink
        self._roi = scales.roi
        self.seconds = 0.0
        if pause_s is None:
            return
        for role, geometry in scales.of_state(0):
            line = self._line_time(geometry, role)
            if geometry == scales.roi:
                left_s = pause_s - MARGIN_S - self.seconds
                geometry = fitted(geometry, line, left_s, may_shrink=may_shrink)
            self.seconds += line.slice_s(len(geometry.rotation_deg))
        if self.seconds > pause_s - MARGIN_S:
            raise ConfigurationError(
                f"the scans of a pause take about {self.seconds:.0f} s and the cell waits {pause_s:.0f} s; "
                "take fewer lines or frames, or let the cycler wait longer"
            )

    def take(self, geometry: ScanGeometry, **options: Any) -> MsgGenerator[str]:
        """Take a slice in the pause of now; one for which no time is left is left out, and said."""
        role = options.get("role", Role.ROI)
        guard = self._session.guard(geometry, in_pause=True)
        if self._pause_s is not None:
            deadline_s = self._session.beamline.trigger.edge_s.get() + self._pause_s - MARGIN_S
            line = self._line_time(geometry, role)
            try:
                may_shrink = self._may_shrink and geometry == self._roi
                geometry = fitted(geometry, line, deadline_s - time.time(), may_shrink=may_shrink)
            except ConfigurationError as error:
                logger.warning("the %s scan of this pause is left out: %s", role, error)
                yield from bps.null()
                return ""
            in_time = until_time_is_up(deadline_s, time.time, line.total_s)
            guard = replace(guard, fates=(*guard.fates, in_time))
        return (yield from self._session.slice(geometry, guard=guard, needs_room=False, **options))

    def _line_time(self, geometry: ScanGeometry, role: Role) -> LineTime:
        scan = self._session.configuration.scan
        return line_time(
            self._session.beamline,
            geometry,
            exposure_s=scan.exposure_s,
            period_s=scan.period_s,
            mode="step" if role is Role.POINT else "fly",
        )
