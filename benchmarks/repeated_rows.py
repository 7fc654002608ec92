"""Larger data set of repeated rows, for measurements that need many rows with real values."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from widedeep.features.spec import FeatureSpec

_ROW_GROUP_ROWS = 131_072


def write_repeated(source: Path, target: Path, rows: int, spec: FeatureSpec) -> Path:
    """Writes the rows of the parquet file ``source`` repeatedly to ``target``, up to ``rows`` rows, and returns
    ``target``. Each repetition has separate group ids, so that groups keep their sizes."""
    table = pq.read_table(source)
    with pq.ParquetWriter(target, table.schema, compression="lz4") as writer:
        written = 0
        while written < rows:
            part = table.slice(0, rows - written)
            if spec.group_id is not None:
                part = _with_other_groups(part, spec.group_id.name, table, repetition=written // len(table))
            writer.write_table(part, _ROW_GROUP_ROWS)
            written += len(part)
    return target


def _with_other_groups(part: pa.Table, name: str, table: pa.Table, *, repetition: int) -> pa.Table:
    span = pc.max(table[name]).as_py() + 1
    shifted = pc.add_checked(part[name], pa.scalar(span * repetition, table.schema.field(name).type))
    return part.set_column(part.schema.get_field_index(name), table.schema.field(name), shifted)
