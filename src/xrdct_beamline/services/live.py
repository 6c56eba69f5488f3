"""Live processing: follows a journal, writes processed files, shows a page.

It may be killed and started again at any time: what the processed files hold is kept, the rest is
computed from the journal and the raw files.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from xrdct_beamline.display.snapshot import SnapshotStore
from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.storage.journal import JournalFollower
from xrdct_beamline.storage.locks import OwnerLock

from .alerts import Watch
from .pipeline import LiveSettings, Pipeline, checked_output, warm_up
from .replay import LOCK_NAME

__all__ = ["LiveSettings", "run_live"]

logger = logging.getLogger(__name__)


def run_live(
    journal: Path | str,
    output_dir: Path | str,
    *,
    settings: LiveSettings | None = None,
    page_port: int | None = None,
    on_ready: Callable[[str | None], None] | None = None,
    on_slice: Callable[[Path], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Follow a journal until told to stop, by ``stop``, SIGTERM or SIGINT.

    Parameters
    ----------
    journal:
        The journal; it need not exist yet, its folder must.
    output_dir:
        Folder of the processed files.
    settings:
        What is done.
    page_port:
        Port of the page on this machine; 0 takes any free one, None shows no page.
    on_ready:
        Called once, with the page's address or None, when the first document can be taken.
    on_slice:
        Called with the path of each processed file that has been ended.
    stop:
        Ends the service when it is set; a line under way is finished first.

    Raises
    ------
    OwnerError
        If another process writes into the folder.
    ConfigurationError
        If journal, folder or port cannot be used.
    """
    settings = settings or LiveSettings()
    stop = stop or threading.Event()
    folder = checked_output(output_dir)
    if Path(journal).is_dir() or not Path(journal).absolute().parent.is_dir():
        raise ConfigurationError(f"{journal} cannot be a journal; give the file that the session writes")
    store = SnapshotStore()
    with (
        OwnerLock(folder / LOCK_NAME, what=f"output folder {folder}"),
        _page(store, page_port) as url,
        _stopped_by_signals(stop),
        contextlib.closing(Pipeline(folder, settings, store, on_slice)) as pipeline,
        contextlib.closing(Watch(settings.alerts, folder)) as watch,
    ):
        warm_up(settings)
        logger.info("following %s, writing to %s, page at %s", journal, folder, url or "no address")
        if on_ready is not None:
            on_ready(url)
        _follow(JournalFollower(journal), watch, pipeline, settings.poll_s, stop)


def _follow(
    follower: JournalFollower, watch: Watch, pipeline: Pipeline, poll_s: float, stop: threading.Event
) -> None:
    is_readable = True
    while not stop.is_set():
        try:
            documents = follower.poll()
            is_readable = True
        except DataError as error:  # a network file system that comes back must not end the service
            if is_readable:
                logger.error("%s; trying again", error)
            is_readable, documents = False, []
        watch.look()
        for name, doc in documents:
            watch(name, doc)
            pipeline(name, doc)
            if stop.is_set():
                return
        if not documents and not pipeline.idle():
            stop.wait(poll_s)


@contextlib.contextmanager
def _page(store: SnapshotStore, port: int | None) -> Iterator[str | None]:
    if port is None:
        yield None
        return
    from xrdct_beamline.display.dashboard import serve  # the page's libraries take seconds to import

    server = serve(store, port)
    try:
        yield server.url
    finally:
        server.stop()


@contextlib.contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return

    def handle(number: int, _: FrameType | None) -> None:
        logger.info("stopping on %s", signal.Signals(number).name)
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
