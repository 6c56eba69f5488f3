"""Processed files reconstructed anew, with another method, filter, axis or pixel size."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ConfigurationError, DataError
from xrdct_beamline.domain.results import AxisEstimate
from xrdct_beamline.processing.alignment import find_axis
from xrdct_beamline.processing.backends import reconstruct_with
from xrdct_beamline.processing.reconstruction import IncrementalFBP, OutputField
from xrdct_beamline.processing.sinogram import without_bad_lines

__all__ = ["ReconstructedFile", "ReconstructionOptions", "reconstruct_file"]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.floating[Any]]
Progress = Callable[[int, int], None]

#: Channels reconstructed together: one block of the output, and what fits in a laptop with sigma.
BINS_AT_ONCE = 128
#: Voxels and bins of a chunk of the slice: a pattern and a map each touch few of them.
CHUNK = (32, 32, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconstructionOptions:
    """How a file is reconstructed.

    Parameters
    ----------
    axis_px:
        Column of the rotation axis; without, what the file has recorded, or else what is found.
    find_axis:
        Find the axis in the sinogram by two estimators, whatever the file has recorded.
    freed:
        Subtract what lies outside of a region of interest, where the file knows it.
    backend, method:
        As in `processing.backends`.
    filter_name, pixel_px:
        Of the native backend: the filter, and the edge of a pixel in translation steps.
    iterations:
        Of methods that iterate.
    """

    axis_px: float | None = None
    find_axis: bool = False
    freed: bool = True
    backend: str = "native"
    method: str = "fbp"
    filter_name: str = "ramp"
    pixel_px: float = 1.0
    iterations: int = 50

    def __post_init__(self) -> None:
        if self.find_axis and self.axis_px is not None:
            raise ConfigurationError(
                f"the axis is given as {self.axis_px:g} px, so it is not to be found as well"
            )
        if self.backend != "native" and (self.filter_name != "ramp" or self.pixel_px != 1.0):
            raise ConfigurationError(
                f"the {self.backend} backend takes neither a filter nor a pixel size; use the native one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconstructedFile:
    """What was written.

    Parameters
    ----------
    output:
        The file.
    shape:
        Of its slice, ``(y, x, bin)``.
    axis:
        The axis that was used, with the estimators' agreement; certain where it was not found.
    axis_source:
        "given", "recorded" in the file, or "found".
    is_freed:
        Whether what lies outside of a region of interest was subtracted.
    bad_lines:
        Lines that hold nothing and were left out.
    """

    output: Path
    shape: tuple[int, int, int]
    axis: AxisEstimate
    axis_source: str
    is_freed: bool
    bad_lines: int


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    sinogram: FloatArray
    sigma: FloatArray | None
    rotation_deg: npt.NDArray[np.float64]
    step_mm: float
    radial: npt.NDArray[np.float64]
    radial_units: str
    axis_px: float | None
    is_freed: bool
    bad_lines: int


def reconstruct_file(
    path: str | Path,
    output: str | Path,
    options: ReconstructionOptions | None = None,
    *,
    progress: Progress | None = None,
) -> ReconstructedFile:
    """Reconstruct the sinogram of a processed file into a new file.

    The output is a NeXus file with a plottable ``/entry/slice``; it appears whole or not at all. The
    native backend carries the sinogram's sigma to the slice.

    Raises
    ------
    ConfigurationError
        If the output cannot be written, or the backend is not installed.
    DataError, ProcessingError
        If the file holds no sinogram, or too little of one.
    """
    options = options or ReconstructionOptions()
    path, output = Path(path), Path(output)
    _check_output(path, output)
    data = _read(path, freed=options.freed)
    axis, axis_source = _axis(data, options)
    blocks = _blocks(data, axis.axis_px, options)
    field = _field(data, axis.axis_px, options)
    shape = (*field.shape, data.radial.size)
    with _appearing_whole(output) as part, h5py.File(part, "w") as file:
        group = _lay_out(file, data, field, shape)
        for done, (bins, image, sigma) in enumerate(blocks, start=1):
            group["intensity"][:, :, bins] = image
            if sigma is not None:
                group["intensity_errors"][:, :, bins] = sigma
            if progress is not None:
                progress(min(done * BINS_AT_ONCE, data.radial.size), data.radial.size)
        _write_provenance(file["entry"], path, options, data.is_freed, axis, axis_source)
    return ReconstructedFile(
        output=output,
        shape=shape,
        axis=axis,
        axis_source=axis_source,
        is_freed=data.is_freed,
        bad_lines=data.bad_lines,
    )


def _check_output(path: Path, output: Path) -> None:
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise ConfigurationError(f"the folder {output.parent} cannot be written; choose another output")
    if output.exists() and output.samefile(path):
        raise ConfigurationError(f"the output {output} is the file that is read; choose another name")


def _read(path: Path, *, freed: bool) -> _Measured:
    try:
        with h5py.File(path, "r", locking=False) as file:
            group = file["entry/sinogram"]
            sinogram = group["intensity"][()]
            sigma = group["intensity_errors"][()] if "intensity_errors" in group else None
            outside = file["entry/outside/intensity"][()] if freed and "entry/outside" in file else None
            rotation_deg, translation_mm = group["rotation"][()], group["translation"][()]
            axis_px = float(file["entry/geometry/axis_px"][()]) if "entry/geometry" in file else None
            radial = group["radial"][()]
            units = group["radial"].attrs.get("units", "")
    except (OSError, KeyError) as error:
        raise DataError(f"{path} is no processed file with a sinogram, or a damaged one: {error}") from error
    is_freed = outside is not None and bool(np.isfinite(outside).any())
    if is_freed:
        sinogram = sinogram - outside
    kept, angles = without_bad_lines(sinogram, rotation_deg)
    if sigma is not None:
        sigma, _ = without_bad_lines(np.where(np.isfinite(sinogram), sigma, np.nan), rotation_deg)
    return _Measured(
        sinogram=kept,
        sigma=sigma,
        rotation_deg=angles,
        step_mm=float(translation_mm[1] - translation_mm[0]) if translation_mm.size > 1 else 1.0,
        radial=radial,
        radial_units=str(units),
        axis_px=axis_px,
        is_freed=is_freed,
        bad_lines=len(rotation_deg) - len(angles),
    )


def _axis(data: _Measured, options: ReconstructionOptions) -> tuple[AxisEstimate, str]:
    """Return the axis and where it comes from."""
    if options.axis_px is not None:
        return AxisEstimate(axis_px=options.axis_px, uncertainty_px=0.0, agrees=True), "given"
    if data.axis_px is not None and not options.find_axis:
        return AxisEstimate(axis_px=data.axis_px, uncertainty_px=0.0, agrees=True), "recorded"
    axis = find_axis(data.sinogram, data.rotation_deg)
    if not axis.agrees:
        logger.warning(
            "the two estimators of the axis disagree: %.2f ± %.2f px; look at the slice, or give the axis",
            axis.axis_px,
            axis.uncertainty_px,
        )
    return axis, "found"


def _field(data: _Measured, axis_px: float, options: ReconstructionOptions) -> OutputField:
    n = data.sinogram.shape[1]
    if options.pixel_px == 1.0:
        return OutputField.native(n, axis_px)
    return OutputField.centred(width_px=n, pixel_px=options.pixel_px)


def _blocks(
    data: _Measured, axis_px: float, options: ReconstructionOptions
) -> Iterator[tuple[slice, FloatArray, FloatArray | None]]:
    """Yield the channels of the slice, some at a time, with their sigma."""
    for first in range(0, data.radial.size, BINS_AT_ONCE):
        bins = slice(first, min(first + BINS_AT_ONCE, data.radial.size))
        sinogram = np.ascontiguousarray(data.sinogram[:, :, bins])
        if options.backend == "native" and options.method == "fbp":
            sigma = None if data.sigma is None else np.ascontiguousarray(data.sigma[:, :, bins])
            yield bins, *_native(data, sinogram, sigma, axis_px, options)
        else:
            image = _foreign(data, sinogram, axis_px, options)
            yield bins, image, None


def _native(
    data: _Measured,
    sinogram: FloatArray,
    sigma: FloatArray | None,
    axis_px: float,
    options: ReconstructionOptions,
) -> tuple[FloatArray, FloatArray | None]:
    n_rotations, n_translations, n_bins = sinogram.shape
    fbp = IncrementalFBP(
        n_translations,
        n_bins,
        n_rotations,
        axis_px,
        data.rotation_deg,
        filter_name=options.filter_name,
        field=_field(data, axis_px, options),
    )
    for index in range(n_rotations):
        if np.isfinite(sinogram[index]).any():
            line_sigma = None if sigma is None else sigma[index]
            fbp.add(float(data.rotation_deg[index]), sinogram[index], line_sigma)
    return fbp.slice(), None if sigma is None else fbp.slice_sigma()


def _foreign(
    data: _Measured, sinogram: FloatArray, axis_px: float, options: ReconstructionOptions
) -> FloatArray:
    """Reconstruct the bins that were measured; the others are NaN."""
    n = sinogram.shape[1]
    image = np.full((n, n, sinogram.shape[2]), np.nan, np.float32)
    measured = np.isfinite(sinogram).any(axis=(0, 1))
    if measured.any():
        image[:, :, measured] = reconstruct_with(
            options.backend,
            sinogram[:, :, measured],
            data.rotation_deg,
            axis_px,
            method=options.method,
            iterations=options.iterations,
        )
    return image


def _lay_out(file: h5py.File, data: _Measured, field: OutputField, shape: tuple[int, int, int]) -> h5py.Group:
    file.attrs.update(NX_class="NXroot", default="entry")
    entry = file.create_group("entry")
    entry.attrs.update(NX_class="NXentry", default="slice")
    group = entry.create_group("slice")
    group.attrs.update(NX_class="NXdata", signal="intensity", axes=["y", "x", "radial"])
    pixel_mm = field.pixel_px * data.step_mm
    group["x"] = field.x_px * data.step_mm + pixel_mm * np.arange(shape[1])
    group["y"] = field.y_px * data.step_mm - pixel_mm * np.arange(shape[0])
    group["radial"] = data.radial
    for axis, units in (("x", "mm"), ("y", "mm"), ("radial", data.radial_units)):
        group[axis].attrs["units"] = units
    chunks = tuple(min(c, n) for c, n in zip(CHUNK, shape, strict=True))
    group.create_dataset("intensity", shape, np.float32, fillvalue=np.nan, chunks=chunks)
    group["intensity"].attrs["long_name"] = "counts per pixel at the monitor's reference, per step"
    if data.sigma is not None:
        group.create_dataset("intensity_errors", shape, np.float32, fillvalue=np.nan, chunks=chunks)
    return group


def _write_provenance(
    entry: h5py.Group,
    path: Path,
    options: ReconstructionOptions,
    is_freed: bool,
    axis: AxisEstimate,
    axis_source: str,
) -> None:
    group = entry.create_group("process")
    group.attrs["NX_class"] = "NXprocess"
    group["source"] = path.name
    group["settings"] = json.dumps(
        {
            "backend": options.backend,
            "method": options.method,
            "filter": options.filter_name,
            "pixel_px": options.pixel_px,
            "iterations": options.iterations,
            "freed": is_freed,
        }
    )
    group["axis_px"] = axis.axis_px
    group["axis_source"] = axis_source
    group["axis_uncertainty_px"] = axis.uncertainty_px
    group["axis_agrees"] = axis.agrees


@contextlib.contextmanager
def _appearing_whole(output: Path) -> Iterator[Path]:
    """Hand out a path beside the output that takes its place if all goes well."""
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
