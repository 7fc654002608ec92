"""Preprocessed files are a function of the data: the same bytes for any partitions of the rows."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from widedeep.features import files as feature_files
from widedeep.preprocessing import dataset, joined_clicks
from widedeep.preprocessing.dataset import PreprocessingOptions, preprocess
from widedeep.preprocessing.fitted.counts import (
    Counts,
    count_clicks,
    count_values,
    mean_and_deviation,
    median,
    merge_counts,
)
from widedeep.preprocessing.nvtabular_import import import_nvtabular
from widedeep.synthetic import SyntheticOptions, generate

PARTITIONS = (1, 3, 8)


@pytest.mark.filterwarnings("ignore:Row group memory size")
def test_files_of_any_partitions_are_equal_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(SyntheticOptions(tmp_path / "raw", 400, seed=11))
    monkeypatch.setattr(dataset, "_PARTITION_SIZE", "1KB")  # a partition has one row group
    monkeypatch.setattr(feature_files, "ROWS_PER_GROUP", 250)
    monkeypatch.setattr(feature_files, "ROWS_PER_FILE", 750)
    fitted: list[int] = []
    workflow = import_nvtabular().Workflow
    fit = workflow.fit

    def counted_fit(self: Any, rows: Any) -> Any:
        fitted.append(rows.npartitions)
        return fit(self, rows)

    monkeypatch.setattr(workflow, "fit", counted_fit)
    made = [_files(_preprocessed(tmp_path, "whole"))]
    rows = sum(pq.read_metadata(path).num_rows for path in (tmp_path / "whole" / "train").iterdir())
    for partitions in PARTITIONS[1:]:
        monkeypatch.setattr(joined_clicks, "ROW_GROUP_ROWS", -(-rows // partitions))
        made.append(_files(_preprocessed(tmp_path, f"of {partitions}")))
    monkeypatch.setattr(joined_clicks, "DISPLAYS_PER_BUCKET", 90)
    made.append(_files(_preprocessed(tmp_path, "of several files")))
    assert tuple(fitted[:-1]) == PARTITIONS and fitted[-1] > 4
    for other in made[1:]:
        assert other.keys() == made[0].keys()
        assert [name for name, content in other.items() if content != made[0][name]] == []
    parts = sorted((tmp_path / "whole" / "train").iterdir())
    groups = [[group.num_rows for group in _row_groups(path)] for path in parts]
    assert len(parts) == -(-rows // 750) > 1
    assert [rows for part in groups[:-1] for rows in part] == [250] * 3 * (len(parts) - 1)


def test_parts_are_those_of_the_rows_for_any_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_files, "ROWS_PER_FILE", 2 * feature_files.ROWS_PER_GROUP)
    generator = np.random.default_rng(1)
    rows = 300_000
    offsets = np.append(0, np.cumsum(generator.integers(2, 9, rows))).astype(np.int32)
    ids = pa.array(generator.integers(0, 2**40, offsets[-1]))  # so large that a row group has several pages
    table = pa.table({"number": generator.random(rows), "ids": pa.ListArray.from_arrays(offsets, ids)})
    made = []
    for name, edges in (("one", [0]), ("some", [0, 1, 1, 65_535, 131_072]), ("many", range(0, rows, 7_777))):
        (tmp_path / name).mkdir()
        ends = [*edges, rows]
        pieces = [table.slice(start, end - start) for start, end in itertools.pairwise(ends)]
        assert feature_files.write_parts(pieces, tmp_path / name, table.schema) == rows
        made.append(_files(tmp_path / name))
    assert made[0] == made[1] == made[2]
    assert list(made[0]) == [f"part-0000{number}.parquet" for number in range(3)]
    assert pq.read_table(tmp_path / "many").equals(table)


@example([-5, 0], [1], random.Random(0))  # of an age below 0 it makes -0.0
@given(
    st.lists(st.one_of(st.none(), st.integers(-3650, 3650)), max_size=40),
    st.lists(st.integers(0, 40), max_size=8),
    st.randoms(use_true_random=False),
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_statistics_do_not_depend_on_partitions_or_their_order(
    days: list[int | None], edges: list[int], shuffler: random.Random
) -> None:
    age = np.array([np.nan if day is None else day for day in days], dtype=np.float64)
    age *= age >= 0  # an age below 0 becomes -0.0
    frame = pd.DataFrame({"age": age, "log": np.log(np.abs(np.nan_to_num(age)) + 1).astype(np.float32)})
    frame["ad"], frame["clicked"] = np.arange(len(frame)) % 5, (np.arange(len(frame)) % 3 == 0).astype(np.int32)
    parts = [frame.iloc[start:end] for start, end in _pieces(edges, len(frame))]
    shuffler.shuffle(parts)
    whole = _finished([frame])
    assert repr(_finished(parts)) == repr(_finished(parts[::-1])) == repr(whole)  # with the sign of a zero
    known = age[~np.isnan(age)]
    np.testing.assert_equal(whole[0], np.median(known) + 0.0 if len(known) else np.nan)
    if len(frame) > 1:
        log = frame["log"].astype(np.float64)
        np.testing.assert_allclose(whole[1], (log.mean(), log.std()), rtol=1e-12, atol=1e-12)


def _finished(parts: Sequence[pd.DataFrame]) -> tuple[Any, ...]:
    """Statistics of these partitions, merged in two steps."""

    def merged(counts: list[Counts]) -> Counts:
        return merge_counts([merge_counts(counts[:2]), *counts[2:]])

    values = merged([count_values(part, ["age", "log"]) for part in parts])
    clicks = merged([count_clicks(part, ["ad"]) for part in parts])["ad"]
    return (
        median(values["age"]),
        mean_and_deviation(values["log"]),
        clicks.to_dict(),
        clicks.dtypes.to_list(),
        values["age"].to_dict(),
    )


def _pieces(edges: list[int], rows: int) -> list[tuple[int, int]]:
    ends = [0, *sorted(min(edge, rows) for edge in edges), rows]
    return list(itertools.pairwise(ends))


def _preprocessed(folder: Path, name: str) -> Path:
    preprocess(PreprocessingOptions(folder / "raw", folder / name))
    return folder / name


def _files(folder: Path) -> dict[str, bytes]:
    """Contents of all files by relative path, in the order of their paths."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _row_groups(path: Path) -> list[Any]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(number) for number in range(metadata.num_row_groups)]
