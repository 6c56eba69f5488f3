"""Parallax of a sample in its sinogram: what each line would be if every voxel lay at its mean depth.

A voxel's rings move while the sample turns, and filtered back-projection of what moves leaks: its
pattern's slope shows in other voxels, the more the larger the sample. Depths and patterns are known
well enough from the slices of the region and of the scans around it to take that off each line. What is
left is the shift by the mean depth, which `parallax` corrects in the slice, and a slight broadening.

The term of first order needs slices that resolve the sample: contributions from before and behind the
axis cancel but for its grains, and where a coarse scan does not resolve them it only adds noise. The
term of second order does not cancel: rays through the middle meet the surroundings at the largest
depths only, while their slice shows them at all depths between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline

from xrdct_beamline.domain.errors import ProcessingError

from ._angles import angle_weights
from ._checks import check_distance
from ._outside import Outer, Ring, ring_limits

__all__ = ["ParallaxLines"]

Float32Array = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]


class ParallaxLines:
    """What parallax adds to the lines of a scan, from nested slices of all of the sample.

    Parameters
    ----------
    slices:
        From the widest to the narrowest, which holds the region itself; of each the part outside of
        the next one counts. Patterns are as reconstructed, each shifted by the mean depth of its voxel.
    translation_mm:
        Distance of the rays from the axis.
    two_theta_deg:
        Bin centres, equidistant.
    distance_mm:
        From the axis to the detector.
    order:
        1 or 2: the term.
    """

    def __init__(
        self,
        slices: Sequence[Outer],
        translation_mm: FloatArray,
        two_theta_deg: FloatArray,
        distance_mm: float,
        *,
        order: int = 1,
    ) -> None:
        if order not in (1, 2):
            raise ProcessingError(f"order {order} of the parallax is not known; take 1 or 2")
        check_distance(distance_mm)
        if any(s.slice.shape[2] != two_theta_deg.size for s in slices):
            raise ProcessingError(
                f"slices of {', '.join(str(s.slice.shape[2]) for s in slices)} bins do not fit "
                f"{two_theta_deg.size} angles; integrate them alike"
            )
        limits = ring_limits(slices, 0.0)
        self._rings = [
            _DepthRing(outer, inner_mm, translation_mm, order)
            for outer, inner_mm in zip(slices, limits, strict=True)
        ]
        # tan of the apparent angle is that of the true one times 1 − depth/distance
        spline = CubicSpline(two_theta_deg, np.eye(two_theta_deg.size), axis=0)
        response = np.degrees(0.5 * np.sin(2.0 * np.radians(two_theta_deg))) / distance_mm
        term = response**order / order  # 1, 1/2!
        self._to_line = np.ascontiguousarray(
            spline.derivative(order)(two_theta_deg).T * term, dtype=np.float32
        )

    def line(self, rotation_deg: float) -> Float32Array:
        """Return what to subtract from one measured line, ``(translation, bin)``."""
        moment = self._rings[0].line(rotation_deg)
        for ring in self._rings[1:]:
            moment += ring.line(rotation_deg)
        return moment @ self._to_line


class _DepthRing(Ring):
    """The ring of one slice, its values weighed by the depth in mm beyond the mean of the voxel."""

    def __init__(self, outer: Outer, inner_mm: float, translation_mm: FloatArray, order: int) -> None:
        super().__init__(outer, inner_mm, translation_mm)
        self._order = order
        theta = np.radians(np.asarray(outer.geometry.rotation_deg))
        weight = angle_weights(outer.geometry.rotation_deg)
        weight /= weight.sum()
        cosine, sine = np.cos(theta), np.sin(theta)
        means = (cosine, sine, cosine**2, sine**2, cosine * sine)
        self._means = np.array([weight @ mean for mean in means])

    def line(self, rotation_deg: float) -> Float32Array:
        return self.moment(rotation_deg, self._order, self._means)
