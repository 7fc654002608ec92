"""Clicks joined with their display, ad and documents, as parquet, split into train and valid.

Clicks and events are first distributed to buckets of consecutive display ids, then joined bucket by bucket. So memory
holds only one bucket and the tables about ads and documents, for any number of clicks.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import DataError
from widedeep.preprocessing.documents import UNKNOWN_ID, IdIndex, LookupTable
from widedeep.preprocessing.raw_csv import CLICKS, EVENTS, META, MOST_INT64, PROMOTED, SCHEMAS, stream
from widedeep.preprocessing.times import DAY_MS, LONGEST_AGE_DAYS, age_days, counts_as_new

LOGGER = logging.getLogger("preprocessing")

DISPLAYS_PER_BUCKET = 1 << 17
ROW_GROUP_ROWS = 1 << 17
# Validation set: a fifth of the displays of the first eleven days and all later displays.
LAST_TRAIN_DAY, VALID_SHARE = 10, 0.2
DEFAULT_PLATFORM = 1


def join_clicks(
    raw_dir: Path, work_dir: Path, ads: LookupTable, meta: LookupTable, *, largest_display: int = MOST_INT64
) -> dict[str, list[Path]]:
    """Writes parquet files of ``train`` and ``valid`` under ``work_dir``, rows ordered by display id; returns their
    paths. ``largest_display`` is the largest id that a display may have.

    Raises DataError if a file can't be read, holds an impossible value, or leaves a split without rows.
    """
    for name in (CLICKS, EVENTS):
        _deal(raw_dir, name, work_dir / name, largest_display)
    files: dict[str, list[Path]] = {"train": [], "valid": []}
    for side in files:
        (work_dir / side).mkdir()
    counts: Counter[str] = Counter()
    days: set[int] = set()
    folders = sorted((work_dir / CLICKS).iterdir())
    for folder in tqdm(folders, desc="join", unit=" bucket", delay=2.0, mininterval=1.0):
        clicks = _read(folder, CLICKS)
        joined = _join(clicks, _read(work_dir / EVENTS / folder.name, EVENTS), ads, meta)
        counts["clicks"] += len(clicks["display_id"])
        counts["without event"] += len(clicks["display_id"]) - len(joined["display_id"])
        counts["unknown ad"] += int((joined["document_id_promo"] == UNKNOWN_ID).sum())
        for column in ("publish_time", "publish_time_promo"):
            age = age_days(joined["timestamp"], joined[column])
            counts["known ages"] += int((~np.isnan(age)).sum())
            counts["ages taken as 0"] += int(counts_as_new(age).sum())
        days.update(np.unique(joined["timestamp"] // DAY_MS).tolist())
        valid = in_validation(joined["display_id"], joined["timestamp"])
        for side, chosen in (("train", ~valid), ("valid", valid)):
            if chosen.any():
                path = work_dir / side / f"{folder.name}.parquet"
                table = pa.table({name: values[chosen] for name, values in joined.items()})
                pq.write_table(table, path, row_group_size=ROW_GROUP_ROWS, compression="lz4")
                files[side].append(path)
        shutil.rmtree(folder)
    shutil.rmtree(work_dir / EVENTS)
    _report(counts)
    _require_both_splits(raw_dir, counts, days, files)
    return files


def in_validation(display_id: Array, timestamp_ms: Array) -> Array:
    """True if the rows of a display belong to the validation set; depends only on the display's id and time."""
    mixed = display_id.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    share = (mixed ^ (mixed >> np.uint64(31))) / 2.0**64
    return np.asarray((share < VALID_SHARE) | (timestamp_ms // DAY_MS > LAST_TRAIN_DAY))


def _deal(raw_dir: Path, name: str, work_dir: Path, largest_display: int) -> None:
    """Writes the rows of a table to ``work_dir/<bucket>/<batch>.parquet``."""
    work_dir.mkdir()
    for number, batch in enumerate(stream(raw_dir, name, largest_display=largest_display)):
        bucket = np.asarray(batch.column("display_id")) // DISPLAYS_PER_BUCKET
        for one in np.unique(bucket):
            folder = work_dir / f"{one:014d}"  # as many digits as any id needs: folders are sorted by name
            folder.mkdir(exist_ok=True)
            rows = pa.Table.from_batches([batch.filter(pa.array(bucket == one))])
            pq.write_table(rows, folder / f"{number:06d}.parquet", compression="lz4")


def _read(folder: Path, name: str) -> Arrays:
    """Reads the columns of a bucket, ordered by display id, rows of a display in the file's order."""
    parts = sorted(folder.iterdir()) if folder.is_dir() else []
    empty = pa.schema(list(SCHEMAS[name].items())).empty_table()
    table = pa.concat_tables([empty, *(pq.read_table(part) for part in parts)])
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    order = np.argsort(columns["display_id"], kind="stable")
    return {name: values[order] for name, values in columns.items()}


def _join(clicks: Arrays, events: Arrays, ads: LookupTable, meta: LookupTable) -> Arrays:
    event = IdIndex(events["display_id"]).rows(clicks["display_id"])
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


def _require_both_splits(raw_dir: Path, counts: Counter[str], days: set[int], files: dict[str, list[Path]]) -> None:
    if counts["without event"] == counts["clicks"]:
        raise DataError(
            f"{raw_dir / CLICKS}: none of its display_id is in {raw_dir / EVENTS}: give two files that belong together"
        )
    for side, paths in files.items():
        if not paths:
            raise DataError(
                f"{raw_dir / CLICKS}: no display falls into the {side} split ({VALID_SHARE:.0%} of days 0 to "
                f"{LAST_TRAIN_DAY} and all later ones are valid); by {EVENTS} they are of days {min(days)} to "
                f"{max(days)}: give more displays"
            )
