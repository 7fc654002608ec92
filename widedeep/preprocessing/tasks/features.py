"""Features of joined rows as tasks: one for each file of the data set."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deployment_toolkit.files.durable import whole_file
from widedeep.features.files import exact_tables, feature_schema, to_table
from widedeep.features.spec import FeatureSpec
from widedeep.preprocessing.joined_clicks import JoinedFile
from widedeep.preprocessing.nvtabular_import import import_nvtabular
from widedeep.preprocessing.tasks.steps import Steps
from widedeep.preprocessing.workflow_file import METADATA, load_workflow

Source = tuple[Path, int, int]  # a file of joined rows, the first row that is meant, and how many from there on


def write_features(
    output: Path,
    work_dir: Path,
    joined: Mapping[str, Sequence[JoinedFile]],
    workflow: Path,
    spec: FeatureSpec,
    steps: Steps,
) -> dict[str, int]:
    """Writes ``<side>/part-<n>.parquet`` under ``output``; returns the rows by side. Part n has the rows from n times
    ``file_rows`` on, however the joined files in ``work_dir`` divide them."""
    tasks: dict[str, tuple[Any, ...]] = {}
    weights: dict[str, int] = {}
    for side, files in joined.items():
        (output / side).mkdir(parents=True, exist_ok=True)
        for number, sources in enumerate(_parts(work_dir, files, steps.layout.file_rows)):
            part = f"{side}/part-{number:05d}.parquet"
            tasks[part] = (sources, workflow, output / part, spec, steps.layout.group_rows)
            weights[part] = sum(rows for _, _, rows in sources)
    steps.run("transform", write_part, tasks, weights, " rows", {part: output / part for part in tasks})
    return {side: sum(file.rows for file in files) for side, files in joined.items()}


def write_part(sources: Sequence[Source], workflow: Path, part: Path, spec: FeatureSpec, group_rows: int) -> None:
    """Task: transforms consecutive joined rows and writes them to a file, in groups of ``group_rows``, lightly
    compressed for fast decoding. Raises DataError if a feature is null."""
    plan = _plan(workflow, (workflow / METADATA).stat().st_mtime_ns)
    schema = feature_schema(spec)
    with whole_file(part) as beside, pq.ParquetWriter(beside, schema, compression="lz4") as writer:
        for rows in exact_tables(_read(sources), group_rows):
            features = plan.transform({name: rows.column(name).to_numpy() for name in rows.column_names})
            writer.write_table(to_table(features, schema), row_group_size=group_rows)


@functools.lru_cache(maxsize=1)
def _plan(workflow: Path, mtime_ns: int) -> Any:
    """The fitted workflow in a folder, read once in a process, and again if another one is there."""
    import_nvtabular()
    from widedeep.preprocessing.workflow_plan import WorkflowPlan

    return WorkflowPlan(load_workflow(workflow).graph)


def _parts(work_dir: Path, files: Sequence[JoinedFile], rows: int) -> list[list[Source]]:
    """The rows of consecutive files in parts of ``rows`` rows, the last of fewer."""
    parts: list[list[Source]] = []
    room = 0
    for file in files:
        first = 0
        while first < file.rows:
            if room == 0:
                parts.append([])
                room = rows
            taken = min(room, file.rows - first)
            parts[-1].append((work_dir / file.path, first, taken))
            first, room = first + taken, room - taken
    return parts


def _read(sources: Sequence[Source]) -> Iterator[pa.Table]:
    for path, first, rows in sources:
        with pq.ParquetFile(path) as file:
            start = 0
            for group in range(file.metadata.num_row_groups):
                held = file.metadata.row_group(group).num_rows
                low, high = max(first - start, 0), min(first + rows - start, held)
                if low < high:
                    yield file.read_row_group(group).slice(low, high - low)
                start += held
