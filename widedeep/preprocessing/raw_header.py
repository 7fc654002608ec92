"""The first line of a raw table: which columns the table has."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass

from deployment_toolkit.errors import DataError
from widedeep.preprocessing.raw_files import RawTable

_LONGEST = 1 << 16
_INVISIBLE = "\ufeff\u200b\u2060"
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class Header:
    """Names of a table's columns, in lower case without blanks and quotes; a column that nobody reads has any unique
    name. ``lines`` is the number of lines up to the first row, ``padded`` says that blanks surround the fields."""

    names: tuple[str, ...]
    lines: int
    padded: bool


def read_header(table: RawTable, wanted: Iterable[str]) -> Header:
    """Reads the header. Raises DataError if there is none, or if a wanted column is missing or there twice."""
    with table.open() as opened:
        head = opened.text.read(_LONGEST)
    lines = re.split(rb"\r\n|\r|\n", head)
    blank = next((number for number, line in enumerate(lines) if line.strip(b" \t\xef\xbb\xbf")), None)
    if blank is None:
        raise DataError(f"{table.path} is empty")
    text = _decoded(table, lines[blank])
    names = [_cleaned(name) for name in next(csv.reader([text], skipinitialspace=True))]
    _check(table, names, list(wanted), text)
    unread = (name if name in wanted else f"column {number}" for number, name in enumerate(names, 1))
    return Header(tuple(unread), blank + 1, re.search(rb"[ \t],|,[ \t]", head) is not None)


def _decoded(table: RawTable, line: bytes) -> str:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in line:
        raise DataError(f"{table.path} is text in UTF-16, or no text: save it as CSV in UTF-8")
    try:
        return line.decode("utf-8-sig").strip(_INVISIBLE)
    except UnicodeDecodeError as error:
        raise DataError(f"{table.path} can't be read as CSV: {error}; save it as CSV in UTF-8") from error


def _cleaned(name: str) -> str:
    return name.strip().strip(_INVISIBLE + "\"'").strip().casefold()


def _check(table: RawTable, names: list[str], wanted: list[str], text: str) -> None:
    repeated = [name for name in wanted if names.count(name) > 1]
    if repeated:
        raise DataError(f"{table.path} has the column {repeated[0]} twice: remove the one that isn't meant")
    lacking = [name for name in wanted if name not in names]
    if not lacking:
        return
    shown = ", ".join(name if name.isprintable() else ascii(name) for name in names)
    remedy = f"its first line must name {', '.join(wanted)}"
    if len(names) == 1:
        used = [word for mark, word in _SEPARATORS.items() if mark in text]
        remedy = f"separate the columns with commas, not {used[0]}" if used else remedy
    raise DataError(f"{table.path} lacks the column {', '.join(lacking)}; it has {shown[:200]}: {remedy}")
