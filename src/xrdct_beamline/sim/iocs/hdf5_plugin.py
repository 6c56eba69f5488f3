"""areaDetector's HDF5 plugin: one file per capture, closed before it says so."""

# mypy: disable-error-code="no-redef"
# (a putter has the name of its property: caproto's way)

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from caproto import SkipWrite
from caproto.server import PVGroup, pvproperty

from .common import Counter, choice, choice_pair, number_pair, path, path_pair, publish, text
from .line_file import LineFile

__all__ = ["Hdf5Plugin"]

logger = logging.getLogger(__name__)

QUEUE_SIZE = 1000  # frames that may wait for being written
COMPRESSIONS = ("None", "N-bit", "szip", "zlib", "Blosc", "BSLZ4", "LZ4", "JPEG")
NO_YES = ("No", "Yes")
DISABLE_ENABLE = ("Disable", "Enable")


def _make_folder(folder: Path, *, levels: int) -> None:
    """Make a folder of which at most the last ``levels`` parts are missing."""
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    if 0 < len(missing) <= levels:
        folder.mkdir(parents=True)


class Hdf5Plugin(PVGroup):
    """``HDF1:``. Only Stream mode is simulated, with compression None or BSLZ4.

    Parameters
    ----------
    prefix:
        Such as ``XRDCT:PIL:HDF1:``.
    shape:
        ``(rows, columns)`` of a frame.
    executor:
        One thread, in which frames are also rendered: a file is opened, filled and closed there, in
        the order in which that was asked for.
    """

    file_path = path_pair("FilePath", "Folder of the raw files")
    file_name = path_pair("FileName", "First part of the file's name")
    file_template = path_pair("FileTemplate", "C format of path, name and number", value="%s%s_%6.6d.h5")
    file_number = number_pair(0, "FileNumber", "Number of the next file")
    auto_increment = choice_pair(NO_YES, "AutoIncrement", "Count the number up per file", value="Yes")
    file_write_mode = choice_pair(("Single", "Capture", "Stream"), "FileWriteMode", "Stream is simulated")
    capture = choice_pair(("Done", "Capture"), "Capture", "1 opens a file, completes once it is closed")
    num_capture = number_pair(1, "NumCapture", "Frames per file; 0 for no end")
    num_captured = pvproperty(name="NumCaptured_RBV", value=0, read_only=True, doc="Frames in the file")
    enable_callbacks = choice_pair(DISABLE_ENABLE, "EnableCallbacks", "Whether frames reach the plugin")
    blocking_callbacks = choice_pair(NO_YES, "BlockingCallbacks", "Kept, without effect")
    compression = choice_pair(COMPRESSIONS, "Compression", "None or BSLZ4", value="BSLZ4")
    lazy_open = choice_pair(NO_YES, "LazyOpen", "Kept: the shape is always known here", value="Yes")
    swmr_mode = choice_pair(("Off", "On"), "SWMRMode", "Kept: files are read once closed")
    create_directory = number_pair(0, "CreateDirectory", "-n creates up to n levels of the folder")
    array_counter = number_pair(0, "ArrayCounter", "Frames that reached the plugin")
    dropped_arrays = number_pair(0, "DroppedArrays", "Frames lost to a full queue")
    queue_size = number_pair(QUEUE_SIZE, "QueueSize", "Frames that may wait")
    queue_use = pvproperty(name="QueueUse", value=0, read_only=True, doc="Frames that wait")
    full_file_name = path("FullFileName_RBV", "The latest file", read_only=True)
    file_path_exists = choice(NO_YES, "FilePathExists_RBV", "Whether the folder is there", read_only=True)
    write_status = choice(("Write OK", "Write error"), "WriteStatus", "Of the latest file", read_only=True)
    write_message = path("WriteMessage", "What went wrong", read_only=True)

    def __init__(self, prefix: str, *, shape: tuple[int, int], executor: Executor) -> None:
        super().__init__(prefix)
        self._shape, self._executor = shape, executor
        self._file: LineFile | None = None  # touched by the executor's thread only
        self._closed: asyncio.Future[str] | None = None  # message, "" if all went well
        self._planned = self._captured = self._waiting = 0
        self._seen, self._dropped = Counter(self.array_counter), Counter(self.dropped_arrays)

    # -- frames, called by the detector --------------------------------------------------------

    def enqueue(self) -> bool:
        """Count a frame in; False if the plugin is off, or if its queue is full and drops the frame."""
        if self.enable_callbacks.readback.value != "Enable":
            return False
        if self._waiting >= self.queue_size.readback.value:
            self._dropped.value += 1
            return False
        self._waiting += 1
        return True

    def write(self, frame: npt.NDArray[np.int32], *, unique_id: int, timestamp: float) -> None:
        """Write a frame if a file is open, close it if it is full. Runs in the executor's thread."""
        if self._file is None:
            return
        try:
            self._file.write(frame, unique_id=unique_id, timestamp=timestamp)
        except (OSError, RuntimeError) as error:  # h5py has both for a full disk
            self._close_file(str(error))
            return
        if self._file.n_written == self._planned:
            self._close_file("")
        else:
            self._captured = self._file.n_written

    def dequeue(self) -> None:
        """Count a frame out."""
        self._waiting -= 1
        self._seen.value += 1

    async def publish_counters(self) -> None:
        """Show the counters as they are now."""
        await publish(self.num_captured, self._captured)
        await publish(self.queue_use, self._waiting)
        await self._seen.publish()
        await self._dropped.publish()

    # -- folder --------------------------------------------------------------------------------

    @file_path.setpoint.putter
    async def file_path(obj: Any, instance: Any, value: Any) -> str:  # noqa: N805
        """End the folder with a slash, make it if that is allowed, and say whether it is there."""
        return await obj.parent.change_folder(text(value))

    async def change_folder(self, folder: str) -> str:
        """Set the folder of the files to come."""
        folder = folder if not folder or folder.endswith("/") else folder + "/"
        try:
            _make_folder(Path(folder), levels=-int(self.create_directory.readback.value))
        except OSError as error:
            await publish(self.write_message, f"folder {folder} cannot be made: {error}")
        await publish(self.file_path_exists, NO_YES[bool(folder) and Path(folder).is_dir()])
        await publish(self.file_path.readback, folder)
        return folder

    # -- capture -------------------------------------------------------------------------------

    @capture.setpoint.putter
    async def capture(obj: Any, instance: Any, value: str) -> None:  # noqa: N805
        """Open a file, or close it; a put with completion waits for the close."""
        plugin: Hdf5Plugin = obj.parent
        if value == "Capture":
            await plugin.start_capture()
        else:
            await plugin.end_capture()
        raise SkipWrite

    async def start_capture(self) -> None:
        """Open the file that the settings name, and wait until it is closed again."""
        if self._closed is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._closed = self._loop.create_future()
        self._captured, self._planned = 0, int(self.num_capture.readback.value)
        await self._show_capture("Capture")
        await self.publish_counters()
        try:
            target = self._target()
            await publish(self.full_file_name, str(target))
            await self._loop.run_in_executor(self._executor, self._open_file, target)
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            self._finish(str(error))
        await self._show_end(await self._closed)

    async def end_capture(self) -> None:
        """Close the file after the frames that wait, and wait for that."""
        closed = self._closed
        if closed is not None:
            await self.close()
            while self._closed is closed:
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        """Close the file if one is open."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._close_file, "")

    async def _show_end(self, message: str) -> None:
        await publish(self.write_status, "Write error" if message else "Write OK")
        await publish(self.write_message, message)
        if self.auto_increment.readback.value == "Yes" and not message:
            number = int(self.file_number.readback.value) + 1
            await publish(self.file_number.setpoint, number)
            await publish(self.file_number.readback, number)
        await self.publish_counters()
        self._closed = None
        await self._show_capture("Done")

    async def _show_capture(self, value: str) -> None:
        await publish(self.capture.setpoint, value)
        await publish(self.capture.readback, value)

    def _target(self) -> Path:
        if self.file_write_mode.readback.value != "Stream":
            raise ValueError("FileWriteMode must be Stream; the other modes are not simulated")
        if self.compression.readback.value not in ("None", "BSLZ4"):
            raise ValueError("Compression must be None or BSLZ4; the others are not simulated")
        folder, name = text(self.file_path.readback.value), text(self.file_name.readback.value)
        template = text(self.file_template.readback.value)
        if not folder:
            raise ValueError("FilePath is empty; write the folder of the raw files into it")
        return Path(template % (folder, name, int(self.file_number.readback.value)))

    def _open_file(self, target: Path) -> None:
        self._file = LineFile(
            target,
            n_frames=self._planned or 1,
            shape=self._shape,
            compressed=self.compression.readback.value == "BSLZ4",
        )

    def _close_file(self, message: str) -> None:
        """Close the file and say so; in the executor's thread."""
        file, self._file = self._file, None
        if file is None:
            return
        try:
            file.close()
        except (OSError, RuntimeError) as error:
            message = message or str(error)
        self._captured = file.n_written  # the last frame counts once its file is closed
        self._loop.call_soon_threadsafe(self._finish, message)

    def _finish(self, message: str) -> None:
        if message:
            logger.error("the raw file was not written: %s", message)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(message)
