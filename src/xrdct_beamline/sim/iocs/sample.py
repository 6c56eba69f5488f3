"""Sample and detector as the devices need them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from xrdct_beamline.sim.beamline_state import FrameState
from xrdct_beamline.sim.electrochemistry import Cell

from .common import Clock

if TYPE_CHECKING:
    from xrdct_beamline.sim.diffraction import FrameRenderer

    from .server import SimOptions

__all__ = ["BlankSample", "CellInBeam", "DiffractingSample", "SampleModel", "SpeckledSample", "make_sample"]


class SampleModel(Protocol):
    """What the beam meets; `frame` is called from one worker thread."""

    name: str
    shape: tuple[int, int]

    def frame(self, state: FrameState) -> npt.NDArray[np.int32]:
        """Return one frame ``(row, column)``."""
        ...

    def transmission(self, rotation_deg: float, translation_mm: float, lithium_content: float) -> float:
        """Return the part of the beam that passes the sample."""
        ...


class BlankSample:
    """No sample: every pixel counts what I0 says. For listing PVs and for tests of the devices.

    Parameters
    ----------
    shape:
        ``(rows, columns)`` of the detector.
    counts:
        Per pixel and second at relative intensity 1.
    """

    def __init__(self, shape: tuple[int, int] = (8, 16), counts: float = 1000.0) -> None:
        self.name = "blank"
        self.shape = shape
        self._counts = counts

    def frame(self, state: FrameState) -> npt.NDArray[np.int32]:
        """Return an even frame whose corner pixels hold position (nm) and angle (µdeg)."""
        frame = np.full(self.shape, round(self._counts * state.exposure_s * state.i0), dtype=np.int32)
        frame[0, 0] = round(state.translation_mm * 1e6)
        frame[0, 1] = round(state.rotation_deg * 1e6)
        return frame

    def transmission(self, rotation_deg: float, translation_mm: float, lithium_content: float) -> float:
        """Return 1: nothing is in the way."""
        return 1.0


class SpeckledSample(BlankSample):
    """Noise that belongs to a position: frames each unlike any other, and the same each time."""

    def __init__(self, shape: tuple[int, int] = (32, 32), counts: float = 1000.0) -> None:
        super().__init__(shape, counts)
        self.name = "speckled"

    def frame(self, state: FrameState) -> npt.NDArray[np.int32]:
        """Return Poisson counts that position and angle, in nm and µdeg, seed."""
        position = (round(state.translation_mm * 1e6), round(state.rotation_deg * 1e6))
        rng = np.random.default_rng([value % 2**32 for value in position])
        return rng.poisson(self._counts * state.exposure_s * state.i0, self.shape).astype(np.int32)

    def transmission(self, rotation_deg: float, translation_mm: float, lithium_content: float) -> float:
        """Return the same everywhere."""
        return 0.8


class CellInBeam:
    """The cell as the beam sees it: its lithium content, which can be held while the cycler runs on.

    Parameters
    ----------
    cell, clock:
        The cycler and the beamline's time.
    """

    def __init__(self, cell: Cell, clock: Clock) -> None:
        self._cell, self._clock = cell, clock
        self._held: float | None = None

    def freeze(self, on: bool) -> None:
        """Hold the content as it is now, or let it go."""
        self._held = self._cell.at(self._clock()).lithium_content if on else None

    def lithium_content(self, time_s: float) -> float:
        """Return the mean x of LixMn2O4 at a time."""
        return self._cell.at(time_s).lithium_content if self._held is None else self._held


class DiffractingSample:
    """The electrode in its chamber, as the simulated physics renders it.

    Parameters
    ----------
    renderer:
        Of the frames; compiled here, so that the first line does not wait.
    """

    def __init__(self, renderer: FrameRenderer) -> None:
        renderer.warm_up()
        self.name = renderer.detector.name
        self.shape = renderer.detector.shape
        self._renderer = renderer

    def frame(self, state: FrameState) -> npt.NDArray[np.int32]:
        """Return the counts of one exposure, gaps at -1 and bad pixels at -2."""
        return self._renderer.frame(
            state.rotation_deg, state.translation_mm, state.lithium_content, state.exposure_s, state.i0
        )

    def transmission(self, rotation_deg: float, translation_mm: float, lithium_content: float) -> float:
        """Return the part of the beam that leaves the sample along a ray."""
        return self._renderer.transmission(rotation_deg, translation_mm, lithium_content)


def make_sample(options: SimOptions) -> SampleModel:
    """Return the sample and the detector that the options describe."""
    from xrdct_beamline.sim.diffraction import Beam, FrameRenderer, SimulatedDetector, demo_poni
    from xrdct_beamline.sim.electrode import make_electrode

    detector = SimulatedDetector.from_poni(
        options.poni or demo_poni(), detector=options.detector, seed=options.seed
    )
    beam = Beam(flux_photons_s=options.flux)
    return DiffractingSample(
        FrameRenderer(make_electrode(options.seed), detector, seed=options.seed, beam=beam)
    )
