"""NVTabular operators that the library lacks or that give different results on CPU.

They compute with numpy on the host and return columns of the input's kind (pandas or cudf).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from merlin.core.dispatch import create_multihot_col
from merlin.dtypes.shape import DefaultShapes
from nvtabular import ColumnSelector
from nvtabular.ops import FillMedian, Operator, StatOperator

from deployment_toolkit.cluster import Delayed, delayed
from deployment_toolkit.core import Array
from widedeep.preprocessing.documents import UNKNOWN_ID, DocumentTags, IdIndex, hash_ids
from widedeep.preprocessing.times import age_days, counts_as_new

_Count = Callable[[Any, list[str]], dict[str, pd.DataFrame]]


class HashBuckets(Operator):  # type: ignore[misc]
    """Ids and strings hashed to 0 .. cardinality - 1, int32; the same value has the same bucket everywhere.

    NVTabular's HashBucket can't be used: on CPU it hashes a value together with its row number, and on a GPU it
    gives other buckets than on CPU.
    """

    def __init__(self, cardinalities: Mapping[str, int]) -> None:
        super().__init__()
        self.cardinalities = dict(cardinalities)

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns one column per input column."""
        return _frame(df, {name: hash_ids(_host(df[name]), self.cardinalities[name]) for name in col_selector.names})

    @property
    def output_dtype(self) -> Any:
        return np.int32


class PlaceParts(Operator):  # type: ignore[misc]
    """Beginnings of places such as ``US>CA>807``: ``<column>_country`` (``US``) and ``<column>_state`` (``US>CA``)."""

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns two string columns per input column."""
        parts = {f"_{part.__name__}": part for part in (country, state)}
        return type(df)({name + end: part(df[name]) for name in col_selector.names for end, part in parts.items()})

    def column_mapping(self, col_selector: ColumnSelector) -> dict[str, list[str]]:
        return {f"{name}_{part}": [name] for name in col_selector.names for part in ("country", "state")}


class BoundedIds(Operator):  # type: ignore[misc]
    """Ids that stand for themselves, int32; those outside 0 .. cardinality - 1 become the nearest that is inside."""

    def __init__(self, cardinality: int) -> None:
        super().__init__()
        self.cardinality = cardinality

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns one column per input column."""
        names = col_selector.names
        return _frame(df, {name: _host(df[name]).clip(0, self.cardinality - 1).astype(np.int32) for name in names})

    @property
    def output_dtype(self) -> Any:
        return np.int32


class DaysSincePublished(Operator):  # type: ignore[misc]
    """Whole days from a publication (``<column>``, ms since 1970, NaN unknown) to the display (``timestamp``); ages
    below 0 or above ten years count as 0, unknown ages stay NaN. Output ``<column>_days_since_published``."""

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns one float column per input column."""
        ages = {name: age_days(_host(df["timestamp"]), _host(df[name])) for name in col_selector.names}
        in_range = {name: age * ~counts_as_new(age) for name, age in ages.items()}
        return _frame(df, {f"{name}_days_since_published": age for name, age in in_range.items()})

    @property
    def dependencies(self) -> list[str]:
        return ["timestamp"]

    def column_mapping(self, col_selector: ColumnSelector) -> dict[str, list[str]]:
        return {f"{name}_days_since_published": [name, "timestamp"] for name in col_selector.names}

    @property
    def output_dtype(self) -> Any:
        return np.float64


class FillExactMedian(FillMedian):  # type: ignore[misc]
    """Unknown numbers become the column's median over all training rows, however these are partitioned; in a column
    without any known number they stay NaN. For columns of few distinct values, such as whole days.

    NVTabular's FillMedian takes dask's median, which merges only the smallest value, the median and the largest one of
    each partition: with several partitions that is a number far from the median.
    """

    def fit(self, col_selector: ColumnSelector, ddf: Any) -> Delayed:
        """Counts the values of each column, merged over the partitions."""
        return _over_partitions(ddf, list(col_selector.names), [], _count_values)

    def fit_finalize(self, dask_stats: dict[str, pd.DataFrame]) -> None:
        """Keeps the medians."""
        for name, counts in dask_stats.items():
            ends = counts["count"].cumsum()  # by value
            middle = [(ends.iloc[-1] - 1) // 2, ends.iloc[-1] // 2] if len(ends) else []
            values = counts.index.to_numpy(np.float64)[np.searchsorted(ends, middle, side="right")]
            self.medians[name] = float(values.mean()) if len(values) else float("nan")


class ClickRates(StatOperator):  # type: ignore[misc]
    """Click rates per key column: the number of training rows with the key's value, ``<key>_count``, and their share of
    clicks, ``<key>_ctr``, which is 0 below the key's threshold. Unseen and unknown values have count 0.

    The rate of a training row includes its own click, as in the original; the thresholds make the effect small.
    """

    def __init__(self, thresholds: Mapping[str, int]) -> None:
        super().__init__()
        self.thresholds = dict(thresholds)
        self._index: dict[str, IdIndex] = {}
        self._stats: dict[str, Array] = {}

    def fit(self, col_selector: ColumnSelector, ddf: Any) -> Delayed:
        """Counts rows and clicks by value, merged over the partitions."""
        return _over_partitions(ddf, list(col_selector.names), ["clicked"], _count_clicks)

    def fit_finalize(self, dask_stats: dict[str, pd.DataFrame]) -> None:
        """Keeps the merged counts."""
        for name, counts in dask_stats.items():
            counts = counts[counts.index != UNKNOWN_ID]
            self._index[name] = IdIndex(counts.index.to_numpy())
            # one additional row of zeros, for unseen values
            self._stats[name] = np.vstack([counts[["sum", "count"]].to_numpy(np.float64), np.zeros((1, 2))])

    def clear(self) -> None:
        """Drops the counts."""
        self._index, self._stats = {}, {}

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns two float columns per key."""
        outputs: dict[str, Array] = {}
        for name in col_selector.names:
            clicks, count = self._stats[name][self._index[name].rows(_host(df[name]))].T
            enough = count >= self.thresholds[name]
            outputs[f"{name}_ctr"] = np.where(enough, clicks / np.maximum(count, 1), 0).astype(np.float32)
            outputs[f"{name}_count"] = count.astype(np.float32)
        return _frame(df, outputs)

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


class DocumentLikeness(Operator):  # type: ignore[misc]
    """Likeness of two documents by each kind of tags, 0 to 1. Outputs ``<left>_<right>_sim_<kind>``."""

    def __init__(self, tags: Mapping[str, DocumentTags]) -> None:
        super().__init__()
        self.tags = dict(tags)

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns one float column per kind of tags."""
        left, right = col_selector.names
        ids = _host(df[left]), _host(df[right])
        return _frame(df, {f"{left}_{right}_sim_{kind}": tags.likeness(*ids) for kind, tags in self.tags.items()})

    def column_mapping(self, col_selector: ColumnSelector) -> dict[str, list[str]]:
        left, right = col_selector.names
        return {f"{left}_{right}_sim_{kind}": [left, right] for kind in self.tags}

    @property
    def output_dtype(self) -> Any:
        return np.float32


class TagLists(Operator):  # type: ignore[misc]
    """Strongest tags of a document as lists of hash buckets, 1 to ``hotness`` long. One output per entry."""

    def __init__(self, tags: Mapping[str, DocumentTags]) -> None:
        super().__init__()
        self.tags = dict(tags)

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns one list column per output."""
        (document,) = col_selector.names
        ids = _host(df[document])
        outputs = {}
        for name, tags in self.tags.items():
            padded = tags.buckets(ids)
            outputs[name] = _list_column(df, padded[padded >= 0], (padded >= 0).sum(axis=1))
        return type(df)(outputs)

    def column_mapping(self, col_selector: ColumnSelector) -> dict[str, list[str]]:
        return {name: list(col_selector.names) for name in self.tags}

    def _compute_shape(self, col_schema: Any, input_schema: Any) -> Any:
        return col_schema.with_shape(DefaultShapes.LIST)

    @property
    def output_dtype(self) -> Any:
        return np.int32


def country(places: Any, frame: Any = None) -> Any:
    """Country part of places: ``US`` of ``US>CA>807``. Takes and returns a column of strings."""
    return places.str.slice(0, 2)


def state(places: Any, frame: Any = None) -> Any:
    """Country and state part of places: ``US>CA`` of ``US>CA>807``. Takes and returns a column of strings."""
    return places.str.slice(0, 5)


def _host(series: Any) -> Array:
    return np.asarray(series.to_numpy() if isinstance(series, pd.Series) else series.to_pandas().to_numpy())


def _frame(like: Any, columns: Mapping[str, Array]) -> Any:
    return type(like)(dict(columns))


def _list_column(like: Any, flat: Array, lengths: Array) -> Any:
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
    if not isinstance(like, pd.DataFrame):
        series = type(like[like.columns[0]])
        return create_multihot_col(series(offsets), series(flat))
    lists = np.empty(len(lengths), dtype=object)  # create_multihot_col takes 20 us per list on pandas
    lists[:] = [flat[start:end] for start, end in itertools.pairwise(offsets.tolist())]
    return pd.Series(lists)


def _over_partitions(ddf: Any, names: list[str], others: list[str], count: _Count) -> Delayed:
    """Counts of each partition's columns ``names``, which ``others`` may serve, added up by eights."""
    partial = [delayed(count)(partition, names) for partition in ddf[[*names, *others]].to_delayed()]
    while len(partial) > 1:
        partial = [delayed(_merge_counts)(partial[i : i + 8]) for i in range(0, len(partial), 8)]
    return partial[0]


def _count_clicks(partition: Any, names: list[str]) -> dict[str, pd.DataFrame]:
    partition = partition.to_pandas() if hasattr(partition, "to_pandas") else partition
    return {name: partition.groupby(name)["clicked"].agg(["sum", "count"]) for name in names}


def _count_values(partition: Any, names: list[str]) -> dict[str, pd.DataFrame]:
    partition = partition.to_pandas() if hasattr(partition, "to_pandas") else partition
    return {name: partition.groupby(name)[name].agg(["count"]) for name in names}


def _merge_counts(parts: list[dict[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    return {name: pd.concat([part[name] for part in parts]).groupby(level=0).sum() for name in parts[0]}
