"""Tables of ads and documents, in memory, with lookup by id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_matrix

from deployment_toolkit.core import Array, Arrays
from widedeep.preprocessing.raw_csv import META, PROMOTED, SCHEMAS, read_table
from widedeep.preprocessing.raw_files import RawDir

UNKNOWN_ID = -1
NO_TAG = 0  # the bucket of documents without tags; hashed tags have 1 .. cardinality - 1


class IdIndex:
    """Row numbers by id. For a repeated id, the first row counts."""

    def __init__(self, ids: Array) -> None:
        self._rows: Array | None
        self._ids, self._rows = np.unique(ids, return_index=True)

    @classmethod
    def of_sorted(cls, ids: Array) -> IdIndex:
        """Index of ids that ascend, each once, without a copy of them."""
        index = cls.__new__(cls)
        index._ids, index._rows = ids, None
        return index

    @property
    def ids(self) -> Array:
        """The ids, ascending, each once."""
        return self._ids

    def rows(self, ids: Array) -> Array:
        """Row of each id, -1 for unknown ids."""
        if not len(self._ids):
            return np.full(len(ids), -1, dtype=np.int64)
        position = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return np.where(self._ids[position] == ids, position if self._rows is None else self._rows[position], -1)


@dataclass(frozen=True)
class LookupTable:
    """Columns by id, with a default value for ids that aren't in the table."""

    index: IdIndex
    columns: Arrays
    defaults: dict[str, float]

    def find(self, ids: Array) -> Arrays:
        """Values of every column at these ids, [len(ids)] each."""
        rows = self.index.rows(ids)
        known = rows >= 0
        found = {name: np.full(len(ids), self.defaults[name], values.dtype) for name, values in self.columns.items()}
        for name, values in self.columns.items():
            found[name][known] = values[rows[known]]
        return found


def read_ads(raw_dir: RawDir) -> LookupTable:
    """Reads the ads: ``document_id_promo``, ``campaign_id``, ``advertiser_id`` per ad; -1 if unknown."""
    table = read_table(raw_dir, PROMOTED)
    columns = {
        "document_id_promo": _numpy(table, "document_id"),
        "campaign_id": _numpy(table, "campaign_id"),
        "advertiser_id": _numpy(table, "advertiser_id"),
    }
    return LookupTable(IdIndex(_numpy(table, "ad_id")), columns, dict.fromkeys(columns, UNKNOWN_ID))


def read_documents_meta(raw_dir: RawDir) -> LookupTable:
    """Reads the documents: ``source_id`` and ``publisher_id`` per document, -1 if unknown, and ``publish_time`` in
    milliseconds since 1970, NaN if unknown.

    As in the original, each document without a publisher gets one of its own, with an id above those in the file.
    """
    table = read_table(raw_dir, META)
    publisher = _numpy(table, "publisher_id")
    without = np.isnan(publisher)
    last = publisher[~without].max(initial=0)
    columns = {
        "source_id": np.nan_to_num(_numpy(table, "source_id"), nan=UNKNOWN_ID).astype(np.int64),
        "publisher_id": np.where(without, last + 1 + np.cumsum(without), publisher).astype(np.int64),
        "publish_time": _numpy(table, "publish_time"),
    }
    defaults = {"source_id": UNKNOWN_ID, "publisher_id": UNKNOWN_ID, "publish_time": np.nan}
    return LookupTable(IdIndex(_numpy(table, "document_id")), columns, defaults)


class DocumentTags:
    """Categories, topics or entities of every document: weighted for likeness, hashed for embedding."""

    def __init__(self, document_ids: Array, tags: Array, confidences: Array, *, cardinality: int, hotness: int) -> None:
        """Arguments: ``document_ids``, ``tags`` (integers or strings) and ``confidences`` have a value per tag of a
        document."""
        documents, row = np.unique(document_ids, return_inverse=True)
        self._index = IdIndex(documents)
        self._weights = _tf_idf(row, tags, confidences, documents)
        self._buckets = _strongest(row, 1 + hash_ids(tags, cardinality - 1), confidences, len(documents), hotness)

    @property
    def hotness(self) -> int:
        """Largest number of tags per document in ``buckets``."""
        return int(self._buckets.shape[1])

    def likeness(self, left_ids: Array, right_ids: Array) -> Array:
        """TF-IDF weighted cosine of two documents per row, float32; 0 where either has no tags."""
        left, right = (self._weights[self._index.rows(ids)] for ids in (left_ids, right_ids))
        return np.asarray(left.multiply(right).sum(axis=1), dtype=np.float32).ravel()

    def buckets(self, document_ids: Array) -> Array:
        """Hash buckets of the strongest tags, int32 [len, hotness], -1 after the last; ``NO_TAG`` if there is none."""
        return np.asarray(self._buckets[self._index.rows(document_ids)])


def read_tags(raw_dir: RawDir, name: str, *, cardinality: int, hotness: int) -> DocumentTags:
    """Reads the tags of one of the three document tables; empty if there is no such file."""
    table = read_table(raw_dir, name)
    document, tag, confidence = (_numpy(table, column) for column in SCHEMAS[name])
    return DocumentTags(document, tag, confidence, cardinality=cardinality, hotness=hotness)


def hash_ids(ids: Array, cardinality: int) -> Array:
    """Buckets 0 .. cardinality - 1 of integers or strings, int32; the same on every machine, CPU and GPU."""
    return np.asarray((pd.util.hash_array(ids) % np.uint64(cardinality)).astype(np.int32))


def _tf_idf(row: Array, tags: Array, confidences: Array, documents: Array) -> Any:
    """Confidence times log(N / documents with the tag), rows scaled to length 1, with an empty row at the end.

    N is the largest document id plus one, as in NVTabular's ColumnSimilarity over Outbrain's id-indexed matrix.
    """
    column, codes = pd.factorize(tags)
    shape = (len(documents) + 1, max(len(codes), 1))
    if not len(row):
        return csr_matrix(shape)
    weights = confidences * np.log((documents.max() + 1) / np.bincount(column))[column]
    lengths = np.sqrt(np.bincount(row, weights**2))
    return csr_matrix((weights / np.maximum(lengths[row], 1e-12), (row, column)), shape=shape)


def _strongest(row: Array, buckets: Array, confidences: Array, documents: int, hotness: int) -> Array:
    """Buckets of the strongest tags, [documents + 1, hotness]; the last row is for unknown documents."""
    chosen = np.full((documents + 1, hotness), -1, dtype=np.int32)
    chosen[:, 0] = NO_TAG
    order = np.lexsort((-confidences, row))
    counts = np.bincount(row, minlength=documents)
    rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = order[rank < hotness]
    chosen[row[kept], rank[rank < hotness]] = buckets[kept]
    return chosen


def _numpy(table: pa.Table, name: str) -> Array:
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False))
