"""A dataset as what ``--dataloader`` asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from deployment_toolkit.core import Array, Arrays, Batch
from deployment_toolkit.errors import UsageError


class Dataset(Protocol):
    """Rows that can be read again and again in batches of any size."""

    @property
    def num_rows(self) -> int: ...

    def batches(self, batch_size: int) -> Iterator[Batch]: ...


class BatchStream:
    """Called without arguments it yields the batches, as (ids, x, y), from the start; ``num_rows`` tells how many rows
    there are. Raises UsageError for a batch size below 1."""

    def __init__(self, dataset: Dataset, batch_size: int) -> None:
        if batch_size < 1:
            raise UsageError(f"--batch-size must be at least 1, not {batch_size}")
        self.num_rows = dataset.num_rows
        self._dataset = dataset
        self._batch_size = batch_size

    def __call__(self) -> Iterator[tuple[Array, Arrays, Arrays]]:
        for batch in self._dataset.batches(self._batch_size):
            yield batch.ids, batch.x, batch.y
