"""NVTabular operators that the library lacks or that give different results on CPU, and that need no statistics.

They compute with numpy on the host and return columns of the input's kind (pandas or cudf).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from merlin.core.dispatch import create_multihot_col
from merlin.dtypes.shape import DefaultShapes
from nvtabular import ColumnSelector
from nvtabular.ops import Operator

from deployment_toolkit.core import Array
from widedeep.preprocessing.documents import DocumentTags, bucket_dtype, hash_ids
from widedeep.preprocessing.times import age_days, counts_as_new


class HashBuckets(Operator):  # type: ignore[misc]
    """Ids and strings hashed to 0 .. cardinality - 1 (``bucket_dtype``); the same value has the same bucket everywhere.

    NVTabular's HashBucket can't be used: on CPU it hashes a value together with its row number, and on a GPU it
    gives other buckets than on CPU.
    """

    def __init__(self, cardinalities: Mapping[str, int]) -> None:
        super().__init__()
        self.cardinalities = dict(cardinalities)

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns one column per input column."""
        return frame_like(
            df, {name: hash_ids(on_the_host(df[name]), self.cardinalities[name]) for name in col_selector.names}
        )

    def _compute_dtype(self, col_schema: Any, input_schema: Any) -> Any:
        return col_schema.with_dtype(bucket_dtype(self.cardinalities[col_schema.name]))


class PlaceParts(Operator):  # type: ignore[misc]
    """Beginnings of places such as ``US>CA>807``: ``<column>_country`` (``US``) and ``<column>_state`` (``US>CA``)."""

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns two string columns per input column."""
        parts = {f"_{part.__name__}": part for part in (country, state)}
        return type(df)({name + end: part(df[name]) for name in col_selector.names for end, part in parts.items()})

    def column_mapping(self, col_selector: ColumnSelector) -> dict[str, list[str]]:
        return {f"{name}_{part}": [name] for name in col_selector.names for part in ("country", "state")}


class BoundedIds(Operator):  # type: ignore[misc]
    """Ids that stand for themselves; those outside 0 .. cardinality - 1 become the nearest that is inside."""

    def __init__(self, cardinality: int) -> None:
        super().__init__()
        self.cardinality = cardinality

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns one column per input column."""
        names = col_selector.names
        return frame_like(
            df, {name: on_the_host(df[name]).clip(0, self.cardinality - 1).astype(self.output_dtype) for name in names}
        )

    @property
    def output_dtype(self) -> Any:
        return bucket_dtype(self.cardinality)


class DaysSincePublished(Operator):  # type: ignore[misc]
    """Whole days from a publication (``<column>``, ms since 1970, NaN unknown) to the display (``timestamp``); ages
    below 0 or above ten years count as 0, unknown ages stay NaN. Output ``<column>_days_since_published``."""

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns one float column per input column."""
        ages = {name: age_days(on_the_host(df["timestamp"]), on_the_host(df[name])) for name in col_selector.names}
        in_range = {name: age * ~counts_as_new(age) for name, age in ages.items()}
        return frame_like(df, {f"{name}_days_since_published": age for name, age in in_range.items()})

    @property
    def dependencies(self) -> list[str]:
        return ["timestamp"]

    def column_mapping(self, col_selector: ColumnSelector) -> dict[str, list[str]]:
        return {f"{name}_days_since_published": [name, "timestamp"] for name in col_selector.names}

    @property
    def output_dtype(self) -> Any:
        return np.float64


class DocumentLikeness(Operator):  # type: ignore[misc]
    """Likeness of two documents by each kind of tags, 0 to 1. Outputs ``<left>_<right>_sim_<kind>``."""

    def __init__(self, tags: Mapping[str, DocumentTags]) -> None:
        super().__init__()
        self.tags = dict(tags)

    def transform(self, col_selector: ColumnSelector, df: Any) -> Any:
        """Returns one float column per kind of tags."""
        left, right = col_selector.names
        ids = on_the_host(df[left]), on_the_host(df[right])
        return frame_like(df, {f"{left}_{right}_sim_{kind}": tags.likeness(*ids) for kind, tags in self.tags.items()})

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
        ids = on_the_host(df[document])
        outputs = {}
        for name, tags in self.tags.items():
            padded = tags.buckets(ids)
            outputs[name] = _list_column(df, padded[padded >= 0], (padded >= 0).sum(axis=1))
        return type(df)(outputs)

    def column_mapping(self, col_selector: ColumnSelector) -> dict[str, list[str]]:
        return {name: list(col_selector.names) for name in self.tags}

    def _compute_shape(self, col_schema: Any, input_schema: Any) -> Any:
        return col_schema.with_shape(DefaultShapes.LIST)

    def _compute_dtype(self, col_schema: Any, input_schema: Any) -> Any:
        return col_schema.with_dtype(self.tags[col_schema.name].bucket_dtype)


def country(places: Any, frame: Any = None) -> Any:
    """Country part of places: ``US`` of ``US>CA>807``. Takes and returns a column of strings."""
    return places.str.slice(0, 2)


def state(places: Any, frame: Any = None) -> Any:
    """Country and state part of places: ``US>CA`` of ``US>CA>807``. Takes and returns a column of strings."""
    return places.str.slice(0, 5)


def on_the_host(series: Any) -> Array:
    """Values of a column of pandas or cudf."""
    return np.asarray(series.to_numpy() if isinstance(series, pd.Series) else series.to_pandas().to_numpy())


def frame_like(like: Any, columns: Mapping[str, Array]) -> Any:
    """A frame of these columns, of the kind of ``like``."""
    return type(like)(dict(columns))


def _list_column(like: Any, flat: Array, lengths: Array) -> Any:
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
    if not isinstance(like, pd.DataFrame):
        series = type(like[like.columns[0]])
        return create_multihot_col(series(offsets), series(flat))
    lists = np.empty(len(lengths), dtype=object)  # create_multihot_col takes 20 us per list on pandas
    lists[:] = [flat[start:end] for start, end in itertools.pairwise(offsets.tolist())]
    return pd.Series(lists)
