"""Reading of the raw Outbrain tables (Kaggle's schema), CSV or parquet: tables about ads and documents whole, the two
tables that grow with the number of clicks in chunks. ``\\N`` and empty fields are nulls."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
from tqdm import tqdm

from deployment_toolkit.errors import DataError
from widedeep.preprocessing.raw_faults import located
from widedeep.preprocessing.raw_files import RawDir, RawTable, find_tables, raw_folder, require_nowhere
from widedeep.preprocessing.raw_header import Header, read_header
from widedeep.preprocessing.tasks.parquet_rows import check_parquet, read_parquet_span
from widedeep.preprocessing.tasks.spans import Span, spans_of
from widedeep.preprocessing.times import DisplayTimes, Place, publish_times

LOGGER = logging.getLogger("preprocessing")

CLICKS, EVENTS, PROMOTED = "clicks_train.csv", "events.csv", "promoted_content.csv"
META = "documents_meta.csv"
TAGS = {kind: f"documents_{kind}.csv" for kind in ("categories", "topics", "entities")}
TAG_LISTS = {"categories": "category_id_list", "topics": "topic_id_list", "entities": "entity_id_list"}

# Columns that are read. Ids that may be missing are floats in the real files ("603.0"); times are texts there.
SCHEMAS: dict[str, dict[str, pa.DataType]] = {
    CLICKS: {"display_id": pa.int64(), "ad_id": pa.int64(), "clicked": pa.int64()},
    EVENTS: {
        "display_id": pa.int64(),
        "document_id": pa.int64(),
        "timestamp": pa.int64(),
        "platform": pa.float64(),
        "geo_location": pa.string(),
    },
    PROMOTED: {"ad_id": pa.int64(), "document_id": pa.int64(), "campaign_id": pa.int64(), "advertiser_id": pa.int64()},
    META: {
        "document_id": pa.int64(),
        "source_id": pa.float64(),
        "publisher_id": pa.float64(),
        "publish_time": pa.float64(),
    },
    TAGS["categories"]: {"document_id": pa.int64(), "category_id": pa.int64(), "confidence_level": pa.float64()},
    TAGS["topics"]: {"document_id": pa.int64(), "topic_id": pa.int64(), "confidence_level": pa.float64()},
    TAGS["entities"]: {"document_id": pa.int64(), "entity_id": pa.string(), "confidence_level": pa.float64()},
}
OPTIONAL_VALUES = {"platform", "geo_location", "source_id", "publisher_id", "publish_time"}
_WHOLE_FLOATS = {"platform", "source_id", "publisher_id"}
_EXACT_BELOW = 2**53  # the first whole number that is no float is one above
REQUIRED_FILES = (CLICKS, EVENTS, PROMOTED)

_BLOCK_BYTES = 16 << 20
_NULLS = ["", "\\N", "NULL", "null", "NaN", "nan", "NaT", "None"]
MOST_INT64 = 2**63 - 1

Converter = Callable[[pa.Array, Place], pa.Array]
_Placed = tuple[Callable[[str, int, object], str], pa.RecordBatch]  # from column, row and value to "<file>: column …"


def check_files(raw_dir: RawDir) -> None:
    """Looks for all tables and at their headers, and warns of the document tables that are missing.

    Raises DataError if a required table is missing, if one is there in a form that can't be read, or if one is empty or
    lacks a column.
    """
    folder = raw_folder(raw_dir).path
    if not folder.is_dir():
        is_file = folder.exists()
        problem = f"{folder} is a file: unpack it, and" if is_file else f"there is no folder {folder}:"
        raise DataError(f"{problem} give the folder that holds Outbrain's CSV files")
    tables = {name: find_tables(raw_dir, name) for name in SCHEMAS}
    missing = [name for name, files in tables.items() if not files]
    require_nowhere(raw_dir, missing)
    needed = [name for name in missing if name in REQUIRED_FILES]
    if needed:
        raise DataError(
            f"{raw_dir} lacks {', '.join(needed)}: put Outbrain's CSV files there, unzipped or each in a zip"
        )
    for name, files in tables.items():
        for table in files:
            check_parquet(table, SCHEMAS[name]) if table.is_parquet else read_header(table, SCHEMAS[name])
        if len(files) > 1:
            LOGGER.info("%s is read from %s files, %s the first", name, f"{len(files):,}", files[0].path)
        elif files and files[0].path != folder / name:
            LOGGER.info("%s is read from %s", name, files[0].path)
    if missing:
        LOGGER.warning("%s lacks %s: the features made of it stay empty", raw_dir, ", ".join(missing))


def read_table(raw_dir: RawDir, name: str) -> pa.Table:
    """Reads a table about ads or documents; an optional one that is not there is empty. Raises DataError, which names
    file, column and line, if it can't be read."""
    schema = pa.schema(list(SCHEMAS[name].items()))
    if name not in REQUIRED_FILES and not find_tables(raw_dir, name):
        return schema.empty_table()
    return pa.Table.from_batches(list(stream(raw_dir, name)), schema).combine_chunks()


def stream(raw_dir: RawDir, name: str, *, largest_display: int = MOST_INT64) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a table in batches of about 16 MiB of text, with a progress bar if it takes a while.

    ``largest_display`` is the largest id that a display may have, by the dtype of the group id.
    Columns have the types of ``SCHEMAS``; ``timestamp`` is in milliseconds since ``EPOCH_MS``, ``publish_time`` in
    milliseconds since 1970. Raises DataError, which names file, column and line, for values that don't fit and for
    nulls that are not allowed.
    """
    tables = find_tables(raw_dir, name)
    if not tables:
        raise DataError(f"{raw_dir} lacks {name}: put Outbrain's CSV files there, unzipped or each in a zip")
    spans = spans_of(tables, sys.maxsize)
    times, rows = DisplayTimes(), 0
    total = sum(span.size_bytes for span in spans)
    with tqdm(total=total, desc=name, unit="B", unit_scale=True, delay=2.0, mininterval=1.0) as bar:
        for span in spans:
            for batch in read_span(span, times, bar.update, largest_display):
                yield batch
                rows += batch.num_rows
    if rows == 0:
        raise DataError(no_rows(tables))


def no_rows(tables: Sequence[RawTable]) -> str:
    """Message about a table without rows."""
    others = f" and its {len(tables) - 1:,} other files have" if len(tables) > 1 else " has"
    return f"{tables[0].path}{others} no rows"


def read_span(
    span: Span, times: DisplayTimes, on_read: Callable[[int], object], largest_display: int = MOST_INT64
) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a part of a table, as ``stream`` does; calls ``on_read`` with the number of bytes."""
    schema = SCHEMAS[span.table.name]
    converters: dict[str, Converter] = {"timestamp": times, "publish_time": publish_times}
    batches = (_of_parquet if span.table.is_parquet else _of_csv)(span, converters, on_read)
    for place_of, batch in batches:
        columns = []
        for column, kind in schema.items():
            place = partial(place_of, column)
            values = _typed(batch.column(column), column, kind, converters.get(column), place)
            _check_range(values, column, largest_display, place)
            columns.append(values)
        yield pa.record_batch(columns, names=list(schema))


def _of_parquet(span: Span, converters: dict[str, Converter], on_read: Callable[[int], object]) -> Iterator[_Placed]:
    schema = SCHEMAS[span.table.name]
    for first_row, batch in read_parquet_span(span, schema, frozenset(converters)):
        yield partial(_row_place, span, first_row), batch
    on_read(span.size_bytes)


def _of_csv(span: Span, converters: dict[str, Converter], on_read: Callable[[int], object]) -> Iterator[_Placed]:
    header = read_header(span.table, SCHEMAS[span.table.name])
    rows = 0
    try:
        for batch in _texts(span, header, converters, on_read):
            yield partial(_line_place, span, header, rows), batch
            rows += batch.num_rows
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        problem = located(str(error), span.table, header)
        raise DataError(f"{span.table.path} is not as Kaggle has it: {problem}") from error


def _texts(
    span: Span, header: Header, converters: dict[str, Converter], on_read: Callable[[int], object]
) -> Iterator[pa.RecordBatch]:
    """Yields the rows as pyarrow reads them; of a table with blanks around its fields, all columns are text."""
    schema = SCHEMAS[span.table.name]
    as_text = {name for name in schema if header.padded or name in converters}
    types = {name: pa.string() if name in as_text else kind for name, kind in schema.items()}
    convert = pa_csv.ConvertOptions(
        column_types=types, include_columns=list(schema), null_values=_NULLS, strings_can_be_null=True
    )
    skipped = header.lines if span.start == 0 else 0
    read = pa_csv.ReadOptions(block_size=_BLOCK_BYTES, column_names=list(header.names), skip_rows=skipped)
    with span.open() as opened:
        told = 0
        for batch in pa_csv.open_csv(pa.PythonFile(opened.text, "r"), read_options=read, convert_options=convert):
            yield batch
            on_read(opened.position() - told)
            told = opened.position()


def _typed(values: pa.Array, column: str, kind: pa.DataType, convert: Converter | None, place: Place) -> pa.Array:
    """Values of a column as ``kind``, checked."""
    if pa.types.is_string(values.type):
        values = _trimmed(values)
    if values.null_count and column not in OPTIONAL_VALUES:
        row = pc.index(values.is_null(), True).as_py()
        raise DataError(f"{place(row, None)}: every row needs a value there")
    if convert is not None:
        values = convert(values, place)
    elif values.type != kind:
        values = _numbers(values, kind, place)
    return values


def _check_range(values: pa.Array, column: str, largest_display: int, place: Place) -> None:
    numbers = np.asarray(values) if column in {"display_id", "clicked", *_WHOLE_FLOATS} else None
    if numbers is None:
        return
    if column == "display_id":
        wrong, problem = (numbers < 0) | (numbers > largest_display), f"outside 0 .. {largest_display}"
        if largest_display < MOST_INT64:
            problem += ", the ids of the feature specification: name int64 as the dtype of display_id there"
    elif column == "clicked":
        wrong, problem = (numbers < 0) | (numbers > 1), "it must be 0 or 1"
    else:
        wrong = (numbers != np.floor(numbers)) & ~np.isnan(numbers) | (np.abs(numbers) >= _EXACT_BELOW)
        problem = f"it must be a whole number below {_EXACT_BELOW}, as the column may have nulls and is read as float64"
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DataError(f"{place(row, numbers[row].item())}: {problem}")


def _trimmed(texts: pa.Array) -> pa.Array:
    """The texts without blanks and quotes around them; null where nothing or a word for nothing is left."""
    texts = pc.utf8_trim_whitespace(texts)
    if pc.any(pc.starts_with(texts, '"')).as_py():  # a quote after a blank is none to the parser
        texts = pc.replace_substring_regex(texts, '^"(.*)"$', r"\1")
    return pc.if_else(pc.is_in(texts, pa.array(_NULLS)), pa.scalar(None, pa.string()), texts)


def _numbers(texts: pa.Array, kind: pa.DataType, place: Place) -> pa.Array:
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        for row, text in enumerate(texts):
            try:
                text.cast(kind)
            except pa.ArrowInvalid as error:
                raise DataError(f"{place(row, text.as_py())}: it is not of type {kind}") from error
        raise


def _line_place(span: Span, header: Header, rows: int, column: str, row: int, value: object) -> str:
    line = span.lines_before(header) + 1 + rows + row
    return f"{span.table.path}: column {column} {_held(value)} in line {line}"


def _row_place(span: Span, first_row: int, column: str, row: int, value: object) -> str:
    return f"{span.table.path}: column {column} {_held(value)} in row {first_row + row}"


def _held(value: object) -> str:
    return "is empty" if value is None else f"holds {value!r:.60}"
