"""Exact statistics of rows: the same for any partitions of the rows and any order of the partitions.

They are made in three steps. The first can run where a partition is, the second in any order and any number of steps:

1. the partial statistics of each partition: ``count_values``, ``count_clicks``,
2. merged to those of all rows: ``merge_counts``,
3. finished, once: ``median``, ``mean_and_deviation``, ``fitted.operators.ClickRates.fit_finalize``.

Partial statistics are whole numbers by distinct value, so merging loses nothing. What is no whole number, such as a
mean, is computed from the merged counts alone, in the order of the values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

Counts = dict[str, pd.DataFrame]


def count_values(partition: Any, names: Sequence[str]) -> Counts:
    """Counts of each column's distinct values: a frame by value, ascending, with the int64 column ``count``. Nulls are
    left out. For columns of few distinct values: a frame has a row for each."""
    frame = _on_the_host(partition)
    counts = {name: frame.groupby(name)[name].agg(["count"]).astype(np.int64) for name in names}
    for table in counts.values():
        table.index = table.index + 0  # -0.0 and 0.0 are one value, which is written 0.0
    return counts


def count_clicks(partition: Any, names: Sequence[str]) -> Counts:
    """Clicks and rows of each column's distinct values: a frame by value, ascending, with the int64 columns ``sum`` (of
    the column ``clicked``) and ``count``."""
    frame = _on_the_host(partition)
    return {name: frame.groupby(name)["clicked"].agg(["sum", "count"]).astype(np.int64) for name in names}


def merge_counts(parts: Sequence[Counts]) -> Counts:
    """Counts of all rows of these parts, which have the same columns."""
    return {name: pd.concat([part[name] for part in parts]).groupby(level=0).sum() for name in parts[0]}


def median(counts: pd.DataFrame) -> float:
    """Median of a column's values, by their ``count``; NaN if there are none."""
    ends = counts["count"].cumsum().to_numpy()
    if not len(ends):
        return float("nan")
    middle = [(ends[-1] - 1) // 2, ends[-1] // 2]
    return float(counts.index.to_numpy(np.float64)[np.searchsorted(ends, middle, side="right")].mean())


def mean_and_deviation(counts: pd.DataFrame) -> tuple[float, float]:
    """Mean and standard deviation (of a sample: divided by n - 1) of a column's values, by their ``count``. The mean of
    no values is NaN, the deviation of less than two is 0."""
    values, times = counts.index.to_numpy(np.float64), counts["count"].to_numpy(np.float64)
    rows = math.fsum(times)
    if not rows:
        return float("nan"), 0.0
    mean = math.fsum(values * times) / rows
    return mean, math.sqrt(math.fsum(times * (values - mean) ** 2) / (rows - 1)) if rows > 1 else 0.0


def _on_the_host(partition: Any) -> pd.DataFrame:
    return partition.to_pandas() if hasattr(partition, "to_pandas") else partition
