"""Plug-in for ``--dataloader``: the rows of a dump that has its inputs -> (ids, x, y) numpy batches, streamed. With it,
rows that are kept with a model can be sent to any server, without the data set they came from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deployment_toolkit.core import Batch
from deployment_toolkit.errors import DataError
from deployment_toolkit.rows.batches import BatchStream
from deployment_toolkit.rows.dump import Dump


def get_dataloader_fn(*, rows_dir: Path, batch_size: int = 4096) -> BatchStream:
    """Streams the rows of the dump ``rows_dir`` in order, in batches of ``batch_size`` rows: ids [B], and x {input} and
    y {label} of the shapes and dtypes that were dumped. Raises DataError if there is no such dump, or if it was made
    without ``--dump-inputs``."""
    dump = Dump(rows_dir)
    if "inputs" not in dump.sections:
        raise DataError(f"dump {rows_dir} has no inputs: make it with --dump-inputs")
    return BatchStream(_Rows(dump), batch_size)


class _Rows:
    def __init__(self, dump: Dump) -> None:
        self.num_rows = dump.rows
        self._dump = dump

    def batches(self, batch_size: int) -> Iterator[Batch]:
        for prediction in self._dump.predictions(batch_size):
            yield prediction.batch
