"""Preprocessed files are a function of the data: the same bytes for any partitions of the rows."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from deployment_toolkit.tasks.running import ClusterTask, ThisProcess
from widedeep.features.files import exact_tables
from widedeep.preprocessing.dataset import PreprocessingOptions, preprocess
from widedeep.preprocessing.fitted.counts import (
    Counts,
    count_clicks,
    count_values,
    mean_and_deviation,
    median,
    merge_counts,
)
from widedeep.preprocessing.tasks.layout import Layout
from widedeep.synthetic import SyntheticOptions, generate

PARTITIONS = (1, 3, 8)
WHOLE = Layout(file_rows=750, group_rows=250)


class Noted(ThisProcess):
    """This process, which notes the tasks that it runs."""

    def __init__(self) -> None:
        super().__init__(1)
        self.ran: list[str] = []

    def run(self, function: Callable[..., Any], tasks: Iterable[ClusterTask]) -> Generator[tuple[str, Any], None, None]:
        for key, result in super().run(function, tasks):
            self.ran.append(key.split()[0])
            yield key, result


def test_files_of_any_partitions_are_equal_byte_for_byte(tmp_path: Path) -> None:
    generate(SyntheticOptions(tmp_path / "raw", 400, seed=11))
    clicks = len((tmp_path / "raw" / "clicks_train.csv").read_text().splitlines()) - 1
    made = []
    for partitions in PARTITIONS:
        noted = Noted()
        options = PreprocessingOptions(tmp_path / "raw", tmp_path / f"of {partitions}")
        layout = dataclasses.replace(WHOLE, sample_rows=1, bucket_rows=-(-clicks // partitions))
        preprocess(options, noted, layout)
        made.append(_files(options.output_dir))
        assert (noted.ran.count("count"), noted.ran.count("fit")) == (partitions, 1)
    for other in made[1:]:
        assert other.keys() == made[0].keys()
        assert [name for name, content in other.items() if content != made[0][name]] == []
    parts = sorted((tmp_path / "of 1" / "train").iterdir())
    rows = sum(pq.read_metadata(path).num_rows for path in parts)
    groups = [[group.num_rows for group in _row_groups(path)] for path in parts]
    assert len(parts) == -(-rows // 750) > 1
    assert [rows for part in groups[:-1] for rows in part] == [250] * 3 * (len(parts) - 1)


def test_tables_of_rows_are_the_same_for_any_tables() -> None:
    generator = np.random.default_rng(1)
    lists = [generator.integers(0, 900, count).tolist() for count in generator.integers(0, 4, 13_000)]
    table = pa.table({"number": generator.random(13_000), "ids": pa.array(lists, pa.list_(pa.int32()))})
    for edges in ([0], [0, 1, 1, 5_999, 6_000], range(0, 13_000, 77)):
        pieces = [table.slice(start, end - start) for start, end in itertools.pairwise([*edges, 13_000])]
        made = list(exact_tables(pieces, 2_000))
        assert [part.num_rows for part in made] == [2_000] * 6 + [1_000]
        assert {column.num_chunks for part in made for column in part.columns} == {1}
        assert pa.concat_tables(made).equals(table)


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


def _files(folder: Path) -> dict[str, bytes]:
    """Contents of all files by relative path, in the order of their paths."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def _row_groups(path: Path) -> list[Any]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(number) for number in range(metadata.num_row_groups)]
