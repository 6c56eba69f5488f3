"""What the cycler shows at one time."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CellState"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellState:
    """What the cycler shows at one time.

    ``current_mA`` is negative on discharge; ``capacity_mAh`` is the charge passed since the start, or since
    the last change of direction; ``pause_index`` is -1 outside of pauses.
    """

    step: str
    lithium_content: float
    voltage_V: float
    current_mA: float
    capacity_mAh: float
    trigger_level_V: float
    elapsed_s: float
    pause_index: int = -1
