"""JSON text that is read piece by piece: one value at a time is in memory, for files of any size.

``NaN`` and ``Infinity``, which Python's ``json`` writes and which are no JSON, are read too. ijson and other streaming
parsers refuse them, and make an object for each number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, TextIO

_PIECE = 1 << 20  # characters
_BLANKS = re.compile(r"[ \t\r\n]*")
_BRACKET_OR_QUOTE = re.compile(r'[\[\]{}"]')
_QUOTE_OR_BACKSLASH = re.compile(r'["\\]')
_END_OF_WORD = re.compile(r"[ \t\r\n,:\]}]")


class JsonStream:
    """Reader of one JSON text. A caller reads each member and each item, by ``value``, ``members`` or ``items``, before
    it asks for the next one.

    Raises ValueError where the text is no JSON or ends too early.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._text = ""
        self._at = 0  # where the next character is

    def members(self) -> Iterator[str]:
        """Names of an object. When one is yielded, its value is the next to be read."""
        for _ in self._parts("{", "}"):
            name = self.value()
            if not isinstance(name, str):
                raise ValueError(f"{name!r} stands where a name is wanted")
            self._take(":")
            yield name

    def items(self) -> Iterator[None]:
        """Items of an array. When one is yielded, it is the next to be read."""
        return self._parts("[", "]")

    def value(self) -> Any:
        """The next value, whole."""
        self._peek()
        size = self._size_of_value()  # reads the rest of the value, and moves the text
        start = self._at
        self._at += size
        return json.loads(self._text[start : self._at])

    def end(self) -> None:
        """Raises ValueError if there is more text."""
        if self._peek():
            raise ValueError("there is more text behind its end")

    def _parts(self, opening: str, closing: str) -> Iterator[None]:
        self._take(opening)
        if self._peek() == closing:
            self._take(closing)
            return
        while True:
            yield
            if self._peek() == closing:
                self._take(closing)
                return
            self._take(",")

    def _take(self, wanted: str) -> None:
        found = self._peek()
        if found != wanted:
            raise ValueError(f"{found!r} stands where {wanted!r} is wanted" if found else "it ends too early")
        self._at += 1

    def _peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            blanks = _BLANKS.match(self._text, self._at)
            self._at = blanks.end() if blanks else self._at
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def _size_of_value(self) -> int:
        """Number of characters of the value that begins with the next character."""
        first = self._peek()
        if first == '"':
            return self._end_of_string(0)
        if first not in ("[", "{"):
            return self._search(_END_OF_WORD, 0)
        depth, place = 0, 0
        while True:
            place = self._search(_BRACKET_OR_QUOTE, place)
            char = self._text[self._at + place]
            if char == '"':
                place = self._end_of_string(place)
                continue
            depth += 1 if char in "[{" else -1
            place += 1
            if depth == 0:
                return place

    def _end_of_string(self, place: int) -> int:
        """Place behind the string whose first quote is at ``place``."""
        place += 1
        while True:
            place = self._search(_QUOTE_OR_BACKSLASH, place)
            if self._text[self._at + place] == '"':
                return place + 1
            place += 2

    def _search(self, pattern: re.Pattern[str], place: int) -> int:
        """First place from ``place`` on that matches; places are counted from the next character."""
        while (found := pattern.search(self._text, self._at + place)) is None:
            place = max(place, len(self._text) - self._at)
            if not self._more():
                raise ValueError("it ends too early")
        return found.start() - self._at

    def _more(self) -> bool:
        """Reads more text, as much as is there already, so that a long value is not copied often. False at the end."""
        kept = self._text[self._at :]
        piece = self._file.read(max(_PIECE, len(kept)))
        self._text, self._at = kept + piece, 0
        return bool(piece)
