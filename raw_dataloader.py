"""Plug-in for ``--dataloader``: joined parquet -> (ids, x, y) numpy batches of raw features, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import UsageError
from widedeep.options import read_feature_spec
from widedeep.raw_parquet import RawParquet


class RawDataloader:
    """Called without arguments it yields the batches from the start; ``num_rows`` tells how many rows there are."""

    def __init__(self, dataset: RawParquet, batch_size: int) -> None:
        self.num_rows = dataset.num_rows
        self._dataset = dataset
        self._batch_size = batch_size

    def __call__(self) -> Iterator[tuple[Array, Arrays, Arrays]]:
        for batch in self._dataset.batches(self._batch_size):
            yield batch.ids, batch.x, batch.y


def get_dataloader_fn(*, data_pattern: str, batch_size: int = 4096, feature_spec: Path | None = None) -> RawDataloader:
    """Streams the files that match ``data_pattern``, in natural order, ``batch_size`` rows at a time: ids [B], x {raw
    feature: [B, 1]} with strings as ``str``, y {label: [B, 1]}.

    ``feature_spec`` is the YAML that names label and group id; without one they are Outbrain's. Raises DataError at
    once for files that don't fit it, and while streaming for nulls that have no meaning.
    """
    if batch_size < 1:
        raise UsageError(f"--batch-size must be at least 1, not {batch_size}")
    return RawDataloader(RawParquet(data_pattern, read_feature_spec(feature_spec)), batch_size)
