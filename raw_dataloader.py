"""Plug-in for ``--dataloader``: joined parquet -> (ids, x, y) numpy batches of raw features, streamed."""

from __future__ import annotations

from pathlib import Path

from deployment_toolkit.rows.batches import BatchStream
from widedeep.data.raw_parquet import RawParquet
from widedeep.features.options import read_feature_spec


def get_dataloader_fn(*, data_pattern: str, batch_size: int = 4096, feature_spec: Path | None = None) -> BatchStream:
    """Streams the files that match ``data_pattern``, in natural order, in batches of ``batch_size`` rows: ids [B],
    x {raw feature: [B, 1]} with strings as ``str``, y {label: [B, 1]}.

    ``feature_spec`` is the YAML that names label and group id; without it they are Outbrain's. Raises DataError at once
    for files that don't fit the specification, and while streaming for nulls that are not allowed.
    """
    return BatchStream(RawParquet(data_pattern, read_feature_spec(feature_spec)), batch_size)
