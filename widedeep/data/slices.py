"""Rows of parquet files from any row on, in chunks that know the numbers of their rows."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import RowError
from deployment_toolkit.rows.batches import BadRow, OnBadRow

ROW = "\0row"  # beside the columns of a chunk: the numbers of its rows; no column has this name
_FEW_ROWS = 256

Read = Callable[[Path, Sequence[int]], Iterator[pa.RecordBatch]]
ToArrays = Callable[[pa.RecordBatch, Path, int], Arrays]


def sliced_chunks(
    group_rows: Mapping[Path, Sequence[int]],
    rows: range,
    read: Read,
    to_arrays: ToArrays,
    on_bad_row: OnBadRow | None,
) -> Generator[Arrays, None, None]:
    """Yields the rows ``rows`` of files, which are counted over all of them, as arrays by column with their numbers in
    ``ROW``.

    ``group_rows`` are the sizes of the row groups of each file; ``read(path, row groups)`` yields them in chunks,
    ``to_arrays(chunk, path, first row in the file)`` raises RowError for a row that can't be used. Such rows are told
    and left out; without ``on_bad_row`` the error passes. A row group is read from its start.
    """
    file_start = 0
    for path, sizes in group_rows.items():
        file_stop = file_start + sum(sizes)
        if file_start < rows.stop and rows.start < file_stop:
            starts = np.cumsum([file_start, *sizes])
            groups = [n for n in range(len(sizes)) if starts[n] < rows.stop and rows.start < starts[n + 1]]
            position = int(starts[groups[0]]) if groups else 0
            for chunk in read(path, groups) if groups else ():
                first = max(rows.start - position, 0)
                kept = min(rows.stop - position, chunk.num_rows) - first
                if kept > 0:
                    part, row = chunk.slice(first, kept), position + first
                    yield from _converted(part, path, row, row - file_start, to_arrays, on_bad_row)
                position += chunk.num_rows
                if position >= rows.stop:
                    break
        file_start = file_stop


def _converted(
    chunk: pa.RecordBatch, path: Path, row: int, row_in_file: int, to_arrays: ToArrays, on_bad_row: OnBadRow | None
) -> Iterator[Arrays]:
    numbers = np.arange(row, row + chunk.num_rows)
    try:
        yield {ROW: numbers, **to_arrays(chunk, path, row_in_file)}
    except RowError:
        if on_bad_row is None:
            raise
        for start in range(0, chunk.num_rows, _FEW_ROWS):
            few = chunk.slice(start, _FEW_ROWS)
            kept, arrays = _without_bad_rows(few, path, row_in_file + start, to_arrays, on_bad_row)
            if len(kept):
                yield {ROW: numbers[start + kept], **arrays}


def _without_bad_rows(
    chunk: pa.RecordBatch, path: Path, row_in_file: int, to_arrays: ToArrays, on_bad_row: OnBadRow
) -> tuple[Array, Arrays]:
    """The rows of the chunk that can be used, and their arrays."""
    kept: Array = np.arange(chunk.num_rows)
    while len(kept):
        try:
            return kept, to_arrays(chunk.take(pa.array(kept)), path, 0)
        except RowError as error:
            bad = int(kept[error.row])
            on_bad_row(BadRow(path, row_in_file + bad, f"column {error.column} {error.problem}"))
            kept = np.delete(kept, error.row)
    return kept, {}
