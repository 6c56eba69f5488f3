"""What structures that are not the sample's do to mass fractions and lattice parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from xrdct_beamline.processing.refinement import refine
from xrdct_beamline.sim.composition import RegionContents
from xrdct_beamline.sim.crystals import LI2MNO3, LIMNO2, make_spinel
from xrdct_beamline.sim.patterns import PatternForward, PlantedStructures
from xrdct_beamline.sim.powder import STRUCTURES
from xrdct_beamline.sim.truth import spinel_density_g_cm3, structure_density_g_cm3

from .reduce import SPINEL, Instrument, region_model
from .sample import ALTERED, Sample

__all__ = ["VARIANTS", "SystematicRow", "systematic_rows"]

#: What the sample may be made of, where a refinement assumes u 0.2632, B 0.6 and 0.9 Å², and the
#: lithium that belongs to the lattice parameter.
VARIANTS = {
    "as assumed": PlantedStructures(),
    "u + 0.0005": PlantedStructures(structures=(make_spinel(u=0.2637), *STRUCTURES[1:])),
    "B(O) + 0.3 Å²": PlantedStructures(structures=(make_spinel(B_O_A2=1.2), *STRUCTURES[1:])),
    "B(Mn) + 0.2 Å²": PlantedStructures(structures=(make_spinel(B_Mn_A2=0.8), *STRUCTURES[1:])),
    "lithium − 0.2": PlantedStructures(lithium_offset=-0.2),
    "5 % lithium on 16d": PlantedStructures(
        structures=(make_spinel(lithium_on_manganese=0.05), *STRUCTURES[1:])
    ),
    "all of `--structures altered`": ALTERED,
}

#: Name, lattice parameter, weight percent of LiMnO2 and Li2MnO3.
COMPOSITIONS = (
    ("pure spinel", 8.233, 0.0, 0.0),
    ("Particle 1, surface", 8.225, 4.0, 3.5),
    ("Particle 2, discharged", 8.233, 26.0, 0.0),
)


@dataclass(frozen=True)
class SystematicRow:
    """Errors without any noise: weight percent and mÅ, found minus planted."""

    variant: str
    composition: str
    LiMnO2: float
    Li2MnO3: float
    a_mA: float

    def row(self) -> dict[str, object]:
        """Return the numbers by name."""
        return asdict(self)


def systematic_rows(
    sample: Sample, instrument: Instrument, sigma: np.ndarray, variants: Sequence[str] = tuple(VARIANTS)
) -> list[SystematicRow]:
    """Fit noise-free patterns of planted structures with the assumed ones, weighed as a slice is."""
    model = region_model(sample, instrument, two_spinels=False)
    rows = []
    for variant in variants:
        forward = PatternForward(
            sample.electrode,
            sample.contents,
            sample.forward.rings,
            planted=VARIANTS[variant],
            walls=False,
            n_depths=3,
        )
        patterns = forward.pattern_of(_contents())
        maps = refine(patterns, model, sigma=sigma)
        fractions = {n: 100.0 * maps.mass_fraction[n] for n in ("LiMnO2", "Li2MnO3", "Al")}
        crystalline = 1.0 - fractions.pop("Al") / 100.0
        for k, (name, a_A, rock_salt, monoclinic) in enumerate(COMPOSITIONS):
            rows.append(
                SystematicRow(
                    variant,
                    name,
                    float(fractions["LiMnO2"][k] / crystalline[k] - rock_salt),
                    float(fractions["Li2MnO3"][k] / crystalline[k] - monoclinic),
                    float(1e3 * (maps.a_A[SPINEL][k] - a_A)),
                )
            )
    return rows


def _contents() -> RegionContents:
    """Return regions of the compositions, as volume fractions."""
    a_A = np.array([row[1] for row in COMPOSITIONS])
    minor = np.array([row[2:] for row in COMPOSITIONS]) / 100.0
    density = np.array([structure_density_g_cm3(s) for s in (LIMNO2, LI2MNO3)])
    volume = minor / density
    spinel = (1.0 - minor.sum(axis=1)) / spinel_density_g_cm3(a_A)
    total = volume.sum(axis=1) + spinel
    return RegionContents(
        np.stack([a_A, a_A], axis=1),
        np.stack([spinel / total, np.zeros_like(spinel)], axis=1),
        volume / total[:, None],
    )
