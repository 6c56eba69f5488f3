"""Choices that a configuration makes and plans carry out."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["CellRunning"]


class CellRunning(StrEnum):
    """What to do when the cell runs on before the slice is done; the line under way is finished."""

    MARK = "mark"  # later lines are taken, and marked
    CLOSE = "close"  # later lines are not taken: the slice is partial
    IGNORE = "ignore"
