"""The Pilatus and its HDF5 file writer as one flyer: one kickoff, one line, one raw file."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

from ophyd import Component, Device, EpicsSignalRO
from ophyd.status import DeviceStatus, Status, SubscriptionStatus

from xrdct_beamline.domain.documents import IMAGE
from xrdct_beamline.domain.errors import LineFailed

from ._status import combine, put_if_connected, settle, until, write_changed
from .line_watch import AcquisitionMode, LineLimits, LineOutcome, LineProgress, LineRequest
from .pilatus_records import PilatusCamera, PilatusFile

__all__ = ["Pilatus"]

logger = logging.getLogger(__name__)

DATASET = "/entry/data/data"
STEP_MARGIN_S = 10.0


class _Flight:
    """A line between kickoff and closed file, and the thread that waits for it."""

    def __init__(self, detector: Pilatus, progress: LineProgress, dropped_before: int) -> None:
        self.progress = progress
        self.dropped_before = dropped_before
        self.started = DeviceStatus(detector, call_stop_on_failure=False)
        self.done = DeviceStatus(detector, call_stop_on_failure=False)
        self.news = threading.Condition()
        self.has_ended = False  # the file is closed and the outcome read
        self.is_claimed = False  # somebody has asked for completion
        self.may_fail = threading.Event()  # cleared while the RunEngine pauses
        self.may_fail.set()

    def note(self, change: Callable[[LineProgress], None]) -> None:
        """Tell the waiting thread what has happened."""
        with self.news:
            change(self.progress)
            self.news.notify()


class Pilatus(Device):
    """Detector and file writer, as one flyer.

    ``prepare`` takes a `LineRequest`, ``kickoff`` opens the file and arms (done once pulses may come),
    ``complete`` is done when the file is closed with all frames; if it fails the file is closed too, and
    `outcome` says what is in it. In step mode ``trigger`` takes one frame between the two.

    A line that was given up for a pause (``pause``, or ``stop(success=True)``) fails its status only at
    ``resume``: a status that fails before that would end a suspension at once.

    Attributes
    ----------
    outcome:
        Of the latest line.
    interruptions:
        Pauses so far; a plan compares it before and after a line.
    """

    cam = Component(PilatusCamera, "cam1:")
    file = Component(PilatusFile, "HDF1:")

    def __init__(self, prefix: str, *, name: str, limits: LineLimits | None = None, **kwargs: Any) -> None:
        self.limits = limits or LineLimits()
        self.outcome: LineOutcome | None = None
        self.interruptions = 0
        self._request: LineRequest | None = None
        self._flight: _Flight | None = None
        self._uncollected: LineOutcome | None = None
        super().__init__(prefix, name=name, **kwargs)
        self.file.capturing.subscribe(self._on_capturing, run=False)
        self.file.num_captured.subscribe(self._on_captured, run=False)
        self.cam.acquiring.subscribe(self._on_acquiring, run=False)
        self.cam.armed.subscribe(self._on_armed, run=False)
        self.file.capturing.subscribe(self._on_connection, event_type=EpicsSignalRO.SUB_META, run=False)

    # -- a line --------------------------------------------------------------------------------

    def prepare(self, request: LineRequest) -> Status:
        """Write the settings of a line, those that differ."""
        self._refuse_in_flight("prepare")
        self._request = request
        return write_changed([*self.cam.line_settings(request), *self.file.line_settings(request)])

    def kickoff(self) -> DeviceStatus:
        """Open the file and arm; done once the detector waits for pulses."""
        self._refuse_in_flight("kickoff")
        if self._request is None:
            raise LineFailed(f"{self.name} has no line to take: prepare it first")
        if self.cam.acquiring.get() or self.file.capturing.get():
            raise LineFailed(f"{self.name} is acquiring for somebody else; stop it, then repeat the line")
        progress = LineProgress(
            request=self._request, limits=self.limits, kicked_off_s=time.monotonic(), has_armed=False
        )
        flight = self._flight = _Flight(self, progress, self.file.dropped_arrays.get())
        self._request = None
        threading.Thread(target=self._watch, args=(flight,), name=f"{self.name}-line", daemon=True).start()
        self.file.capture.put(1, wait=False)
        if progress.request.mode is AcquisitionMode.FLY:
            self.cam.acquire.put(1, wait=False)
        return flight.started

    def complete(self) -> DeviceStatus:
        """Return the status of the whole line; it fails with `LineFailed` unless all frames came."""
        flight = self._flight
        if flight is None or flight.is_claimed:
            raise LineFailed(f"{self.name} has no line to complete: kick it off first")
        flight.is_claimed = True
        flight.may_fail.set()
        flight.note(lambda progress: progress.expect_completion(time.monotonic()))
        return flight.done

    def trigger(self) -> DeviceStatus:
        """Take one frame in step mode; done when it is read out."""
        flight = self._flight
        if flight is None or flight.has_ended or flight.progress.request.mode is not AcquisitionMode.STEP:
            raise LineFailed(f"{self.name} has no step-mode line in flight to trigger: kick it off first")

        def has_ended(*, old_value: Any, value: Any, **kwargs: Any) -> bool:
            return bool(old_value) and not value

        timeout_s = flight.progress.request.exposure_s + STEP_MARGIN_S
        status = SubscriptionStatus(self.cam.busy, has_ended, timeout=timeout_s, run=False)
        self.cam.acquire.put(1, wait=False)
        return status

    def set(self, state: str) -> Status:
        """Bring the detector to ``"idle"``: no line in flight, file closed."""
        if state != "idle":
            raise LineFailed(f"{self.name} can be set to 'idle' only, not to {state!r}")
        flight = self._flight
        self.stop()
        if flight is None or flight.done.done:
            return self._until_idle()
        idle = Status()
        flight.done.add_callback(lambda status: settle(idle))
        return idle

    def _until_idle(self) -> Status:
        """Wait for the end of what a session before this one has left."""

        def describe() -> LineFailed:
            return LineFailed(
                f"{self.name} is still acquiring {self.limits.close_s:g} s after it was stopped; "
                "restart its server"
            )

        busy = (self.cam.acquiring, self.file.capturing)
        if not all(signal.connected for signal in busy):
            return combine([])  # a server that is away is waited for elsewhere
        return combine([until(signal, 0, self.limits.close_s, describe) for signal in busy])

    # -- stopping ------------------------------------------------------------------------------

    def stop(self, *, success: bool = False) -> None:
        """Give up the line in flight; its file is closed with the frames that it has."""
        flight = self._flight
        if flight is not None and not flight.done.done:
            if success:
                flight.may_fail.clear()
            else:
                flight.may_fail.set()
            flight.note(lambda progress: progress.give_up("it was interrupted"))
        self._end_acquisition()

    def pause(self) -> None:
        """Give up the line in flight; the plan hears of it when it goes on."""
        self.interruptions += 1
        self.stop(success=True)

    def resume(self) -> None:
        """Let the line that was given up fail."""
        if self._flight is not None:
            self._flight.may_fail.set()

    def unstage(self) -> list[object]:
        """Stop."""
        self.stop()
        return super().unstage()

    def _end_acquisition(self) -> None:
        put_if_connected(self.cam.acquire, 0)
        put_if_connected(self.file.capture, 0)

    # -- documents -----------------------------------------------------------------------------

    def describe_collect(self) -> dict[str, dict[str, Any]]:
        """Describe the frames of all lines."""
        return {
            IMAGE: {
                "source": f"PV:{self.prefix}",
                "dtype": "array",
                "dtype_numpy": "<i4",
                "shape": list(self._shape),  # of one frame; with a leading 1 tiled chunks the wrong axes
                "external": "STREAM:",
            }
        }

    def collect_asset_docs(self, index: int | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the file of the latest line and its frames, once; nothing if it has no frame."""
        outcome, self._uncollected = self._uncollected, None
        if outcome is None or not outcome.captured:
            return
        uid = str(uuid4())
        yield (
            "stream_resource",
            {
                "uid": uid,
                "data_key": IMAGE,
                "mimetype": "application/x-hdf5",
                "uri": Path(outcome.raw_file).as_uri().replace("file:///", "file://localhost/"),
                "parameters": {"dataset": DATASET, "chunk_shape": (1, *self._shape), "swmr": False},
            },
        )
        yield (
            "stream_datum",
            {
                "uid": f"{uid}/0",
                "stream_resource": uid,
                "descriptor": "",  # the RunEngine fills in descriptor and sequence numbers
                "indices": {"start": 0, "stop": outcome.captured},
                "seq_nums": {"start": 0, "stop": 0},
            },
        )

    def get_index(self) -> int:
        """Return the number of frames that wait for being collected."""
        return self._uncollected.captured if self._uncollected else 0

    @property
    def _shape(self) -> tuple[int, int]:
        return int(self.cam.rows.get()), int(self.cam.columns.get())

    # -- what happens meanwhile ----------------------------------------------------------------

    def _on_capturing(self, *, value: Any, **kwargs: Any) -> None:
        self._note(lambda progress: progress.note_capturing(bool(value), time.monotonic()))

    def _on_acquiring(self, *, value: Any, **kwargs: Any) -> None:
        self._note(lambda progress: progress.note_acquiring(bool(value), time.monotonic()))

    def _on_armed(self, *, value: Any, **kwargs: Any) -> None:
        self._note(lambda progress: progress.note_armed(bool(value)))

    def _on_captured(self, *, value: Any, **kwargs: Any) -> None:
        self._note(lambda progress: progress.note_captured(int(value), time.monotonic()))

    def _on_connection(self, *, connected: bool = True, **kwargs: Any) -> None:
        if not connected:
            self._note(lambda progress: progress.give_up("its server went away"))

    def _note(self, change: Callable[[LineProgress], None]) -> None:
        flight = self._flight
        if flight is not None:
            flight.note(change)

    def _watch(self, flight: _Flight) -> None:
        """Wait for a line; in a thread of its own, because closing a file may take its time."""
        problem = self._wait(flight)
        if problem:
            self._end_acquisition()
            self._wait_until_over(flight)
        outcome = self._read_outcome(flight)
        if not problem and (fault := _judge(outcome, flight.progress.request.n_frames)):
            problem = flight.progress.given_up or fault
        self.outcome = self._uncollected = outcome
        flight.has_ended = True
        if not problem:
            settle(flight.started)
            settle(flight.done)
            return
        logger.warning("%s: %s", self.name, problem)
        error = LineFailed(
            f"{self.name} took {outcome.captured} of {flight.progress.request.n_frames} frames: {problem}; "
            "the line can be repeated"
        )
        flight.may_fail.wait()
        settle(flight.started, error)
        settle(flight.done, error)

    def _wait(self, flight: _Flight) -> str:
        """Return why the line has to be given up, or an empty string once it is over."""
        progress = flight.progress
        problem = self._wait_for(flight, lambda: progress.has_closed)
        if problem:
            return problem
        try:  # monitors of two variables may come in either order
            captured = int(self.file.num_captured.get(use_monitor=False))
        except Exception as error:  # a dying server: each control layer raises its own, libca's is no timeout
            return f"its file writer does not answer ({type(error).__name__}: {error})"
        flight.note(lambda progress: progress.note_captured(captured, time.monotonic()))
        return self._wait_for(flight, lambda: progress.is_over)

    def _wait_for(self, flight: _Flight, is_reached: Callable[[], bool]) -> str:
        with flight.news:
            while not is_reached():
                now_s = time.monotonic()
                if problem := flight.progress.problem(now_s):
                    return problem
                if flight.progress.is_ready and not flight.started.done:
                    settle(flight.started)
                flight.news.wait(flight.progress.due_s(now_s))
        return ""

    def _wait_until_over(self, flight: _Flight) -> None:
        deadline_s = time.monotonic() + self.limits.close_s
        with flight.news:
            while not flight.progress.is_over and self.file.capturing.connected:
                if not flight.news.wait(max(deadline_s - time.monotonic(), 0.0)):
                    return

    def _read_outcome(self, flight: _Flight) -> LineOutcome:
        try:
            captured = int(self.file.num_captured.get(use_monitor=False))
            message = self.file.write_message.get() if self.file.write_status.get() else ""
            return LineOutcome(
                raw_file=self.file.full_file_name.get() if captured else "",
                captured=captured,
                exposed=int(self.cam.images_counter.get()),
                dropped=int(self.file.dropped_arrays.get()) - flight.dropped_before,
                write_error=message,
                closed_s=time.time(),
            )
        except Exception as error:  # as above; a thread that died here would leave the plan waiting for ever
            reason = f"{type(error).__name__}: {error}"
            return LineOutcome(
                raw_file="", captured=0, exposed=0, dropped=0, write_error=reason, closed_s=time.time()
            )

    def _refuse_in_flight(self, verb: str) -> None:
        flight = self._flight
        if flight is not None and not flight.has_ended:
            progress = flight.progress
            raise LineFailed(
                f"{self.name} cannot {verb}: a line of {progress.request.n_frames} frames is in flight "
                f"({progress.captured} captured); wait until it is complete, or stop it"
            )


def _judge(outcome: LineOutcome, n_frames: int) -> str:
    """Return what is wrong with a closed file, or an empty string."""
    if outcome.write_error:
        return f"the file writer reports {outcome.write_error!r}"
    if outcome.captured != n_frames:
        return "frames are missing from the file"
    if outcome.dropped:
        return f"{outcome.dropped} frames were dropped by the file writer"
    return ""
