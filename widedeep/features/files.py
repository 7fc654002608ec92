"""Writing of an NVTabular workflow's features as parquet, partition by partition."""

from __future__ import annotations

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

    Files are lightly compressed, in groups of 65,536 rows, for fast decoding. Raises DataError if a feature is null.
    """
    folder.mkdir()
    schema = feature_schema(spec)
    total = dataset.num_rows
    rows = parts = 0
    writer: pq.ParquetWriter | None = None
    try:
        with tqdm(total=total, desc=folder.name, unit=" rows", unit_scale=True, delay=2.0, mininterval=1.0) as bar:
            for frame in workflow.transform(dataset).to_iter():
                if writer is None:
                    writer = pq.ParquetWriter(folder / f"part-{parts:05d}.parquet", schema, compression="lz4")
                    parts += 1
                writer.write_table(to_table(frame, schema), row_group_size=ROWS_PER_GROUP)
                rows += len(frame)
                bar.update(len(frame))
                if rows >= parts * ROWS_PER_FILE:
                    writer.close()
                    writer = None
    finally:
        if writer is not None:
            writer.close()
    return rows


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
