"""Plug-in for ``--dataloader``: parquet files of ``prepare.py`` -> (ids, x, y) numpy batches, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from deployment_toolkit.core import Array, Arrays, Batch
from deployment_toolkit.errors import DataError
from deployment_toolkit.files.patterns import find_files
from deployment_toolkit.rows.batches import BatchStream, exact_batches

GROUP, LABEL = "user", "rating"


def get_dataloader_fn(*, data_pattern: str, batch_size: int = 4096, hotness: int = 4) -> BatchStream:
    """Streams the files that match ``data_pattern``, ``batch_size`` rows at a time: ids [B] (the user, whose movies the
    metrics rank), x {input: [B, 1], of a list of ids [B, hotness] padded with -1}, y {rating: [B, 1]}. Raises DataError
    if no file matches, and while streaming for a list of more than ``hotness`` ids."""
    return BatchStream(Ratings(find_files([data_pattern]), hotness), batch_size)


class Ratings:
    """The rows of parquet files."""

    def __init__(self, files: list[Path], hotness: int) -> None:
        self._dataset = ds.dataset([str(file) for file in files], format="parquet")
        self._hotness = hotness
        self.num_rows: int = self._dataset.count_rows()

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Batches of exactly ``batch_size`` rows; only the last may be shorter."""
        chunks = (self._arrays(chunk) for chunk in self._dataset.to_batches() if chunk.num_rows)
        for arrays in exact_batches(chunks, batch_size):
            y = {LABEL: arrays.pop(LABEL)}
            yield Batch(arrays[GROUP][:, 0], arrays, y)

    def _arrays(self, chunk: pa.RecordBatch) -> Arrays:
        return {name: self._array(name, column) for name, column in zip(chunk.schema.names, chunk.columns, strict=True)}

    def _array(self, name: str, column: pa.Array) -> Array:
        if not pa.types.is_list(column.type):
            return np.asarray(column).reshape(-1, 1)
        lengths = np.asarray(column.value_lengths())
        if lengths.max() > self._hotness:
            raise DataError(f"{name}: a row has {lengths.max()} ids, the model takes {self._hotness}: see --hotness")
        padded = np.full((len(column), self._hotness), -1, np.int64)
        padded[np.arange(self._hotness) < lengths[:, None]] = column.flatten()
        return padded
