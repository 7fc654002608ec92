"""Values of options: tensors, and values for one named tensor or for all."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from deployment_toolkit.core import TensorSpec
from deployment_toolkit.errors import UsageError

logger = logging.getLogger("model-navigator")

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")
Range = tuple[float, float]


@dataclass(frozen=True)
class GivenTensor:
    """An input or output on a command line: the model's ``name`` for it, and its new name, shape and dtype."""

    name: str
    spec: TensorSpec

    def __repr__(self) -> str:
        shape = ",".join(map(str, (-1, *self.spec.shape)))
        new = "" if self.spec.name == self.name else f"{self.spec.name}="
        return f"{new}{self.name}:{shape}:{self.spec.dtype}"


def parse_tensor(text: str) -> GivenTensor:
    """Parses ``[new=]name:shape:dtype``; the shape starts with the batch dimension, -1; ``new`` is the name in the
    result."""
    new, _, rest = text.rpartition("=")
    parts = rest.split(":")
    name = ":".join(parts[:-2])
    if not name or not re.fullmatch(r"-1(,(-1|[1-9]\d*))*", parts[-2]):
        raise argparse.ArgumentTypeError(f"{text} is not [new=]name:shape:dtype, as in ad_id:-1,1:int32")
    shape = tuple(int(size) for size in parts[-2].split(",")[1:])
    try:
        return GivenTensor(name, TensorSpec(new or name, parse_dtype(parts[-1]), shape))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def parse_dtype(text: str) -> str:
    """Numpy's name of a dtype, in any letter case. Raises ValueError if there is none."""
    for name in (text, text.lower()):
        try:
            return str(np.dtype(name).name)
        except TypeError:
            continue
    raise ValueError(f"{text} is no dtype; use one of numpy's, as int32")


def parse_version(text: str) -> int:
    """Parses a model's version, a whole number from 1 on."""
    if not re.fullmatch("[1-9][0-9]{0,17}", text):
        raise argparse.ArgumentTypeError(
            f"{text} is no version: give a whole number from 1 on, as 1, the name of the model's folder in a repository"
        )
    return int(text)


def parse_shape(text: str) -> tuple[int, ...]:
    """Parses ``8,3`` to (8, 3), the batch dimension first. Raises ValueError unless all are whole numbers from 1 on."""
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise ValueError(f"{text} is no shape: give whole numbers from 1 on, the batch dimension first, as 8,3")
    return tuple(map(int, text.split(",")))


def parse_range(text: str) -> Range:
    """Parses ``low,high``, both included. Raises ValueError unless both are numbers and low is at most high."""
    low, _, high = text.partition(",")
    try:
        bounds = float(low), float(high)
    except ValueError:
        raise ValueError(f"{text} is not low,high in numbers") from None
    if not bounds[0] <= bounds[1]:
        raise ValueError(f"{text}: the lower bound comes first")
    return bounds


def parse_tolerance(text: str) -> float:
    """Parses a number of at least 0. Raises ValueError for anything else."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text} is not a number") from None
    if not value >= 0:
        raise ValueError("a tolerance is at least 0")
    return value


@dataclass(frozen=True)
class Named(Generic[T]):
    """A value for one tensor, or, without a name, for all tensors that are not named."""

    name: str
    value: T

    def __repr__(self) -> str:
        """Text of the value on the command line."""
        value = self.value
        if isinstance(value, tuple):
            text = ",".join(f"{item:g}" for item in value)
        else:
            text = f"{value:g}" if isinstance(value, float) else str(value)
        return f"{self.name}={text}" if self.name else text


def named(convert: Callable[[str], T]) -> Callable[[str], Named[T]]:
    """Option type for ``[name=]value``. ``convert`` raises ValueError for an invalid value."""

    def parse(text: str) -> Named[T]:
        name, _, value = text.rpartition("=")
        try:
            return Named(name, convert(value))
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text}: {error}") from error

    return parse


def by_name(flag: str, given: Sequence[Named[T]], known: Sequence[str], kind: str = "input") -> dict[str, T]:
    """Value of each known name that has one. Raises UsageError for an unknown name."""
    unknown = next((item for item in given if item.name and item.name not in known), None)
    if unknown is not None:
        raise UsageError(f"{flag} {unknown!r}: the model has no {kind} {unknown.name}, only {', '.join(known)}")
    values = last_by_key(flag, ((item.name, item.value) for item in given))
    for_all = dict.fromkeys(known, values.pop("")) if "" in values else {}
    return for_all | values


def last_by_key(flag: str, pairs: Iterable[tuple[K, T]]) -> dict[K, T]:
    """Values by key. A later value of a key replaces an earlier one, which is logged."""
    values: dict[K, T] = {}
    for key, value in pairs:
        if values.get(key, value) != value:
            logger.warning(
                "%s: %s in place of the earlier %s%s", flag, value, values[key], f" for {key}" if key else ""
            )
        values[key] = value
    return values


def key_value(convert_key: Callable[[str], Any] = str, convert_value: Callable[[str], Any] = str) -> Callable[..., Any]:
    """Option type for ``key=value``, converted to a pair."""

    def parse(text: str) -> tuple[Any, Any]:
        key, separator, value = text.partition("=")
        try:
            if key and separator:
                return convert_key(key), convert_value(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text}: {error}") from error
        raise argparse.ArgumentTypeError(f"{text} is not key=value")

    return parse
