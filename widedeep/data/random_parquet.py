"""Parquet files of random rows that fit a feature specification, for benchmarks and tests in which types, ranges and
list lengths matter but not values."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deployment_toolkit.core import Array
from widedeep.features.spec import Feature, FeatureSpec

_ADS_PER_DISPLAY = 5


def write_random_parquet(
    path: Path,
    rows: int,
    *,
    spec: FeatureSpec,
    seed: int = 0,
    row_group_rows: int = 262_144,
    columns: Mapping[str, Any] | None = None,
) -> Path:
    """Writes ``rows`` random rows, one row group after the other, and returns the path.

    Group ids are consecutive; five rows share one, and the first of them is clicked. Lists hold 0 to ``max_hotness``
    ids. ``columns`` replaces columns by given data (anything that pyarrow converts to an array) or, with None, leaves
    them out.
    """
    generator = np.random.default_rng(seed)
    writer: pq.ParquetWriter | None = None
    for start in range(0, max(rows, 1), row_group_rows):
        stop = min(start + row_group_rows, rows)
        table = pa.table(_random_columns(generator, spec, start, stop, columns or {}))
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return path


def _random_columns(
    generator: np.random.Generator, spec: FeatureSpec, start: int, stop: int, replaced: Mapping[str, Any]
) -> dict[str, pa.Array]:
    rows = stop - start
    row_numbers = np.arange(start, stop)
    columns: dict[str, Any] = {}
    for feature in spec.numerical:
        columns[feature.name] = generator.random(rows).astype(feature.dtype)
    for feature in spec.onehot:
        columns[feature.name] = _ids(generator, feature, rows)
    for feature in spec.multihot:
        lengths = generator.integers(0, (feature.max_hotness or 0) + 1, rows)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        columns[feature.name] = pa.ListArray.from_arrays(offsets, _ids(generator, feature, int(offsets[-1])))
    columns[spec.label.name] = (row_numbers % _ADS_PER_DISPLAY == 0).astype(spec.label.dtype)
    if spec.group_id is not None:
        columns[spec.group_id.name] = (row_numbers // _ADS_PER_DISPLAY).astype(spec.group_id.dtype)
    for name, data in replaced.items():
        columns[name] = data if data is None else data[start:stop]
    return {name: pa.array(data) for name, data in columns.items() if data is not None}


def _ids(generator: np.random.Generator, feature: Feature, count: int) -> Array:
    ids: Array = generator.integers(0, feature.cardinality, count).astype(feature.dtype)
    return ids
