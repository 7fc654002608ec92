"""Reading of a dataset's preprocessed parquet files as numpy batches of an exact size, in constant memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deployment_toolkit.core import Array, Arrays, Batch
from deployment_toolkit.errors import DataError, require_at_least
from deployment_toolkit.files.patterns import find_files
from deployment_toolkit.rows.batches import OnBadRow, Piece, exact_batches
from deployment_toolkit.rows.prefetch import prefetched
from widedeep.data.slices import ROW, sliced_chunks
from widedeep.features.columns import FeatureColumn, columns_of
from widedeep.features.spec import FeatureSpec

_CHUNK_ROWS = 131_072  # 19 MB of the 29 Outbrain features
_READ_BUFFER_BYTES = 1 << 20  # a column is read in pieces of this size, for row groups of any size


@dataclass(frozen=True)
class _Part:
    """Row groups of one file that are read together."""

    path: Path
    row_groups: tuple[int, ...]
    first_row: int


class ParquetDataset:
    """Dataset of the files that match one or several patterns, in natural order (``part_2`` before ``part_10``); a
    matched folder stands for the files in it (``files/patterns.py``).

    The constructor checks the schemas of all files. Raises DataError, which names file and column, if nothing matches,
    if a file is not parquet, lacks a column or has a column of a wrong type, or if there are no rows at all.
    """

    def __init__(self, patterns: str | Sequence[str], spec: FeatureSpec) -> None:
        self._columns = columns_of(spec)
        self._spec = spec
        self.ids_name = None if spec.group_id is None else spec.group_id.name
        self.described = str([(item.name, item.kind.name, str(item.dtype), item.width) for item in self._columns])
        self._inputs = [feature.name for feature in spec.inputs]
        self.files = find_files([patterns] if isinstance(patterns, str) else patterns)
        self._group_rows = {path: self._check_file(path) for path in self.files}
        self.num_rows = sum(sum(rows) for rows in self._group_rows.values())
        require_rows(self.num_rows, self.files)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yields batches of ``batch_size`` rows, across files and row groups; only the last may be shorter.

        ``ids`` [B] (the numbers of the rows, if the specification has no group id), ``x`` {input: [B, 1], or [B,
        max_hotness] padded with -1}, ``y`` {label: [B, 1]}, of the specification's dtypes; arrays may be read-only
        views. The next chunk is read in a background thread, which ends when the iterator is exhausted, closed or
        dropped. Raises DataError, which names file, column, row and value, for a value that the feature can't have.
        """
        require_at_least("the batch size", batch_size, 1)
        parts = [_Part(path, tuple(range(len(rows))), 0) for path, rows in self._group_rows.items() if rows]
        chunk_rows = max(1, _CHUNK_ROWS // batch_size) * min(batch_size, _CHUNK_ROWS)
        pieces = exact_batches(prefetched(self._chunks(parts, chunk_rows)), batch_size)
        yield from to_batches(pieces, self._spec, self._inputs)

    @property
    def pieces(self) -> list[Piece]:
        """The row groups of all files, in order."""
        return [Piece(path, rows) for path, sizes in self._group_rows.items() for rows in sizes]

    def slice(self, rows: range, batch_size: int, on_bad_row: OnBadRow | None = None) -> Iterator[tuple[Array, Batch]]:
        """Yields (numbers of the rows [B], batch like those of ``batches``) for some rows of all files together, in
        order. Rows with a value that the feature can't have are told and left out; without ``on_bad_row`` they raise
        RowError."""
        require_at_least("the batch size", batch_size, 1)
        names = [column.name for column in self._columns]

        def read(path: Path, groups: Sequence[int]) -> Iterator[pa.RecordBatch]:
            with open_parquet(path) as file:
                yield from read_chunks(file, path, min(_CHUNK_ROWS, len(rows)), names, groups)

        def to_arrays(chunk: pa.RecordBatch, path: Path, first_row: int) -> Arrays:
            return _to_arrays(chunk, self._columns, path, first_row)

        chunks = sliced_chunks(self._group_rows, rows, read, to_arrays, on_bad_row)
        for arrays in exact_batches(prefetched(chunks), batch_size):
            (batch,) = to_batches(iter([arrays]), self._spec, self._inputs)
            ids = arrays[ROW] if self._spec.group_id is None else batch.ids
            yield arrays[ROW], Batch(ids, batch.x, batch.y)

    def shuffled_batches(self, batch_size: int, *, seed: int, pool_rows: int = 4 * _CHUNK_ROWS) -> Iterator[Batch]:
        """Yields batches like ``batches``, in a random order that depends on ``seed``: row groups are read in random
        order, and rows are mixed within every ``pool_rows`` of them. Without a group id, ``ids`` count the rows in the
        yielded order."""
        require_at_least("the batch size", batch_size, 1)
        generator = np.random.default_rng(seed)
        parts = [
            _Part(path, (number,), sum(rows[:number]))
            for path, rows in self._group_rows.items()
            for number in range(len(rows))
        ]
        order = [parts[index] for index in generator.permutation(len(parts))]
        pools = exact_batches(prefetched(self._chunks(order, _CHUNK_ROWS)), pool_rows)
        yield from to_batches(exact_batches(_mixed(pools, generator), batch_size), self._spec, self._inputs)

    def _check_file(self, path: Path) -> list[int]:
        """Checks a file's schema; returns the number of rows of each row group."""
        with open_parquet(path) as file:
            for column in self._columns:
                column.check_type(file.schema_arrow, path)
            return [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]

    def _chunks(self, parts: Sequence[_Part], rows: int) -> Generator[Arrays, None, None]:
        names = [column.name for column in self._columns]
        for part in parts:
            first_row = part.first_row
            with open_parquet(part.path) as file:
                for chunk in read_chunks(file, part.path, rows, names, part.row_groups):
                    if chunk.num_rows:
                        yield _to_arrays(chunk, self._columns, part.path, first_row)
                    first_row += chunk.num_rows


def require_rows(rows: int, files: Sequence[Path]) -> None:
    """Raises DataError if the files have none."""
    if rows == 0:
        raise DataError(f"{files[0]}: no rows in the {len(files)} file(s): check how the data was made")


def to_batches(pieces: Iterator[Arrays], spec: FeatureSpec, inputs: Sequence[str]) -> Iterator[Batch]:
    """Arrays by column as batches: the columns ``inputs`` are ``x``, and without a group id rows are counted."""
    label, first_row = spec.label.name, 0
    for arrays in pieces:
        rows: Array = np.arange(first_row, first_row + len(arrays[label]))
        first_row += len(rows)
        ids = rows if spec.group_id is None else arrays[spec.group_id.name]
        yield Batch(ids, {name: arrays[name] for name in inputs}, {label: arrays[label]})


def open_parquet(path: Path) -> pq.ParquetFile:
    """Opens a parquet file. Raises DataError if it is not parquet."""
    try:
        return pq.ParquetFile(path, buffer_size=_READ_BUFFER_BYTES)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def read_chunks(
    file: pq.ParquetFile, path: Path, rows: int, columns: Sequence[str], row_groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yields the columns of a file's row groups (default: all) in chunks of at most ``rows`` rows. Raises DataError,
    which names ``path``, if one can't be read.

    A call of pyarrow gets only row groups enough for a chunk: pyarrow 26 keeps what it has read of all of them until
    its end, 30 MB for each row group of Outbrain's features.
    """
    groups = range(file.metadata.num_row_groups) if row_groups is None else row_groups
    try:
        for together in _groups_of_a_chunk(file.metadata, groups, rows):
            yield from file.iter_batches(rows, row_groups=together, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _groups_of_a_chunk(metadata: pq.FileMetaData, groups: Sequence[int], rows: int) -> Iterator[list[int]]:
    together: list[int] = []
    rows_together = 0
    for group in groups:
        together.append(group)
        rows_together += metadata.row_group(group).num_rows
        if rows_together >= rows:
            yield together
            together, rows_together = [], 0
    if together:
        yield together


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} can't be read as parquet: {error}; it may be truncated: make or copy it again")


def _to_arrays(chunk: pa.RecordBatch, columns: Sequence[FeatureColumn], path: Path, first_row: int) -> Arrays:
    return {column.name: column.to_numpy(chunk.column(column.name), path, first_row) for column in columns}


def _mixed(pools: Iterator[Arrays], generator: np.random.Generator) -> Iterator[Arrays]:
    for pool in pools:
        order: Array = generator.permutation(len(next(iter(pool.values()))))
        yield {name: array[order] for name, array in pool.items()}
