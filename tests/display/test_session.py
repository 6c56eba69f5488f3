from __future__ import annotations

import numpy as np
import pytest
from bokeh.document import Document

from xrdct_beamline.display.session import Session, SharedMaps
from xrdct_beamline.display.snapshot import SnapshotStore

RADIAL = np.linspace(1.0, 12.0, 111)
LMO = np.array([2.9857, 5.7188, 5.9734, 6.8985])


def line(store: SnapshotStore, n_done: int = 2, **changes) -> None:
    sinogram = np.full((4, 5, 111), np.nan, np.float32)
    sinogram[:n_done] = np.arange(111)
    slice_ = np.zeros((5, 5, 111), np.float32)
    slice_[0, 0] = 1.0  # the top left voxel
    store.publish(
        phase="scanning", radial=RADIAL, pattern=RADIAL, phase_ticks={"LiMn2O4": LMO}, sinogram=sinogram,
        slice_=slice_, slice_scale=2.0, extent_mm=(-0.5, 0.5, -0.5, 0.5), **changes,
    )  # fmt: skip


@pytest.fixture
def store():
    return SnapshotStore()


@pytest.fixture
def session(store):
    return Session(Document(), store, SharedMaps())


def image(picture) -> np.ndarray:
    return picture.source.data["image"][0]


def test_a_new_version_is_shown_and_an_old_one_is_not_sent_again(store, session):
    line(store)
    session._show()
    shown = image(session._sinogram)
    assert np.isfinite(shown).all(axis=1).tolist() == [True, True, False, False]
    session._show()
    assert image(session._sinogram) is shown


def test_the_slice_stands_upright_and_is_scaled(store, session):
    line(store)
    session._choose(((1.0, 12.0),))
    session._show()
    assert session._presets[0].name == "LMO 111 + 311 + 400"
    session._choose(((1.0, 12.0),))
    expected = np.zeros((5, 5))
    expected[-1, 0] = 222.0  # 111 channels, twice; drawn from the bottom up
    np.testing.assert_array_equal(image(session._slice), expected)


def test_the_default_is_the_spinel_and_a_preset_changes_the_map(store, session):
    line(store)
    session._show()
    spinel = image(session._sinogram)[0, 0]
    session._choice.active = session._choice.labels.index("LMO 400")
    low, high = session._slider.value
    assert low < 6.8985 < high
    chosen = (low <= RADIAL) & (high >= RADIAL)
    assert image(session._sinogram)[0, 0] == np.arange(111)[chosen].sum() < spinel


def test_an_own_range_is_taken_and_survives_the_next_run(store, session):
    line(store)
    session._show()
    session._range_chosen("value_throttled", None, (4.0, 4.2))
    assert session._choice.active is None
    assert image(session._sinogram)[0, 0] == 30 + 31 + 32
    line(store, state_index=1)
    store.publish(phase_ticks={"LiMn2O4": LMO * 1.001})
    session._show()
    assert session._ranges == ((4.0, 4.2),)


def test_a_chosen_preset_survives_the_next_run(store, session):
    line(store)
    session._show()
    session._choice.active = session._choice.labels.index("LMO 311")
    store.publish(phase_ticks={"LiMn2O4": LMO * 1.001, "Al": np.array([6.08, 7.02])})
    session._show()
    assert session._choice.labels[session._choice.active] == "LMO 311"
    assert session._ranges[0][0] == pytest.approx(5.7188 * 1.001 * 0.97)


def test_maps_are_summed_once_for_all_browsers(store):
    maps = SharedMaps()
    line(store)
    first, second = maps.of(store.latest(), [(4.0, 5.0)]), maps.of(store.latest(), [(4.0, 5.0)])
    assert first is second
    line(store, n_done=3)
    assert maps.of(store.latest(), [(4.0, 5.0)]) is not first


def test_a_stack_that_does_not_fit_the_axis_is_not_drawn(store, session):
    line(store)
    store.publish(radial=RADIAL[:50], pattern=RADIAL[:50])
    session._show()
    assert session._slice._wait.visible


def test_the_layout_is_built_once_and_only_filled_anew(store):
    document = Document()
    session = Session(document, store, SharedMaps())
    before = {model.id for model in document.models}
    line(store, cell_time_s=np.arange(3.0), cell_voltage=np.ones(3), cell_current=np.ones(3))
    session._show()
    assert {model.id for model in document.models} == before
    assert document.title == "XRD-CT live"
