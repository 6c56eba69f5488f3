from __future__ import annotations

import numpy as np
from builders import made_maps

from xrdct_beamline.callbacks.growing_maps import GrowingMaps
from xrdct_beamline.domain.results import RefinementStatus


def test_pieces_land_on_their_voxels_and_the_rest_is_not_measured():
    inside = np.array([[False, True, False], [True, True, True], [False, True, False]])
    maps = GrowingMaps(inside)
    maps.place(slice(1, None, 2), made_maps(("A",), 3, a_A=[8.1, 8.2, 8.3]))
    first = maps.as_result()
    assert first.names == ("A",)
    np.testing.assert_array_equal(first.a_A["A"][1], [8.1, 8.2, 8.3])
    assert np.isnan(first.a_A["A"][[0, 2]]).all()
    assert (first.status[[0, 2]] == RefinementStatus.NOT_MEASURED).all()
    maps.place(slice(0, None, 2), made_maps(("A",), 2, a_A=[8.4, 8.5]))
    whole = maps.as_result()
    np.testing.assert_array_equal(whole.a_A["A"][inside], [8.4, 8.1, 8.2, 8.3, 8.5])
    assert (whole.status[inside] == RefinementStatus.CONVERGED).all()
    assert np.isnan(first.a_A["A"][0]).all()  # what was handed on does not change afterwards
    assert whole.background.shape == (3, 3, 4)
