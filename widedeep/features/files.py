"""Writing of an NVTabular workflow's features as parquet, partition by partition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from deployment_toolkit.errors import DataError
from widedeep.features.outbrain import raw_origin
from widedeep.features.spec import FeatureSpec

if TYPE_CHECKING:
    import nvtabular as nvt

ROWS_PER_GROUP = 1 << 16
ROWS_PER_FILE = 1 << 22


def feature_schema(spec: FeatureSpec) -> pa.Schema:
    """Columns and types of a preprocessed file: numbers float32, ids int32, multi-hot ids lists of int32."""
    return pa.schema(
        [
            (feature.name, pa.list_(pa.int32()) if feature.max_hotness else pa.type_for_alias(feature.dtype))
            for feature in spec.columns
        ]
    )


def write_features(workflow: nvt.Workflow, dataset: nvt.Dataset, folder: Path, spec: FeatureSpec) -> int:
    """Writes ``folder/part-<n>.parquet`` in the dataset's order and returns the number of rows.

    Files have 2^22 rows, in groups of 65,536, the last of each fewer, lightly compressed for fast decoding. So the
    bytes are a function of the rows, not of the dataset's partitions. Raises DataError if a feature is null.
    """
    folder.mkdir()
    schema = feature_schema(spec)

    def tables() -> Iterator[pa.Table]:
        with tqdm(
            total=dataset.num_rows, desc=folder.name, unit=" rows", unit_scale=True, delay=2.0, mininterval=1.0
        ) as bar:
            for frame in workflow.transform(dataset).to_iter():
                yield to_table(frame, schema)
                bar.update(len(frame))

    return write_parts(tables(), folder, schema)


def write_parts(tables: Iterable[pa.Table], folder: Path, schema: pa.Schema) -> int:
    """Writes consecutive rows as ``folder/part-<n>.parquet``; returns their number. Part n has the rows from n * 2^22
    on, however the tables divide them."""
    rows = 0
    writer: pq.ParquetWriter | None = None
    try:
        for group in _exact_groups(tables):
            if rows % ROWS_PER_FILE == 0:
                if writer is not None:
                    writer.close()
                path = folder / f"part-{rows // ROWS_PER_FILE:05d}.parquet"
                writer = pq.ParquetWriter(path, schema, compression="lz4")
            assert writer is not None
            writer.write_table(group, row_group_size=ROWS_PER_GROUP)
            rows += group.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows


def _exact_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows as tables of ``ROWS_PER_GROUP`` rows, only the last may be shorter. Each column is one chunk: the writer
    begins a page where a chunk begins."""
    kept: list[pa.Table] = []
    count = 0
    for table in tables:
        kept.append(table)
        count += table.num_rows
        if count < ROWS_PER_GROUP:
            continue
        together = pa.concat_tables(kept)
        whole = count - count % ROWS_PER_GROUP
        for start in range(0, whole, ROWS_PER_GROUP):
            yield together.slice(start, ROWS_PER_GROUP).combine_chunks()
        kept = [together.slice(whole)]
        count -= whole
    if count:
        yield pa.concat_tables(kept).combine_chunks()


def to_table(frame: Any, schema: pa.Schema) -> pa.Table:
    """Converts a transformed partition to a table with ``schema``. Raises DataError if a feature is null."""
    if hasattr(frame, "to_arrow"):
        table = frame.to_arrow().select(schema.names).cast(schema)
    else:
        arrays = [pa.array(frame[field.name], type=field.type, from_pandas=True) for field in schema]
        table = pa.table(arrays, schema=schema)
    for column, field in zip(table.columns, schema, strict=True):
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy()))
            raise DataError(
                f"feature {field.name} has {column.null_count} nulls, the first in row {row}: a value it is made of is "
                f"no number; look into {raw_origin(field.name)}"
            )
    return table
