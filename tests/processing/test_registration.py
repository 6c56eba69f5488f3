"""The shift of a profile: known ones are found, unusable ones refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.registration import profile_shift


def transmission(shift, n=61):
    x = np.arange(n) - shift
    return np.exp(-0.25 / (1 + np.exp(-(x - 18.0) / 1.5)) / (1 + np.exp((x - 41.0) / 1.5)))


@given(st.floats(-12, 12))
def test_a_known_shift_is_found(shift):
    found = profile_shift(transmission(0.0), transmission(shift))
    assert found.steps == pytest.approx(shift, abs=0.02)


def test_the_uncertainty_covers_the_noise():
    rng = np.random.default_rng(2)
    errors, sigmas = [], []
    for _ in range(40):
        noisy = [transmission(s) + rng.normal(0, 2e-3, 61) for s in (0.0, 1.3)]
        found = profile_shift(*noisy)
        errors.append(found.steps - 1.3)
        sigmas.append(found.sigma)
    assert 0.5 < np.std(errors) / np.mean(sigmas) < 2


@pytest.mark.parametrize(
    ("profiles", "words"),
    [
        ((np.ones(9), np.ones(9)), "flat"),
        ((np.arange(9.0), np.arange(8.0)), "cannot be compared"),
        ((np.arange(9.0), np.full(9, np.nan)), "not finite"),
    ],
)
def test_what_cannot_be_compared_is_refused(profiles, words):
    with pytest.raises(ProcessingError, match=words):
        profile_shift(*profiles)
