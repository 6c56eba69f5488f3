"""What a perfect experiment would find in each voxel of a simulated slice."""

from __future__ import annotations

from dataclasses import dataclass

import gemmi
import numpy as np
import numpy.typing as npt

from .composition import RegionContents
from .crystals import LI2MNO3, LIMNO2, Structure
from .electrode import Electrode
from .lattice import LMO_LATTICE, LatticeMap

__all__ = ["SliceTruth", "slice_truth", "spinel_density_g_cm3", "structure_density_g_cm3"]

FloatArray = npt.NDArray[np.float64]

_GRAMS_PER_A3 = 1.0 / 0.602214076

#: A second spinel phase of less than this share is not counted as one.
_TRACE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SliceTruth:
    """Maps ``(y, x)`` of what was planted, averaged over voxels.

    Parameters
    ----------
    spinel:
        Volume fraction of spinel.
    a_A:
        Mean lattice parameter of the spinel, NaN without.
    single_phase:
        Where the whole voxel lies within one particle whose spinel is one phase.
    label:
        Particle of each voxel from 1; 0 where none, or more than one, fills it.
    depth_mm:
        Mean distance from the particle's surface.
    mass:
        Grams per cm³ of spinel, LiMnO2 and Li2MnO3, ``(phase, y, x)``.
    """

    spinel: FloatArray
    a_A: FloatArray
    single_phase: npt.NDArray[np.bool_]
    label: npt.NDArray[np.int32]
    depth_mm: FloatArray
    mass: FloatArray

    def mass_fractions(self, mask: npt.NDArray[np.bool_]) -> FloatArray:
        """Return the mass fractions of spinel, LiMnO2 and Li2MnO3 in the masked voxels together."""
        total = self.mass[:, mask].sum(axis=1)
        return np.asarray(total / total.sum())


def slice_truth(
    electrode: Electrode,
    contents: RegionContents,
    step_mm: float,
    n: int,
    lattice_map: LatticeMap = LMO_LATTICE,
) -> SliceTruth:
    """Return the maps of a slice of ``n × n`` voxels about the rotation axis."""

    def average(values: npt.ArrayLike) -> FloatArray:
        return electrode.average(values, step_mm, n)

    spinel = average(contents.spinel.sum(axis=1))
    weighted = average((contents.spinel * contents.a_A).sum(axis=1))
    second = average(contents.spinel[:, 1])
    owner = electrode.region_particle
    label, square = average(owner + 1.0), average((owner + 1.0) ** 2)
    pure = (label > 0) & (square - label**2 < 1e-6)
    density = spinel_density_g_cm3(contents.a_A, lattice_map)
    minor_density = [structure_density_g_cm3(s) for s in (LIMNO2, LI2MNO3)]
    mass = [average((contents.spinel * density).sum(axis=1))]
    mass += [average(contents.minor[:, k] * minor_density[k]) for k in range(2)]
    present = spinel > 1e-9
    return SliceTruth(
        spinel=spinel,
        a_A=np.divide(weighted, spinel, out=np.full_like(spinel, np.nan), where=present),
        single_phase=pure & (second < _TRACE * spinel),
        label=np.where(pure, np.rint(label), 0).astype(np.int32),
        depth_mm=_mean_depth(electrode, step_mm, n),
        mass=np.stack(mass),
    )


def structure_density_g_cm3(structure: Structure) -> float:
    """Return the density of a crystal from the contents of its cell."""
    mass = sum(
        occupancy * len(site.positions) * float(gemmi.Element(element).weight)
        for site in structure.sites
        for element, occupancy in site.atoms.items()
    )
    return mass / structure.volume_A3 * _GRAMS_PER_A3


def spinel_density_g_cm3(a_A: FloatArray, lattice_map: LatticeMap = LMO_LATTICE) -> FloatArray:
    """Return the density of the spinel whose lithium content belongs to a lattice parameter."""
    lithium, manganese, oxygen = (float(gemmi.Element(e).weight) for e in ("Li", "Mn", "O"))
    mass = 8.0 * lattice_map.lithium(a_A) * lithium + 16.0 * manganese + 32.0 * oxygen
    return np.asarray(mass / np.asarray(a_A) ** 3 * _GRAMS_PER_A3)


def _mean_depth(electrode: Electrode, step_mm: float, n: int) -> FloatArray:
    """Average the raster of depths over voxels; they must be a whole number of its pixels."""
    per_voxel = max(1, round(step_mm / electrode.pixel_mm))
    size = electrode.depth_mm.shape[0]
    margin = (n * per_voxel - size) // 2
    depth = electrode.depth_mm.astype(np.float64)
    if margin > 0:
        depth = np.pad(depth, margin)
    elif margin < 0:
        depth = depth[-margin : size + margin, -margin : size + margin]
    return np.asarray(depth.reshape(n, per_voxel, n, per_voxel).mean(axis=(1, 3)))
