"""Where a raw table is at fault: the parser of CSV names neither line nor column in words."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable

from widedeep.preprocessing.raw_files import RawTable
from widedeep.preprocessing.raw_header import Header


def located(message: str, table: RawTable, header: Header) -> str:
    """The parser's error message as one with column and line, if it is about a row's length or a value."""
    width = len(header.names)
    if re.search(r"Expected \d+ columns, got \d+", message):
        line, fields = _first_row(table, header, lambda row: len(row) != width)
        return f"line {line} has {len(fields)} fields, the header {width}: make them the same"
    wrong = re.search(r"column #(\d+): .*conversion error to (\w+): invalid value '(.*)'", message, re.DOTALL)
    if wrong:
        at, value = int(wrong[1]), wrong[3]
        line, _ = _first_row(table, header, lambda row: len(row) > at and row[at] == value)
        return f"column {header.names[at]} holds {value!r:.60} in line {line}: it is no {wrong[2]}"
    return re.sub(r"column #(\d+)", lambda match: f"column {header.names[int(match[1])]}", " ".join(message.split()))


def _first_row(table: RawTable, header: Header, is_wrong: Callable[[list[str]], bool]) -> tuple[int | str, list[str]]:
    with table.open() as opened:
        rows = csv.reader(io.TextIOWrapper(opened.text, "utf-8-sig", errors="replace", newline=""))
        for row in rows:
            if row and rows.line_num > header.lines and is_wrong(row):
                return rows.line_num, row
    return "unknown", []
