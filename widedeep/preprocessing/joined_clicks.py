"""Clicks joined with their display, ad and documents, as parquet, split into train and valid.

Clicks and events are first dealt into sorted runs (``tasks.runs``), then joined by buckets of consecutive display ids.
So memory holds only one run or one bucket, and the tables about ads and documents, for any number of clicks.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.files.durable import whole_file
from widedeep.preprocessing.documents import UNKNOWN_ID, IdIndex, LookupTable
from widedeep.preprocessing.raw_csv import CLICKS, EVENTS, META, MOST_INT64, PROMOTED, no_rows
from widedeep.preprocessing.raw_files import RawDir, find_tables, raw_folder
from widedeep.preprocessing.tasks.lookup_files import mapped_lookups, write_lookups
from widedeep.preprocessing.tasks.runs import cut, deal, keep_list, read_range, shown_unit
from widedeep.preprocessing.tasks.spans import size_bytes, spans_of, together
from widedeep.preprocessing.tasks.steps import FaultyDataError, Steps, faults_of_data
from widedeep.preprocessing.times import DAY_MS, LONGEST_AGE_DAYS, age_days, counts_as_new

LOGGER = logging.getLogger("preprocessing")

SIDES = ("train", "valid")
ROW_GROUP_ROWS = 1 << 17
_LOOKUPS = "documents"
# Validation set: a fifth of the displays of the first eleven days and all later displays.
LAST_TRAIN_DAY, VALID_SHARE = 10, 0.2
DEFAULT_PLATFORM = 1


@dataclass(frozen=True)
class Bucket:
    """Displays that a task joins: those from ``low`` on and below ``high`` (None: no bound), whose rows are written to
    ``<side>/<name>.parquet``."""

    name: str
    low: int | None
    high: int | None


@dataclass(frozen=True)
class JoinedFile:
    """A file of joined rows, in the folder of the work, and its number of rows."""

    path: str
    rows: int


def join_clicks(
    raw_dir: RawDir, work_dir: Path, steps: Steps | None = None, *, largest_display: int = MOST_INT64
) -> dict[str, list[JoinedFile]]:
    """Writes parquet files of ``train`` and ``valid`` under ``work_dir``, rows ordered by display id; returns them in
    this order. ``largest_display`` is the largest id that a display may have.

    Raises DataError if a file can't be read, holds an impossible value, or leaves a split without rows.
    """
    steps = steps or Steps()
    steps.run("documents", write_lookups, {"documents": (raw_dir, work_dir / _LOOKUPS)})
    rows = {name: _deal(raw_dir, name, work_dir, steps, largest_display) for name in (CLICKS, EVENTS)}
    task = (work_dir / CLICKS, steps.layout, steps.layout.bucket(rows[CLICKS]))
    cuts = steps.run("buckets", cut, {"buckets": task})["buckets"]
    buckets = [
        Bucket(f"{number:06d}", low, high) for number, (low, high) in enumerate(itertools.pairwise([None, *cuts, None]))
    ]
    for side in SIDES:
        (work_dir / side).mkdir(exist_ok=True)
    tasks = {bucket.name: (work_dir, bucket) for bucket in buckets}
    results = steps.run("join", join_bucket, tasks)
    counts: Counter[str] = Counter()
    days: set[int] = set()
    files: dict[str, list[JoinedFile]] = {side: [] for side in SIDES}
    for bucket in buckets:
        result = results[bucket.name]
        counts.update(result["counts"])
        days.update(result["days"])
        for side, written in result["rows"].items():
            files[side].append(JoinedFile(f"{side}/{bucket.name}.parquet", written))
    for name in (_LOOKUPS, CLICKS, EVENTS):
        steps.no_longer_needed(work_dir / name)
    _report(counts)
    _require_both_splits(raw_dir, counts, days, files)
    return files


def _deal(raw_dir: RawDir, name: str, work_dir: Path, steps: Steps, largest_display: int) -> int:
    """Writes sorted runs of a table's rows to ``work_dir/<name>``; returns the number of rows."""
    tables = find_tables(raw_dir, name)
    with faults_of_data():
        piece_bytes = steps.layout.piece(size_bytes(tables))
        spans = spans_of(tables, piece_bytes)
        unit = shown_unit(spans) if name == EVENTS else None
    (work_dir / name).mkdir(exist_ok=True)
    pieces = together(spans, piece_bytes)
    tasks = {
        f"{number:06d}": (piece, unit, largest_display, work_dir / name, number, steps.layout)
        for number, piece in enumerate(pieces)
    }
    weights = {key: sum(span.size_bytes for span in task[0]) for key, task in tasks.items()}
    results = steps.run(f"deal {name}", deal, tasks, weights, "B")
    runs = [run for key in tasks for run in results[key]]
    if not runs:
        raise FaultyDataError(no_rows(tables))
    keep_list(work_dir / name, runs)
    return sum(run["rows"] for run in runs)


def join_bucket(work_dir: Path, bucket: Bucket) -> dict[str, Any]:
    """Task: joins the clicks of a bucket and writes them, by side, to ``work_dir/<side>/<bucket>.parquet``, no file
    where there are no rows. Returns ``rows`` by side, ``counts`` of what is told of all clicks, and the ``days`` of the
    displays."""
    ads, meta = mapped_lookups(work_dir / _LOOKUPS)
    clicks = read_range(work_dir / CLICKS, bucket.low, bucket.high)
    displays = np.unique(clicks["display_id"])
    events = read_range(work_dir / EVENTS, bucket.low, bucket.high, displays)
    index = IdIndex(events["display_id"])
    counts: Counter[str] = Counter()
    days: set[int] = set()
    rows: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        writers: dict[str, pq.ParquetWriter] = {}
        for start in range(0, len(clicks["display_id"]), ROW_GROUP_ROWS):
            some = {name: values[start : start + ROW_GROUP_ROWS] for name, values in clicks.items()}
            joined = _join(some, events, index, ads, meta)
            _count(some, joined, counts)
            days.update(np.unique(joined["timestamp"] // DAY_MS).tolist())
            valid = in_validation(joined["display_id"], joined["timestamp"])
            for side, chosen in zip(SIDES, (~valid, valid), strict=True):
                if chosen.any():
                    table = pa.table({name: values[chosen] for name, values in joined.items()})
                    if side not in writers:
                        path = stack.enter_context(whole_file(work_dir / side / f"{bucket.name}.parquet"))
                        writers[side] = stack.enter_context(pq.ParquetWriter(path, table.schema, compression="lz4"))
                    writers[side].write_table(table)
                    rows[side] += table.num_rows
    return {"rows": dict(rows), "counts": dict(counts), "days": sorted(days)}


def _count(clicks: Arrays, joined: Arrays, counts: Counter[str]) -> None:
    counts["clicks"] += len(clicks["display_id"])
    counts["without event"] += len(clicks["display_id"]) - len(joined["display_id"])
    counts["unknown ad"] += int((joined["document_id_promo"] == UNKNOWN_ID).sum())
    for column in ("publish_time", "publish_time_promo"):
        age = age_days(joined["timestamp"], joined[column])
        counts["known ages"] += int((~np.isnan(age)).sum())
        counts["ages taken as 0"] += int(counts_as_new(age).sum())


def in_validation(display_id: Array, timestamp_ms: Array) -> Array:
    """True if the rows of a display belong to the validation set; depends only on the display's id and time."""
    mixed = display_id.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    share = (mixed ^ (mixed >> np.uint64(31))) / 2.0**64
    return np.asarray((share < VALID_SHARE) | (timestamp_ms // DAY_MS > LAST_TRAIN_DAY))


def _join(clicks: Arrays, events: Arrays, index: IdIndex, ads: LookupTable, meta: LookupTable) -> Arrays:
    event = index.rows(clicks["display_id"])
    found = event >= 0
    event = event[found]
    geo = events["geo_location"][event]
    joined = {
        "display_id": clicks["display_id"][found],
        "ad_id": clicks["ad_id"][found],
        "clicked": clicks["clicked"][found].astype(np.int32),
        "document_id": events["document_id"][event],
        "timestamp": events["timestamp"][event],
        "platform": np.nan_to_num(events["platform"][event], nan=DEFAULT_PLATFORM).astype(np.int64) - 1,
        "geo_location": np.where(geo == None, "", geo),  # noqa: E711 (elementwise)
    }
    joined |= ads.find(joined["ad_id"])
    joined |= meta.find(joined["document_id"])
    return joined | {f"{name}_promo": values for name, values in meta.find(joined["document_id_promo"]).items()}


def _report(counts: Counter[str]) -> None:
    if counts["without event"]:
        LOGGER.warning(
            "%s clicks left out: their display_id is in %s, not in %s", f"{counts['without event']:,}", CLICKS, EVENTS
        )
    if counts["unknown ad"]:
        LOGGER.warning("%s clicks are on ads that %s does not know", f"{counts['unknown ad']:,}", PROMOTED)
    if counts["ages taken as 0"]:
        share = counts["ages taken as 0"] / counts["known ages"]
        LOGGER.log(
            logging.WARNING if share > 0.5 else logging.INFO,
            "%.1f %% of the documents' ages count as 0, as in the original: their publish_time in %s is after the "
            "display or more than %d days before it",
            100 * share, META, LONGEST_AGE_DAYS,
        )  # fmt: skip


def _require_both_splits(
    raw_dir: RawDir, counts: Counter[str], days: set[int], files: dict[str, list[JoinedFile]]
) -> None:
    clicks, events = (raw_folder(raw_dir).path / name for name in (CLICKS, EVENTS))
    if counts["without event"] == counts["clicks"]:
        raise FaultyDataError(f"{clicks}: none of its display_id is in {events}: give two files that belong together")
    for side, paths in files.items():
        if not paths:
            raise FaultyDataError(
                f"{clicks}: no display falls into the {side} split ({VALID_SHARE:.0%} of days 0 to "
                f"{LAST_TRAIN_DAY} and all later ones are valid); by {EVENTS} they are of days {min(days)} to "
                f"{max(days)}: give more displays"
            )
