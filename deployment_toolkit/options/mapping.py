"""Conversion of YAML files to dataclasses and back, checked key by key; an error names file and line."""

from __future__ import annotations

import dataclasses
import math
import os
import typing
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar

from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.located_yaml import MOST, Located, nearest

T = TypeVar("T")
_MOST_NAME_BYTES = 255


def from_mapping(cls: type[T], found: Located, what: str = "") -> T:
    """Makes a dataclass from a mapping of a YAML file, with nested dataclasses, lists and Enums. ``what`` is the
    mapping's name in messages, if it is not the whole file.

    Raises UsageError with file, line and key: an unknown key (with the nearest known one), a missing one, a value of
    another type or out of range.
    """
    place = _place(found, what)
    if not isinstance(found.value, dict):
        raise UsageError(f"{place}: expected keys and values, found {found.shown}")
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key, entry in found.value.items():
        if key not in fields:
            raise UsageError(f"{_place(entry, what)}: unknown key {key}{nearest(key, fields)}")
    for name, item in fields.items():
        optional = item.default is not dataclasses.MISSING or item.default_factory is not dataclasses.MISSING
        if name not in found.value and not optional:
            raise UsageError(f"{place}: key {name} is missing, add it")
    values = {key: _convert(hints[key], entry, f"{what}: {key}" if what else key) for key, entry in found.value.items()}
    try:
        return cls(**values)
    except UsageError as error:
        told = error.args[0]
        raise UsageError(told if told.startswith(f"{found.path}:") else f"{place}: {told}") from error


def to_plain(value: Any) -> Any:
    """Plain YAML types of a dataclass, or of any other value of an option."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def _place(found: Located, what: str) -> str:
    return f"{found.where}: {what}" if what else found.where


def _convert(hint: Any, found: Located, what: str) -> Any:
    origin, choices = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        if found.value is None and NoneType in choices:
            return None
        return _convert(next(choice for choice in choices if choice is not NoneType), found, what)
    if origin is list:
        if not isinstance(found.value, list):
            raise UsageError(f"{_place(found, what)}: expected a list, found {found.shown}")
        return [_convert(choices[0], item, f"{what}[{number}]") for number, item in enumerate(found.value, 1)]
    if origin is dict:
        entries = found.entries(what)
        return {key: _convert(choices[1], item, f"{what}: {key}") for key, item in entries.items()}
    if hint is Any:
        return found.plain
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_mapping(hint, found, what)
    return _scalar(hint, found, what)


def _scalar(hint: Any, found: Located, what: str) -> Any:
    value = found.value
    if issubclass(hint, Enum):
        known = [item.value for item in hint]
        if value not in known:
            raise UsageError(f"{_place(found, what)}: {found.shown} is none of {', '.join(known)}")
        return hint(value)
    if hint is bool and isinstance(value, int) and value in (0, 1):
        return bool(value)
    if hint is Path and isinstance(value, str):
        return _path(found, what)
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        return _number(found, what)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        quotes = ": put it into quotes" if hint in (str, Path) and not isinstance(value, list | dict | None) else ""
        raise UsageError(f"{_place(found, what)}: expected {hint.__name__}, found {found.shown}{quotes}")
    if hint is int and abs(value) > MOST:
        raise UsageError(f"{_place(found, what)}: {found.shown} is out of range: at most {MOST}")
    return value


def _path(found: Located, what: str) -> Path:
    path = Path(found.value)
    long = next((part for part in path.parts if len(os.fsencode(part)) > _MOST_NAME_BYTES), None)
    if long is not None:
        raise UsageError(f"{_place(found, what)}: {long[:20]}… is longer than a file's name can be: shorten it")
    return path


def _number(found: Located, what: str) -> float:
    """Number of a value, also of a text: YAML reads 1e-4 as a text."""
    try:
        number = float(found.value)
    except (ValueError, OverflowError):
        raise UsageError(f"{_place(found, what)}: expected float, found {found.shown}") from None
    if not math.isfinite(number):
        raise UsageError(f"{_place(found, what)}: {found.shown} is no finite number")
    return number
