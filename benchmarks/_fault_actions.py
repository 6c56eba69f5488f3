"""What each kind of fault does to the rig, and how it is undone."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from _fault_rig import RESERVE_MB, Rig

from xrdct_beamline.sim.faults import Fault, Injection

__all__ = ["inject", "relieve"]

Action = Callable[[Rig, Injection], None]
STAGES = ("translation", "rotation")
FRAMES_OF_DELAY_S = 0.3


def inject(rig: Rig, injection: Injection) -> None:
    """Do it."""
    INJECT[injection.fault](rig, injection)


def relieve(rig: Rig, injection: Injection) -> None:
    """Undo it, where that is needed."""
    RELIEVE.get(injection.fault, lambda rig, injection: None)(rig, injection)


def _signal(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _put(name: str, value: object) -> Action:
    return lambda rig, injection: rig.put(name, value)


def _drop(rig: Rig, injection: Injection, times: int) -> None:
    rig.put("SIM:DropTimes", times)
    rig.put("SIM:DropFrame", injection.number)


def _restart_live(rig: Rig, injection: Injection) -> None:
    rig.live.stop()
    rig.start_live()


def _kill_live(rig: Rig, injection: Injection) -> None:
    _signal(rig.live.pid, signal.SIGKILL)


INJECT: dict[Fault, Action] = {
    Fault.FRAME_DROPPED: lambda rig, i: _drop(rig, i, 1),
    Fault.FRAME_DROPPED_EACH_TIME: lambda rig, i: _drop(rig, i, 3),
    Fault.QUEUE_FULL: _put("PIL:HDF1:QueueSize", 0),
    Fault.DETECTOR_HANGS: _put("SIM:DetectorHangs", "On"),
    Fault.ARMED_LATE: lambda rig, i: rig.put("SIM:ArmDelay", FRAMES_OF_DELAY_S * (1 + i.number)),
    Fault.MOVE_SHORT: lambda rig, i: rig.put("SIM:ShortMove", STAGES[i.number % 2]),
    Fault.DONE_EARLY: lambda rig, i: rig.put("SIM:EarlyDone", STAGES[i.number % 2]),
    Fault.I0_DEAD: _put("SIM:DeadMonitor", "i0"),
    Fault.I1_DEAD: _put("SIM:DeadMonitor", "i1"),
    Fault.BEAM_LOST: _put("SIM:BeamOff", "On"),
    Fault.SHUTTER_CLOSED: _put("SHUTTER:OPEN", "Closed"),
    Fault.DISK_LOW: lambda rig, i: rig.fill_disk(RESERVE_MB - 2),
    Fault.DISK_FULL: lambda rig, i: rig.fill_disk(0),
    Fault.IOC_KILLED: lambda rig, i: rig.sim.kill(),
    Fault.IOC_STOPPED: lambda rig, i: _signal(rig.sim.pid, signal.SIGSTOP),
    Fault.SESSION_KILLED: lambda rig, i: rig.session.kill(),
    Fault.SESSION_STOPPED: lambda rig, i: _signal(rig.session.pid, signal.SIGSTOP),
    Fault.LIVE_KILLED: _kill_live,
    Fault.LIVE_STOPPED: lambda rig, i: _signal(rig.live.pid, signal.SIGSTOP),
    Fault.CATALOG_KILLED: lambda rig, i: _signal(rig.catalog_pid(), signal.SIGKILL),
    Fault.CATALOG_STOPPED: lambda rig, i: _signal(rig.catalog_pid(), signal.SIGSTOP),
    Fault.CELL_RUNS_ON: lambda rig, i: rig.set_level("Stuck low"),
    Fault.WIRE_NOISE: _put("SIM:LineNoise", 0.6),
    Fault.WIRE_CHATTERS: lambda rig, i: rig.set_level("Chatter"),
    Fault.WIRE_HIGH: lambda rig, i: rig.set_level("Stuck high"),
    Fault.WIRE_LOW: lambda rig, i: rig.set_level("Stuck low"),
    Fault.WIRE_ALARM: lambda rig, i: rig.set_level("Alarm"),
    Fault.WIRE_AWAY: lambda rig, i: rig.sim.kill(),
}

RELIEVE: dict[Fault, Action] = {
    Fault.QUEUE_FULL: _put("PIL:HDF1:QueueSize", 1000),
    Fault.DETECTOR_HANGS: _put("SIM:DetectorHangs", "Off"),
    Fault.ARMED_LATE: _put("SIM:ArmDelay", 0.0),
    Fault.I0_DEAD: _put("SIM:DeadMonitor", "None"),
    Fault.I1_DEAD: _put("SIM:DeadMonitor", "None"),
    Fault.BEAM_LOST: _put("SIM:BeamOff", "Off"),
    Fault.DISK_LOW: lambda rig, i: rig.free_disk(),
    Fault.DISK_FULL: lambda rig, i: rig.free_disk(),
    Fault.IOC_KILLED: lambda rig, i: rig.start_sim(),
    Fault.IOC_STOPPED: lambda rig, i: _signal(rig.sim.pid, signal.SIGCONT),
    Fault.SESSION_STOPPED: lambda rig, i: _signal(rig.session.pid, signal.SIGCONT),
    Fault.LIVE_KILLED: _restart_live,
    Fault.LIVE_STOPPED: lambda rig, i: _signal(rig.live.pid, signal.SIGCONT),
    Fault.CATALOG_STOPPED: lambda rig, i: _signal(rig.catalog_pid(), signal.SIGCONT),
    Fault.WIRE_NOISE: _put("SIM:LineNoise", 0.0),
    Fault.WIRE_CHATTERS: lambda rig, i: rig.set_level("Stuck low"),
    Fault.WIRE_HIGH: lambda rig, i: rig.set_level("Stuck low"),
    Fault.WIRE_ALARM: lambda rig, i: rig.set_level("Stuck low"),
    Fault.WIRE_AWAY: lambda rig, i: rig.start_sim(),
}
