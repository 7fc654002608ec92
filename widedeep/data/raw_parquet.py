"""Reading of parquet files of raw features, with any columns, as numpy batches in constant memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from deployment_toolkit.core import Array, Arrays, Batch
from deployment_toolkit.errors import DataError, require_at_least
from deployment_toolkit.files.patterns import find_files
from deployment_toolkit.rows.batches import exact_batches
from deployment_toolkit.rows.prefetch import prefetched
from widedeep.data.parquet import open_parquet, read_chunks, require_rows, to_batches
from widedeep.features.columns import FeatureColumn, columns_of
from widedeep.features.spec import FeatureSpec

_CHUNK_ROWS = 65_536


class RawParquet:
    """Dataset of the files that a pattern matches, in natural order. The specification names label and group id; every
    other column is a raw feature. Numbers stay unchanged, nulls in float columns become NaN, nulls in string columns
    become empty strings.

    Raises DataError, which names file and column, if nothing matches, if files differ in their columns, lack the label
    or the group id or have columns of other types, or if there are no rows.
    """

    def __init__(self, pattern: str, spec: FeatureSpec) -> None:
        self._spec = spec
        inputs = {feature.name for feature in spec.inputs}
        self._given = [column for column in columns_of(spec) if column.name not in inputs]
        self.files = find_files([pattern])
        self._features: dict[str, pa.DataType] = {}
        self.num_rows = sum(map(self._check_file, self.files))
        require_rows(self.num_rows, self.files)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Yields batches of ``batch_size`` rows, only the last may be shorter: ``ids`` [B] (the numbers of the rows, if
        the specification has no group id), ``x`` {raw feature: [B, 1]}, ``y`` {label: [B, 1]}. Raises DataError, which
        names file, column and row, for a null that is not allowed."""
        require_at_least("the batch size", batch_size, 1)
        yield from to_batches(exact_batches(prefetched(self._chunks()), batch_size), self._spec, list(self._features))

    def _check_file(self, path: Path) -> int:
        with open_parquet(path) as file:
            schema = file.schema_arrow
            for column in self._given:
                column.check_type(schema, path)
            given = {column.name for column in self._given}
            features = {field.name: field.type for field in schema if field.name not in given}
            for name, kind in features.items():
                if not (_is_string(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)):
                    raise DataError(f"{path}: column {name} is of type {kind}: a raw feature is a number or a string")
            self._features = self._features or features
            if features != self._features:
                other = sorted(dict(features.items() ^ self._features.items()))
                raise DataError(f"{path}: column {other[0]} is another one in {self.files[0]}: give files of one kind")
            return int(file.metadata.num_rows)

    def _chunks(self) -> Generator[Arrays, None, None]:
        names = [*self._features, *(column.name for column in self._given)]
        for path in self.files:
            first_row = 0
            with open_parquet(path) as file:
                for chunk in read_chunks(file, path, _CHUNK_ROWS, names):
                    yield _to_arrays(chunk, self._given, path, first_row)
                    first_row += chunk.num_rows


def _to_arrays(chunk: pa.RecordBatch, given: list[FeatureColumn], path: Path, first_row: int) -> Arrays:
    arrays = {column.name: column.to_numpy(chunk.column(column.name), path, first_row) for column in given}
    for name in chunk.schema.names:
        if name not in arrays:
            arrays[name] = _raw(chunk.column(name), f"{path}: column {name}", first_row).reshape(-1, 1)
    return arrays


def _raw(array: pa.Array, where: str, first_row: int) -> Array:
    if array.null_count:
        if pa.types.is_integer(array.type):
            row = first_row + int(np.argmax(array.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(f"{where}, row {row} is null: write -1 for an unknown id")
        array = array.fill_null("" if _is_string(array.type) else float("nan"))
    return np.asarray(array.to_numpy(zero_copy_only=False))


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
