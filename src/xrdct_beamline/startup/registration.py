"""Where the sample is in each state, from two lines through it at right angles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.documents import Role, Verdict
from xrdct_beamline.domain.errors import DataError, GeometryError
from xrdct_beamline.domain.registration import SampleOffset
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.processing.registration import profile_shift
from xrdct_beamline.storage.runs import RecordedLine, find_run, journaled_runs, recorded_lines

if TYPE_CHECKING:
    from bluesky.utils import MsgGenerator

    from .session import Session

__all__ = ["Fiducial", "transmission"]

#: Angles may differ from 0 and 90 degrees by so much.
TOLERANCE_DEG = 10.0


def transmission(line: RecordedLine) -> npt.NDArray[np.float64]:
    """Return what passed the sample in each frame, in the order of acquisition."""
    return np.asarray(line.data["line_i1"], dtype=float) / np.asarray(line.data["line_i0"], dtype=float)


class Fiducial:
    """Two lines of a wide scan, near 0 and 90 degrees: `measure` and `evaluate` for `plans.multiscale`.

    The transmission profile of the sample moves by x at 0 degrees and by y at 90 degrees. The first
    state is the reference. Heights are not looked at.

    Parameters
    ----------
    session:
        Measures, and keeps the journal.
    geometry:
        The wide scan of which the lines are taken.

    Raises
    ------
    GeometryError
        If the scan has no angles near 0 and 90 degrees.
    """

    def __init__(self, session: Session, geometry: ScanGeometry) -> None:
        self._session, self._geometry = session, geometry
        angles = np.asarray(geometry.rotation_deg)
        self._lines = {}
        for name, wanted_deg in (("x_mm", 0.0), ("y_mm", 90.0)):
            index = int(np.abs(angles - wanted_deg).argmin())
            if abs(angles[index] - wanted_deg) > TOLERANCE_DEG:
                raise GeometryError(
                    f"the sample cannot be found again with a scan that has no angle near {wanted_deg:g} "
                    "degrees; take one that spans 0 to 180"
                )
            self._lines[name] = index
        self._reference: dict[str, npt.NDArray[np.float64]] = {}

    def measure(self, offset: SampleOffset, **options: Any) -> MsgGenerator[str]:
        """Take the two lines, the stages following an offset."""
        lines = sorted(self._lines.values())
        return (
            yield from self._session.slice(
                self._geometry, lines=lines, role=Role.POINT, offset=offset, **options
            )
        )

    def evaluate(self, index: int, uid: str) -> SampleOffset:
        """Return the whole offset of a state from its run; none for the first state.

        Raises
        ------
        DataError
            If a line was not accepted.
        """
        journal = self._session.configuration.paths.journal
        recorded = recorded_lines(journal, [uid])
        profiles = {name: self._profile(recorded, line) for name, line in self._lines.items()}
        if not self._reference:
            self._reference = profiles
            return SampleOffset()
        start = find_run(journaled_runs(journal), uid).start
        before = SampleOffset.from_metadata(start["xrdct"].get("offset"))
        found = before.to_metadata()
        residual = np.array(
            [profile_shift(self._reference[name], profiles[name]).steps for name in ("x_mm", "y_mm")]
        )
        x_mm, y_mm = np.linalg.solve(self._directions(), residual * self._geometry.step_mm)
        return SampleOffset(**{**found, "x_mm": before.x_mm + x_mm, "y_mm": before.y_mm + y_mm})

    def _directions(self) -> npt.NDArray[np.float64]:
        """Return how x and y appear in the two lines: ``t = x cos θ + y sin θ``."""
        theta = np.radians([self._geometry.rotation_deg[self._lines[name]] for name in ("x_mm", "y_mm")])
        return np.column_stack([np.cos(theta), np.sin(theta)])

    def _profile(self, recorded: dict[int, RecordedLine], index: int) -> npt.NDArray[np.float64]:
        line = recorded.get(index)
        if line is None or line.verdict != Verdict.ACCEPTED:
            raise DataError("a line that should tell where the sample is was not accepted; look at the beam")
        profile = transmission(line)
        return profile[::-1] if self._geometry.runs_backwards(index) else profile
