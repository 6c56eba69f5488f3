"""Which radial channels a map shows, and the map itself: a sum over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Preset", "Range", "colour_limits", "presets", "pretty_phase", "sum_channels"]

FloatArray = npt.NDArray[np.floating[Any]]
Range = tuple[float, float]

#: Half-width of a reflection's window, relative to its position: a cell that shrinks by 2.6 %, from
#: LiMn2O4 to λ-MnO2, stays inside, and so does an instrument's width at a few degrees.
WINDOW = 0.03

#: Sum of squared indices of the reflections of face-centred cubic cells.
_F_CENTRED = {3: "111", 4: "200", 8: "220", 11: "311", 12: "222", 16: "400", 19: "331", 20: "420", 24: "422"}

#: Strong reflections of the spinel that no other phase of these cells shares with it.
_SPINEL = ("111", "311", "400")

_SHORT = {"LiMn2O4": "LMO"}


@dataclass(frozen=True, slots=True)
class Preset:
    """A choice of channels with a name: the union of its ranges."""

    name: str
    ranges: tuple[Range, ...]


def presets(radial: FloatArray, unit: str, ticks: Mapping[str, FloatArray]) -> list[Preset]:
    """Return the choices that a pattern's phases suggest; the first is the default, the last is all.

    The first phase gives its strong reflections together and each alone, every other phase its first.
    Reflections are named where a phase's positions are those of a face-centred cubic cell.
    """
    if not len(radial):
        return []
    choices: list[Preset] = []
    for place, (name, positions) in enumerate(ticks.items()):
        visible = _visible(radial, positions)
        named = _indices(visible, unit)
        label = _SHORT.get(name, pretty_phase(name))
        if place:
            choices += [Preset(f"{label} {named[0]}", (_window(visible[0]),)) for _ in visible[:1] if named]
            continue
        strong = [i for i, index in enumerate(named) if index in _SPINEL] or list(range(min(3, len(visible))))
        windows = [_window(visible[i]) for i in strong]
        if len(windows) > 1:
            together = " + ".join(named[i] for i in strong) if named else f"first {len(windows)} lines"
            choices.append(Preset(f"{label} {together}", tuple(windows)))
        choices += [
            Preset(f"{label} {named[i] if named else f'line {i + 1}'}", (window,))
            for i, window in zip(strong, windows, strict=True)
        ]
    everything = Preset("All channels", ((float(radial[0]), float(radial[-1])),))
    return [*choices, everything]


def sum_channels(stack: FloatArray, radial: FloatArray, ranges: Sequence[Range]) -> npt.NDArray[np.float32]:
    """Return the sum over the channels in any of the ranges.

    Parameters
    ----------
    stack:
        Shape ``(row, column, bin)``.
    radial:
        Bin centres, ascending, shape ``(bin,)``.
    ranges:
        Closed intervals on the axis; where they overlap a channel counts once.

    Returns
    -------
    Shape ``(row, column)``; NaN where no chosen channel is measured, or none is chosen.
    """
    chosen = np.zeros(len(radial), bool)
    for low, high in ranges:
        chosen |= (radial >= low) & (radial <= high)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    total = np.zeros(stack.shape[:2], np.float32)
    measured = np.zeros(stack.shape[:2], bool)
    for first, end in edges.reshape(-1, 2):
        for row in range(len(stack)):  # by rows, so that no copy of the stack is needed
            part = stack[row, :, first:end]
            finite = np.isfinite(part)
            total[row] += part.sum(axis=-1) if finite.all() else np.where(finite, part, 0).sum(axis=-1)
            measured[row] |= finite.any(axis=-1)
    return np.where(measured, total, np.float32(np.nan))


def colour_limits(image: FloatArray) -> tuple[float, float]:
    """Return the values at the ends of the colour scale; a few bright pixels do not darken the rest."""
    values = image[np.isfinite(image)]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (1.0, 99.7)))
    return (low, high) if high > low else (low, low + 1.0)


def pretty_phase(name: str) -> str:
    """Return a phase's name as it is written: ``λ-MnO₂`` for ``lambda-MnO2``."""
    return name.replace("lambda-", "λ-").replace("alpha-", "α-").translate(_SUBSCRIPTS)


_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def _visible(radial: FloatArray, positions: FloatArray) -> list[float]:
    return [float(p) for p in np.sort(positions) if radial[0] <= p <= radial[-1]]


def _window(position: float) -> Range:
    return position * (1 - WINDOW), position * (1 + WINDOW)


def _indices(positions: Sequence[float], unit: str) -> list[str]:
    """Return hkl of each position, or nothing if they are not those of a face-centred cubic cell.

    Squared scattering vectors are proportional to h² + k² + l², whatever the wavelength; the first
    reflection of such a cell is 111.
    """
    if not len(positions):
        return []
    q = np.asarray(positions)
    if unit.startswith("2th"):
        q = np.sin(np.deg2rad(q) / 2 if unit == "2th_deg" else q / 2)
    squares = 3 * (q / q[0]) ** 2
    whole = np.rint(squares).astype(int)
    near = [i for i, n in enumerate(whole) if n <= max(_F_CENTRED)]
    if any(whole[i] not in _F_CENTRED or abs(squares[i] - whole[i]) > 0.05 for i in near) or len(near) < 2:
        return []
    return [_F_CENTRED.get(int(n), "") for n in whole]
