"""A reflection is what stands above its surroundings."""

from __future__ import annotations

import numpy as np
import pytest

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.windows import net_intensity

RADIAL = np.arange(0.05, 10, 0.1)


def test_a_slope_has_no_net_intensity_and_a_peak_on_it_keeps_its_own():
    slope = 3.0 + 0.7 * RADIAL
    peak = np.zeros_like(RADIAL)
    peak[48:53] = [1, 4, 6, 4, 1]
    assert net_intensity(slope, RADIAL, low=4.6, high=5.5, side=1.0) == pytest.approx(0.0, abs=1e-10)
    assert net_intensity(slope + peak, RADIAL, low=4.6, high=5.5, side=1.0) == pytest.approx(16.0)


def test_leading_axes_are_kept():
    stack = np.ones((2, 3, RADIAL.size))
    stack[1, 2, 50] += 5
    net = net_intensity(stack, RADIAL, low=4.6, high=5.5, side=1.0)
    assert net.shape == (2, 3)
    assert net[1, 2] == pytest.approx(5.0)
    assert abs(net[0]).max() < 1e-9


def test_a_window_outside_of_the_range_is_refused():
    with pytest.raises(ProcessingError, match=r"window 9\.9 to 12"):
        net_intensity(RADIAL, RADIAL, low=9.9, high=12, side=0.5)


def test_an_empty_bin_matters_only_inside_of_the_window():
    pattern = np.ones_like(RADIAL)
    pattern[0] = np.nan
    assert net_intensity(pattern, RADIAL, low=4.6, high=5.5, side=1.0) == pytest.approx(0.0, abs=1e-10)
    pattern[50] = np.nan
    assert np.isnan(net_intensity(pattern, RADIAL, low=4.6, high=5.5, side=1.0))
