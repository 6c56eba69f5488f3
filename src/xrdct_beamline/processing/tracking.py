"""The same particles in the slices of successive pauses.

Each slice is shifted as a whole onto the ones before it; particles that then overlap, or lie close
to each other, are the same. What appears, vanishes, merges or splits is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.optimize import linear_sum_assignment

from xrdct_beamline.domain.errors import ProcessingError

__all__ = ["Change", "Event", "Tracks", "rigid_shift", "track"]

Labels = npt.NDArray[np.integer[Any]]


class Change(StrEnum):
    """What can happen to a particle between two states."""

    APPEARED = "appeared"
    VANISHED = "vanished"
    MERGED = "merged"
    SPLIT = "split"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a particle.

    ``track`` appeared, vanished, went into ``other`` (merged) or came out of ``other`` (split) in
    ``state``, counted from 0.
    """

    state: int
    change: Change
    track: int
    other: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """Which particle is which in all states.

    Parameters
    ----------
    label:
        ``(track, state)``: label of the particle in the map of that state, 0 where it is not seen.
        Track k is row k − 1.
    shift_px:
        ``(state, 2)``: rows and columns by which each map was moved onto the first one.
    events:
        In the order of the states.
    """

    label: npt.NDArray[np.int64]
    shift_px: npt.NDArray[np.int64]
    events: tuple[Event, ...]

    def map_of(self, labels: Labels, state: int) -> npt.NDArray[np.int32]:
        """Return a map of labels ``(y, x)`` of that state with the numbers of the tracks instead."""
        table = np.zeros(int(max(labels.max(initial=0), self.label[:, state].max(initial=0))) + 1, np.int32)
        seen = self.label[:, state] > 0
        table[self.label[seen, state]] = np.flatnonzero(seen) + 1
        return table[labels]


def track(
    states: Sequence[Labels], *, max_shift_px: int = 10, min_overlap: float = 0.3, tolerance_px: float = 3.0
) -> Tracks:
    """Follow particles through maps of labels ``(y, x)``, one per state, oldest first.

    Particles are matched one to one so that the sum of their overlaps, as shares of the union, is
    largest. One that is not seen is remembered where it was last. Tracks are numbered in the order in
    which they are first seen, row by row: the outcome does not depend on how labels are numbered.

    Parameters
    ----------
    max_shift_px:
        How far the sample may move as a whole between two states, along each axis.
    min_overlap:
        Share of the smaller of two particles that they must have in common to be the same.
    tolerance_px:
        Those that remain are matched if their centres are as close as this and their areas within a
        factor of 2.
    """
    _check(states, max_shift_px, min_overlap)
    tracker = _Tracker(min_overlap=min_overlap, tolerance_px=tolerance_px)
    shift = np.zeros((len(states), 2), dtype=np.int64)
    for state, labels in enumerate(states):
        if state:
            moved = rigid_shift(states[state - 1] > 0, labels > 0, max_shift_px=max_shift_px)
            shift[state] = shift[state - 1] + moved
        tracker.add(labels, shift[state])
    return Tracks(label=tracker.table(), shift_px=shift, events=tuple(tracker.events))


def rigid_shift(
    reference: npt.NDArray[np.bool_], moved: npt.NDArray[np.bool_], *, max_shift_px: int
) -> npt.NDArray[np.int64]:
    """Return the rows and columns to add to ``moved`` so that it lies best on ``reference``.

    The maximum of their cross-correlation, in whole pixels; 0 where either is empty or full.
    """
    if reference.all() or moved.all() or not (reference.any() and moved.any()):
        return np.zeros(2, dtype=np.int64)
    shape = [fft.next_fast_len(n + max_shift_px, real=True) for n in reference.shape]
    spectrum = fft.rfft2(reference - reference.mean(), shape)
    spectrum *= np.conj(fft.rfft2(moved - moved.mean(), shape))
    steps = np.arange(-max_shift_px, max_shift_px + 1)
    near = fft.irfft2(spectrum, shape)[np.ix_(steps, steps)]
    near -= 1e-9 * near.max() * np.hypot(steps[:, None], steps)  # of equals, the shortest way
    row, column = np.unravel_index(np.argmax(near), near.shape)
    return np.array([steps[row], steps[column]], dtype=np.int64)


@dataclass(slots=True)
class _Known:
    """A particle as it was last seen, on the grid of the first map."""

    pixels: npt.NDArray[np.int64]  # (2, n): rows and columns
    labels: dict[int, int]  # by state
    is_gone: bool = False

    @property
    def area(self) -> int:
        return int(self.pixels.shape[1])


class _Tracker:
    def __init__(self, *, min_overlap: float, tolerance_px: float) -> None:
        self.min_overlap, self.tolerance_px = min_overlap, tolerance_px
        self.known: list[_Known] = []
        self.events: list[Event] = []
        self.n_states = 0

    def add(self, labels: Labels, shift_px: npt.NDArray[np.int64]) -> None:
        """Match the particles of the next state with those known."""
        found = _footprints(labels, shift_px)
        overlap = self._overlap(labels, shift_px, [label for label, _ in found])
        matched = self._matches(overlap, [pixels for _, pixels in found])
        earlier = list(self.known)
        self._tell_lost(matched, overlap)
        state = self.n_states
        new = [j for j in range(len(found)) if j not in matched.values()]
        for i in matched:
            if self.known[i].is_gone:
                self._tell_new(i, self._covering(self.known[i].pixels, excluding=i))
        for j in new:
            source = _largest_share(overlap[:, j], found[j][1].shape[1], [k.is_gone for k in earlier])
            self.known.append(_Known(found[j][1], {}))
            if state:
                self._tell_new(len(self.known) - 1, source)
            matched[len(self.known) - 1] = j
        for i, particle in enumerate(self.known):
            particle.is_gone = i not in matched
            if i in matched:
                label, particle.pixels = found[matched[i]]
                particle.labels[state] = label
        self.n_states += 1

    def table(self) -> npt.NDArray[np.int64]:
        """Return the label of each track in each state, 0 where it is not seen."""
        table = np.zeros((len(self.known), self.n_states), dtype=np.int64)
        for row, particle in zip(table, self.known, strict=True):
            row[list(particle.labels)] = list(particle.labels.values())
        return table

    def _overlap(
        self, labels: Labels, shift_px: npt.NDArray[np.int64], found: list[int]
    ) -> npt.NDArray[np.float64]:
        """Return the pixels that each known particle shares with each one found."""
        overlap = np.zeros((len(self.known), len(found)))
        n = int(labels.max(initial=0)) + 1
        for i, particle in enumerate(self.known):
            rows, columns = particle.pixels - shift_px[:, np.newaxis]
            within = (rows >= 0) & (rows < labels.shape[0]) & (columns >= 0) & (columns < labels.shape[1])
            overlap[i] = np.bincount(labels[rows[within], columns[within]], minlength=n)[found]
        return overlap

    def _matches(
        self, overlap: npt.NDArray[np.float64], found: list[npt.NDArray[np.int64]]
    ) -> dict[int, int]:
        """Return which known particle is which one found."""
        old = np.array([k.area for k in self.known], dtype=np.float64)[:, np.newaxis]
        new = np.array([p.shape[1] for p in found], dtype=np.float64)
        same = overlap >= self.min_overlap * np.minimum(old, new)
        matched = _assign(np.where(same, overlap / (old + new - overlap), 0.0))
        left = [i for i in range(len(self.known)) if i not in matched]
        free = [j for j in range(len(found)) if j not in matched.values()]
        if left and free:
            old_centres = np.array([self.known[i].pixels.mean(axis=1) for i in left])
            new_centres = np.array([found[j].mean(axis=1) for j in free])
            distance = np.linalg.norm(old_centres[:, np.newaxis] - new_centres, axis=2)
            ratio = old[left] / new[free]
            near = (distance <= self.tolerance_px) & (ratio < 2) & (ratio > 0.5)
            close = _assign(np.where(near, 1.0 / (1.0 + distance), 0.0))
            matched |= {left[i]: free[j] for i, j in close.items()}
        return matched

    def _tell_lost(self, matched: dict[int, int], overlap: npt.NDArray[np.float64]) -> None:
        owner = {j: i for i, j in matched.items()}
        for i, particle in enumerate(self.known):
            if i in matched or particle.is_gone:
                continue
            into = _largest_share(overlap[i], particle.area)
            if into in owner:
                self._tell(Change.MERGED, i, owner[into])
            else:
                self._tell(Change.VANISHED, i)

    def _tell_new(self, i: int, source: int | None) -> None:
        if source is None:
            self._tell(Change.APPEARED, i)
        else:
            self._tell(Change.SPLIT, i, source)

    def _tell(self, change: Change, i: int, other: int | None = None) -> None:
        number = None if other is None else other + 1
        self.events.append(Event(state=self.n_states, change=change, track=i + 1, other=number))

    def _covering(self, pixels: npt.NDArray[np.int64], *, excluding: int) -> int | None:
        """Return the particle of the last state that covers most of these pixels."""
        wanted = set(map(tuple, pixels.T.tolist()))
        for i, particle in enumerate(self.known):
            if i == excluding or particle.is_gone:
                continue
            if len(wanted.intersection(map(tuple, particle.pixels.T.tolist()))) > 0.5 * len(wanted):
                return i
        return None


def _check(states: Sequence[Labels], max_shift_px: int, min_overlap: float) -> None:
    shapes = {labels.shape for labels in states}
    if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes):
        raise ProcessingError(f"particles are tracked through maps (y, x) of one shape, got {sorted(shapes)}")
    if max_shift_px < 0 or not 0 < min_overlap <= 1:
        raise ProcessingError(
            f"max_shift_px must be at least 0 and min_overlap within (0, 1], got {max_shift_px} and "
            f"{min_overlap:g}"
        )
    smallest = min((min(shape) for shape in shapes), default=max_shift_px + 1)
    if max_shift_px >= smallest:
        raise ProcessingError(f"max_shift_px is {max_shift_px}, the maps are {smallest} pixels; take less")


def _footprints(labels: Labels, shift_px: npt.NDArray[np.int64]) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Return label and pixels of each particle, in the order of their first pixels."""
    rows, columns = np.nonzero(labels)
    where = labels[rows, columns]
    order = np.argsort(where, kind="stable")
    found, first = np.unique(where[order], return_index=True)
    pixels = np.stack([rows, columns]).astype(np.int64) + shift_px[:, np.newaxis]
    parts = np.split(pixels[:, order], first[1:], axis=1) if found.size else []
    together = [(int(label), part) for label, part in zip(found, parts, strict=True)]
    return sorted(together, key=lambda item: tuple(item[1][:, 0]))


def _assign(gain: npt.NDArray[np.float64]) -> dict[int, int]:
    """Return the pairs of the largest total gain; pairs without gain are none."""
    pairs = zip(*linear_sum_assignment(gain, maximize=True), strict=True)
    return {int(i): int(j) for i, j in pairs if gain[i, j] > 0}


def _largest_share(
    overlap: npt.NDArray[np.float64], area: int, left_out: Sequence[bool] | None = None
) -> int | None:
    """Return which one shares most of an area, if it is more than half of it."""
    shares = overlap if left_out is None else np.where(left_out, 0.0, overlap)
    if not shares.size or shares.max() <= 0.5 * area:
        return None
    return int(np.argmax(shares))
