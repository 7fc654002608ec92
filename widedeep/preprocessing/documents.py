"""Tables of ads and documents with lookup by id: the former in memory, tags of documents mapped from files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import csr_matrix

from deployment_toolkit.core import Array, Arrays
from widedeep.preprocessing.fitted.tables import Tables
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
    known = np.nan_to_num(publisher).astype(np.int64)
    columns = {
        "source_id": np.nan_to_num(_numpy(table, "source_id"), nan=UNKNOWN_ID).astype(np.int64),
        "publisher_id": np.where(without, known.max(initial=0) + 1 + np.cumsum(without), known),
        "publish_time": _numpy(table, "publish_time"),
    }
    defaults = {"source_id": UNKNOWN_ID, "publisher_id": UNKNOWN_ID, "publish_time": np.nan}
    return LookupTable(IdIndex(_numpy(table, "document_id")), columns, defaults)


class DocumentTags:
    """Categories, topics or entities of every document: weighted for likeness, hashed for embedding.

    Its arrays in ``tables`` are ``<kind>.documents`` (ids, ascending, int64 [D]), ``<kind>.starts`` ([D + 2]: document
    d has the tags from ``starts[d]`` to ``starts[d + 1]``, document D, which stands for all others, has none),
    ``<kind>.tags`` (numbers of tags, ascending in a document), ``<kind>.weights`` (float64, of these tags, a
    document's of length 1) and ``<kind>.buckets`` ([D + 1, hotness], -1 after the last).
    """

    def __init__(self, tables: Tables, kind: str) -> None:
        self._tables, self._kind = tables, kind
        self._matrix: csr_matrix | None = None

    @property
    def hotness(self) -> int:
        """Largest number of tags per document in ``buckets``."""
        return int(self._table("buckets").shape[1])

    @property
    def bucket_dtype(self) -> np.dtype[Any]:
        """Dtype of ``buckets``."""
        return self._table("buckets").dtype

    def likeness(self, left_ids: Array, right_ids: Array) -> Array:
        """TF-IDF weighted cosine of two documents per row, float32; 0 where either has no tags."""
        left, right = (self._weights[self._index.rows(ids)] for ids in (left_ids, right_ids))
        return np.asarray(left.multiply(right).sum(axis=1), dtype=np.float32).ravel()

    def buckets(self, document_ids: Array) -> Array:
        """Hash buckets of the strongest tags, [len, hotness], -1 after the last; ``NO_TAG`` if there is none."""
        return np.asarray(self._table("buckets")[self._index.rows(document_ids)])

    @property
    def _index(self) -> IdIndex:
        return IdIndex.of_sorted(self._table("documents"))

    @property
    def _weights(self) -> csr_matrix:
        """Weights as a matrix over the tables, without a copy."""
        if self._matrix is None:
            starts, tags, weights = (self._table(part) for part in ("starts", "tags", "weights"))
            shape = (len(starts) - 1, int(tags.max(initial=0)) + 1)
            self._matrix = csr_matrix((weights, tags, starts), shape=shape, copy=False)
        return self._matrix

    def _table(self, part: str) -> Array:
        return self._tables[f"{self._kind}.{part}"]

    def __getstate__(self) -> dict[str, Any]:
        return {"_tables": self._tables, "_kind": self._kind, "_matrix": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "_weights" in state:  # of an earlier version of this project, which pickled the arrays
            tables, kind = Tables(), "tags"
            _keep(tables, kind, state["_index"].ids, state["_weights"], state["_buckets"])
            state = {"_tables": tables, "_kind": kind, "_matrix": None}
        self.__dict__.update(state)


def read_tags(raw_dir: RawDir, name: str, tables: Tables, kind: str, *, cardinality: int, hotness: int) -> DocumentTags:
    """Reads the tags of one of the three document tables into ``tables``; empty if there is no such file."""
    table = read_table(raw_dir, name)
    documents, tags, confidences = (_numpy(table, column) for column in SCHEMAS[name])
    ids, row = np.unique(documents, return_inverse=True)
    buckets = 1 + hash_ids(tags, cardinality - 1)
    strongest = _strongest(row, buckets, confidences, len(ids), hotness)
    _keep(tables, kind, ids, _tf_idf(row, tags, confidences, ids), strongest)
    return DocumentTags(tables, kind)


def _keep(tables: Tables, kind: str, documents: Array, weights: csr_matrix, buckets: Array) -> None:
    parts = {"documents": documents, "starts": weights.indptr, "tags": weights.indices, "weights": weights.data}
    for part, array in {**parts, "buckets": buckets}.items():
        tables[f"{kind}.{part}"] = array


def hash_ids(ids: Array, cardinality: int) -> Array:
    """Buckets 0 .. cardinality - 1 of integers or strings, of ``bucket_dtype``; the same on every machine, CPU and
    GPU."""
    return np.asarray((pd.util.hash_array(ids) % np.uint64(cardinality)).astype(bucket_dtype(cardinality)))


def bucket_dtype(cardinality: int) -> np.dtype[Any]:
    """int32 if it holds every id below ``cardinality``, else int64."""
    return np.dtype(np.int32 if cardinality <= 1 << 31 else np.int64)


def _tf_idf(row: Array, tags: Array, confidences: Array, documents: Array) -> Any:
    """Confidence times log(N / documents with the tag), rows scaled to length 1, with an empty row at the end.

    N is the largest document id plus one, as in NVTabular's ColumnSimilarity over Outbrain's id-indexed matrix.
    """
    column, codes = pd.factorize(tags)
    shape = (len(documents) + 1, max(len(codes), 1))
    if not len(row):
        return csr_matrix(shape)
    weights = confidences * np.log((float(documents.max()) + 1) / np.bincount(column))[column]
    lengths = np.sqrt(np.bincount(row, weights**2))
    return csr_matrix((weights / np.maximum(lengths[row], 1e-12), (row, column)), shape=shape)


def _strongest(row: Array, buckets: Array, confidences: Array, documents: int, hotness: int) -> Array:
    """Buckets of the strongest tags, [documents + 1, hotness]; the last row is for unknown documents."""
    chosen = np.full((documents + 1, hotness), -1, dtype=buckets.dtype)
    chosen[:, 0] = NO_TAG
    order = np.lexsort((-confidences, row))
    counts = np.bincount(row, minlength=documents)
    rank = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = order[rank < hotness]
    chosen[row[kept], rank[rank < hotness]] = buckets[kept]
    return chosen


def _numpy(table: pa.Table, name: str) -> Array:
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False))
