"""Sorted runs of clicks and events: what is dealt of the raw tables, so that any range of display ids can be read.

A run is an Arrow file of one batch, uncompressed, ordered by display id and, within a display, as in the raw file. It
is memory-mapped: a task that needs a range of ids reads the pages of these rows alone. So dealing makes a file for each
run, however many ranges there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.files.durable import whole_file
from widedeep.preprocessing.raw_csv import read_span
from widedeep.preprocessing.tasks.layout import Layout, boundaries
from widedeep.preprocessing.tasks.spans import Span
from widedeep.preprocessing.times import DisplayTimes

_KEY = "display_id"
_LIST = "runs.json"
_SAMPLES = b"samples"

Run = dict[str, Any]  # {"file": name in the folder of runs, "rows": number}


def shown_unit(spans: Sequence[Span]) -> float | None:
    """Unit of the times in the first batch of events, for ``DisplayTimes``: one for all files of the table."""
    times = DisplayTimes()
    for span in spans:
        for _ in read_span(span, times, lambda _: None):
            return times.since_1970_ms
    return None


def deal(
    spans: Sequence[Span], unit: float | None, largest_display: int, folder: Path, number: int, layout: Layout
) -> list[Run]:
    """Task: writes the rows of consecutive spans as ``folder/<number>-<n>.arrow`` of about ``run_rows`` rows at most.
    Returns the runs in the order of the rows. Each holds every ``sample_rows``-th of its display ids for ``cut``."""
    runs: list[Run] = []
    times = DisplayTimes(unit)
    batches = (batch for span in spans for batch in read_span(span, times, lambda _: None, largest_display))
    for table in _of_rows(batches, layout.run_rows):
        name = f"{number:06d}-{len(runs):03d}.arrow"
        _write(table, folder / name, layout.sample_rows)
        runs.append({"file": name, "rows": table.num_rows})
    return runs


def keep_list(folder: Path, runs: Sequence[Run]) -> None:
    """Writes the list of the runs in a folder, in the order of the raw table's rows."""
    write_text(folder / _LIST, json.dumps(runs))


def cut(folder: Path, layout: Layout, bucket_rows: int) -> list[int]:
    """Task: smallest display ids of the buckets after the first, ascending (``layout.boundaries``). Raises DataError
    if a display has more rows than a task can hold."""
    kept = [np.zeros(0, np.int64)]
    for path in _listed(folder):
        with pa.memory_map(str(path)) as file:
            metadata = pa.ipc.open_file(file).schema.metadata
            kept.append(np.frombuffer(metadata[_SAMPLES], np.int64))
    samples = np.concatenate(kept)
    if len(samples):
        _require_room(folder, samples, layout.most_display_rows)
    return boundaries(samples, layout.sample_rows, bucket_rows)


def _require_room(folder: Path, samples: Array, most_rows: int) -> None:
    """Looks at the display with most samples. Another one has at most two samples' rows in each run more."""
    ids, times = np.unique(samples, return_counts=True)
    largest, rows = int(ids[times.argmax()]), 0
    for path in _listed(folder):
        with pa.memory_map(str(path)) as file:
            held = pa.ipc.open_file(file).get_batch(0).column(_KEY).to_numpy()
            rows += int(np.searchsorted(held, largest, "right") - np.searchsorted(held, largest))
    if rows > most_rows:
        raise DataError(
            f"{folder.name}: display_id {largest} is in {rows:,} rows, and all rows of a display are read at once, "
            f"{most_rows:,} at most: give each view of a page a display_id of its own"
        )


def read_range(folder: Path, low: int | None, high: int | None, only: Array | None = None) -> Arrays:
    """Rows of a range of display ids (``low`` included, ``high`` not; None: no bound), ordered by display id and then
    as in the raw files. With ``only``, sorted ids, rows of other displays are left out, and of one display all rows of
    a run but the first."""
    parts: list[Arrays] = []
    for path in _listed(folder):
        with pa.memory_map(str(path)) as file:
            batch = pa.ipc.open_file(file).get_batch(0)
            parts.append(_columns(_within(batch, low, high, only)))
    ids = np.concatenate([part[_KEY] for part in parts])
    order = np.argsort(ids, kind="stable")
    return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}


def _listed(folder: Path) -> list[Path]:
    return [folder / run["file"] for run in json.loads((folder / _LIST).read_text())]


def _within(batch: pa.RecordBatch, low: int | None, high: int | None, only: Array | None) -> pa.RecordBatch:
    ids = batch.column(_KEY).to_numpy()
    start = 0 if low is None else int(np.searchsorted(ids, low))
    stop = len(ids) if high is None else int(np.searchsorted(ids, high))
    found = batch.slice(start, stop - start)
    if only is None:
        return found
    ids = ids[start:stop]
    at = np.minimum(np.searchsorted(only, ids), max(len(only) - 1, 0))
    wanted = only[at] == ids if len(only) else np.zeros(len(ids), bool)
    wanted[1:] &= ids[1:] != ids[:-1]
    return found.filter(pa.array(wanted))


def _columns(batch: pa.RecordBatch) -> Arrays:
    """The columns as arrays of their own: the mapped file may be closed."""
    return {name: np.array(batch.column(name).to_numpy(zero_copy_only=False)) for name in batch.schema.names}


def _of_rows(batches: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    kept: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        kept.append(batch)
        count += batch.num_rows
        if count >= rows:
            yield pa.Table.from_batches(kept)
            kept, count = [], 0
    if count:
        yield pa.Table.from_batches(kept)


def _write(table: pa.Table, path: Path, sample_rows: int) -> None:
    ids = table.column(_KEY).to_numpy()
    order = np.argsort(ids, kind="stable")
    every = ids[order[sample_rows - 1 :: sample_rows]]
    schema = table.schema.with_metadata({_SAMPLES: every.astype(np.int64).tobytes()})
    batch = table.take(pa.array(order)).combine_chunks().replace_schema_metadata(schema.metadata).to_batches()[0]
    with whole_file(path) as beside, pa.OSFile(str(beside), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(batch)
