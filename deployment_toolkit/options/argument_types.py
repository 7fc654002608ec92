"""Arguments of argparse for the annotations of options, and what a repeated option means."""

from __future__ import annotations

import argparse
import inspect
import logging
import math
import typing
from collections.abc import Callable, Sequence
from enum import Enum
from types import NoneType, UnionType
from typing import Any

logger = logging.getLogger("options")


def argparse_type(hint: Any, default: Any) -> dict[str, Any]:
    """Argparse's arguments for an annotation: bool, an Enum, X | None, a list or tuple of X, or any callable type."""
    if typing.get_origin(hint) in (typing.Union, UnionType):
        hint = next(choice for choice in typing.get_args(hint) if choice is not NoneType)
    if hint is bool:
        return {"action": argparse.BooleanOptionalAction if default is True else "store_true"}
    if typing.get_origin(hint) in (list, tuple):
        return {**argparse_type(typing.get_args(hint)[0], None), "nargs": "*", "action": Values}
    if inspect.isclass(hint) and issubclass(hint, Enum):
        return {"type": enum_type(hint), "choices": list(hint)}
    return {"type": hint}


def enum_type(enum: type[Enum]) -> Callable[[str], Any]:
    """Option type for an Enum's values, in any letter case."""

    def convert(text: str) -> Any:
        wanted = text.casefold()
        found = (item for item in enum if str(item.value).casefold() == wanted)
        return next(found, text)  # argparse then names the choices

    return convert


def named_limit(text: str) -> tuple[str, float]:
    """Option type for ``NAME=VALUE``, a name and a number."""
    name, _, value = text.partition("=")
    try:
        limit = float(value)
    except ValueError:
        limit = math.nan
    if math.isnan(limit):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, as in map12=1e-4")
    return name, limit


class Values(argparse.Action):
    """Action of an option with several values. The values on a command line replace the default.

    A repeated option that ``adds_up`` has the values of all: ``--sizes 1 2 --sizes 8`` is ``--sizes 1 2 8``; with
    ``unique`` it adds up too, and a value that is given twice counts once. Any other has the last values, as argparse's
    own options, and a warning is logged. Raises ArgumentError if an option that adds up is there with values and
    without.
    """

    def __init__(self, *args: Any, adds_up: bool = False, unique: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._adds_up, self._unique = adds_up or unique, unique

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        given = list(values or [])
        earlier = getattr(namespace, self.dest, None)
        if earlier is not None and earlier is not self.default:  # argparse puts the default itself there first
            if not self._adds_up:
                told = (" ".join(map(str, part)) for part in (given, earlier))
                logger.warning("%s %s, in place of the earlier %s", option_string, *told)
            elif earlier and given:
                given = [*earlier, *given]
            else:
                raise argparse.ArgumentError(self, "it is there with values and without: give it once")
        setattr(namespace, self.dest, self.once(given))

    def once(self, values: list[Any]) -> list[Any]:
        """The values in order, each once if the option's are unique."""
        if not self._unique:
            return values
        return [value for index, value in enumerate(values) if value not in values[:index]]
