"""Plug-in for ``--dataloader``: preprocessed parquet -> (ids, x, y) numpy batches, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import UsageError
from widedeep.dataset_folder import DatasetFolder
from widedeep.embedding_sizes import load_embedding_sizes
from widedeep.parquet import ParquetDataset


class Dataloader:
    """Called without arguments it yields the batches from the start; ``num_rows`` tells how many rows there are."""

    def __init__(self, dataset: ParquetDataset, batch_size: int) -> None:
        self.num_rows = dataset.num_rows
        self._dataset = dataset
        self._batch_size = batch_size

    def __call__(self) -> Iterator[tuple[Array, Arrays, Arrays]]:
        for batch in self._dataset.batches(self._batch_size):
            yield batch.ids, batch.x, batch.y


def get_dataloader_fn(
    *,
    data_pattern: str,
    batch_size: int = 4096,
    feature_spec: Path | None = None,
    embedding_sizes: Path | None = None,
) -> Dataloader:
    """Streams the files that match ``data_pattern``, in natural order, ``batch_size`` rows at a time: ids [B],
    x {input: [B, 1], or [B, max_hotness] padded with -1}, y {label: [B, 1]}.

    ``feature_spec`` is the YAML that describes the columns; without one it is ``feature_spec.yaml`` of the data set's
    folder, and without that they are the Outbrain ones. Rows have no embeddings: ``embedding_sizes`` is only checked
    against the specification. Raises DataError at once for files that don't fit it, and while streaming for values
    that don't.
    """
    if batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, not {batch_size}")
    spec = DatasetFolder.of_pattern(data_pattern).spec(feature_spec)
    load_embedding_sizes(embedding_sizes, spec)
    return Dataloader(ParquetDataset(data_pattern, spec), batch_size)
