"""An acquisition session: devices, RunEngine, and who listens to it, in the order that matters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from bluesky import RunEngine
from bluesky.utils import MsgGenerator, RunEngineInterrupted

from xrdct_beamline.callbacks.console import LineTable
from xrdct_beamline.devices.beamline import Beamline, build_beamline
from xrdct_beamline.devices.connection import wait_for_connections
from xrdct_beamline.devices.watchdog import Heartbeat, Watchdog
from xrdct_beamline.domain.documents import Role
from xrdct_beamline.domain.errors import ConfigurationError
from xrdct_beamline.domain.scan import ScanGeometry
from xrdct_beamline.plans.conditions import Guard, while_cell_waits
from xrdct_beamline.plans.multiscale import Scales, multiscale, registered
from xrdct_beamline.plans.operando import operando
from xrdct_beamline.plans.slice_scan import slice_scan
from xrdct_beamline.storage.catalog import CatalogSubscriber
from xrdct_beamline.storage.catalog_server import CatalogServer, write_profile
from xrdct_beamline.storage.journal import JournalWriter
from xrdct_beamline.storage.raw import Hdf5Frames

from .configuration import Configuration
from .count_rate import CountRateCheck
from .disk import check_disk, room_for_a_line
from .pauses import PauseScans
from .registration import Fiducial
from .resume import resume, run_cut_short

if TYPE_CHECKING:
    from xrdct_beamline.domain.detector import DetectorGeometry

__all__ = ["Session", "ended_on_interrupt"]

logger = logging.getLogger(__name__)


class Session:
    """One owner of the beamline, from connecting to closing.

    The journal is the first subscriber: what it does not take, nobody else is shown. The catalog
    follows behind a buffer; without it, or when it fails, the scan goes on.

    Parameters
    ----------
    configuration:
        Which beamline, where its data go, how it is calibrated.
    say:
        Takes one line of text for the person at the console.
    needs_calibration:
        Whether the calibration is read now; who resumes a slice takes that of its first run, and saves
        the seconds that its libraries take to load.

    Raises
    ------
    ConfigurationError
        If the data folder cannot be written or the calibration cannot be read.
    OwnerError
        If another session holds this beamline.
    ConnectionFailed
        If process variables do not answer; each is named.
    """

    def __init__(
        self,
        configuration: Configuration,
        say: Callable[[str], None] = logger.info,
        *,
        needs_calibration: bool = True,
    ) -> None:
        self.configuration = configuration
        if needs_calibration:
            self.calibration  # noqa: B018  a mistake in it is told before anything connects
        paths = configuration.paths
        for folder in (paths.data, paths.raw, paths.processed):
            _make_writable(folder)
        self._say = say
        self._journal = JournalWriter(paths.journal)
        self._server: CatalogServer | None = None
        self.catalog: CatalogSubscriber | None = None
        self._heartbeat: Heartbeat | None = None
        try:
            self.beamline: Beamline = build_beamline(configuration.beamline.prefix, configuration.devices)
            wait_for_connections(self.beamline.devices, timeout_s=configuration.beamline.connection_timeout_s)
            self._start_heartbeat()
            self.RE = RunEngine({"beamline_id": configuration.beamline.name})
            self.RE.record_interruptions = True
            self.RE.subscribe(self._journal)
            if configuration.catalog.enabled:
                self._open_catalog()
            self.RE.subscribe(LineTable(say))
            self._look_back()
        except BaseException:
            self.close()
            raise

    def slice(
        self,
        geometry: ScanGeometry | None = None,
        *,
        guard: Guard | None = None,
        needs_room: bool = True,
        **options: Any,
    ) -> MsgGenerator[str]:
        """Plan one slice as configured; ``options`` go to `slice_scan`.

        With ``needs_room`` it is refused where the disk is short; between lines room is waited for anyway.

        Raises
        ------
        ConfigurationError
            If there is no room for it, or it cannot be taken.
        """
        scan, geometry = self.configuration.scan, geometry or self.configuration.scan.geometry()
        if needs_room:
            check_disk(self.configuration, geometry, self.n_pixels)
        defaults = {
            "exposure_s": scan.exposure_s,
            "period_s": scan.period_s,
            "directory": self.configuration.paths.raw,
            "calibration": self.calibration.to_metadata(),
            "role": Role.BROAD if scan.whole_sample else Role.ROI,
        }
        chosen = {**defaults, **options}
        guard = guard or self.guard(geometry, exposure_s=chosen["exposure_s"])
        return slice_scan(self.beamline, geometry, guard=guard, **chosen)

    def guard(
        self, geometry: ScanGeometry, *, exposure_s: float | None = None, in_pause: bool = False
    ) -> Guard:
        """Return what is looked at between the lines of a scan.

        Parameters
        ----------
        in_pause:
            Whether the cell should wait until the scan is done.
        """
        use = self.configuration.operando
        return Guard(
            conditions=(room_for_a_line(self.configuration, geometry, self.n_pixels),),
            fates=(while_cell_waits(self.beamline, use.on_cell_running),) if in_pause else (),
            inspect=CountRateCheck(
                Hdf5Frames((self.configuration.paths.raw,)),
                exposure_s or self.configuration.scan.exposure_s,
                use.count_rate_limit,
            ),
        )

    @property
    def n_pixels(self) -> int:
        """Of a frame."""
        camera = self.beamline.detector.cam
        return int(camera.rows.get() * camera.columns.get())

    @cached_property
    def calibration(self) -> DetectorGeometry:
        """The detector's geometry as configured."""
        return self.configuration.calibration.load()

    def operando(
        self,
        n_pauses: int,
        *,
        timeout_s: float,
        geometry: ScanGeometry | None = None,
        scales: Scales | None = None,
        pause_s: float | None = None,
        may_shrink: bool = False,
        follow_mm: float | None = None,
        **options: Any,
    ) -> MsgGenerator[str]:
        """Plan the scans of each of the cell's next pauses.

        Parameters
        ----------
        geometry, scales:
            One slice per pause, or scans of several widths.
        pause_s:
            How long the cell waits, where it waits a fixed time (open loop).
        may_shrink:
            Whether a slice that does not fit into the pause takes fewer angles; otherwise it is refused.
        follow_mm:
            How far the stages follow the sample from one state to the next; None does not look.
        options:
            Go to `plans.operando.operando`.

        Raises
        ------
        ConfigurationError
            If there is no room or no time for it.
        """
        scan = self.configuration.scan
        chosen = scales or Scales(roi=geometry or scan.geometry(), whole_sample=scan.whole_sample)
        for _, raster in chosen.of_state(0):
            check_disk(self.configuration, raster, self.n_pixels, n_slices=n_pauses)
        pause = PauseScans(self, chosen, pause_s=pause_s, may_shrink=may_shrink)
        register = None
        if follow_mm is not None:
            fiducial = Fiducial(self, chosen.broad or chosen.coarse or chosen.roi)
            register = registered(fiducial.measure, fiducial.evaluate, limit_mm=follow_mm)
        in_time: dict[str, Any] = {} if pause_s is None else {"pause_s": pause_s, "scan_s": pause.seconds}
        state = multiscale(pause.take, chosen, register=register)
        return operando(self.beamline, state, n_pauses, timeout_s=timeout_s, **in_time, **options)

    def resume(self, uid: str, **options: Any) -> MsgGenerator[str]:
        """Plan what a slice lacks, as `startup.resume.resume`."""
        return resume(self, uid, say=self._say, **options)

    def close(self) -> None:
        """Bring the lines to their safe level, let the catalog catch up, and give the beamline back."""
        if self._heartbeat is not None:
            self.beamline.trigger.stop()
            self.beamline.shutter.stop()
            self._heartbeat.stop()
        if self.catalog is not None:
            self.catalog.close(timeout_s=30.0)
            for uid, reason in self.catalog.missing.items():
                self._say(f"run {uid[:8]} is in the journal but not in the catalog: {reason}")
        if self._server is not None:
            self._server.stop()
        self._journal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look_back(self) -> None:
        """Undo what a killed session has left, and say what it has not finished."""
        self.beamline.shutter.stop()
        run = run_cut_short(self.configuration)
        if run is not None:
            uid = run.uid[:8]
            self._say(
                f"slice {uid} was cut short; RE(resume('{uid}')) or xrdct resume {uid} takes what it lacks"
            )

    def _start_heartbeat(self) -> None:
        """Have the lines dropped and the shutter closed by their server, should this process vanish."""
        self.beamline.trigger.own()
        settings, connection = self.configuration.devices, self.configuration.beamline
        if not settings.trigger_settings.has_watchdog:
            return
        watchdog = Watchdog(connection.prefix + settings.trigger, name="watchdog")
        wait_for_connections([watchdog], timeout_s=connection.connection_timeout_s)
        self._heartbeat = Heartbeat(watchdog, settings.trigger_settings.heartbeat_s)
        self._heartbeat.start()

    def _open_catalog(self) -> None:
        paths, chosen = self.configuration.paths, self.configuration.catalog
        self._server = CatalogServer(paths.catalog, [paths.raw], database=chosen.database)
        self._server.start()
        self.catalog = CatalogSubscriber(self._server.connect)
        self.RE.subscribe(self.catalog)
        try:
            write_profile(paths.catalog, [paths.raw], name=chosen.profile, database=chosen.database)
        except ConfigurationError as error:  # the catalog works, it just has no short name
            self._say(f"no catalog profile: {error}")


@contextmanager
def ended_on_interrupt(RE: RunEngine) -> Iterator[None]:
    """Turn Ctrl-C, after which the RunEngine waits for orders, into the end of the scan."""
    try:
        yield
    except RunEngineInterrupted as error:
        with _quiet(logging.getLogger("bluesky")):  # an end that was asked for needs no traceback
            RE.abort("Ctrl-C")
        raise KeyboardInterrupt from error


@contextmanager
def _quiet(chatty: logging.Logger) -> Iterator[None]:
    before, chatty.disabled = chatty.disabled, True
    try:
        yield
    finally:
        chatty.disabled = before


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"folder {folder} cannot be written ({error.strerror}); choose another under [paths] data"
        ) from error
