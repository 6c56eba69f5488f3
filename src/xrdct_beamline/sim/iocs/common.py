"""Process variables in the forms that the real templates use."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from caproto import ChannelType
from caproto.server import PvpropertyData, get_pv_pair_wrapper, pvproperty

__all__ = [
    "Clock",
    "Counter",
    "choice",
    "choice_pair",
    "epoch",
    "label",
    "number_pair",
    "path",
    "path_pair",
    "publish",
    "text",
    "waveform",
]

#: Seconds since the server's start, see `beamline_state`.
Clock = Callable[[], float]

PATH_LENGTH = 256  # characters of a path record in areaDetector
WAVEFORM_LENGTH = 4096  # captured values per line at most

_pair = get_pv_pair_wrapper(setpoint_suffix="", readback_suffix="_RBV")


def epoch(clock: Clock, time_s: float) -> float:
    """Return a time of the beamline's clock as epoch seconds."""
    return time.time() - (clock() - time_s)


def choice(names: Sequence[str], name: str, doc: str, **kwargs: Any) -> Any:
    """Return an enumeration; a plain string channel would break clients that ask for its index."""
    value = kwargs.pop("value", names[0])
    return pvproperty(
        name=name, value=value, dtype=ChannelType.ENUM, enum_strings=tuple(names), doc=doc, **kwargs
    )


def choice_pair(names: Sequence[str], name: str, doc: str, **kwargs: Any) -> Any:
    """Return a setting and its ``_RBV``, both enumerations."""
    value = kwargs.pop("value", names[0])
    return _pair(name=name, value=value, dtype=ChannelType.ENUM, enum_strings=tuple(names), doc=doc, **kwargs)


def number_pair(value: float, name: str, doc: str, **kwargs: Any) -> Any:
    """Return a setting and its ``_RBV``, double or long after the type of the value."""
    return _pair(name=name, value=value, dtype=type(value), doc=doc, **kwargs)


def label(name: str, value: str, doc: str, **kwargs: Any) -> Any:
    """Return text of up to 39 characters."""
    return pvproperty(name=name, value=value, dtype=ChannelType.STRING, doc=doc, **kwargs)


def path(name: str, doc: str, **kwargs: Any) -> Any:
    """Return text of up to 255 characters: a char waveform, as in areaDetector."""
    return pvproperty(name=name, value="", dtype=ChannelType.CHAR, max_length=PATH_LENGTH, doc=doc, **kwargs)


def path_pair(name: str, doc: str, value: str = "", **kwargs: Any) -> Any:
    """Return a text setting and its ``_RBV``, both char waveforms."""
    return _pair(name=name, value=value, dtype=ChannelType.CHAR, max_length=PATH_LENGTH, doc=doc, **kwargs)


def waveform(name: str, doc: str, **kwargs: Any) -> Any:
    """Return a double array of up to 4096 elements, empty at first."""
    return pvproperty(
        name=name,
        value=[0.0],
        dtype=float,
        max_length=WAVEFORM_LENGTH,
        max_subscription_backlog=8,
        read_only=True,
        doc=doc,
        **kwargs,
    )


async def publish(channel: PvpropertyData, value: Any, **metadata: Any) -> None:
    """Write a value from inside the server, past its putter, if it differs."""
    if metadata or not _same(channel.value, value):
        await channel.write(value, verify_value=False, **metadata)


def _same(old: Any, new: Any) -> bool:
    return isinstance(new, bool | int | float | str) and type(old) is type(new) and bool(old == new)


def text(value: Any) -> str:
    """Return the text in a char waveform, up to its first null."""
    if isinstance(value, bytes | bytearray):
        value = value.decode("latin-1")
    elif not isinstance(value, str):
        value = bytes(list(value)).decode("latin-1")
    return str(value).split("\0", 1)[0]


class Counter:
    """A count that clients may also set; shown when asked to, not at every step."""

    def __init__(self, pair: Any) -> None:
        self._pair = pair
        self._shown = 0
        self.value = 0

    async def publish(self) -> None:
        """Take over what a client has set, else show the count."""
        written = int(self._pair.readback.value)
        if written != self._shown:  # a client has set it
            self.value += written - self._shown
        await publish(self._pair.setpoint, self.value)
        await publish(self._pair.readback, self.value)
        self._shown = self.value
