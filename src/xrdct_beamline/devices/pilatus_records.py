"""The process variables of a Pilatus and its HDF5 file writer, and what a line writes into them.

Names are those of the ADPilatus and NDFileHDF5 templates, as far as a scan needs them; ophyd's own
classes bind some hundred more.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from ophyd import Component, Device, EpicsSignal, EpicsSignalRO
from ophyd.areadetector.base import EpicsSignalWithRBV

from .line_watch import AcquisitionMode, LineRequest

__all__ = ["PilatusCamera", "PilatusFile"]

FILE_TEMPLATE = "%s%s_%2.2d.h5"
MAX_NEW_FOLDERS = 8


class TriggerMode(StrEnum):
    """Choices of cam1:TriggerMode that a scan uses."""

    INTERNAL = "Internal"
    MULTIPLE = "Mult. Trigger"


def _setting(suffix: str, **kwargs: Any) -> Component:
    return Component(EpicsSignalWithRBV, suffix, put_complete=True, auto_monitor=True, **kwargs)


class PilatusCamera(Device):
    """``cam1:``."""

    acquire = Component(EpicsSignal, "Acquire", kind="omitted")
    acquiring = Component(EpicsSignalRO, "Acquire_RBV", kind="omitted", auto_monitor=True)
    busy = Component(EpicsSignalRO, "AcquireBusy", kind="omitted", auto_monitor=True)
    armed = Component(EpicsSignalRO, "Armed", kind="omitted", auto_monitor=True)
    exposure_s = _setting("AcquireTime", kind="config")
    period_s = _setting("AcquirePeriod", kind="config")
    num_images = _setting("NumImages", kind="omitted")
    image_mode = _setting("ImageMode", kind="config", string=True)
    trigger_mode = _setting("TriggerMode", kind="config", string=True)
    array_callbacks = _setting("ArrayCallbacks", kind="omitted", string=True)
    images_counter = Component(EpicsSignalRO, "NumImagesCounter_RBV", kind="omitted")
    status_message = Component(EpicsSignalRO, "StatusMessage_RBV", kind="omitted", string=True)
    columns = Component(EpicsSignalRO, "ArraySizeX_RBV", kind="config", auto_monitor=True)
    rows = Component(EpicsSignalRO, "ArraySizeY_RBV", kind="config", auto_monitor=True)
    manufacturer = Component(EpicsSignalRO, "Manufacturer_RBV", kind="config", string=True)
    model = Component(EpicsSignalRO, "Model_RBV", kind="config", string=True)
    threshold_keV = Component(EpicsSignalRO, "ThresholdEnergy_RBV", kind="config", auto_monitor=True)
    gap_fill = Component(EpicsSignalRO, "GapFill_RBV", kind="config", auto_monitor=True, string=True)

    def line_settings(self, request: LineRequest) -> list[tuple[EpicsSignal, Any]]:
        """Return what an attempt needs, in the order of writing."""
        is_fly = request.mode is AcquisitionMode.FLY
        return [
            (self.trigger_mode, (TriggerMode.MULTIPLE if is_fly else TriggerMode.INTERNAL).value),
            (self.image_mode, "Multiple" if is_fly else "Single"),
            (self.num_images, request.n_frames if is_fly else 1),
            (self.exposure_s, request.exposure_s),
            (self.period_s, request.period_s),
            (self.array_callbacks, "Enable"),
        ]


class PilatusFile(Device):
    """``HDF1:``, the file writer."""

    capture = Component(EpicsSignal, "Capture", kind="omitted")
    capturing = Component(EpicsSignalRO, "Capture_RBV", kind="omitted", auto_monitor=True)
    num_capture = _setting("NumCapture", kind="omitted")
    num_captured = Component(EpicsSignalRO, "NumCaptured_RBV", kind="omitted", auto_monitor=True)
    create_directory = _setting("CreateDirectory", kind="omitted")
    file_path = _setting("FilePath", kind="omitted", string=True)
    file_name = _setting("FileName", kind="omitted", string=True)
    file_template = _setting("FileTemplate", kind="omitted", string=True)
    file_number = _setting("FileNumber", kind="omitted")
    auto_increment = _setting("AutoIncrement", kind="omitted", string=True)
    file_write_mode = _setting("FileWriteMode", kind="omitted", string=True)
    enable_callbacks = _setting("EnableCallbacks", kind="omitted", string=True)
    compression = _setting("Compression", kind="config", string=True)
    lazy_open = _setting("LazyOpen", kind="omitted", string=True)
    swmr_mode = _setting("SWMRMode", kind="omitted", string=True)
    full_file_name = Component(EpicsSignalRO, "FullFileName_RBV", kind="omitted", string=True)
    dropped_arrays = Component(EpicsSignalRO, "DroppedArrays_RBV", kind="omitted")
    write_status = Component(EpicsSignalRO, "WriteStatus", kind="omitted")
    write_message = Component(EpicsSignalRO, "WriteMessage", kind="omitted", string=True)

    def line_settings(self, request: LineRequest) -> list[tuple[EpicsSignal, Any]]:
        """Return what an attempt needs, in the order of writing."""
        return [
            (self.create_directory, -MAX_NEW_FOLDERS),
            (self.file_path, f"{request.directory.rstrip('/')}/"),
            (self.file_name, request.file_name),
            (self.file_number, request.file_number),
            (self.file_template, FILE_TEMPLATE),
            (self.auto_increment, "No"),
            (self.file_write_mode, "Stream"),
            (self.num_capture, request.n_frames),
            (self.enable_callbacks, "Enable"),
            (self.compression, "BSLZ4"),
            (self.lazy_open, "Yes"),
            (self.swmr_mode, "Off"),
        ]
