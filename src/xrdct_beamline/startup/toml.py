"""From a TOML text to nested dataclasses; a mistake is told with its line."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from xrdct_beamline.domain.errors import ConfigurationError

__all__ = ["read_toml"]

Section = TypeVar("Section")

_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text in quotes"}
_HEADER = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where in the file a setting is looked for, and said to be."""

    file: Path
    text: str
    resolve: Callable[[str], Path]
    section: tuple[str, ...] = ()
    key: str = ""

    def __str__(self) -> str:
        line = self._line()
        where = f"{self.file}, line {line}: " if line else f"{self.file}: "
        section = f"[{'.'.join(self.section)}] " if self.section else ""
        return f"{where}{section}{self.key}".rstrip()

    def at(self, key: str) -> _Place:
        return replace(self, key=key)

    def within(self, key: str) -> _Place:
        return replace(self, section=(*self.section, key), key="")

    def _line(self) -> int:
        """Return the line of the key, or of its section's header; 0 if neither is written plainly."""
        section: tuple[str, ...] = ()
        header = 0
        for number, line in enumerate(self.text.splitlines(), start=1):
            if found := _HEADER.match(line):
                section = tuple(part.strip(" \"'") for part in found[1].split("."))
                if section == self.section:
                    header = number
            elif self.key and section == self.section and _names(line, self.key):
                return number
        return header


def read_toml(
    cls: type[Section], text: str, *, file: Path, resolve: Callable[[str], Path], **given: Any
) -> Section:
    """Return a dataclass whose fields are the settings, and whose dataclass fields are sections.

    Parameters
    ----------
    file:
        For messages.
    resolve:
        Makes a path of a setting that is one.
    given:
        Values that do not come from the text.

    Raises
    ------
    ConfigurationError
        If the text is not TOML, lacks a setting or has one that is unknown or cannot be.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(
            f"configuration {file} is not valid TOML: {error}; mend that line"
        ) from error
    return _section(cls, {**table, **given}, _Place(file=file, text=text, resolve=resolve))


def _section(cls: type[Section], table: Mapping[str, Any], place: _Place) -> Section:
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]  # each section is a dataclass
    for name in table:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigurationError(
                f"{place.at(name)}: {name!r} is not a setting; known are {', '.join(known)}{hint}"
            )
    missing = [n for n, f in known.items() if n not in table and f.default is f.default_factory is MISSING]
    if missing:
        raise ConfigurationError(f"{place}: the setting {missing[0]!r} is missing; add it")
    types = get_type_hints(cls)
    values = {name: _value(types[name], value, place, name) for name, value in table.items()}
    try:
        return cls(**values)
    except ConfigurationError as error:
        blamed, complaint = _blamed(table, place, str(error)), str(error)
        is_named = bool(blamed.key) and complaint.startswith(blamed.key)
        rest = complaint.removeprefix(blamed.key) if is_named else f": {complaint}"
        raise ConfigurationError(f"{blamed}{rest}") from error


def _value(kind: Any, value: Any, place: _Place, name: str) -> Any:
    at = place.at(name)
    if hasattr(kind, "__dataclass_fields__"):
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{at} must be a [section], not {value!r}")
        return _section(kind, value, place.within(name))
    if get_origin(kind) is tuple:
        return _list(get_args(kind), value, place, name)
    allowed = tuple(k for k in (get_args(kind) or (kind,)) if k is not type(None))
    if len(allowed) == 1 and allowed[0] is not kind:  # optional: whoever writes it has a value
        return _value(allowed[0], value, place, name)
    if Path in allowed:
        if not isinstance(value, str):
            raise ConfigurationError(f"{at} is {value!r}, a path in quotes is needed")
        return place.resolve(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _choice(kind, value, at)
    if float in allowed and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        names = " or ".join(t.__name__ for t in allowed)
        remedy = " or ".join(_NAMES.get(t, t.__name__) for t in allowed)
        raise ConfigurationError(f"{at} is {value!r}, which is not a {names}; give {remedy}")
    return value


def _list(kinds: tuple[Any, ...], value: Any, place: _Place, name: str) -> tuple[Any, ...]:
    is_open = kinds[-1] is Ellipsis
    if not isinstance(value, list) or not (is_open or len(value) == len(kinds)):
        length = "" if is_open else f"{len(kinds)} "
        raise ConfigurationError(
            f"{place.at(name)} is {value!r}; give a list of {length}values in [brackets]"
        )
    each = kinds[:1] * len(value) if is_open else kinds
    return tuple(_value(kind, item, place, name) for kind, item in zip(each, value, strict=True))


def _choice(kind: type[Enum], value: Any, place: _Place) -> Enum:
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(repr(member.value) for member in kind)
        raise ConfigurationError(f"{place} is {value!r}; use one of {names}") from None


def _blamed(table: Mapping[str, Any], place: _Place, message: str) -> _Place:
    """Return the place of the setting that a section's own complaint speaks of."""
    named = [name for name in table if re.search(rf"\b{re.escape(name)}\b", message)]
    if not named:  # "a period of 5 ms is too short"
        named = [name for name in table if name.rpartition("_")[0] and name.rpartition("_")[0] in message]
    return place.at(named[0]) if named else place


def _names(line: str, key: str) -> bool:
    return re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line) is not None
