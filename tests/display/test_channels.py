from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrdct_beamline.display.channels import Preset, colour_limits, presets, pretty_phase, sum_channels

# FACTS: LiMn2O4 at 0.2480 Å, Al (a 4.0495 Å) at the same wavelength.
LMO = np.array([2.9857, 5.7188, 5.9734, 6.8985, 7.5183])
AL = np.rad2deg(2 * np.arcsin(0.2480 / 2 / 4.0495 * np.sqrt([3, 4, 8, 11])))
RADIAL = np.linspace(1.0, 12.0, 1101)


def test_a_spinel_and_a_foil_are_named_by_their_reflections():
    choices = presets(RADIAL, "2th_deg", {"LiMn2O4": LMO, "Al": AL})
    assert [choice.name for choice in choices] == [
        "LMO 111 + 311 + 400",
        "LMO 111",
        "LMO 311",
        "LMO 400",
        "Al 111",
        "All channels",
    ]
    assert choices[0].ranges == choices[1].ranges + choices[2].ranges + choices[3].ranges
    ((low, high),) = choices[1].ranges
    assert low < 2.9857 < 3.0653 < high  # where 111 of λ-MnO2 lies
    assert choices[-1].ranges == ((1.0, 12.0),)


def test_the_names_do_not_depend_on_the_axis():
    q_nm = 4 * np.pi / 0.0248 * np.sin(np.deg2rad(LMO) / 2)
    radial = np.linspace(5.0, 60.0, 500)
    by_angle = [choice.name for choice in presets(RADIAL, "2th_deg", {"LiMn2O4": LMO})]
    assert [choice.name for choice in presets(radial, "q_nm^-1", {"LiMn2O4": LMO * 0 + q_nm})] == by_angle


def test_a_phase_that_is_not_cubic_is_counted_instead_of_named():
    choices = presets(RADIAL, "2th_deg", {"Li2MnO3": np.array([3.0, 3.33, 3.4, 4.5])})
    assert [choice.name for choice in choices][:2] == ["Li₂MnO₃ first 3 lines", "Li₂MnO₃ line 1"]


def test_reflections_outside_of_the_pattern_are_no_choice():
    choices = presets(np.linspace(1.0, 4.0, 50), "2th_deg", {"LiMn2O4": LMO})
    assert [choice.name for choice in choices] == ["LMO line 1", "All channels"]


def test_without_phases_there_is_everything_and_without_a_pattern_nothing():
    assert presets(RADIAL, "2th_deg", {}) == [Preset("All channels", ((1.0, 12.0),))]
    assert presets(np.empty(0), "2th_deg", {"LiMn2O4": LMO}) == []


def test_channels_are_summed_once_and_the_unmeasured_stays_unmeasured():
    stack = np.ones((2, 3, 5), np.float32) * np.array([1, 10, 100, 1000, 10000], np.float32)
    stack[1, 0] = np.nan  # a cell that was not measured
    stack[1, 1, 2] = np.nan  # a bin without pixels
    image = sum_channels(stack, np.arange(5.0), [(1.0, 2.0), (2.0, 3.5)])
    np.testing.assert_array_equal(image, [[1110, 1110, 1110], [np.nan, 1010, 1110]])


def test_no_channel_gives_no_map():
    assert np.isnan(sum_channels(np.ones((2, 2, 3)), np.arange(3.0), [])).all()


@given(st.integers(0, 19), st.integers(0, 19))
def test_a_range_gives_what_a_plain_sum_gives(first, last):
    stack = np.random.default_rng(1).random((3, 4, 20))
    low, high = sorted((first, last))
    image = sum_channels(stack, np.arange(20.0), [(low, high)])
    np.testing.assert_allclose(image, stack[:, :, low : high + 1].sum(-1), rtol=1e-6)


@pytest.mark.parametrize("image", [np.full((2, 2), np.nan), np.zeros((2, 2)), np.array([[0.0, 5.0]])])
def test_the_colour_scale_has_two_different_ends(image):
    low, high = colour_limits(image)
    assert low < high


def test_one_bright_pixel_does_not_take_the_colours():
    image = np.tile(np.linspace(0, 1, 100), (100, 1))
    image[0, 0] = 1e6
    assert colour_limits(image)[1] < 1.1


def test_names_are_written_as_chemists_do():
    assert pretty_phase("lambda-MnO2") == "λ-MnO₂"
    assert pretty_phase("Li0.5Mn2O4") == "Li₀.₅Mn₂O₄"
