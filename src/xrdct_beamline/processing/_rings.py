"""Which pixel belongs to which ring, and how its counts are normalised: built once per geometry."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..domain.errors import ProcessingError

__all__ = ["Rings", "build_rings"]

#: A pixel's word in the packed table holds its ring in the upper and its normalisation in the lower half.
_HALF = 1 << 16
_SHARES = 16
_SAMPLE = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Rings:
    """Pixel → ring, flattened over ``(row, column)``.

    Parameters
    ----------
    shape:
        Shape of a frame.
    radial:
        Bin centres.
    ring:
        Ring of each pixel, ``n_rings`` for a pixel that never counts.
    norm:
        Normalisation of each pixel (solid angle, polarisation, flat), or None where all are 1.
    """

    shape: tuple[int, int]
    radial: npt.NDArray[np.float64]
    ring: npt.NDArray[np.int32]
    norm: npt.NDArray[np.float32] | None

    @property
    def n_rings(self) -> int:
        """Number of rings."""
        return len(self.radial)

    @property
    def can_be_packed(self) -> bool:
        """Whether a ring number fits into half a word."""
        return self.n_rings < _HALF

    @cached_property
    def n_pixels(self) -> npt.NDArray[np.int64]:
        """Pixels of each ring that a frame may count."""
        return np.bincount(self.ring, minlength=self.n_rings + 1)[: self.n_rings].astype(np.int64)

    @cached_property
    def start(self) -> npt.NDArray[np.int64]:
        """First place of each ring in ring order, and the end."""
        return np.concatenate([[0], np.cumsum(self.n_pixels)]).astype(np.int64)

    @cached_property
    def order(self) -> npt.NDArray[np.int32]:
        """Pixels that count in ring order; within a ring in the order of memory."""
        dtype = np.uint16 if self.can_be_packed else np.int32  # numpy sorts 16 bits by radix
        order = np.argsort(self.ring.astype(dtype), kind="stable")
        return order[: self.start[-1]].astype(np.int32)

    @cached_property
    def place(self) -> npt.NDArray[np.int32]:
        """Place of each pixel in ring order, -1 for a pixel that never counts."""
        place = np.full(self.ring.size, -1, np.int32)
        place[self.order] = np.arange(self.order.size, dtype=np.int32)
        return place

    @cached_property
    def norm_in_order(self) -> npt.NDArray[np.float32]:
        """Normalisation of the pixels in ring order."""
        if self.norm is None:
            return np.ones(self.order.size, np.float32)
        return self.norm[self.order]

    @cached_property
    def mean_norm(self) -> npt.NDArray[np.float64]:
        """Mean normalisation of each ring's pixels, 1 where there are none; the last is 1 too."""
        mean = np.ones(self.n_rings + 1)
        if self.norm is not None:
            filled = self.n_pixels > 0
            total = np.bincount(self.ring, self.norm, self.n_rings + 1)[:-1]
            mean[:-1][filled] = total[filled] / self.n_pixels[filled]
        return mean

    @cached_property
    def inverse(self) -> npt.NDArray[np.float32]:
        """Mean normalisation of a pixel's ring over its own, 1 for pixels that never count."""
        if self.norm is None:
            return np.ones(self.ring.size, np.float32)
        counting = self.ring < self.n_rings
        inverse = np.ones(self.ring.size, np.float32)
        np.divide(self.mean_norm[self.ring], self.norm, out=inverse, where=counting, casting="same_kind")
        return inverse

    @cached_property
    def deficit(self) -> npt.NDArray[np.float64]:
        """Per ring and share (16 steps): by how much its smallest normalisations fall short of the mean.

        Summed over the share and divided by the ring's pixels; see ``_trim.trim_ordered``.
        """
        table = np.zeros((self.n_rings, _SHARES + 1))
        if self.norm is not None:
            _fill_deficit(self.norm_in_order, self.start, table)
        return table

    @cached_property
    def packed(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return the word of each pixel, and per ring the offset and step of its normalisation.

        A pixel's normalisation is ``offset + step · (word & 0xffff)``: 16 bits over the span that the
        ring needs, so that a kernel reads 4 bytes per pixel besides the frame.
        """
        offset, step = np.ones(self.n_rings + 1), np.zeros(self.n_rings + 1)
        level: Any = np.uint32(0)
        if self.norm is not None:
            order, start = self.order, self.start
            filled = self.n_pixels > 0
            if filled.any():
                values = self.norm[order].astype(np.float64)
                first = start[:-1][filled]
                offset[:-1][filled] = np.minimum.reduceat(values, first)
                step[:-1][filled] = (np.maximum.reduceat(values, first) - offset[:-1][filled]) / (_HALF - 1)
            divisor = np.where(step > 0, step, 1.0)[self.ring]
            counting = self.ring < self.n_rings
            level = np.where(counting, np.rint((self.norm - offset[self.ring]) / divisor), 0)
            level = np.clip(level, 0, _HALF - 1).astype(np.uint32)
        return (self.ring.astype(np.uint32) << np.uint32(16)) | level, offset, step


def _fill_deficit(
    norm: npt.NDArray[np.float32], start: npt.NDArray[np.int64], table: npt.NDArray[np.float64]
) -> None:
    """Fill the table of `Rings.deficit` from at most 1024 evenly spread normalisations of each ring."""
    shares = table.shape[1] - 1
    for r in range(table.shape[0]):
        stride = 1 + (start[r + 1] - start[r]) // _SAMPLE
        values = np.sort(norm[start[r] : start[r + 1] : stride]).astype(np.float64)
        n = len(values)
        if n > 1:
            until = np.arange(1, shares) * n // shares
            table[r, 1:-1] = np.concatenate([[0.0], np.cumsum(values - values.mean())])[until] / n


def build_rings(
    radial: npt.NDArray[np.float64],
    mask: npt.NDArray[np.bool_],
    norm: npt.NDArray[np.float64] | None,
    bins: int,
    radial_range: tuple[float, float] | None,
) -> Rings:
    """Sort pixels by ``floor((r - lo)/(hi - lo) · bins)``, the last edge included, in double precision.

    Without a range it is the extent of all pixels, masked or not, so that every run with this
    detector has the same bins. Pixels whose normalisation is not positive never count.
    """
    low, high = radial_range if radial_range is not None else (float(radial.min()), float(radial.max()))
    if not high > low:
        raise ProcessingError(f"the radial range ({low:g}, {high:g}) is empty; give its lower end first")
    place = (radial.ravel() - low) / (high - low) * bins
    outside = ~((place >= 0) & (place <= bins)) | mask.ravel()
    if norm is not None:
        outside |= ~(np.isfinite(norm.ravel()) & (norm.ravel() > 0))
    with np.errstate(invalid="ignore"):
        ring = np.minimum(np.floor(place), bins - 1)
    ring[outside] = bins
    centres = np.asarray(low + (np.arange(bins) + 0.5) * ((high - low) / bins), np.float64)
    return Rings(
        shape=(radial.shape[0], radial.shape[1]),
        radial=centres,
        ring=ring.astype(np.int32),
        norm=None if norm is None else norm.ravel().astype(np.float32),
    )
