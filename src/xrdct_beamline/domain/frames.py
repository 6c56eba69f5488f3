"""Where frames come from, as far as a consumer cares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy.typing as npt

__all__ = ["FrameSource"]


class FrameSource(Protocol):
    """Reads the frames of closed raw files."""

    def frames(self, raw_file: str) -> Iterator[npt.NDArray[Any] | None]:
        """Yield the frames ``(row, column)`` of a line in the order of acquisition.

        Raises
        ------
        DataError
            If the file cannot be opened or holds no frames; a single frame that cannot be
            decoded is yielded as None and logged with its number.
        """
        ...
