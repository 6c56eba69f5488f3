"""Several sinks as one."""

from __future__ import annotations

from collections.abc import Sequence

from xrdct_beamline.domain.documents import Verdict

from .slice_state import LineResult, SliceSink, SliceState

__all__ = ["Sinks"]


class Sinks(SliceSink):
    """Tells each of several sinks, in order; the first that restores a line gives it."""

    def __init__(self, sinks: Sequence[SliceSink]) -> None:
        self._sinks = tuple(sinks)

    def opened(self, state: SliceState) -> None:
        """Open the slice in each sink."""
        for sink in self._sinks:
            sink.opened(state)

    def restored(self, state: SliceState, rotation_index: int) -> LineResult | None:
        """Return the line from the first sink that has it."""
        lines = (sink.restored(state, rotation_index) for sink in self._sinks)
        return next((line for line in lines if line is not None), None)

    def line_done(self, state: SliceState, line: LineResult) -> None:
        """Give the line to each sink."""
        for sink in self._sinks:
            sink.line_done(state, line)

    def line_marked(self, state: SliceState, rotation_index: int, verdict: Verdict, reason: str) -> None:
        """Tell each sink."""
        for sink in self._sinks:
            sink.line_marked(state, rotation_index, verdict, reason)

    def closed(self, state: SliceState) -> None:
        """Close the slice in each sink."""
        for sink in self._sinks:
            sink.closed(state)
