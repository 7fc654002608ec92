"""Plug-in for ``--dataloader``: the rows of a dump that has its inputs -> (ids, x, y) numpy batches, streamed. With it,
rows that are kept with a model can be sent to any server, without the data set they came from."""

from __future__ import annotations

from pathlib import Path

from deployment_toolkit.rows.batches import BatchStream
from deployment_toolkit.rows.dump import Dump, KeptRows


def get_dataloader_fn(*, rows_dir: Path, batch_size: int = 4096) -> BatchStream:
    """Streams the rows of the dump ``rows_dir`` in order, in batches of ``batch_size`` rows: ids [B], and x {input} and
    y {label} of the shapes and dtypes that were dumped. Raises DataError if there is no such dump, or if it was made
    without ``--dump-inputs``."""
    return BatchStream(KeptRows(Dump(rows_dir)), batch_size)
