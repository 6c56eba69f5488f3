"""Filtered back-projection of all channels: line by line as they arrive, or all at once.

Filtered back-projection is linear: each line is filtered and added to the slice of all channels,
and after the last line the slice is what a batch would have given.

Conventions: sinogram ``(rotation, translation, bin)``, slice ``(y, x, bin)``,
t = x cos θ + y sin θ, x = column − axis_px, y = axis_px − row. A value is the line integral per
translation step: the slice of an object of density 1 per step is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ProcessingError

from ._angles import SAME_ANGLE_DEG, angle_weights, check_angles
from ._backprojection import aligned_zeros
from ._projector import LineProjector, OutputField
from .backends import reconstruct_with
from .sinogram import fill_holes, measured_bins

__all__ = ["IncrementalFBP", "OutputField", "reconstruct", "warm_up"]

Float32Array = npt.NDArray[np.float32]

#: A scale this near to 1 leaves the slice as it is.
WHOLE_SCALE = 1e-6

#: Some channels of a slice: a slice, indices or a mask; None for all.
Bins: TypeAlias = slice | npt.ArrayLike | None
#: Neighbouring rows of a slice.
Rows: TypeAlias = slice
ALL_ROWS = slice(None)


class IncrementalFBP:
    """The slice of all channels, current after every line.

    The object holds the sinogram as it was given, holes included (`sinogram`), and the sum of the
    filtered lines. Memory: twice the slice, four times with sigma, work space included (351 × 351 ×
    1000, 350 lines). One thread may use it at a time.

    Parameters
    ----------
    n_translations, n_bins, n_rotations:
        Shape of the scan.
    axis_px:
        Column of the rotation axis; between the first and the last translation.
    rotation_deg:
        The planned angles. Lines get Voronoi weights among them, and other angles are refused.
        Without, each line weighs π/n_rotations whatever its angle.
    filter_name:
        One of `FILTERS`: "ramp", "shepp-logan", "cosine", "hann".
    field:
        Where and how finely the slice is computed; one pixel per translation step by default.
    oversampling:
        Points per translation step between which the back-projection interpolates.
    """

    def __init__(
        self,
        n_translations: int,
        n_bins: int,
        n_rotations: int,
        axis_px: float,
        rotation_deg: npt.ArrayLike | None = None,
        *,
        filter_name: str = "ramp",
        field: OutputField | None = None,
        oversampling: int = 2,
    ) -> None:
        if n_bins < 1 or n_rotations < 2:
            raise ProcessingError(
                f"a reconstruction needs at least 1 bin and 2 rotations, got {n_bins} and {n_rotations}"
            )
        self._projector = LineProjector(
            n_translations, axis_px, filter_name=filter_name, field=field, oversampling=oversampling
        )
        self._planned_deg = None if rotation_deg is None else check_angles(rotation_deg)
        if self._planned_deg is None:
            self._weight = np.full(n_rotations, np.pi / n_rotations)
        elif self._planned_deg.size == n_rotations:
            self._weight = angle_weights(self._planned_deg)
        else:
            raise ProcessingError(f"{self._planned_deg.size} angles were given for {n_rotations} rotations")
        self.sinogram: Float32Array = np.full((n_rotations, n_translations, n_bins), np.nan, np.float32)
        self.variance: Float32Array | None = None
        self.rotation_deg = np.full(n_rotations, np.nan)
        # one bit each, as `np.packbits` lays them: bytes would not fit beside the rest
        self._bin_measured = np.zeros((n_rotations, (n_bins + 7) // 8), dtype=np.uint8)
        self._image: Float32Array = aligned_zeros((*self._projector.field.shape, n_bins))
        self._image_variance: Float32Array | None = None

    @property
    def axis_px(self) -> float:
        """Column of the rotation axis."""
        return self._projector.axis_px

    @property
    def n_lines(self) -> int:
        """Lines added so far."""
        return int(np.isfinite(self.rotation_deg).sum())

    @property
    def covered_deg(self) -> float:
        """How much of the half turn the added lines stand for."""
        return float(np.degrees(self._weight[np.isfinite(self.rotation_deg)].sum()))

    def add(
        self,
        rotation_deg: float,
        projection: npt.NDArray[np.floating[Any]],
        sigma: npt.NDArray[np.floating[Any]] | None = None,
    ) -> None:
        """Add one line ``(translation, bin)``; a line at an angle that is there already replaces it.

        NaN marks holes: they stay in the sinogram and are filled for the transform only. A bin
        that is NaN in the whole line adds nothing, and the line does not count as covered there.
        ``sigma`` is given with every line or with none.
        """
        self._check_line(rotation_deg, projection, sigma)
        index = self._index_of(rotation_deg)
        projection = np.asarray(projection, dtype=np.float32)
        if sigma is not None:
            self._add_variance(index, rotation_deg, np.square(sigma, dtype=np.float32))
        self._exchange(self._image, self.sinogram, index, rotation_deg, projection, squared=False)
        self.rotation_deg[index] = rotation_deg
        self._bin_measured[index] = np.packbits(measured_bins(projection[np.newaxis])[0])

    def slice(self, bins: Bins = None, rows: Rows = ALL_ROWS) -> Float32Array:
        """Return the slice ``(y, x, bin)``, or some of its bins and rows, scaled to the whole half turn.

        Read-only. Once every line is there it is a view, which costs no memory and shows what is
        added later: copy what has to stay. Before, and where a bin lacks lines or the bins are given
        as indices, it is a scaled copy of what is asked for: take some bins at a time.
        A bin that no line has measured is NaN.
        """
        chosen = _as_bins(bins)
        scale = self._scale()[chosen]
        image = self._image[rows, :, chosen]
        if not (np.abs(scale - 1) < WHOLE_SCALE).all():
            image = image * scale
        image.flags.writeable = False
        return image

    def slice_sigma(self, bins: Bins = None, rows: Rows = ALL_ROWS) -> Float32Array:
        """Return one standard deviation of each value of `slice`; always a copy.

        Neighbours are correlated: for the sum over a region use `region`.
        """
        if self._image_variance is None:
            raise ProcessingError("no line came with a sigma; give one to each add()")
        chosen = _as_bins(bins)
        return np.sqrt(self._image_variance[rows, :, chosen]) * self._scale()[chosen]

    def region(
        self, weights: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64] | None]:
        """Return the weighted sum of the slice over ``(y, x)``, and its sigma, per bin.

        The sigma comes from the sinogram with the summed weights of the region, since the noise of
        neighbouring pixels is anti-correlated; None without sigmas.
        """
        region = np.asarray(weights, dtype=np.float64)
        if region.shape != self._projector.field.shape:
            raise ProcessingError(
                f"the region has shape {region.shape}, the slice {self._projector.field.shape}"
            )
        rows, columns = np.nonzero(region)
        scale = self._scale().astype(np.float64)
        total = (region[rows, columns] @ self._image[rows, columns].astype(np.float64)) * scale
        if self.variance is None:
            return total, None
        variance = np.zeros_like(total)
        for index in np.flatnonzero(np.isfinite(self.rotation_deg)):
            gain = self._weight[index] * self._projector.adjoint(region, self.rotation_deg[index])
            variance += np.square(gain) @ fill_holes(self.variance[index]).astype(np.float64)
        return total, np.sqrt(variance) * scale

    def state(self, *, with_slice: bool = True) -> dict[str, npt.NDArray[Any]]:
        """Return everything as arrays, from which `from_state` continues.

        They are views: copy or write them before the next line is added. Without the slice the
        state is half as large, and `from_state` computes the slice anew from the sinogram.
        """
        arrays = {
            "sinogram": self.sinogram,
            "rotation_deg": self.rotation_deg,
            **self._projector.state(),
        }
        if self._planned_deg is not None:
            arrays["planned_deg"] = self._planned_deg
        if self.variance is not None:
            arrays["variance"] = self.variance
        if with_slice:
            arrays["image"] = self._image
            if self._image_variance is not None:
                arrays["image_variance"] = self._image_variance
        return arrays

    @classmethod
    def from_state(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> IncrementalFBP:
        """Return a reconstruction that continues where `state` was taken; copies the arrays."""
        try:
            sinogram, rotation_deg = arrays["sinogram"], np.asarray(arrays["rotation_deg"])
            settings = LineProjector.settings_from_state(arrays)
        except KeyError as error:
            raise ProcessingError(f"the state lacks {error}; it was not made by IncrementalFBP") from error
        n_rotations, n_translations, n_bins = sinogram.shape
        axis_px = settings.pop("axis_px")
        fbp = cls(n_translations, n_bins, n_rotations, axis_px, arrays.get("planned_deg"), **settings)
        variance = arrays.get("variance")
        if "image" not in arrays:
            for index in np.flatnonzero(np.isfinite(rotation_deg)):
                sigma = None if variance is None else np.sqrt(variance[index])
                fbp.add(float(rotation_deg[index]), sinogram[index], sigma)
            return fbp
        fbp.sinogram[...] = sinogram
        fbp.rotation_deg[...] = rotation_deg
        fbp._bin_measured[...] = np.packbits(measured_bins(sinogram), axis=1)
        fbp._image[...] = arrays["image"]
        if variance is not None:
            fbp.variance = np.array(variance, dtype=np.float32)
            fbp._image_variance = np.array(arrays["image_variance"], dtype=np.float32)
        return fbp

    @staticmethod
    def warm_up() -> None:
        """Compile the kernels, or load them; call it when a service starts."""
        warm_up()

    def _check_line(self, rotation_deg: float, projection: npt.NDArray[Any], sigma: Any) -> None:
        if projection.shape != self.sinogram.shape[1:]:
            raise ProcessingError(
                f"the line at {rotation_deg:g}° has shape {projection.shape}, the scan needs "
                f"{self.sinogram.shape[1:]} (translation, bin)"
            )
        if sigma is not None and np.shape(sigma) != projection.shape:
            raise ProcessingError(
                f"the sigma of the line at {rotation_deg:g}° has shape {np.shape(sigma)}, its intensities "
                f"{projection.shape}"
            )
        if self.n_lines and (sigma is None) != (self.variance is None):
            raise ProcessingError(
                f"the line at {rotation_deg:g}° comes {'without' if sigma is None else 'with'} a sigma, "
                "unlike the lines before; give one to each line or to none"
            )
        if not measured_bins(projection[np.newaxis]).any():
            raise ProcessingError(f"the line at {rotation_deg:g}° is NaN in every cell; leave it out")

    def _index_of(self, rotation_deg: float) -> int:
        """Return the row of an angle: where it is already, where it was planned, or the next free one."""
        known = self.rotation_deg if self._planned_deg is None else self._planned_deg
        distance = np.abs(known - rotation_deg)
        tolerance_deg = SAME_ANGLE_DEG
        if self._planned_deg is not None:
            tolerance_deg = 0.25 * float(np.diff(np.sort(self._planned_deg)).min())
        if np.nanmin(distance, initial=np.inf) <= tolerance_deg:
            return int(np.nanargmin(distance))
        if self._planned_deg is not None:
            raise ProcessingError(
                f"the angle {rotation_deg:g}° was not planned; the nearest one is "
                f"{self._planned_deg[np.nanargmin(distance)]:g}°"
            )
        free = np.flatnonzero(np.isnan(self.rotation_deg))
        if not free.size:
            raise ProcessingError(
                f"all {self.rotation_deg.size} rotations have a line already; {rotation_deg:g}° is one more"
            )
        return int(free[0])

    def _exchange(
        self,
        image: Float32Array,
        stored: Float32Array,
        index: int,
        rotation_deg: float,
        line: Float32Array,
        *,
        squared: bool,
    ) -> None:
        """Put a line in the place of what is stored, in the image and in the store."""
        weight = self._weight[index] ** 2 if squared else self._weight[index]
        earlier_deg = self.rotation_deg[index]
        new, old = fill_holes(line), stored[index]
        if earlier_deg == rotation_deg:
            np.subtract(new, fill_holes(old), out=old)  # in the place of the old one: it is written next
            new = old
        elif np.isfinite(earlier_deg):
            self._projector.add(image, fill_holes(old), earlier_deg, -weight, squared=squared)
        if new.any():
            self._projector.add(image, new, rotation_deg, weight, squared=squared)
        stored[index] = line

    def _add_variance(self, index: int, rotation_deg: float, variance: Float32Array) -> None:
        if self.variance is None or self._image_variance is None:
            self.variance = np.full_like(self.sinogram, np.nan)
            self._image_variance = aligned_zeros(self._image.shape)
        self._exchange(self._image_variance, self.variance, index, rotation_deg, variance, squared=True)

    def _scale(self) -> Float32Array:
        """Return π over the weights of the lines that measured each bin; NaN for no line."""
        covered = np.zeros(self.sinogram.shape[2])
        for index in np.flatnonzero(np.isfinite(self.rotation_deg)):
            covered += self._weight[index] * np.unpackbits(self._bin_measured[index], count=covered.size)
        return np.divide(np.pi, covered, out=np.full_like(covered, np.nan), where=covered > 0).astype(
            np.float32
        )


def reconstruct(
    sinogram: npt.NDArray[np.floating[Any]],
    rotation_deg: npt.ArrayLike,
    axis_px: float,
    method: str = "fbp",
    backend: str = "native",
    *,
    iterations: int = 50,
) -> Float32Array:
    """Return the slice ``(y, x, bin)`` of a sinogram ``(rotation, translation, bin)``.

    A sinogram ``(rotation, translation)`` of one channel gives an image ``(y, x)``. Holes are filled
    for the transform; lines that are NaN as a whole are refused (`sinogram.without_bad_lines`).

    Parameters
    ----------
    sinogram, rotation_deg, axis_px:
        As in `IncrementalFBP`.
    method, backend:
        What computes it: `backends.BACKENDS` and their ``methods``.
    iterations:
        Of methods that iterate.
    """
    return reconstruct_with(backend, sinogram, rotation_deg, axis_px, method=method, iterations=iterations)


def warm_up() -> None:
    """Compile the kernels of this module, or load them from numba's cache."""
    fbp = IncrementalFBP(4, 2, 2, 1.5)
    line = np.ones((4, 2), np.float32)
    line[1] = np.nan
    fbp.add(0.0, line, line)
    fbp.region(np.ones((4, 4)))


def _as_bins(bins: Bins) -> Any:
    if bins is None:
        return slice(None)
    return bins if isinstance(bins, slice) else np.atleast_1d(np.asarray(bins))
