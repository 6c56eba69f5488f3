"""Image files to powder patterns: what ``xrdct integrate`` does."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from ..domain.detector import DetectorGeometry
from ..domain.errors import ConfigurationError, DataError
from ..domain.results import Pattern
from ..processing.integration import Integrator, load_kernels
from ..storage.raw import DATASET, Hdf5Frames, read_image

__all__ = ["IntegratedFiles", "integrate_files", "write_xye"]

_HDF5 = (".h5", ".hdf5", ".hdf", ".nxs", ".nx5")
_BATCH = 64  # patterns that are in memory before they are written

Frame = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegratedFiles:
    """What was written: the file, how many frames, and which of them (from 0) could not be read."""

    output: Path
    n_frames: int
    unreadable: tuple[int, ...] = ()


def integrate_files(
    frames: Sequence[str | Path],
    *,
    poni: str | Path,
    output: str | Path,
    mask: str | Path | None = None,
    detector: str | None = None,
    dataset: str = DATASET,
    **options: Any,
) -> IntegratedFiles:
    """Integrate the frames of image and HDF5 files, in order, into one file.

    One frame becomes ``.xye`` (radial, intensity, sigma; empty bins left out); any number becomes
    HDF5 with a plottable NXdata. The output appears whole or not at all.

    Parameters
    ----------
    frames:
        CBF, TIFF or EDF files of one frame each, HDF5 files of many (at ``dataset``).
    options:
        Further arguments of `Integrator`.

    Raises
    ------
    ConfigurationError, DataError, ProcessingError
        If something cannot be used; nothing is written then.
    """
    paths, output = [Path(p) for p in frames], Path(output)
    is_text = _check_output(output)
    n_frames = sum(_count(path, dataset) for path in paths)
    if n_frames == 0:
        raise DataError("there are no frames to integrate; name image or HDF5 files that hold some")
    if is_text and n_frames > 1:
        raise ConfigurationError(
            f"{n_frames} frames do not fit into {output.name}; write to a .h5 file instead"
        )
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load_kernels)  # beside the geometry, which takes as long
        integrator = Integrator(DetectorGeometry.from_poni(poni, mask, detector), **options)
        loading.result()
    source = _frames(paths, dataset)
    if not is_text:
        return _write_hdf5(output, integrator, source, n_frames, paths)
    frame = next(source)()
    if frame is None:
        raise DataError(f"the frame in {paths[0]} is missing or damaged; copy the file again")
    with _appearing_whole(output) as path:
        write_xye(path, integrator(frame), comments=[f"frame {paths[0].name}", f"poni {Path(poni).name}"])
    return IntegratedFiles(output=output, n_frames=1)


def write_xye(path: Path, pattern: Pattern, comments: Sequence[str] = ()) -> None:
    """Write a pattern as three columns; bins without a valid pixel are left out."""
    filled = np.isfinite(pattern.intensity)
    columns = np.column_stack([pattern.radial, pattern.intensity, pattern.sigma])[filled]
    header = "\n".join([*comments, f"{pattern.unit} intensity sigma"])
    np.savetxt(path, columns, fmt=("%.7f", "%.7g", "%.5g"), header=header)


def _check_output(output: Path) -> bool:
    """Return whether the output is text; refuse what cannot be written before any work is done."""
    suffix = output.suffix.lower()
    if suffix not in (".xye", *_HDF5):
        raise ConfigurationError(
            f"output {output} has the ending {suffix!r}; use .xye for one frame, .h5 for many"
        )
    if not output.parent.is_dir():
        raise ConfigurationError(f"the folder {output.parent} of the output is not there; make it first")
    if output.is_dir() or not os.access(output.parent, os.W_OK):
        raise ConfigurationError(f"{output} cannot be written; choose a place where you may write")
    return suffix == ".xye"


def _is_hdf5(path: Path) -> bool:
    return path.suffix.lower() in _HDF5


def _count(path: Path, dataset: str) -> int:
    if _is_hdf5(path):
        return Hdf5Frames(dataset=dataset).count(str(path))
    if not path.is_file():
        raise DataError(f"frame file {path} is not there; check its name")
    return 1


def _frames(paths: Sequence[Path], dataset: str) -> Iterator[Callable[[], Frame | None]]:
    """Yield for each frame a function that decodes it."""
    source = Hdf5Frames(dataset=dataset)
    for path in paths:
        if _is_hdf5(path):
            yield from source.deferred(str(path))
        else:
            yield partial(read_image, path)


def _write_hdf5(
    output: Path,
    integrator: Integrator,
    frames: Iterator[Callable[[], Frame | None]],
    n_frames: int,
    paths: Sequence[Path],
) -> IntegratedFiles:
    unreadable: list[int] = []

    def noted(index: int, decode: Callable[[], Frame | None]) -> Frame | None:
        frame = decode()
        if frame is None:
            unreadable.append(index)
        return frame

    source = (partial(noted, index, decode) for index, decode in enumerate(frames))
    with _appearing_whole(output) as path, h5py.File(path, "w") as file:
        data = _lay_out(file, integrator, n_frames, paths)
        for done in range(0, n_frames, _BATCH):
            intensity, sigma = integrator.many(islice(source, _BATCH))
            data["I"][done : done + len(intensity)] = intensity
            data["I_errors"][done : done + len(intensity)] = sigma
        data["measured"][...] = ~np.isin(np.arange(n_frames), unreadable)
    return IntegratedFiles(output=output, n_frames=n_frames, unreadable=tuple(sorted(unreadable)))


def _lay_out(file: h5py.File, integrator: Integrator, n_frames: int, paths: Sequence[Path]) -> h5py.Group:
    file.attrs.update(NX_class="NXroot", default="entry")
    entry = file.create_group("entry")
    entry.attrs.update(NX_class="NXentry", default="data")
    entry["frame_files"] = [str(p) for p in paths]
    calibration = entry.create_group("calibration")
    calibration.attrs["NX_class"] = "NXcollection"
    for key, value in integrator.detector.to_metadata().items():
        if value is not None:
            calibration[key] = value
    data = entry.create_group("data")
    data.attrs.update(NX_class="NXdata", signal="I", axes=["frame", "radial"])
    shape = (n_frames, len(integrator.radial))
    for name in ("I", "I_errors"):
        data.create_dataset(name, shape, np.float32)
    data["frame"] = np.arange(n_frames)
    data["radial"] = integrator.radial
    data["radial"].attrs["units"] = {"2th_deg": "degree"}.get(integrator.unit, integrator.unit)
    data["radial"].attrs["long_name"] = integrator.unit
    data.create_dataset("measured", (n_frames,), bool)
    return data


@contextlib.contextmanager
def _appearing_whole(output: Path) -> Iterator[Path]:
    """Hand out a temporary path beside the output that takes its place if all goes well."""
    try:
        handle, name = tempfile.mkstemp(dir=output.parent, prefix=f".{output.name}.", suffix=".part")
    except OSError as error:
        raise ConfigurationError(
            f"{output} cannot be written ({error}); choose a place where you may write"
        ) from error
    os.close(handle)
    path = Path(name)
    try:
        yield path
        path.chmod(0o666 & ~_umask())
        path.replace(output)
    finally:
        path.unlink(missing_ok=True)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask
