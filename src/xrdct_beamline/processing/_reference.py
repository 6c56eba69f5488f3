"""PyFAI's own integrators behind the rows of ours: the reference, slower and biased at low counts."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ..domain.detector import DetectorGeometry
from ..domain.errors import ProcessingError
from ._estimators import FLAG, INTENSITY, N_COLUMNS, N_PIXELS, SIGMA, TRIM_FLOOR
from ._poisson import invert_trimmed
from ._rings import Rings
from ._settings import Settings

__all__ = ["ReferenceReducer"]

_ROUNDS = 5  # of the sigma clip


class ReferenceReducer:
    """Frames to rows by pyFAI, without pixel splitting, on the CPU or by OpenCL.

    A trimmed mean is put right by the same inversion as ours where asked for; below the rate where
    that is possible it stays as it is and is flagged. PyFAI drops what it does not know, so only
    estimators that it has are accepted.

    Raises
    ------
    ProcessingError
        For an estimator that pyFAI does not have, or that cannot be put right from its result alone.
    """

    def __init__(
        self,
        detector: DetectorGeometry,
        rings: Rings,
        settings: Settings,
        dark: npt.NDArray[np.float64] | None,
        flat: npt.NDArray[np.float64] | None,
    ) -> None:
        known = {"mean": self._mean, "trimmed_mean": self._trimmed, "median": self._median}
        known["sigma_clip"] = self._sigma_clip
        if settings.estimator not in known:
            raise ProcessingError(
                f"pyFAI has no estimator like {settings.estimator!r}; "
                f"use engine='native', or one of {', '.join(known)}"
            )
        if settings.unbiased and settings.estimator in ("median", "sigma_clip"):
            raise ProcessingError(
                f"pyFAI's {settings.estimator} cannot be put right afterwards; "
                "give unbiased=False or engine='native'"
            )
        from pyFAI.integrator.azimuthal import AzimuthalIntegrator  # half a second that others need not pay

        self._integrator = AzimuthalIntegrator()
        self._integrator.set_config(detector.pyfai().get_config())
        self._call: Callable[..., Any] = known[settings.estimator]
        self._rings, self._settings = rings, settings
        width = rings.radial[1] - rings.radial[0] if rings.n_rings > 1 else 0.0
        half = width / 2 if width else 0.0
        self._arguments: dict[str, Any] = {
            "npt": rings.n_rings,
            "unit": settings.unit,
            "mask": detector.mask.astype(np.int8),
            "correctSolidAngle": settings.solid_angle,
            "polarization_factor": settings.polarisation,
            "dark": dark,
            "flat": flat,
            "method": ("no", "csr", "opencl" if settings.engine == "pyfai-opencl" else "cython"),
            "radial_range": (rings.radial[0] - half, rings.radial[-1] + half) if width else None,
            "error_model": "poisson",
        }
        norm = np.ones(rings.ring.size) if rings.norm is None else rings.norm
        pixels = np.maximum(rings.n_pixels, 1)
        self._mean_norm = np.bincount(rings.ring, norm, rings.n_rings + 1)[: rings.n_rings] / pixels

    def __call__(self, frame: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Reduce a flat frame."""
        image = frame.reshape(self._rings.shape).astype(np.float64)
        image[~np.isfinite(image) | (image < 0)] = np.nan
        result = self._call(image, **self._arguments)
        rows = np.full((self._rings.n_rings, N_COLUMNS), np.nan)
        valid = np.isfinite(image).ravel() & (self._rings.ring < self._rings.n_rings)
        pixels = np.bincount(self._rings.ring[valid], minlength=self._rings.n_rings)
        filled = pixels > 0
        rows[:, N_PIXELS], rows[:, FLAG] = pixels, 0.0
        rows[filled, INTENSITY] = np.asarray(result.intensity)[filled]
        rows[filled, SIGMA] = np.asarray(result.sigma)[filled]
        if self._settings.unbiased and self._settings.estimator == "trimmed_mean":
            self._put_right(rows)
        return rows

    def _put_right(self, rows: npt.NDArray[np.float64]) -> None:
        s = self._settings
        for r in np.flatnonzero(rows[:, N_PIXELS] > 0):
            rate = invert_trimmed(rows[r, INTENSITY] * self._mean_norm[r], s.lower, s.upper)
            rows[r, FLAG] = rate < max(TRIM_FLOOR, 2 * s.upper)
            if not rows[r, FLAG]:
                rows[r, INTENSITY] = rate / self._mean_norm[r]

    def _mean(self, image: npt.NDArray[np.float64], **arguments: Any) -> Any:
        return _checked(self._integrator.integrate1d_ng, image, arguments)

    def _trimmed(self, image: npt.NDArray[np.float64], **arguments: Any) -> Any:
        s = self._settings
        arguments["percentile"] = (100 * s.lower, 100 * (1 - s.upper))
        return _checked(self._integrator.medfilt1d_ng, image, arguments)

    def _median(self, image: npt.NDArray[np.float64], **arguments: Any) -> Any:
        return _checked(self._integrator.medfilt1d_ng, image, {**arguments, "percentile": 50})

    def _sigma_clip(self, image: npt.NDArray[np.float64], **arguments: Any) -> Any:
        arguments.update(error_model="azimuthal", thres=self._settings.threshold, max_iter=_ROUNDS)
        return _checked(self._integrator.sigma_clip_ng, image, arguments)


def _checked(function: Callable[..., Any], image: npt.NDArray[np.float64], arguments: dict[str, Any]) -> Any:
    """Call pyFAI, unless it would drop an argument: it logs a line and computes something else."""
    unknown = set(arguments) - set(inspect.signature(function).parameters)
    if unknown:
        raise ProcessingError(
            f"this pyFAI's {function.__name__} does not know {', '.join(sorted(unknown))}; "
            "use engine='native', or the pyFAI of requirements.txt"
        )
    return function(image, **arguments)
