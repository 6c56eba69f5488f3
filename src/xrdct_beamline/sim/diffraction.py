"""Frames of the simulated beamline: what the detector records for one ray through the electrode."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xrdct_beamline.domain.errors import ConfigurationError

from .artefacts import Artefacts, SpinelPath, add_hot_pixels, add_spots, add_zingers
from .composition import Composition
from .detector import BAD, GAP, SimulatedDetector, demo_poni
from .electrode import Electrode
from .lattice import LMO_LATTICE, LatticeMap
from .powder import make_bank
from .rays import Ray, Tables, cast_ray, make_tables
from .rendering import combine, draw_counts, frame_key, mean_counts

__all__ = ["Artefacts", "Beam", "FrameRenderer", "SimulatedDetector", "demo_poni"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beam:
    """The beam as it meets the sample.

    Parameters
    ----------
    flux_photons_s:
        At the upstream monitor.
    filter_transmission:
        Of the filters between the monitor and the sample. The default spares the cell and gives
        frames of a few counts per pixel on strong rings in 10 ms; 1 gives hundreds.
    polarisation:
        1 is fully polarised in the horizontal (the detector's fast axis).
    tail_share:
        Share of the beam in its tails, above and below the slice: through the aluminium foil on
        one side and the separator on the other.
    """

    flux_photons_s: float = 1e11
    filter_transmission: float = 0.005
    polarisation: float = 0.99
    tail_share: float = 0.01

    def photons(self, exposure_s: float) -> float:
        """Return the photons that reach the sample in an exposure at the nominal flux."""
        return self.flux_photons_s * self.filter_transmission * exposure_s


class FrameRenderer:
    """Renders detector frames; a frame depends on nothing but the arguments here and of `frame`.

    Patterns of every lattice parameter and depth are rendered once, on construction; a frame then
    costs a walk along its ray, a weighted sum, and one random number per pixel.

    Parameters
    ----------
    electrode, detector:
        The sample's slice and where it is looked at from.
    seed:
        Of noise, spots, zingers and the particles' individual chemistry.
    beam, lattice_map, artefacts:
        Settings of the physics.
    """

    def __init__(
        self,
        electrode: Electrode,
        detector: SimulatedDetector,
        *,
        seed: int = 0,
        beam: Beam | None = None,
        lattice_map: LatticeMap = LMO_LATTICE,
        artefacts: Artefacts | None = None,
    ) -> None:
        self.electrode, self.detector, self.seed = electrode, detector, int(seed)
        self.beam = beam or Beam()
        self._artefacts = artefacts or Artefacts()
        self._composition = Composition(electrode, lattice_map, self.seed)
        self._bank = make_bank(detector, lattice_map, half_length_mm=electrode.chamber_radius_mm)
        self._latest: tuple[float, Tables] | None = None

        valid = ~(detector.gap_mask | detector.bad_mask)
        factor = detector.solid_angle_sr * detector.polarisation(self.beam.polarisation)
        factor = factor * detector.sensitivity(self._artefacts.flat_rms) * valid
        place = (np.degrees(detector.two_theta_rad) - self._bank.start_deg) / self._bank.step_deg
        self._factor = np.ascontiguousarray(factor.ravel(), dtype=np.float32)
        self._place = np.ascontiguousarray(place.ravel(), dtype=np.float32)
        self._blank = np.zeros(detector.shape, np.int32)
        self._blank[detector.bad_mask] = BAD
        self._blank[detector.gap_mask] = GAP

    def frame(
        self,
        rotation_deg: float,
        translation_mm: float,
        lithium_content: float,
        exposure_s: float,
        i0: float = 1.0,
    ) -> npt.NDArray[np.int32]:
        """Return the counts of one exposure, ``(row, column)``, -1 in gaps and -2 at bad pixels.

        The same arguments give the same frame, in any order, thread or process; positions count to
        1e-4 degrees and 1e-6 mm, the lithium content to 1e-6.

        Parameters
        ----------
        rotation_deg, translation_mm:
            The ray: t = x cosθ + y sinθ.
        lithium_content:
            Mean of the electrode, 0 to 1.
        exposure_s:
            Length of the exposure.
        i0:
            Incident intensity relative to the nominal flux; 0 without beam.
        """
        state = _State.rounded(rotation_deg, translation_mm, lithium_content, exposure_s, i0)
        ray = self._ray(state)
        key = frame_key(self.seed, *state.numbers())
        frame = self._blank.copy()
        draw_counts(self._pattern(ray, state), self._place, self._factor, np.uint64(key), frame.reshape(-1))
        self._add_artefacts(frame, ray, state, key)
        return frame

    def expected(
        self,
        rotation_deg: float,
        translation_mm: float,
        lithium_content: float,
        exposure_s: float,
        i0: float = 1.0,
    ) -> FloatArray:
        """Return the mean counts of `frame` without its artefacts; NaN where nothing is counted."""
        state = _State.rounded(rotation_deg, translation_mm, lithium_content, exposure_s, i0)
        mean = np.empty(self._factor.size)
        mean_counts(self._pattern(self._ray(state), state), self._place, self._factor, mean)
        return np.where(self._blank < 0, np.nan, mean.reshape(self.detector.shape))

    def transmission(self, rotation_deg: float, translation_mm: float, lithium_content: float = 0.5) -> float:
        """Return the share of the beam that leaves the sample along a ray."""
        return self._ray(_State.rounded(rotation_deg, translation_mm, lithium_content, 1.0, 1.0)).transmission

    def ray(self, rotation_deg: float, translation_mm: float, lithium_content: float) -> Ray:
        """Return the path lengths along a ray."""
        return self._ray(_State.rounded(rotation_deg, translation_mm, lithium_content, 1.0, 1.0))

    def lattice_map(self, step_mm: float, n: int, lithium_content: float) -> FloatArray:
        """Return the true mean lattice parameter of spinel in each voxel, ``(y, x)``, NaN without spinel."""
        contents = self._composition.at(lithium_content)
        spinel = self.electrode.average(contents.spinel.sum(axis=1), step_mm, n)
        weighted = self.electrode.average((contents.spinel * contents.a_A).sum(axis=1), step_mm, n)
        return np.divide(weighted, spinel, out=np.full_like(spinel, np.nan), where=spinel > 1e-9)

    def spinel_map(self, step_mm: float, n: int, lithium_content: float) -> FloatArray:
        """Return the true volume fraction of spinel in each voxel, ``(y, x)``."""
        return self.electrode.average(self._composition.at(lithium_content).spinel.sum(axis=1), step_mm, n)

    def minor_maps(self, step_mm: float, n: int, lithium_content: float) -> FloatArray:
        """Return the true volume fractions of the minor phases, ``(phase, y, x)``."""
        minor = self._composition.at(lithium_content).minor
        return np.stack([self.electrode.average(column, step_mm, n) for column in minor.T])

    def warm_up(self) -> None:
        """Compile what renders frames, or load it from the cache."""
        self.frame(0.0, 0.0, 0.5, 1e-3)

    def _tables(self, lithium_content: float) -> Tables:
        latest = self._latest
        if latest is None or latest[0] != lithium_content:
            tables = make_tables(self._composition.at(lithium_content), self._bank.a_A)
            latest = self._latest = (lithium_content, tables)  # replaced at once: safe across threads
        return latest[1]

    def _ray(self, state: _State) -> Ray:
        return cast_ray(
            self.electrode,
            self._tables(state.lithium_content),
            self._bank.depth_mm,
            len(self._bank.a_A),
            rotation_deg=state.rotation_deg,
            translation_mm=state.translation_mm,
        )

    def _pattern(self, ray: Ray, state: _State) -> npt.NDArray[np.float32]:
        """Return counts per sr on the grid of apparent angles."""
        bank, tail = self._bank, self.beam.tail_share
        sums = np.zeros(bank.spinel.shape[-1])
        combine(ray.spinel, bank.spinel, sums)
        weights = ray.others.copy()
        weights[2] *= 0.5 * tail  # half of the tails meets the foil, half the separator
        combine(weights, bank.others, sums)
        disc_um = ray.others[2].sum()
        peek, electrolyte, air = bank.diffuse
        sums += ray.peek_um * peek + (ray.electrolyte_um + (0.5 + 0.5 * tail) * disc_um) * electrolyte
        photons = self.beam.photons(state.exposure_s) * state.i0
        return (photons * (ray.transmission * sums + air)).astype(np.float32)

    def _add_artefacts(self, frame: npt.NDArray[np.int32], ray: Ray, state: _State, key: int) -> None:
        settings = self._artefacts
        noise = np.random.default_rng(key)
        photons = self.beam.photons(state.exposure_s) * state.i0 * ray.transmission
        if settings.spots_per_mm > 0 and photons > 0:
            grains = np.random.default_rng(frame_key(self.seed, *state.position()))
            path = SpinelPath(ray.spinel, self._bank.depth_mm, self._bank.a_A)
            add_spots(frame, self.detector, settings, path, photons, (grains, noise))
        if settings.hot_pixels:
            add_hot_pixels(frame, self.detector, state.exposure_s, noise)
        add_zingers(frame, settings.zingers_per_s * state.exposure_s, noise)


@dataclass(frozen=True, slots=True)
class _State:
    """Arguments of a frame, rounded to what distinguishes frames."""

    rotation_deg: float
    translation_mm: float
    lithium_content: float
    exposure_s: float
    i0: float

    @classmethod
    def rounded(
        cls, rotation_deg: float, translation_mm: float, lithium_content: float, exposure_s: float, i0: float
    ) -> _State:
        values = (rotation_deg, translation_mm, lithium_content, exposure_s, i0)
        if not all(math.isfinite(v) for v in values):
            raise ConfigurationError(
                f"a frame needs finite rotation, translation, lithium, exposure and i0, got {values}"
            )
        if not 0.0 <= lithium_content <= 1.0:
            raise ConfigurationError(f"lithium content is {lithium_content:g}; LixMn2O4 takes 0 to 1")
        if exposure_s <= 0 or i0 < 0:
            raise ConfigurationError(
                f"exposure {exposure_s:g} s must be positive and i0 {i0:g} must not be negative"
            )
        return cls(
            round(rotation_deg % 360.0, 4) % 360.0,
            round(translation_mm, 6),
            round(lithium_content, 6),
            float(exposure_s),
            float(i0),
        )

    def position(self) -> tuple[int, int]:
        return round(self.rotation_deg * 1e4), round(self.translation_mm * 1e6)

    def numbers(self) -> tuple[int | float, ...]:
        return *self.position(), round(self.lithium_content * 1e6), self.exposure_s, self.i0
