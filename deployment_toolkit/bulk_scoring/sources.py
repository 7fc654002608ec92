"""Rows of any dataloader, from any row on."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deployment_toolkit.contracts.dataloaders import PluginStream
from deployment_toolkit.core import Array, Batch
from deployment_toolkit.errors import DataError, ModelError
from deployment_toolkit.files.patterns import find_files
from deployment_toolkit.options.command_line import DATALOADER, CommandLine
from deployment_toolkit.rows.batches import BatchStream, OnBadRow, Piece, Sliceable


class RowSource(Protocol):
    """Rows in ``pieces``; ``ids_name`` and ``described`` are as of a ``Sliceable``."""

    pieces: list[Piece]
    ids_name: str
    described: str

    def read(self, rows: range, on_bad_row: OnBadRow | None) -> Iterator[tuple[Array, Batch]]:
        """Yields (numbers of the rows [B], batch). Rows that can't be used are told if the dataloader can leave them
        out, else they raise DataError, as all do without ``on_bad_row``. Raises DataError for other data than those of
        the pieces."""
        ...


def row_source(command: CommandLine) -> RowSource:
    """The rows of a command's dataloader. Raises UsageError, ModelError or DataError if it gives none."""
    stream: PluginStream = command.call(DATALOADER)
    source = stream.source
    if isinstance(source, BatchStream) and isinstance(source.dataset, Sliceable):
        return _OwnRows(source.dataset, source.batch_size)
    return _FileByFile(command, stream)


class _OwnRows:
    def __init__(self, dataset: Sliceable, batch_size: int) -> None:
        self._dataset = dataset
        self._batch_size = batch_size
        self.pieces = list(dataset.pieces)
        self.ids_name = dataset.ids_name or "id"
        self.described = dataset.described

    def read(self, rows: range, on_bad_row: OnBadRow | None) -> Iterator[tuple[Array, Batch]]:
        return self._dataset.slice(rows, self._batch_size, on_bad_row)


class _FileByFile:
    """A dataloader that can only be read from its start: it is asked for one file at a time, and rows before those
    wanted are dropped."""

    def __init__(self, command: CommandLine, stream: PluginStream) -> None:
        pattern = getattr(command.args, "data_pattern", None)
        if not isinstance(pattern, str):
            raise ModelError(
                "the dataloader has no option --data-pattern, by which bulk scoring asks for one file at a time: give "
                "get_dataloader_fn a parameter data_pattern"
            )
        self._command = command
        self.pieces = [Piece(path, _parquet_rows(path)) for path in find_files([pattern])]
        self.ids_name = "id"
        self.described = ""
        rows = sum(piece.rows for piece in self.pieces)
        if rows == 0:
            raise DataError(f"data pattern {pattern!r} matches no rows: check how the data was made")
        if stream.num_rows not in (None, rows):
            raise DataError(
                f"the dataloader tells of {stream.num_rows} rows, its files hold {rows}: bulk scoring needs a "
                "dataloader that gives every row of its files"
            )

    def read(self, rows: range, on_bad_row: OnBadRow | None) -> Iterator[tuple[Array, Batch]]:
        start = 0
        for piece in self.pieces:
            if start < rows.stop and rows.start < start + piece.rows:
                yield from self._read_file(piece, start, rows)
            start += piece.rows

    def _read_file(self, piece: Piece, start: int, rows: range) -> Iterator[tuple[Array, Batch]]:
        stream = self._command.with_values(data_pattern=glob.escape(str(piece.path))).call(DATALOADER)
        position, stop = start, start + piece.rows
        for ids, x, y in stream():
            first, last = max(rows.start - position, 0), min(rows.stop - position, len(ids))
            if first < last:
                part = slice(first, last)
                numbers = np.arange(position + first, position + last)
                yield numbers, Batch(ids[part], *({n: a[part] for n, a in arrays.items()} for arrays in (x, y)))
            position += len(ids)
            if position >= rows.stop and rows.stop < stop:
                return
        if position != stop:
            raise DataError(
                f"{piece.path} has {piece.rows} rows, the dataloader gave {position - start} of them: bulk scoring "
                "needs a dataloader that gives every row"
            )


def _parquet_rows(path: Path) -> int:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} can't be read as parquet: {error}: make or copy it again") from error
