from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrdct_beamline.domain.errors import ProcessingError
from xrdct_beamline.processing.tracking import Change, rigid_shift, track

SHAPE = (70, 80)


def discs(*particles):
    """Return labels of discs (row, column, radius), numbered as given."""
    rows, columns = np.indices(SHAPE)
    labels = np.zeros(SHAPE, np.int32)
    for number, (row, column, radius) in enumerate(particles, start=1):
        labels[np.hypot(rows - row, columns - column) <= radius] = number
    return labels


def random_states(seed, n_states=4):
    rng = np.random.default_rng(seed)
    grid = [(r, c) for r in (12, 34, 56) for c in (12, 36, 60)]
    states = []
    for _ in range(n_states):
        row, column = rng.integers(-3, 4, 2)
        seen = [g for g in grid if rng.random() < 0.8]
        states.append(discs(*[(r + row, c + column, rng.uniform(4, 8)) for r, c in seen]))
    return states


def relabelled(labels, seed):
    numbers = np.unique(labels)
    numbers = numbers[numbers > 0]
    new = np.zeros(max(labels.max(), 1) + 1, np.int32)
    new[numbers] = np.random.default_rng(seed).permutation(np.arange(1, 40))[: numbers.size]
    return new[labels]


@given(seed=st.integers(0, 200))
def test_the_outcome_does_not_depend_on_the_numbers(seed):
    states = random_states(seed)
    renamed = [relabelled(labels, seed + k) for k, labels in enumerate(states)]
    first, second = track(states), track(renamed)
    assert first.events == second.events
    assert (first.shift_px == second.shift_px).all()
    for k, (labels, other) in enumerate(zip(states, renamed, strict=True)):
        assert (first.map_of(labels, k) == second.map_of(other, k)).all()


@given(seed=st.integers(0, 200))
def test_each_particle_belongs_to_one_track(seed):
    states = random_states(seed)
    tracks = track(states)
    for k, labels in enumerate(states):
        column = tracks.label[:, k]
        assert sorted(column[column > 0]) == sorted(np.unique(labels[labels > 0]))


def test_particles_keep_their_track_when_the_sample_moves_as_a_whole():
    particles = [(15, 20, 6), (40, 30, 8), (50, 60, 7)]
    moved = [(r + 6, c - 5, radius) for r, c, radius in particles]
    tracks = track([discs(*particles), discs(*reversed(moved))])
    assert tracks.label.tolist() == [[1, 3], [2, 2], [3, 1]]
    assert tracks.shift_px.tolist() == [[0, 0], [-6, 5]]
    assert tracks.events == ()


def test_what_appears_vanishes_and_comes_back_is_told():
    a, b, c = (15, 20, 6), (45, 20, 6), (45, 60, 6)
    tracks = track([discs(a, b), discs(a, c), discs(a, b, c)])
    assert tracks.label.tolist() == [[1, 1, 1], [2, 0, 2], [0, 2, 3]]
    assert [(e.state, e.change, e.track) for e in tracks.events] == [
        (1, Change.VANISHED, 2), (1, Change.APPEARED, 3), (2, Change.APPEARED, 2),
    ]  # fmt: skip


def test_merging_and_splitting_name_the_other_one():
    large, small = (30, 30, 9), (30, 44, 5)
    apart, merged = discs(large, small), (discs(large, small) > 0).astype(np.int32)
    tracks = track([apart, merged, merged, apart])
    assert tracks.label.tolist() == [[1, 1, 1, 1], [2, 0, 0, 2]]
    assert [(e.state, e.change, e.track, e.other) for e in tracks.events] == [
        (1, Change.MERGED, 2, 1), (3, Change.SPLIT, 2, 1),
    ]  # fmt: skip
    begins_merged = track([merged, apart])
    assert [(e.change, e.track, e.other) for e in begins_merged.events] == [(Change.SPLIT, 2, 1)]


def test_a_small_particle_that_moved_by_itself_is_found_by_its_place():
    fixed = [(12, 12, 8), (55, 60, 9)]
    states = [discs(*fixed, (40, 20, 1.0)), discs(*fixed, (42, 22, 1.0))]
    assert track(states).label.tolist() == [[1, 1], [3, 3], [2, 2]]
    assert track(states, tolerance_px=1.0).label.shape[0] == 4


@pytest.mark.parametrize("shift", [(0, 0), (4, -7), (-9, 2)])
def test_the_shift_of_the_whole_is_found(shift):
    mask = discs((20, 30, 8), (45, 50, 11), (30, 60, 5)) > 0
    moved = np.roll(mask, shift, axis=(0, 1))
    assert rigid_shift(mask, moved, max_shift_px=10).tolist() == [-shift[0], -shift[1]]


def test_empty_maps_are_survived_and_odd_ones_refused():
    empty = np.zeros(SHAPE, np.int32)
    tracks = track([empty, discs((30, 30, 6)), empty])
    assert tracks.label.tolist() == [[0, 1, 0]]
    assert [e.change for e in tracks.events] == [Change.APPEARED, Change.VANISHED]
    assert track([]).label.shape == (0, 0)
    with pytest.raises(ProcessingError, match="of one shape"):
        track([empty, empty[:-1]])
    with pytest.raises(ProcessingError, match="take less"):
        track([empty], max_shift_px=70)
    with pytest.raises(ProcessingError, match="min_overlap"):
        track([empty], min_overlap=0)
