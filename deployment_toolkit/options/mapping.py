"""Dataclasses from the plain mappings of YAML files, checked key by key."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import typing
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar

from deployment_toolkit.errors import UsageError

T = TypeVar("T")


def from_mapping(cls: type[T], plain: Any, where: str) -> T:
    """A dataclass from the mapping that a YAML file holds, nested dataclasses, lists and Enums included.

    Raises UsageError naming the key and ``where`` it stands: an unknown key (with the nearest known one), a missing
    one, or a value of another type.
    """
    if not isinstance(plain, dict):
        raise UsageError(f"{where}: expected keys and values, found {type(plain).__name__}")
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in plain:
        if key not in fields:
            raise UsageError(f"{where}: unknown key {key}{nearest(str(key), fields)}")
    for name, item in fields.items():
        optional = item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
        if name not in plain and not optional:
            raise UsageError(f"{where}: key {name} is missing, add it")
    values = {key: _convert(hints[key], value, f"{where}: {key}") for key, value in plain.items()}
    try:
        return cls(**values)
    except UsageError as error:
        raise UsageError(error.args[0] if where in error.args[0] else f"{where}: {error}") from error


def nearest(word: str, known: Iterable[str]) -> str:
    """``, did you mean X?`` if a known word is near, else the list of the known ones; for the end of an error."""
    known = sorted(known)
    matches = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {matches[0]}?" if matches else f"; known are {', '.join(known)}"


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        if value is None and NoneType in choices:
            return None
        return _convert(next(choice for choice in choices if choice is not NoneType), value, where)
    if origin is list:
        if not isinstance(value, list):
            raise UsageError(f"{where}: expected a list, found {value!r}")
        return [_convert(choices[0], item, f"{where}[{number}]") for number, item in enumerate(value, 1)]
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, where)
    if issubclass(hint, Enum):
        known = [item.value for item in hint]
        if value not in known:
            raise UsageError(f"{where}: {value!r} is none of {', '.join(known)}")
        return hint(value)
    if hint is bool and isinstance(value, int) and value in (0, 1):
        return bool(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return float(value)  # YAML reads 1e-4 as a string
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UsageError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value
