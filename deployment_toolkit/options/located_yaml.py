"""YAML files whose values keep their line number for error messages. JSON is read too, as YAML."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.texts import read_text

MOST = 2**31 - 1  # the largest number of what can be counted in a model or a request
# A file of a few hundred bytes can nest aliases, levels or digits so that reading it takes minutes and gigabytes. These
# limits, some seconds of reading together, are far above what a person or this project writes.
_MOST_BYTES = 2**21
_MOST_VALUES = 50_000  # with aliases written out
_MOST_LEVELS = 60
_MOST_DIGITS = 1000
_MERGE, _TEXT = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"
_NOT_A_SCALAR = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError)


@dataclass(frozen=True)
class Located:
    """A value of a file: a scalar, a list of ``Located``, or a dict of text to ``Located`` (which has the line of its
    key). Lines count from 1. ``written`` is a scalar's text in the file, as the 22.10 of the number 22.1."""

    value: Any
    path: Path
    line: int
    written: str | None = None

    @property
    def where(self) -> str:
        """Place of the value: ``FILE:LINE``."""
        return f"{self.path}:{self.line}"

    def error(self, problem: str) -> DataError:
        """DataError to be raised, with the message ``FILE:LINE: problem``."""
        return DataError(f"{self.where}: {problem}")

    def entries(self, what: str) -> dict[str, Located]:
        """Entries of a mapping; an empty value counts as an empty mapping. Raises DataError for anything else."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.error(f"{what}: expected keys and values, found {self.shown}")
        return self.value

    def items(self, what: str) -> list[Located]:
        """Items of a list; an empty value counts as an empty list. Raises DataError for anything else."""
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

    def count(self, what: str, most: int = MOST) -> int:
        """A whole number from 1 to ``most``. Raises DataError for anything else."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < 1:
            raise self.error(f"{what} must be a whole number of at least 1, not {self.shown}")
        if self.value > most:
            raise self.error(f"{what} must be at most {most}, not {self.shown}")
        return self.value

    def check_keys(self, what: str, known: Mapping[str, object] | tuple[str, ...]) -> None:
        """Raises DataError for an unknown key; the message names the nearest known key."""
        for key, entry in self.entries(what).items():
            if key not in known:
                raise entry.error(f"{what}: unknown key {key!r}{nearest(key, known)}")

    @property
    def plain(self) -> Any:
        """The value as plain Python objects, without line numbers."""
        if isinstance(self.value, dict):
            return {key: entry.plain for key, entry in self.value.items()}
        return [item.plain for item in self.value] if isinstance(self.value, list) else self.value

    @property
    def shown(self) -> str:
        """Short text of the value for an error message."""
        kinds = {dict: "keys and values", list: "a list", type(None): "nothing"}
        if type(self.value) in kinds:
            return kinds[type(self.value)]
        text = repr(self.value) if isinstance(self.value, str | int | float | bool) else str(self.written)
        return text if len(text) <= 60 else f"{text[:57]}..."

    @property
    def text_as_written(self) -> str:
        """Text of a scalar in the file."""
        return str(self.value) if self.written is None else self.written


def nearest(word: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """End of an error message: ``, did you mean X?`` if a known word is near, else the advice ``otherwise``, by default
    the list of the known words."""
    known = sorted(known)
    matches = difflib.get_close_matches(word, known, n=1)
    return f", did you mean {matches[0]}?" if matches else f"; {otherwise or 'known are ' + ', '.join(known)}"


def load_yaml(path: Path, *, empty_keys: bool = False) -> Located:
    """Reads the single document of a YAML or JSON file; with ``empty_keys`` the text "" may be a key.

    Raises DataError with the line if the file can't be read, is no UTF-8 or no YAML, repeats a key, has a key that is
    no text, holds a character that no name or path can hold, refers to itself, or is larger than 2 MiB, 50,000 values
    or 60 levels.
    """
    text = read_text(path, _MOST_BYTES)
    if path.suffix == ".json":
        text = text.replace("\t", " ")  # YAML allows no tabs between values; in JSON, tabs are only there
    try:
        node = _Composer(text, path).get_single_node()
        return Located(None, path, 1) if node is None else _Converter(path, empty_keys).convert(node, _line(node))
    except ReaderError as error:
        line = 1 + text.count("\n", 0, error.position)
        raise DataError(
            f"{path}:{line}: not YAML: the character U+{error.character:04X} is in it: remove it"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        line = 1 if mark is None else mark.line + 1
        raise DataError(f"{path}:{line}: not YAML: {' '.join(str(problem).split())}") from error


class _Composer(yaml.SafeLoader):
    """Reader of a document's nodes that stops at too many values or levels."""

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self._path = path
        self._values = 0
        self._levels = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._values += 1
        self._levels += 1
        if self._levels > _MOST_LEVELS:
            raise self._too_much("nested too deeply: a few levels are enough")
        if self._values > _MOST_VALUES:
            raise self._too_much(f"more than {_MOST_VALUES} values: is it the right file?")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._levels -= 1
        return node

    def _too_much(self, problem: str) -> DataError:
        return DataError(f"{self._path}:{self.peek_event().start_mark.line + 1}: {problem}")  # type: ignore[no-untyped-call]


class _Converter:
    """Converts YAML nodes to ``Located``; refuses duplicate keys and endless documents."""

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
            value = self._scalar(node)
            return Located(value, self._path, line, value if isinstance(value, str) else str(node.value))
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
        """Entries that ``<<`` merges in; the first of several mappings has priority."""
        sources = located.value if isinstance(located.value, list) else [located]
        merged: dict[str, Located] = {}
        for source in sources:
            merged = source.entries("<<") | merged
        return merged

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            if node.tag != _TEXT and len(node.value) > _MOST_DIGITS:
                raise ValueError(f"{len(node.value)} characters")
            value = self._scalars.construct_object(node)  # type: ignore[no-untyped-call]
        except _NOT_A_SCALAR as error:
            problem = f"{str(node.value)[:60]!r} can't be read as {node.tag.rpartition(':')[2]}: put it into quotes"
            raise self._located(None, _line(node)).error(problem) from error
        return self._text(value, node) if isinstance(value, str) else value

    def _text(self, value: str, node: yaml.Node) -> str:
        """A text, with the two halves that JSON may write of a character joined."""
        where = self._located(None, _line(node))
        if "\0" in value:
            raise where.error(f"{value[:60]!r} holds a NUL character, which no name or path can: leave it out")
        try:
            return value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError as error:
            raise where.error(f"{value[:60]!r} holds half of a character: write the whole one") from error

    def _located(self, value: Any, line: int) -> Located:
        return Located(value, self._path, line)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
