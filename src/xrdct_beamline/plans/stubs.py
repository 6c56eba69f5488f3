"""Single steps that plans are composed of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from bluesky import plan_stubs as bps
from bluesky.utils import FailedStatus, MsgGenerator
from ophyd import Device
from ophyd.status import StatusBase
from ophyd.utils import DisconnectedError

from xrdct_beamline.devices.beam import ShutterState
from xrdct_beamline.devices.beamline import Beamline
from xrdct_beamline.devices.connection import missing_pvs, not_connected
from xrdct_beamline.devices.stages import Stage
from xrdct_beamline.domain.errors import DeviceError, MoveFailed

__all__ = [
    "HARDWARE_ERRORS",
    "bring_to_rest",
    "cause",
    "close_failed",
    "drain",
    "make_safe",
    "read_event",
    "shared_future",
    "verify_at",
    "wait_for_connection",
    "wait_until_done",
]

logger = logging.getLogger(__name__)

#: What hardware can do to a plan; anything else is a mistake or somebody's wish and goes through.
HARDWARE_ERRORS = (FailedStatus, DeviceError, DisconnectedError, TimeoutError)

POLL_S = 0.25  # of what rarely happens: a dead server
STILL_TIMEOUT_S, STILL_POLL_S = 10.0, 0.02
NOTICE_S = 0.02  # for the RunEngine to notice that a status has failed


def cause(error: BaseException) -> BaseException:
    """Return what made a status fail, or the error itself."""
    return error.__cause__ if isinstance(error, FailedStatus) and error.__cause__ else error


def wait_until_done(statuses: Sequence[StatusBase], group: str) -> MsgGenerator[None]:
    """Wait for the statuses of a group, pauses notwithstanding.

    A pause interrupts a ``wait``, and after it the RunEngine no longer knows the group: going on at
    once would start the next line on top of this one.
    """
    yield from bps.wait(group)
    while pending := [status for status in statuses if not status.done]:
        yield from bps.wait_for([shared_future(status) for status in pending])
    for status in statuses:
        if error := status.exception(timeout=0):
            raise error


def drain(statuses: Iterable[StatusBase]) -> MsgGenerator[None]:
    """Wait until each status is done, and let the RunEngine complain of those that failed.

    It throws a failure into whatever the plan does at that moment: better here than into the next line.
    """
    for status in statuses:
        while not status.done:
            try:
                yield from bps.wait_for([shared_future(status)])
            except FailedStatus as error:
                logger.debug("failed too: %s", cause(error))
    for _ in range(2):
        try:
            yield from bps.sleep(NOTICE_S)
        except FailedStatus as error:
            logger.debug("failed too: %s", cause(error))


def verify_at(stage: Stage, target: float) -> MsgGenerator[None]:
    """Raise `MoveFailed` unless a stage is where it was sent: a pause may have cut its move short."""
    yield from bps.null()
    if not stage.is_at(target):
        raise MoveFailed(
            f"{stage.name} is at {stage.position:g} {stage.egu} instead of {target:g} "
            f"(tolerance {stage.tolerance:g}); the line is taken again"
        )


def bring_to_rest(beamline: Beamline, statuses: Iterable[StatusBase] = ()) -> MsgGenerator[None]:
    """Stop whatever moves or exposes, wait for what was started, and make everything safe."""
    for device in (beamline.translation, beamline.rotation, beamline.detector):
        try:
            yield from bps.stop(device)
        except HARDWARE_ERRORS as error:
            logger.warning("%s could not be stopped: %s", device.name, cause(error))
    yield from drain(statuses)
    yield from _wait_until_still((beamline.translation, beamline.rotation))
    yield from make_safe(beamline)


def _wait_until_still(stages: Sequence[Stage]) -> MsgGenerator[None]:
    """Wait until no stage moves: a new target given on the way may be taken for the old move's end."""
    try:
        for _ in range(round(STILL_TIMEOUT_S / STILL_POLL_S)):
            if all(not stage.connected or stage.motor_done_move.get() for stage in stages):
                return  # a stage whose server is away is waited for elsewhere
            yield from bps.sleep(STILL_POLL_S)
        logger.warning("a stage still moves %g s after it was stopped", STILL_TIMEOUT_S)
    except HARDWARE_ERRORS as error:
        logger.warning("whether the stages stand is not known: %s", cause(error))


def make_safe(beamline: Beamline) -> MsgGenerator[None]:
    """Close the shutter, disarm, end the acquisition; one that fails does not keep the others from it."""
    for device, state in (
        (beamline.shutter, ShutterState.CLOSED),
        (beamline.compare, False),
        (beamline.detector, "idle"),
    ):
        try:
            yield from bps.abs_set(device, state, wait=True)
        except HARDWARE_ERRORS as error:
            logger.warning("%s could not be made safe: %s", device.name, cause(error))


def wait_for_connection(devices: Sequence[Device], timeout_s: float) -> MsgGenerator[None]:
    """Wait until every process variable is connected; `ConnectionFailed` names those that are not."""
    waited_s = 0.0
    while names := _disconnected(devices):
        if waited_s >= timeout_s:
            raise not_connected(names, timeout_s)
        if not waited_s:
            logger.warning("waiting for %d process variables: %s", len(names), ", ".join(names))
        yield from bps.sleep(POLL_S)
        waited_s += POLL_S


def close_failed(error: BaseException) -> MsgGenerator[None]:
    """Close a run with what went wrong; for `contingency_wrapper`, which raises it on."""
    status = getattr(error, "exit_status", "fail")  # an abort or a stop says what it wants to be called
    yield from bps.close_run(exit_status=status, reason=str(cause(error)))


def read_event(devices: Iterable[Device], stream: str) -> MsgGenerator[None]:
    """Read devices into one event."""
    yield from bps.create(name=stream)
    for device in devices:
        yield from bps.read(device)
    yield from bps.save()


def _disconnected(devices: Sequence[Device]) -> list[str]:
    if all(device.connected for device in devices):
        return []
    return missing_pvs(devices)


def shared_future(status: StatusBase) -> Callable[[], asyncio.Future[None]]:
    """Return a factory of one future that is done with a status, failed or not.

    ``wait_for`` may ask for it again and again, as it does after each interruption.
    """
    made: list[asyncio.Future[None]] = []

    def future() -> asyncio.Future[None]:
        if not made:
            loop = asyncio.get_running_loop()
            made.append(loop.create_future())
            status.add_callback(lambda done: loop.call_soon_threadsafe(made[0].set_result, None))
        return made[0]

    return future
