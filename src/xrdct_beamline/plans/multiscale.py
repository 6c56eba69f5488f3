"""Scans of several widths in each state of the cell: broad once, coarse and ROI each time."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bluesky import plan_stubs as bps
from bluesky.utils import MsgGenerator

from xrdct_beamline.devices.stages import Stage
from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.registration import SampleOffset
from xrdct_beamline.domain.scan import ScanGeometry

__all__ = ["Scales", "multiscale", "point", "registered", "volume"]

logger = logging.getLogger(__name__)

#: Takes a geometry and the options of `slice_scan`, and returns the uid of the run.
Take = Callable[..., MsgGenerator[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scales:
    """The scans of each state, from wide to narrow; those that are None are left out.

    Parameters
    ----------
    broad:
        The whole sample, coarsely; in the first state only.
    coarse, roi:
        A disc around the region, and the region, in each state.
    point:
        One place, measured at the beginning of each pause: what the cell does within it.
    whole_sample:
        Whether the region is the whole sample, so that nothing lies outside of it: its role is "broad".
    """

    roi: ScanGeometry
    coarse: ScanGeometry | None = None
    broad: ScanGeometry | None = None
    point: ScanGeometry | None = None
    whole_sample: bool = False

    def __post_init__(self) -> None:
        if self.whole_sample and (self.broad is not None or self.coarse is not None):
            raise ConfigurationError(
                "a scan of the whole sample needs no wider ones; leave out broad and coarse"
            )
        if self.point is not None and self.point.n_frames != 1:
            raise ConfigurationError(
                f"the point has {self.point.n_frames} frames; give one translation and one rotation"
            )
        nested = [g for g in (self.broad, self.coarse, self.roi) if g is not None]
        for outer, inner in itertools.pairwise(nested):
            if _extent_mm(inner) > _extent_mm(outer):
                raise ConfigurationError(
                    f"a scan of {_extent_mm(inner):g} mm does not lie within one of "
                    f"{_extent_mm(outer):g} mm; the scans must become narrower from broad to coarse to ROI"
                )

    def of_state(self, index: int) -> Iterator[tuple[Role, ScanGeometry]]:
        """Yield the scans of a state in the order in which they are taken."""
        if self.point is not None:
            yield Role.POINT, self.point
        if self.broad is not None and index == 0:
            yield Role.BROAD, self.broad
        if self.coarse is not None:
            yield Role.COARSE, self.coarse
        yield (Role.BROAD if self.whole_sample else Role.ROI), self.roi


def point(translation_mm: float = 0.0, rotation_deg: float = 0.0) -> ScanGeometry:
    """Return the geometry of a point measurement."""
    return ScanGeometry(translation_mm=(translation_mm,), rotation_deg=(rotation_deg,), line_order=(0,))


def multiscale(
    take: Take,
    scales: Scales,
    *,
    register: Callable[[int, str], MsgGenerator[SampleOffset]] | None = None,
) -> Callable[[int, str], MsgGenerator[dict[str, str]]]:
    """Return what `operando` calls in each pause: the scans of a state, registered first.

    Parameters
    ----------
    take:
        Takes a slice.
    register:
        Called with the state and the series' uid; returns where the sample is. What it returns goes
        into the start document of each scan.
    """

    def state(index: int, series_uid: str) -> MsgGenerator[dict[str, str]]:
        uids: dict[str, str] = {}
        offset: SampleOffset | None = None
        for role, geometry in scales.of_state(index):
            options: dict[str, Any] = {"state_index": index, "series_uid": series_uid, "role": role}
            if role is Role.POINT:
                options["mode"] = "step"
            elif register is not None and offset is None:
                offset = yield from register(index, series_uid)
            if offset is not None:
                options["offset"] = offset
            uids[str(role)] = yield from take(geometry, **options)
        return uids

    return state


def registered(
    measure: Callable[[SampleOffset], MsgGenerator[str]],
    evaluate: Callable[[int, str], SampleOffset],
    *,
    limit_mm: float,
) -> Callable[[int, str], MsgGenerator[SampleOffset]]:
    """Return a registration for `multiscale`, from a short fiducial scan in each state.

    Parameters
    ----------
    measure:
        Takes the fiducial scan with the stages following an offset, and returns its run's uid.
    evaluate:
        Returns the whole offset of a state from that run; the first state is the reference.
    limit_mm:
        A larger change from one state to the next is not believed: the offset stays, and it is said.
    """
    known = SampleOffset()

    def register(index: int, series_uid: str) -> MsgGenerator[SampleOffset]:
        nonlocal known
        uid = yield from measure(known)
        found = evaluate(index, uid)
        change_mm = max(
            abs(getattr(found, name) - getattr(known, name)) for name in ("x_mm", "y_mm", "z_mm", "axis_mm")
        )
        if change_mm > limit_mm:
            logger.warning(
                "state %d: the sample seems to have moved by %.4g mm, more than the %.4g mm to be followed",
                index,
                change_mm,
                limit_mm,
            )
        else:
            known = found
        return known

    return register


def volume(
    take: Take, vertical: Stage, geometry: ScanGeometry, z_mm: Sequence[float], **options: Any
) -> MsgGenerator[list[str]]:
    """Take a slice at each of several heights, to find the region of interest; return their uids.

    The stage returns to where it was.
    """
    if not z_mm:
        raise ConfigurationError("a volume of no height has no slice; give heights in mm")
    before_mm = vertical.position
    uids = []
    for index, height_mm in enumerate(z_mm):
        yield from bps.mv(vertical, height_mm)
        md = {"volume": {"index": index, "z_mm": height_mm, "n_slices": len(z_mm)}}
        uids.append((yield from take(geometry, role=Role.VOLUME, md=md, **options)))
    yield from bps.mv(vertical, before_mm)
    return uids


def _extent_mm(geometry: ScanGeometry) -> float:
    return geometry.translation_mm[-1] - geometry.translation_mm[0]
