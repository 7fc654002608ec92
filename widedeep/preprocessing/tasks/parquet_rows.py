"""Rows of a raw table in parquet, with the types that CSV gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from deployment_toolkit.errors import DataError
from widedeep.data.parquet import open_parquet, read_chunks
from widedeep.preprocessing.raw_files import RawTable
from widedeep.preprocessing.tasks.spans import Span

_CHUNK_ROWS = 1 << 18


def check_parquet(table: RawTable, wanted: Mapping[str, pa.DataType]) -> dict[str, str]:
    """The file's names of the wanted columns, by Kaggle's; large letters make no difference. Raises DataError if the
    file is no parquet, or if a column is missing or there twice."""
    with open_parquet(table.path) as file:
        names = file.schema_arrow.names
    found: dict[str, str] = {}
    for name in names:
        cleaned = name.strip().casefold()
        if cleaned in wanted and cleaned in found:
            raise DataError(f"{table.path} has the column {cleaned} twice: remove the one that isn't meant")
        found[cleaned] = name
    lacking = [name for name in wanted if name not in found]
    if lacking:
        held = ", ".join(name if name.isprintable() else ascii(name) for name in names)
        raise DataError(f"{table.path} lacks the column {', '.join(lacking)}; it has {held[:200]}: name it so")
    return {name: found[name] for name in wanted}


def read_parquet_span(
    span: Span, wanted: Mapping[str, pa.DataType], as_text: frozenset[str]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yields batches of a span's wanted columns, each with the number of its first row in the file. Strings stay
    strings, the columns ``as_text`` become strings, all others have the wanted type; NaN is null. Raises DataError for
    a column that can't be converted."""
    names = check_parquet(span.table, wanted)
    path, first_row = span.table.path, span.first_row
    with open_parquet(path) as file:
        groups = range(span.start, file.metadata.num_row_groups if span.stop is None else span.stop)
        for chunk in read_chunks(file, path, _CHUNK_ROWS, list(names.values()), groups):
            columns = [
                _converted(chunk.column(name), f"{path}: column {column}", wanted[column], column in as_text)
                for column, name in names.items()
            ]
            yield first_row, pa.record_batch(columns, names=list(names))
            first_row += chunk.num_rows


def _converted(values: pa.Array, where: str, kind: pa.DataType, is_text: bool) -> pa.Array:
    held = values.type
    try:
        if pa.types.is_dictionary(held):
            values = values.cast(held.value_type)
        if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
            if not is_text:
                raise DataError(f"{where} is of type {held}: it must be {kind}")
            return _utc_ms(values).cast(pa.string())
        if _is_string(values.type):
            return values.cast(pa.string())
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
            if is_text:
                values = _whole(values)
        return values.cast(pa.string() if is_text else kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{where} is of type {held} and can't be read as {kind}: {reason}") from error


def _whole(values: pa.Array) -> pa.Array:
    """Floats as integers, so that their texts are plain; unchanged if one has a fraction."""
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:
        return values


def _utc_ms(values: pa.Array) -> pa.Array:
    zone = getattr(values.type, "tz", None)
    return pc.cast(values, pa.timestamp("ms", zone), safe=False).cast(pa.timestamp("ms"))


def _is_string(kind: pa.DataType) -> bool:
    views = getattr(pa.types, "is_string_view", lambda _: False)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or views(kind))
