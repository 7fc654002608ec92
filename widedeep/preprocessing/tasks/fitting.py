"""The fitted workflow as a task: of the counts of all training rows, and of the documents' tags."""

from __future__ import annotations

import contextvars
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from deployment_toolkit.cluster import set_dask_options
from widedeep.features.spec import FeatureSpec
from widedeep.preprocessing.documents import UNKNOWN_ID, DocumentTags, read_tags
from widedeep.preprocessing.fitted.counts import Counts
from widedeep.preprocessing.fitted.tables import Tables
from widedeep.preprocessing.nvtabular_import import import_nvtabular
from widedeep.preprocessing.raw_csv import TAG_LISTS, TAGS
from widedeep.preprocessing.raw_files import RawDir
from widedeep.preprocessing.tasks.statistics import AGES, CLICKS, read_counts

if TYPE_CHECKING:
    import nvtabular

_FIRST_ROWS = 1000


def fit_workflow(raw_dir: RawDir, joined: Path, counts: Path, spec: FeatureSpec, folder: Path) -> None:
    """Task: writes the fitted workflow to a folder. ``counts`` are those of all training rows, of which the first, in
    ``joined``, give the columns' types. Raises DataError if a table of tags can't be read."""
    warnings.filterwarnings("ignore", message="Initializing an NVTabular Dataset in CPU mode")
    import_nvtabular()

    from widedeep.preprocessing.workflow import make_workflow
    from widedeep.preprocessing.workflow_file import save_workflow

    tables = Tables()
    workflow = make_workflow(_read_tags(raw_dir, spec, tables), spec.cardinalities, tables)
    _fit(workflow, joined, read_counts(counts))
    save_workflow(workflow, folder)


def _read_tags(raw_dir: RawDir, spec: FeatureSpec, tables: Tables) -> dict[str, DocumentTags]:
    lists = {feature.name: feature for feature in spec.multihot}
    tags = {}
    for kind, file_name in TAGS.items():
        feature = lists[TAG_LISTS[kind]]
        assert feature.cardinality is not None and feature.max_hotness is not None
        tags[kind] = read_tags(
            raw_dir, file_name, tables, kind, cardinality=feature.cardinality, hotness=feature.max_hotness
        )
    return tags


def _fit(workflow: nvtabular.Workflow, joined: Path, kinds: dict[str, Counts]) -> None:
    """The logarithm of a row's count depends on its id alone, so the rows are not read again for its mean."""
    from merlin.core.utils import set_dask_client
    from nvtabular.ops import StatOperator

    from widedeep.preprocessing.fitted.operators import ClickRates, FillExactMedian, NormalizeExactly

    with pq.ParquetFile(joined) as file:
        first_rows = next(file.iter_batches(_FIRST_ROWS)).to_pandas()
    # In a worker, NVTabular and Dask would find the scheduler and send it tasks.
    context = contextvars.copy_context()
    context.run(set_dask_client, None)
    with set_dask_options({"scheduler": "synchronous"}):
        dataset = context.run(import_nvtabular().Dataset, first_rows)
        context.run(workflow.fit, dataset)  # its own counts, of these rows, are replaced below
    finished = {ClickRates: kinds[CLICKS], FillExactMedian: kinds[AGES], NormalizeExactly: _logs(kinds[CLICKS])}
    for node in _nodes(workflow.graph.output_node):
        if isinstance(node.op, StatOperator):
            node.op.clear()
            node.op.fit_finalize(finished[type(node.op)])


def _logs(clicks: Counts) -> Counts:
    """Rows by the logarithm of their key's count, as the workflow computes it."""
    from nvtabular import ColumnSelector
    from nvtabular.ops import LogOp

    from widedeep.preprocessing.workflow import COUNTS

    logs: Counts = {}
    for name in COUNTS:
        counts = clicks[name.removesuffix("_count")]
        seen = np.where(counts.index == UNKNOWN_ID, 0, counts["count"]).astype(np.float32)
        values = LogOp().transform(ColumnSelector([name]), pd.DataFrame({name: seen}))[name]
        logs[name] = pd.DataFrame({"count": counts["count"].to_numpy()}, values.to_numpy()).groupby(level=0).sum()
    return logs


def _nodes(node: Any) -> list[Any]:
    """A node and all that it depends on, each once."""
    found: dict[int, Any] = {id(node): node}
    for upstream in node.parents_with_dependencies:
        found |= {id(other): other for other in _nodes(upstream)}
    return list(found.values())
