"""Make docs/tooth.png: a real tomogram, its axis found by the package.

    python docs/make_tooth_figure.py PATH/TO/tooth.h5

The data are TomoPy's example (BSD-3): 181 projections of two rows of 640 pixels.
"""

import sys
from pathlib import Path

import h5py
import matplotlib as mpl
import numpy as np

from xrdct_beamline.processing.alignment import (
    channel_mean,
    find_axis,
    from_centre_of_mass,
    from_mirror,
    from_sharpness,
)
from xrdct_beamline.processing.reconstruction import reconstruct

mpl.use("Agg")
import matplotlib.pyplot as plt


def main(path: Path) -> None:
    with h5py.File(path) as file:
        group = file["exchange"]
        white, dark = group["data_white"][:].mean(0), group["data_dark"][:].mean(0)
        absorption = -np.log((group["data"][:] - dark) / (white - dark))
        angles = group["theta"][:]
    figure, panels = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
    panels[0].imshow(absorption[:, 0], cmap="gray", aspect="auto")
    panels[0].set(title="sinogram", xlabel="translation / px", ylabel="rotation")
    for row, panel in enumerate(panels[1:]):
        profiles, ascending = channel_mean(absorption[:, row], angles)
        axis = find_axis(absorption[:, row], angles)
        mirror, centre = from_mirror(profiles, ascending), from_centre_of_mass(profiles, ascending)
        sharpness = from_sharpness(profiles, ascending, near_px=axis.axis_px)
        print(f"row {row}: {axis.axis_px:.2f} ± {axis.uncertainty_px:.2f} px, agrees: {axis.agrees}")
        print(f"  mirror {mirror.axis_px:.2f}, mass {centre.axis_px:.2f}, sharpness {sharpness.axis_px:.2f}")
        image = reconstruct(absorption[:, row], angles, axis.axis_px)
        panel.imshow(image, cmap="gray", vmin=0, vmax=np.quantile(image, 0.999))
        panel.set(title=f"slice {row}, axis {axis.axis_px:.2f} px", xticks=[], yticks=[])
    figure.savefig(Path(__file__).with_name("tooth.png"), dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
