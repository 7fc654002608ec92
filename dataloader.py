"""Plug-in for ``--dataloader``: preprocessed parquet -> (ids, x, y) numpy batches, streamed."""

from __future__ import annotations

from pathlib import Path

from deployment_toolkit.rows.batches import BatchStream
from widedeep.data.dataset_folder import DatasetFolder
from widedeep.data.parquet import ParquetDataset
from widedeep.model.embedding_sizes import load_embedding_sizes


def get_dataloader_fn(
    *,
    data_pattern: str,
    batch_size: int = 4096,
    feature_spec: Path | None = None,
    embedding_sizes: Path | None = None,
) -> BatchStream:
    """Streams the files that match ``data_pattern``, in natural order, in batches of ``batch_size`` rows: ids [B],
    x {input: [B, 1], or [B, max_hotness] padded with -1}, y {label: [B, 1]}.

    ``feature_spec`` is the YAML that describes the columns; without it, ``feature_spec.yaml`` of the data set's folder
    is used, else the Outbrain features. Rows have no embeddings: ``embedding_sizes`` is only checked against the
    specification. Raises DataError at once for files that don't fit the specification, and while streaming for values
    that don't fit.
    """
    spec = DatasetFolder.of_pattern(data_pattern).spec(feature_spec)
    load_embedding_sizes(embedding_sizes, spec)
    return BatchStream(ParquetDataset(data_pattern, spec), batch_size)
