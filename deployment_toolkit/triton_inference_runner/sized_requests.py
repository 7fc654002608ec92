"""Division of a stream of batches into requests of given sizes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from deployment_toolkit.core import Arrays, Batch
from deployment_toolkit.errors import InputError

logger = logging.getLogger("triton")


def sized_requests(batches: Iterable[Batch], sizes: Sequence[int]) -> Iterator[tuple[Batch, bool]]:
    """Yields every row once and in order: first a request of each of ``sizes``, with True, to be sent alone; then the
    rest in the original batches, with False.

    A size for which too few rows are left is skipped, and a warning names it. Within a batch the arrays have the same
    number of rows. At most the rows of the largest size and one batch are in memory. Raises InputError if rows of free
    shape can't be joined.
    """
    source = iter(batches)
    pending: list[Batch] = []
    held = 0
    asked: list[int] = []
    for size in sizes:
        while held < size and (batch := next(source, None)) is not None:
            pending.append(batch)
            held += len(batch)
        if held >= size:
            taken, pending = _take(pending, size)
            held -= size
            asked.append(size)
            yield taken, True
    if asked:
        logger.info("rows 0 to %d were asked in %d requests, each alone, of %s rows", sum(asked) - 1, len(asked), asked)
    if len(asked) < len(sizes):
        missing = [size for size in sizes if size not in asked]
        logger.warning("the data have too few rows: the model was not asked in requests of %s rows", missing)
    yield from ((batch, False) for batch in pending)
    yield from ((batch, False) for batch in source)


def _take(batches: Sequence[Batch], rows: int) -> tuple[Batch, list[Batch]]:
    """First ``rows`` rows as one batch, and the remaining batches."""
    taken: list[Batch] = []
    left: list[Batch] = []
    for batch in batches:
        stop = min(len(batch), rows)
        rows -= stop
        taken += [_rows(batch, slice(stop))] if stop else []
        left += [_rows(batch, slice(stop, None))] if stop < len(batch) else []
    return _join(taken), left


def _rows(batch: Batch, rows: slice) -> Batch:
    x, y = ({name: array[rows] for name, array in arrays.items()} for arrays in (batch.x, batch.y))
    return Batch(batch.ids[rows], x, y)


def _join(parts: Sequence[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return Batch(
        np.concatenate([part.ids for part in parts]),
        _join_arrays([part.x for part in parts]),
        _join_arrays([part.y for part in parts]),
    )


def _join_arrays(parts: Sequence[Arrays]) -> Arrays:
    try:
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    except ValueError as error:
        raise InputError(f"rows of several batches can't be sent in one request: {error}") from error
