"""YAML files whose values know the line they stand on, so that an error can name it. JSON is read too, as YAML."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit.errors import DataError

_MOST_VALUES = 1_000_000  # aliases of aliases can stand for more than fits in memory
_MERGE = "tag:yaml.org,2002:merge"
_NOT_A_SCALAR = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError)


@dataclass(frozen=True)
class Located:
    """A value of a file: a scalar, a list of ``Located``, or a dict of text to ``Located`` (whose line is that of their
    key). Lines count from 1."""

    value: Any
    path: Path
    line: int

    @property
    def where(self) -> str:
        """``FILE:LINE``."""
        return f"{self.path}:{self.line}"

    def error(self, problem: str) -> DataError:
        """``FILE:LINE: problem``, to be raised."""
        return DataError(f"{self.where}: {problem}")

    def entries(self, what: str) -> dict[str, Located]:
        """The entries of a mapping; nothing at all counts as an empty one. Raises DataError for anything else."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.error(f"{what}: expected keys and values, found {self.shown}")
        return self.value

    def items(self, what: str) -> list[Located]:
        """The items of a list; nothing at all counts as an empty one. Raises DataError for anything else."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.error(f"{what}: expected a list, found {self.shown}")
        return self.value

    def text(self, what: str) -> str:
        """A text that isn't empty. Raises DataError for anything else."""
        if not isinstance(self.value, str) or not self.value:
            raise self.error(f"{what}: expected a text, found {self.shown}")
        return self.value

    def count(self, what: str) -> int:
        """A whole number of at least 1. Raises DataError for anything else."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < 1:
            raise self.error(f"{what} must be a whole number of at least 1, not {self.shown}")
        return self.value

    def check_keys(self, what: str, known: Mapping[str, object] | tuple[str, ...]) -> None:
        """Raises DataError, with the nearest known one, for a key that isn't known."""
        for key, entry in self.entries(what).items():
            if key not in known:
                raise entry.error(f"{what}: unknown key {key!r}{nearest(key, known)}")

    @property
    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: entry.plain for key, entry in self.value.items()}
        return [item.plain for item in self.value] if isinstance(self.value, list) else self.value

    @property
    def shown(self) -> str:
        """The value in a few words, for an error."""
        kinds = {dict: "keys and values", list: "a list", type(None): "nothing"}
        if type(self.value) in kinds:
            return kinds[type(self.value)]
        text = repr(self.value)
        return text if len(text) <= 60 else f"{text[:57]}..."


def nearest(word: str, known: Iterable[str]) -> str:
    """``, did you mean X?`` if a known word is near, else the list of the known ones; for the end of an error."""
    known = sorted(known)
    matches = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {matches[0]}?" if matches else f"; known are {', '.join(known)}"


def load_yaml(path: Path, *, empty_keys: bool = False) -> Located:
    """The one document of a YAML or JSON file; with ``empty_keys`` the text "" may be a key.

    Raises DataError with the line if it can't be read, is no YAML, gives a key twice, has a key that is no text, or
    refers to itself.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            text = text.replace("\t", " ")  # YAML knows no tabs between values, JSON has no others
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return Located(None, path, 1) if node is None else _Converter(path, empty_keys).convert(node, _line(node))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        line = 1 if mark is None else mark.line + 1
        raise DataError(f"{path}:{line}: not YAML: {' '.join(str(problem).split())}") from error
    except RecursionError:
        raise DataError(f"{path}:1: nested too deeply: a few levels are enough") from None


class _Converter:
    """YAML nodes -> ``Located``, with duplicate keys and endless documents refused."""

    def __init__(self, path: Path, empty_keys: bool) -> None:
        self._path = path
        self._empty_keys = empty_keys
        self._scalars = yaml.constructor.SafeConstructor()
        self._open: set[int] = set()
        self._values = 0

    def convert(self, node: yaml.Node, line: int) -> Located:
        self._values += 1
        if id(node) in self._open or self._values > _MOST_VALUES:
            raise self._located(None, line).error("an alias refers to itself, or too often: write the values out")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._located(self._mapping(node), line)
            if isinstance(node, yaml.SequenceNode):
                return self._located([self.convert(item, _line(item)) for item in node.value], line)
            return self._located(self._scalar(node), line)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Located]:
        entries: dict[str, Located] = {}
        merged: dict[str, Located] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            if key_node.tag == _MERGE:
                merged |= self._merged(self.convert(value_node, line))
                continue
            key = self.convert(key_node, line)
            if isinstance(key.value, int | float):
                raise key.error(f"the key {key.shown} is no text: put it into quotes")
            name = "" if self._empty_keys and key.value == "" else key.text("a key")
            if name in entries:
                raise key.error(f"key {name!r} is there twice, first in line {entries[name].line}: leave one out")
            entries[name] = self.convert(value_node, line)
        return merged | entries

    def _merged(self, located: Located) -> dict[str, Located]:
        """What ``<<`` brings; of several mappings the first has the say."""
        sources = located.value if isinstance(located.value, list) else [located]
        merged: dict[str, Located] = {}
        for source in sources:
            merged = source.entries("<<") | merged
        return merged

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._scalars.construct_object(node)  # type: ignore[no-untyped-call]
        except _NOT_A_SCALAR as error:
            problem = f"{str(node.value)[:60]!r} can't be read as {node.tag.rpartition(':')[2]}: put it into quotes"
            raise self._located(None, _line(node)).error(problem) from error

    def _located(self, value: Any, line: int) -> Located:
        return Located(value, self._path, line)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
