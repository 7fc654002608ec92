"""Features as parquet: the columns of a file, and the tables that are written to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from deployment_toolkit.errors import DataError
from widedeep.features.outbrain import raw_origin
from widedeep.features.spec import FeatureSpec


def feature_schema(spec: FeatureSpec) -> pa.Schema:
    """Columns and types of a preprocessed file: each feature of its dtype, multi-hot ids lists of it."""
    types = {feature.name: pa.type_for_alias(feature.dtype) for feature in spec.columns}
    return pa.schema(
        [
            (feature.name, pa.list_(types[feature.name]) if feature.max_hotness else types[feature.name])
            for feature in spec.columns
        ]
    )


def exact_tables(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Consecutive rows as tables of ``rows`` rows, only the last may be shorter, however ``tables`` divide them. Each
    column is one chunk: a writer of parquet begins a page where a chunk begins."""
    kept: list[pa.Table] = []
    count = 0
    for table in tables:
        kept.append(table)
        count += table.num_rows
        if count < rows:
            continue
        together = pa.concat_tables(kept)
        whole = count - count % rows
        for start in range(0, whole, rows):
            yield together.slice(start, rows).combine_chunks()
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
