"""Spans of raw files: consecutive rows that are read alone, so that several processes can read one table."""

from __future__ import annotations

import contextlib
import io
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pyarrow.parquet as pq

from widedeep.preprocessing.raw_files import OpenTable, RawTable
from widedeep.preprocessing.raw_header import Header

_LONGEST_LINE = 1 << 20
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Span:
    """Rows of a file: its bytes from ``start`` to ``stop`` if it is CSV, its row groups if it is parquet, whose first
    row is the file's ``first_row``. ``stop`` None is the end of the file. ``size_bytes`` of parquet is the size before
    compression."""

    table: RawTable
    size_bytes: int
    start: int = 0
    stop: int | None = None
    first_row: int = 0

    @contextlib.contextmanager
    def open(self) -> Iterator[OpenTable]:
        """Opens the text of a span of CSV. Raises DataError if it can't be read."""
        with self.table.open() as opened:
            if self.start == 0 and self.stop is None:
                yield opened
            else:
                opened.text.seek(self.start)
                text = _Bounded(opened.text, None if self.stop is None else self.stop - self.start)
                yield OpenTable(text, self.size_bytes, text.tell)  # type: ignore[arg-type]

    def lines_before(self, header: Header) -> int:
        """Number of the file's lines before the span's first row. Reads all of the file before the span."""
        if self.start == 0:
            return header.lines
        lines = 0
        with self.table.open() as opened:
            for start in range(0, self.start, _BLOCK_BYTES):
                lines += opened.text.read(min(_BLOCK_BYTES, self.start - start)).count(b"\n")
        return lines


def spans_of(tables: Sequence[RawTable], span_bytes: int) -> list[Span]:
    """Spans of a table's files, in the order of their rows: of about ``span_bytes``, or a whole file where that can't
    be read in parts."""
    return [span for table in tables for span in _spans(table, span_bytes)]


def size_bytes(tables: Sequence[RawTable]) -> int:
    """Size of a table's files as spans count it: of parquet, before its pages are compressed."""
    return sum(span.size_bytes for span in spans_of(tables, sys.maxsize))


def together(spans: Sequence[Span], piece_bytes: int) -> list[tuple[Span, ...]]:
    """Consecutive spans in pieces of at least ``piece_bytes``, but for the last one: a task reads many small files."""
    pieces: list[tuple[Span, ...]] = []
    held: list[Span] = []
    held_bytes = 0
    for span in spans:
        held.append(span)
        held_bytes += span.size_bytes
        if held_bytes >= piece_bytes:
            pieces.append(tuple(held))
            held, held_bytes = [], 0
    return [*pieces, tuple(held)] if held else pieces


def _spans(table: RawTable, span_bytes: int) -> Iterator[Span]:
    size = table.path.stat().st_size
    if table.is_parquet:
        yield from _of_parquet(table, span_bytes)
        return
    cuts = [0, *(_cuts(table.path, size, span_bytes) if table.is_plain else ()), size]
    for start, stop in itertools.pairwise(cuts):
        yield Span(table, stop - start, start, None if stop == size else stop)


def _cuts(path: Path, size: int, span_bytes: int) -> Iterator[int]:
    """Beginnings of lines about ``span_bytes`` from each other."""
    with path.open("rb") as file:
        position = span_bytes
        while position < size - span_bytes // 2:
            file.seek(position)
            end = file.read(_LONGEST_LINE).find(b"\n")
            if end < 0:
                return  # other ends of lines
            if position + end + 1 < size:
                yield position + end + 1
            position += end + 1 + span_bytes


def _of_parquet(table: RawTable, span_bytes: int) -> Iterator[Span]:
    from widedeep.data.parquet import open_parquet

    with open_parquet(table.path) as file:
        metadata: pq.FileMetaData = file.metadata
    start = first_row = rows = held = 0
    for group in range(metadata.num_row_groups):
        held += metadata.row_group(group).total_byte_size
        rows += metadata.row_group(group).num_rows
        if held >= span_bytes or group == metadata.num_row_groups - 1:
            yield Span(table, held, start, group + 1, first_row)
            start, first_row, rows, held = group + 1, first_row + rows, 0, 0


class _Bounded(io.RawIOBase):
    """The next ``size`` bytes of a file; all that are left if that is None."""

    def __init__(self, file: IO[bytes], size: int | None) -> None:
        self._file, self._left, self._read = file, size, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._left is not None:
            size = self._left if size < 0 else min(size, self._left)
        data = self._file.read(size)
        self._read += len(data)
        if self._left is not None:
            self._left -= len(data)
        return data

    def tell(self) -> int:
        return self._read
