"""Reading of the raw Outbrain CSVs (Kaggle's schema): tables about ads and documents whole, the two tables that grow
with the number of clicks in chunks. ``\\N`` and empty fields are nulls."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
from tqdm import tqdm

from deployment_toolkit.errors import DataError

CLICKS, EVENTS, PROMOTED = "clicks_train.csv", "events.csv", "promoted_content.csv"
META = "documents_meta.csv"
DAY_MS = 86_400_000
EPOCH_MS = 1_465_876_799_998  # Outbrain's timestamps count from here, in milliseconds since 1970
TAGS = {kind: f"documents_{kind}.csv" for kind in ("categories", "topics", "entities")}
TAG_LISTS = {"categories": "category_id_list", "topics": "topic_id_list", "entities": "entity_id_list"}

# Columns that are read. Ids that may be missing are floats in the real files ("603.0").
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
        "publish_time": pa.string(),
    },
    TAGS["categories"]: {"document_id": pa.int64(), "category_id": pa.int64(), "confidence_level": pa.float64()},
    TAGS["topics"]: {"document_id": pa.int64(), "topic_id": pa.int64(), "confidence_level": pa.float64()},
    TAGS["entities"]: {"document_id": pa.int64(), "entity_id": pa.string(), "confidence_level": pa.float64()},
}
OPTIONAL_VALUES = {"platform", "geo_location", "source_id", "publisher_id", "publish_time"}
REQUIRED_FILES = (CLICKS, EVENTS, PROMOTED)

_BLOCK_BYTES = 16 << 20


def check_files(raw_dir: Path) -> tuple[str, ...]:
    """Names of the missing document tables.

    Raises DataError if a required file is missing, or if any file is empty or lacks a column.
    """
    if not raw_dir.is_dir():
        raise DataError(f"there is no folder {raw_dir}: give the one that holds Outbrain's CSV files")
    missing = [name for name in SCHEMAS if not (raw_dir / name).is_file()]
    needed = [name for name in missing if name in REQUIRED_FILES]
    if needed:
        raise DataError(f"{raw_dir} lacks {', '.join(needed)}: put Outbrain's CSV files there, unzipped")
    for name in SCHEMAS:
        if name not in missing:
            _check_header(raw_dir / name)
    return tuple(missing)


def read_table(path: Path) -> pa.Table:
    """Reads a table about ads or documents. Raises DataError, which names file and column, if it can't be read."""
    table = pa.Table.from_batches(list(stream(path)))
    return table.combine_chunks()


def stream(path: Path) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a CSV in batches of about 16 MiB of text, with a progress bar if it takes a while.

    Raises DataError, which names file and column, for values that don't fit and for nulls that are not allowed.
    """
    schema = SCHEMAS[path.name]
    convert = pa_csv.ConvertOptions(
        column_types=schema, include_columns=list(schema), null_values=["", "\\N"], strings_can_be_null=True
    )
    rows = 0
    try:
        with (
            pa.OSFile(str(path)) as source,
            tqdm(total=source.size(), desc=path.name, unit="B", unit_scale=True, delay=2.0, mininterval=1.0) as bar,
        ):
            read = pa_csv.ReadOptions(block_size=_BLOCK_BYTES)
            for batch in pa_csv.open_csv(source, read_options=read, convert_options=convert):
                for name in schema:
                    nulls = batch.column(name).null_count
                    if nulls and name not in OPTIONAL_VALUES:
                        raise DataError(f"{path}: column {name} is empty in {nulls} rows after row {rows}")
                yield batch
                rows += batch.num_rows
                bar.update(source.tell() - bar.n)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        message = re.sub(r"column #(\d+)", lambda match: f"column {_header(path)[int(match[1])]}", str(error))
        raise DataError(f"{path} is not as Kaggle has it, after row {rows}: {message}") from error
    if rows == 0:
        raise DataError(f"{path} has no rows")


def _check_header(path: Path) -> None:
    header = _header(path)
    lacking = [name for name in SCHEMAS[path.name] if name not in header]
    if lacking:
        raise DataError(f"{path} lacks the column {', '.join(lacking)}; it has {', '.join(header)}")


def _header(path: Path) -> list[str]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header = next(csv.reader(file), None)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as CSV: {error}") from error
    if not header:
        raise DataError(f"{path} is empty")
    return header
