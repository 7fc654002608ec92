"""Counts of the training rows as tasks: file by file, then merged.

A file of counts holds the arrays ``<kind>/<column>/<statistic>``; those named ``value`` are the distinct values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from deployment_toolkit.files.durable import whole_file
from widedeep.preprocessing.fitted.counts import Counts, count_clicks, count_values, merge_counts
from widedeep.preprocessing.nvtabular_import import import_nvtabular
from widedeep.preprocessing.tasks.steps import Steps

CLICKS, AGES = "clicks", "ages"  # kinds of counts
_VALUE = "value"
_FOLDER = "counts"
_MERGED_AT_ONCE = 32


def count_rows(work_dir: Path, files: Sequence[str], steps: Steps) -> Path:
    """Counts the training rows in these files of ``work_dir``; returns the file of their counts."""
    (work_dir / _FOLDER).mkdir(exist_ok=True)
    tasks = {f"{number:06d}": (work_dir / name, _file(work_dir, 0, number)) for number, name in enumerate(files)}
    steps.run("count", count_part, tasks)
    level, parts = 0, list(range(len(files)))
    while len(parts) > 1:
        groups = [parts[start : start + _MERGED_AT_ONCE] for start in range(0, len(parts), _MERGED_AT_ONCE)]
        merges = {
            f"{level + 1}-{number:06d}": (
                [_file(work_dir, level, part) for part in group],
                _file(work_dir, level + 1, number),
            )
            for number, group in enumerate(groups)
        }
        steps.run("merge counts", merge_parts, merges)
        level, parts = level + 1, list(range(len(groups)))
    return _file(work_dir, level, 0)


def count_part(joined: Path, counts: Path) -> None:
    """Task: counts clicks by the values of each key, and rows by the ages of the documents, in a file of joined
    rows."""
    nvtabular = import_nvtabular()
    from widedeep.preprocessing.nvt_operators import DaysSincePublished
    from widedeep.preprocessing.workflow import CTR_THRESHOLDS, PUBLISHED

    columns = [*CTR_THRESHOLDS, "clicked", *PUBLISHED, "timestamp"]
    rows = pq.read_table(joined, columns=columns).to_pandas()
    ages = DaysSincePublished().transform(nvtabular.ColumnSelector(PUBLISHED), rows)
    _write({CLICKS: count_clicks(rows, list(CTR_THRESHOLDS)), AGES: count_values(ages, list(ages.columns))}, counts)


def merge_parts(parts: Sequence[Path], merged: Path) -> None:
    """Task: adds up the counts in these files, one after the other: memory holds the sum and one of them."""
    kinds = read_counts(parts[0])
    for part in parts[1:]:
        more = read_counts(part)
        kinds = {kind: merge_counts([counts, more[kind]]) for kind, counts in kinds.items()}
    _write(kinds, merged)


def read_counts(path: Path) -> dict[str, Counts]:
    """Counts in a file, by kind and column."""
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    with np.load(path) as arrays:
        for name in arrays.files:
            kind, column, statistic = name.split("/")
            tables.setdefault(kind, {}).setdefault(column, {})[statistic] = arrays[name]
    return {
        kind: {
            column: pd.DataFrame({name: values for name, values in table.items() if name != _VALUE}, table[_VALUE])
            for column, table in columns.items()
        }
        for kind, columns in tables.items()
    }


def _write(kinds: dict[str, Counts], path: Path) -> None:
    arrays = {}
    for kind, counts in kinds.items():
        for column, table in counts.items():
            arrays[f"{kind}/{column}/{_VALUE}"] = table.index.to_numpy()
            arrays |= {f"{kind}/{column}/{name}": table[name].to_numpy() for name in table}
    with whole_file(path) as beside, beside.open("wb") as file:
        np.savez(file, **arrays)


def _file(work_dir: Path, level: int, number: int) -> Path:
    return work_dir / _FOLDER / f"{level}-{number:06d}.npz"
