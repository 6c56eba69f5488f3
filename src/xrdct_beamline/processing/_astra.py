"""The ASTRA toolbox as a backend: optional, its wheel brings 0.9 GB of CUDA libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._centring import centred, cropped
from ._checks import optional_module

__all__ = ["AstraBackend"]

#: ASTRA's names of the methods.
ALGORITHMS = {"fbp": "FBP", "sirt": "SIRT", "cgls": "CGLS"}


class AstraBackend:
    """ASTRA's reconstructions, channel by channel, on the GPU where there is one."""

    methods: tuple[str, ...] = tuple(ALGORITHMS)

    def __init__(self) -> None:
        self._astra = optional_module(
            "astra",
            needed_by="the astra backend needs the ASTRA toolbox",
            remedy="pip install 'xrdct-beamline[astra]' (0.9 GB with CUDA), or take the native backend",
        )

    def reconstruct(
        self,
        sinogram: npt.NDArray[np.floating[Any]],
        rotation_deg: npt.NDArray[np.float64],
        axis_px: float,
        *,
        method: str = "fbp",
        iterations: int = 50,
    ) -> npt.NDArray[np.float32]:
        """Return the slice by one of ASTRA's methods; ``fbp`` does not iterate."""
        astra = self._astra
        wide, first = centred(sinogram, rotation_deg, axis_px)
        n = wide.shape[1]
        on_gpu = bool(astra.use_cuda())
        rays = astra.create_proj_geom("parallel", 1.0, n, np.radians(rotation_deg))
        pixels = astra.create_vol_geom(n, n)
        projector = astra.create_projector("cuda" if on_gpu else "linear", rays, pixels)
        image = np.empty((sinogram.shape[1], sinogram.shape[1], sinogram.shape[2]), np.float32)
        try:
            for channel in range(sinogram.shape[2]):
                configuration = astra.astra_dict(ALGORITHMS[method] + ("_CUDA" if on_gpu else ""))
                configuration["ProjectorId"] = projector
                configuration["ProjectionDataId"] = astra.data2d.create(
                    "-sino", rays, np.ascontiguousarray(wide[:, :, channel])
                )
                configuration["ReconstructionDataId"] = astra.data2d.create("-vol", pixels)
                if method == "fbp":
                    configuration["option"] = {"FilterType": "Ram-Lak"}
                algorithm = astra.algorithm.create(configuration)
                astra.algorithm.run(algorithm, 1 if method == "fbp" else iterations)
                whole = astra.data2d.get(configuration["ReconstructionDataId"])
                image[:, :, channel] = cropped(whole, first, sinogram.shape[1])
                astra.algorithm.delete(algorithm)
                astra.data2d.delete(
                    [configuration["ProjectionDataId"], configuration["ReconstructionDataId"]]
                )
        finally:
            astra.projector.delete(projector)
        return image
