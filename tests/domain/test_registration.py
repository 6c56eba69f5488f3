from __future__ import annotations

import math

import pytest

from xrdct_beamline.domain.errors import GeometryError
from xrdct_beamline.domain.registration import SampleOffset


def test_a_shift_of_the_sample_turns_with_it_and_one_of_the_axis_does_not():
    offset = SampleOffset(x_mm=0.03, y_mm=-0.02, axis_mm=0.1)
    assert offset.translation_mm(0.0) == pytest.approx(0.13)
    assert offset.translation_mm(90.0) == pytest.approx(0.08)
    assert offset.translation_mm(180.0) == pytest.approx(0.07)
    assert offset.largest_mm == pytest.approx(0.1 + math.hypot(0.03, 0.02))


def test_metadata_round_trip():
    offset = SampleOffset(x_mm=0.03, z_mm=1.0)
    assert SampleOffset.from_metadata(offset.to_metadata()) == offset
    assert SampleOffset.from_metadata(None) == SampleOffset()


def test_no_number_is_refused():
    with pytest.raises(GeometryError, match="z_mm is nan"):
        SampleOffset(z_mm=math.nan)
