"""Streams of batches: datasets for ``--dataloader``, and chunks cut into batches of one exact size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from deployment_toolkit.core import Array, Arrays, Batch
from deployment_toolkit.errors import require_at_least


class Dataset(Protocol):
    """Rows that can be read repeatedly in batches of any size."""

    @property
    def num_rows(self) -> int: ...

    def batches(self, batch_size: int) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Piece:
    """Rows of a file that are read together, as a row group."""

    path: Path
    rows: int


@dataclass(frozen=True)
class BadRow:
    """A row that can't be used: its file, its number in the file from 0, and why."""

    path: Path
    row: int
    reason: str


OnBadRow = Callable[[BadRow], None]


@runtime_checkable
class Sliceable(Protocol):
    """A dataset whose rows can be read from any row on.

    ``pieces`` are all rows in order; ``ids_name`` is the name of the column of ids, None if rows are only counted;
    ``described`` is a text that changes if files and options stay and rows are read otherwise.
    """

    pieces: Sequence[Piece]
    ids_name: str | None
    described: str

    def slice(self, rows: range, batch_size: int, on_bad_row: OnBadRow | None = None) -> Iterator[tuple[Array, Batch]]:
        """Yields (numbers of the rows [B], batch) for the rows ``rows`` of all pieces together, in order. Rows that
        can't be used are told and left out; without ``on_bad_row`` they raise DataError."""
        ...


class BatchStream:
    """Stream of a dataset's batches. A call without arguments yields them, as (ids, x, y), from the start; ``num_rows``
    is the number of rows. ``dataset`` and ``batch_size`` are those given. Raises UsageError for a batch size below
    1."""

    makes_new_arrays = True  # for each batch

    def __init__(self, dataset: Dataset, batch_size: int) -> None:
        require_at_least("--batch-size", batch_size, 1)
        self.num_rows = dataset.num_rows
        self.dataset = dataset
        self.batch_size = batch_size

    def __call__(self) -> Iterator[tuple[Array, Arrays, Arrays]]:
        for batch in self.dataset.batches(self.batch_size):
            yield batch.ids, batch.x, batch.y


def exact_batches(chunks: Iterator[Arrays], batch_size: int) -> Iterator[Arrays]:
    """Yields batches of ``batch_size`` rows in the order of the chunks; only the last may be shorter, none is empty.

    Every chunk has the same names, and within a chunk the arrays have the same number of rows. A batch within one chunk
    is a view of it; a batch that crosses chunks is a copy. At most a batch and a chunk are in memory.
    """
    pending: list[Arrays] = []
    pending_rows = 0
    for chunk in chunks:
        rows = len(next(iter(chunk.values())))
        start = 0
        while start < rows:
            stop = min(rows, start + batch_size - pending_rows)
            pending.append({name: array[start:stop] for name, array in chunk.items()})
            pending_rows += stop - start
            start = stop
            if pending_rows == batch_size:
                yield join(pending)
                pending, pending_rows = [], 0
    if pending:
        yield join(pending)


def join(parts: Sequence[Arrays]) -> Arrays:
    """Batches of the same names as one; a single one is not copied, and none are an empty one."""
    if len(parts) < 2:
        return next(iter(parts), {})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
