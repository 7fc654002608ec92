"""NVTabular operators with exact statistics of the training rows (``fitted.counts``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nvtabular import ColumnSelector
from nvtabular.ops import FillMedian, Normalize, StatOperator

from deployment_toolkit.cluster import Delayed, delayed
from deployment_toolkit.core import Array
from widedeep.preprocessing.documents import UNKNOWN_ID, IdIndex
from widedeep.preprocessing.fitted.counts import (
    Counts,
    count_clicks,
    count_values,
    mean_and_deviation,
    median,
    merge_counts,
)
from widedeep.preprocessing.fitted.tables import FOLDER, Tables
from widedeep.preprocessing.nvt_operators import frame_like, on_the_host

_MERGED_AT_ONCE = 8


class FillExactMedian(FillMedian):  # type: ignore[misc]
    """Unknown numbers become the column's median over all training rows; in a column without any known number they stay
    NaN. For columns of few distinct values, such as whole days.

    NVTabular's FillMedian takes dask's median, which merges only the smallest value, the median and the largest one of
    each partition: with several partitions that is a number far from the median.
    """

    def fit(self, col_selector: ColumnSelector, ddf: Any) -> Delayed:
        """Counts the values of each column, merged over the partitions."""
        return _over_partitions(ddf, list(col_selector.names), [], count_values)

    def fit_finalize(self, dask_stats: Counts) -> None:
        """Keeps the medians."""
        self.medians = {name: median(counts) for name, counts in dask_stats.items()}


class NormalizeExactly(Normalize):  # type: ignore[misc]
    """Numbers minus their mean over all training rows, divided by their standard deviation. For columns of few distinct
    values, such as functions of counts.

    NVTabular's Normalize adds up the float32 values of a partition in float32, and the partitions' sums in their order.
    """

    def fit(self, col_selector: ColumnSelector, ddf: Any) -> Delayed:
        """Counts the values of each column, merged over the partitions."""
        return _over_partitions(ddf, list(col_selector.names), [], count_values)

    def fit_finalize(self, dask_stats: Counts) -> None:
        """Keeps means and deviations."""
        for name, counts in dask_stats.items():
            self.means[name], self.stds[name] = mean_and_deviation(counts)


class ClickRates(StatOperator):  # type: ignore[misc]
    """Click rates per key column: the number of training rows with the key's value, ``<key>_count``, and their share of
    clicks, ``<key>_ctr``, which is 0 below the key's threshold. Unseen and unknown values have count 0.

    The rate of a training row includes its own click, as in the original; the thresholds make the effect small.
    """

    def __init__(self, thresholds: Mapping[str, int], tables: Tables | None = None) -> None:
        """Keeps the statistics in ``tables``: ``<key>.ids``, the seen values, ascending, int64 [V], and
        ``<key>.counts``, their clicks and rows, int64 [V + 1, 2], with zeros for all other values at the end."""
        super().__init__()
        self.thresholds = dict(thresholds)
        self.tables = Tables() if tables is None else tables

    def fit(self, col_selector: ColumnSelector, ddf: Any) -> Delayed:
        """Counts rows and clicks by value, merged over the partitions."""
        return _over_partitions(ddf, list(col_selector.names), ["clicked"], count_clicks)

    def fit_finalize(self, dask_stats: Counts) -> None:
        """Keeps the merged counts."""
        for name, counts in dask_stats.items():
            counts = counts[counts.index != UNKNOWN_ID]
            self._keep(name, counts.index.to_numpy(), counts[["sum", "count"]].to_numpy())

    def clear(self) -> None:
        """Drops the counts."""
        self.tables.remove(f"{name}.{part}" for name in self.thresholds for part in ("ids", "counts"))

    def set_storage_path(self, new_path: Any, copy: bool = False) -> None:
        """Maps the tables of a workflow that NVTabular itself has read from this folder."""
        self.tables.map(Path(new_path) / FOLDER)

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns two float columns per key."""
        outputs: dict[str, Array] = {}
        for name in col_selector.names:
            rows = IdIndex.of_sorted(self.tables[f"{name}.ids"]).rows(on_the_host(df[name]))
            clicks, count = self.tables[f"{name}.counts"][rows].T
            enough = count >= self.thresholds[name]
            outputs[f"{name}_ctr"] = np.where(enough, clicks / np.maximum(count, 1), 0).astype(np.float32)
            outputs[f"{name}_count"] = count.astype(np.float32)
        return frame_like(df, outputs)

    def __setstate__(self, state: dict[str, Any]) -> None:
        earlier = {name: state.pop(name) for name in ("_index", "_stats") if name in state}
        self.__dict__.update(state)
        if earlier:  # of an earlier version of this project, which pickled the arrays
            self.tables = Tables()
            for name, counts in earlier["_stats"].items():
                self._keep(name, earlier["_index"][name].ids, counts[:-1])

    def _keep(self, name: str, ids: Array, counts: Array) -> None:
        self.tables[f"{name}.ids"] = ids
        self.tables[f"{name}.counts"] = np.concatenate([counts, np.zeros((1, 2), np.int64)]).astype(np.int64)

    @property
    def dependencies(self) -> list[str]:
        return ["clicked"]

    def compute_selector(
        self, input_schema: Any, selector: Any, parents_selector: Any, dependencies_selector: Any
    ) -> ColumnSelector:
        """Key columns only: ``clicked`` is needed to fit, not to transform."""
        return parents_selector

    def column_mapping(self, col_selector: ColumnSelector) -> dict[str, list[str]]:
        return {f"{name}_{stat}": [name] for name in col_selector.names for stat in ("ctr", "count")}

    @property
    def output_dtype(self) -> Any:
        return np.float32


def _over_partitions(
    ddf: Any, names: list[str], others: list[str], count: Callable[[Any, Sequence[str]], Counts]
) -> Delayed:
    """Counts of each partition's columns ``names``, which ``others`` may serve, merged by eights."""
    partial = [delayed(count)(partition, names) for partition in ddf[[*names, *others]].to_delayed()]
    while len(partial) > 1:
        partial = [
            delayed(merge_counts)(partial[start : start + _MERGED_AT_ONCE])
            for start in range(0, len(partial), _MERGED_AT_ONCE)
        ]
    return partial[0]
