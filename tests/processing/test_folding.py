import numpy as np
import pytest

from xrdct_beamline.processing._folding import FoldedFilter


@pytest.mark.parametrize(
    ("n", "padding", "n_points"), [(24, 14, 76), (25, 0, 124), (24, 28, 120), (3, 1, 12)]
)
def test_mirrored_points_get_what_a_plain_convolution_gives(n, padding, n_points):
    rng = np.random.default_rng(n_points)
    first = -2 * (padding + n - 1)
    lag = np.abs(np.arange(first, n_points + 2 * n))
    kernel = rng.normal(size=lag.max() + 1)[lag]  # even, as every filter
    lines = rng.random((3, n, 7)).astype(np.float32)
    filtered = np.full((3, n_points, 7), np.nan, np.float32)
    folded = FoldedFilter(kernel, n, n_points, 2, padding)
    place = np.arange(n_points)[:, None] + 2 * (n - 1 - np.arange(n))
    for _ in range(2):  # the second time in the same room
        folded(lines, filtered)
        np.testing.assert_allclose(filtered, kernel[place] @ lines, atol=1e-4)
