"""Shapes as TensorFlow writes them: of whole batches, with None for any size; and the size of weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def batch_shape(row: Iterable[int]) -> list[int | None]:
    """A batch's shape, from that of a row with -1 for any size."""
    return [None, *(None if size == -1 else size for size in row)]


def row_shape(batch: Sequence[int | None]) -> tuple[int, ...]:
    """Inverse of ``batch_shape``."""
    return tuple(-1 if size is None else size for size in batch[1:])


def weights_bytes(variables: Iterable[Any]) -> int:
    """Bytes of variables."""
    return sum(variable.shape.num_elements() * variable.dtype.size for variable in variables)
