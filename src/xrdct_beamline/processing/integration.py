"""Frames to powder patterns, by robust estimators that are not biased."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..domain.detector import DetectorGeometry
from ..domain.errors import ProcessingError
from ..domain.results import Pattern
from ._azimuth import azimuthal_cells
from ._estimators import DISPERSION, FLAG, INTENSITY, N_PIXELS, REMOVED, SIGMA, Plan
from ._reduce import Reducer, Rows, load_kernels, sample_frames
from ._reference import ReferenceReducer
from ._rings import Rings, build_rings
from ._settings import ESTIMATORS, Settings, correction_image, default_threads, prepare_frame

__all__ = ["ESTIMATORS", "Integrator", "RingQuality", "load_kernels"]

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]
#: A frame, None if it could not be read, or a function that returns either.
Source = npt.ArrayLike | Callable[[], npt.ArrayLike | None] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RingQuality:
    """What a robust estimator did to each ring; spots can be signal.

    Parameters
    ----------
    removed_fraction:
        Share of the ring's valid pixels that was left out.
    dispersion:
        Variance over mean of all valid pixels: 1 for Poisson counts, more where there are spots.
    flagged:
        Rings in which the estimator cannot do what it was asked for, and a Poisson clip stands in.
    """

    removed_fraction: FloatArray
    dispersion: FloatArray
    flagged: npt.NDArray[np.bool_]


class Integrator:
    """Azimuthal average of frames on rings of equal width.

    Parameters
    ----------
    detector:
        Where each pixel looks.
    bins:
        Number of rings; a pixel belongs to the one that its centre lies in.
    unit:
        ``2th_deg``, ``q_A^-1`` or ``q_nm^-1``.
    radial_range:
        Lower and upper end in ``unit``; by default the extent of the detector without its mask.
    estimator:
        ``mean``, ``trimmed_mean``, ``median``, ``sigma_clip``, ``poisson_clip`` or
        ``azimuthal_bin_trim``; ``docs/integration.md`` says what each does to what.
    lower, upper:
        Fractions of a ring's pixels that a trim takes away at either end.
    unbiased:
        Whether the expectation for Poisson counts is made the true rate.
    solid_angle, polarisation:
        Corrections per pixel; ``polarisation`` is the degree of horizontal polarisation, None for none.
    dark, flat:
        Images of the frame's shape: subtracted from the counts; part of the normalisation.
    engine:
        ``native``, or ``pyfai`` (CPU) and ``pyfai-opencl`` (GPU) for the reference.
    threads:
        Threads to use; by default one per core that this process may use.
    threshold:
        Standard deviations of the sigma clip.
    azimuthal_bins:
        Bins per ring of the azimuthal bin trim.

    Raises
    ------
    ProcessingError
        If an argument cannot be used; the message says why and what would do.
    """

    def __init__(
        self,
        detector: DetectorGeometry,
        bins: int = 1000,
        unit: str = "2th_deg",
        radial_range: tuple[float, float] | None = None,
        estimator: str = "trimmed_mean",
        lower: float = 0.05,
        upper: float = 0.05,
        unbiased: bool = True,
        solid_angle: bool = True,
        polarisation: float | None = 0.99,
        dark: npt.ArrayLike | None = None,
        flat: npt.ArrayLike | None = None,
        engine: str = "native",
        threads: int | None = None,
        *,
        threshold: float = 5.0,
        azimuthal_bins: int = 512,
    ) -> None:
        self.settings = Settings(
            bins=bins, unit=unit, radial_range=radial_range, estimator=estimator, lower=lower, upper=upper,
            unbiased=unbiased, solid_angle=solid_angle, polarisation=polarisation, engine=engine,
            threads=default_threads() if threads is None else threads, threshold=threshold,
            azimuthal_bins=azimuthal_bins,
        )  # fmt: skip
        n_counting = int(np.count_nonzero(~detector.mask))
        if bins > n_counting:
            raise ProcessingError(f"{bins} bins are more than the {n_counting} pixels that count; use fewer")
        self.detector = detector
        self._dark = correction_image("dark", dark, detector.shape)
        self._flat = correction_image("flat", flat, detector.shape)
        self._rings = self._build_rings()
        plan = Plan(ESTIMATORS[estimator], float(lower), float(upper), bool(unbiased), float(threshold))
        cells = self._azimuthal_cells() if estimator == "azimuthal_bin_trim" else None
        self._reduce = Reducer(self._rings, self._dark, plan, cells, azimuthal_bins)
        self._reference = self._make_reference() if engine != "native" else None
        self._told_of_empty_rings = False
        self._decoded = threading.local()  # memory for one decoded frame per thread
        detector.release()

    def _build_rings(self) -> Rings:
        s, detector = self.settings, self.detector
        norm: FloatArray | None = None
        if s.solid_angle:
            norm = detector.solid_angle()
        if s.polarisation is not None:
            polarisation = detector.polarisation(s.polarisation)
            norm = polarisation if norm is None else norm * polarisation
        if self._flat is not None:
            norm = self._flat if norm is None else norm * self._flat
        radial = detector.radial(s.unit)
        return build_rings(radial, detector.mask, norm, s.bins, s.radial_range)

    def _azimuthal_cells(self) -> npt.NDArray[np.int32]:
        azimuth = self.detector.azimuth_rad()
        return azimuthal_cells(self._rings.ring, azimuth, self._rings.n_rings, self.settings.azimuthal_bins)

    def _make_reference(self) -> ReferenceReducer:
        return ReferenceReducer(self.detector, self._rings, self.settings, self._dark, self._flat)

    @property
    def unit(self) -> str:
        """Radial unit by pyFAI's name."""
        return self.settings.unit

    @property
    def radial(self) -> FloatArray:
        """Bin centres."""
        return self._rings.radial

    @cached_property
    def _pool(self) -> ThreadPoolExecutor | None:
        n = self.settings.threads
        return ThreadPoolExecutor(n, thread_name_prefix="integrate") if n > 1 else None

    def warm_up(self) -> None:
        """Compile, or load from the cache on disk, everything that integer frames need.

        Also makes the tables of the geometry, so that the first frame takes no longer than the rest.
        """
        for frame in sample_frames(self._rings.ring.size):
            self._rows(frame)

    def __call__(self, frame: npt.ArrayLike, monitor: float = 1.0) -> Pattern:
        """Integrate one frame and divide by its monitor.

        Negative, masked and not finite pixels never count; a ring without a valid pixel is NaN.

        Raises
        ------
        ProcessingError
            If the frame's shape or dtype, or the monitor, cannot be used, or if nothing in it is a number.
        """
        return self.with_quality(frame, monitor)[0]

    def with_quality(self, frame: npt.ArrayLike, monitor: float = 1.0) -> tuple[Pattern, RingQuality]:
        """Integrate one frame and say what was done to each ring."""
        flat = prepare_frame(frame, self.detector.shape)
        if flat.dtype.kind == "f" and not np.isfinite(flat).any():
            raise ProcessingError("no pixel of the frame is a finite number; was the file read completely?")
        scale = 1.0 / _checked_monitor(monitor)
        rows = self._rows(flat)
        self._tell_of_empty_rings(rows)
        pattern = Pattern(
            radial=self.radial,
            intensity=rows[:, INTENSITY] * scale,
            sigma=rows[:, SIGMA] * scale,
            n_pixels=rows[:, N_PIXELS].astype(np.int64),
            unit=self.unit,
        )
        quality = RingQuality(
            removed_fraction=rows[:, REMOVED].copy(),
            dispersion=rows[:, DISPERSION].copy(),
            flagged=rows[:, FLAG] > 0,
        )
        return pattern, quality

    def _tell_of_empty_rings(self, rows: Rows) -> None:
        """Log, once, that a frame leaves rings empty that the mask does not."""
        empty = np.flatnonzero((rows[:, N_PIXELS] == 0) & (self._rings.n_pixels > 0))
        if len(empty) and not self._told_of_empty_rings:
            self._told_of_empty_rings = True
            logger.warning(
                "%d of %d rings have no valid pixel in this frame and are NaN (the first at %.4g %s); "
                "mask them, or check the frame for flags below zero and NaN",
                len(empty), self._rings.n_rings, self.radial[empty[0]], self.unit,
            )  # fmt: skip

    def many(self, frames: Iterable[Source]) -> tuple[FloatArray, FloatArray]:
        """Integrate frames as they arrive; return intensity and sigma, shape ``(frame, bin)``.

        Several frames are under way at once, no more than twice the threads. A frame that is None
        (it could not be read) is NaN. A function is called on the thread that integrates what it
        returns, so that decoding keeps every core busy too; if it has an attribute ``into``, that is
        called with a buffer of the frame's shape, int32, which it may fill and return.
        """
        rows = list(self._stream(frames))
        if not rows:
            empty = np.empty((0, self._rings.n_rings))
            return empty, empty.copy()
        return np.stack([r[:, INTENSITY] for r in rows]), np.stack([r[:, SIGMA] for r in rows])

    def disagreement(self, frame: npt.ArrayLike) -> FloatArray:
        """Return per ring how far the native engine's plain estimate is from pyFAI's, relative to it.

        PyFAI keeps radial positions in single precision, so that about one pixel in 20 000 lies in
        the neighbouring ring there.
        """
        flat = prepare_frame(frame, self.detector.shape)
        plain = replace(self.settings, unbiased=False, engine="pyfai")
        reference = ReferenceReducer(self.detector, self._rings, plain, self._dark, self._flat)
        plan = Plan(
            ESTIMATORS[plain.estimator], float(plain.lower), float(plain.upper), False, float(plain.threshold)
        )
        ours = Reducer(self._rings, self._dark, plan)(flat, None, 1)
        theirs = reference(flat)[:, INTENSITY]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(ours[:, INTENSITY] / theirs - 1.0)

    def _stream(self, frames: Iterable[Source]) -> Iterator[Rows]:
        pool = self._pool
        if pool is None or self._reference is not None:  # pyFAI has threads of its own
            yield from (self._row_or_nan(frame) for frame in frames)
            return
        under_way: deque[Future[Rows]] = deque()
        for frame in frames:
            if len(under_way) >= 2 * self.settings.threads:
                yield under_way.popleft().result()
            under_way.append(pool.submit(self._row_or_nan, frame))
        while under_way:
            yield under_way.popleft().result()

    def _row_or_nan(self, source: Source) -> Rows:
        frame = self._called(source) if callable(source) else source
        if frame is None:
            return np.full((self._rings.n_rings, FLAG + 1), np.nan)
        flat = prepare_frame(frame, self.detector.shape)
        return self._reference(flat) if self._reference is not None else self._reduce(flat, None, 1)

    def _called(self, source: Callable[[], npt.ArrayLike | None]) -> npt.ArrayLike | None:
        """Call a source; one that can decode into kept memory is given this thread's."""
        into = getattr(source, "into", None)
        if into is None:
            return source()
        buffer = getattr(self._decoded, "frame", None)
        if buffer is None:
            buffer = self._decoded.frame = np.empty(self.detector.shape, np.int32)
        frame: npt.ArrayLike | None = into(buffer)
        return frame

    def _rows(self, flat: npt.NDArray[Any]) -> Rows:
        if self._reference is not None:
            return self._reference(flat)
        return self._reduce(flat, self._pool, self.settings.threads)


def _checked_monitor(monitor: float) -> float:
    if not (np.isfinite(monitor) and monitor > 0):
        raise ProcessingError(f"the monitor is {monitor:g}; it must be positive (was the beam off?)")
    return float(monitor)
