from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deployment_toolkit.core import Batch
from deployment_toolkit.errors import DataError
from deployment_toolkit.process import run
from widedeep.data.parquet import ParquetDataset, open_parquet, read_chunks
from widedeep.features.outbrain import outbrain_spec
from widedeep.features.spec import Feature, FeatureSpec

WriteParquet = Callable[..., Path]
SPEC = FeatureSpec(
    numerical=(Feature("price", "float32"),),
    onehot=(Feature("ad", "int32", 10),),
    multihot=(Feature("topics", "int32", 5, 3),),
    label=Feature("clicked", "int32"),
    group_id=Feature("display", "int32"),
)
TOPICS = [[], [4], [0, 1], [2, 3, 4]]
PADDED = [[-1, -1, -1], [4, -1, -1], [0, 1, -1], [2, 3, 4]]


def write(path: Path, **columns: Any) -> Path:
    """Writes four valid rows of ``SPEC``, in row groups of three."""
    good = {"price": pa.array([0.5, 1.5, 2.5, 3.5], pa.float32()), "ad": pa.array([0, 9, 3, 4], pa.int32())}
    good |= {"topics": pa.array(TOPICS, pa.list_(pa.int32())), "clicked": pa.array([1, 0, 0, 1], pa.int32())}
    good |= {"display": pa.array([7, 7, 8, 8], pa.int32())}
    table = pa.table({name: data for name, data in (good | columns).items() if data is not None})
    pq.write_table(table, path, row_group_size=3)
    return path


def read(path: Path | str, batch_size: int = 100) -> Batch:
    """Reads all rows of a small file."""
    (batch,) = ParquetDataset(str(path), SPEC).batches(batch_size)
    return batch


@pytest.mark.parametrize("batch_size", [1, 7, 1000, 1500, 10_000])
def test_batches_hold_all_rows_in_order(tmp_path: Path, write_parquet: WriteParquet, batch_size: int) -> None:
    spec = outbrain_spec()
    rows = {"part_10": 1200, "part_2": 1100, "part_1": 0}  # in natural order: 1, 2, 10
    for seed, (name, count) in enumerate(rows.items()):
        write_parquet(tmp_path / f"{name}.parquet", count, seed=seed)
    dataset = ParquetDataset(str(tmp_path / "*.parquet"), spec)
    batches = list(dataset.batches(batch_size))

    assert dataset.num_rows == 2300
    assert [len(batch) for batch in batches] == [batch_size] * (2300 // batch_size) + [2300 % batch_size] * (
        2300 % batch_size > 0
    )
    truth = pa.concat_tables([pq.read_table(tmp_path / f"{name}.parquet") for name in ("part_2", "part_10")])
    assert np.concatenate([batch.ids for batch in batches]).tolist() == truth["display_id"].to_pylist()
    for tensor in spec.model_spec.inputs:
        parts = [batch.x[tensor.name] for batch in batches]
        assert all(part.dtype == tensor.dtype and part.shape[1:] == tensor.shape for part in parts)
        values = np.concatenate(parts).tolist()
        if tensor.shape == (1,):
            assert values == [[value] for value in truth[tensor.name].to_pylist()]
        else:
            assert values == [(ids + [-1] * 3)[:3] for ids in truth[tensor.name].to_pylist()]
    labels = np.concatenate([batch.y["clicked"] for batch in batches])
    assert labels.shape == (2300, 1)
    assert labels[:, 0].tolist() == truth["clicked"].to_pylist()


@pytest.mark.parametrize(
    "topics",
    [
        pa.array(TOPICS, pa.list_(pa.int64())),
        pa.array(TOPICS, pa.large_list(pa.int32())),
        pa.array(PADDED, pa.list_(pa.int32(), 3)),
        pa.array([[0], *TOPICS], pa.list_(pa.int64())).slice(1),
    ],
    ids=["int64", "large_list", "fixed_size_list", "sliced"],
)
def test_wider_types_are_converted_to_the_specification(tmp_path: Path, topics: pa.Array) -> None:
    path = write(
        tmp_path / "a.parquet",
        topics=topics,
        price=pa.array([0.5, 1.5, 2.5, 3.5], pa.float64()),
        ad=pa.array([0, 9, 3, 4], pa.int64()),
        display=pa.array([7, 7, 8, 8], pa.int64()),
    )
    batch = read(path)
    assert batch.x["topics"].tolist() == PADDED
    assert batch.x["price"].tolist() == [[0.5], [1.5], [2.5], [3.5]]
    assert {str(array.dtype) for array in (batch.ids, batch.x["ad"], batch.x["topics"], batch.y["clicked"])} == {
        "int32"
    }
    assert batch.x["price"].dtype == np.float32


def test_narrower_types_are_converted_to_the_specification(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet",
        topics=pa.array(TOPICS, pa.list_(pa.uint8())),
        price=pa.array([-1, 0, 1, 127], pa.int8()),
        ad=pa.array([0, 9, 3, 4], pa.uint8()),
        display=pa.array([7, 7, 8, 8], pa.uint16()),
    )
    batch = read(path)
    assert batch.x["topics"].tolist() == PADDED
    assert batch.x["price"].tolist() == [[-1], [0], [1], [127]]
    assert batch.x["ad"].tolist() == [[0], [9], [3], [4]]
    assert batch.ids.tolist() == [7, 7, 8, 8]


def test_parquet_reading_does_not_import_pandas(tmp_path: Path, write_parquet: WriteParquet) -> None:
    write_parquet(tmp_path / "a.parquet", 100)
    program = (
        "import sys; from widedeep.data.parquet import ParquetDataset;"
        "from widedeep.features.outbrain import outbrain_spec;"
        "[batch] = ParquetDataset(sys.argv[1], outbrain_spec()).batches(100);"
        "print(len(batch), 'pandas' in sys.modules)"
    )
    printed = run([sys.executable, "-c", program, tmp_path / "a.parquet"], log_path=tmp_path / "log").stdout
    assert printed.split() == ["100", "False"]


def test_multihot_column_of_empty_lists_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", topics=pa.array([[]] * 4, pa.list_(pa.null())))
    assert read(path).x["topics"].tolist() == [[-1] * 3] * 4


BAD = {
    "missing column": ({"ad": None}, "column ad is missing"),
    "text": ({"ad": pa.array(["a"] * 4)}, "column ad is of type string, but it is an id: write it as int32"),
    "float ids": ({"ad": pa.array([0.0] * 4)}, "column ad is of type double"),
    "no list": ({"topics": pa.array([1] * 4)}, "column topics is of type int64, but it is a list of ids"),
    "float lists": ({"topics": pa.array([[1.0]] * 4)}, "column topics is of type list<"),
    "wide fixed list": ({"topics": pa.array([[1] * 4] * 4, pa.list_(pa.int32(), 4))}, "column topics is of type fixed"),
    "null": ({"price": pa.array([0.5, 1.0, 2.0, None], pa.float32())}, "column price, row 3 is null"),
    "null list": ({"topics": pa.array([[1], None, [1], [1]])}, "column topics, row 1 is null"),
    "null in list": ({"topics": pa.array([[1], [], [1], [1, None]])}, "column topics, row 3 holds a null in its list"),
    "not a number": ({"price": pa.array([0.5, float("nan"), 2, 3])}, "column price, row 1 holds nan"),
    "infinite": ({"price": pa.array([0.5, 1.0, 2.0, float("-inf")])}, "column price, row 3 holds -inf"),
    "id too high": (
        {"ad": pa.array([0, 1, 2, 10])},
        "column ad, row 3 holds 10, outside 0 .. 9: the cardinality is 10",
    ),
    "id below 0": ({"ad": pa.array([0, -1, 2, 3])}, "column ad, row 1 holds -1, outside 0 .. 9"),
    "id beyond int32": ({"ad": pa.array([0, 1, 2, 2**32])}, "column ad, row 3 holds 4294967296"),
    "listed id too high": ({"topics": pa.array([[], [1], [1, 5], []])}, "column topics, row 2 holds 5, outside 0 .. 4"),
    "listed id below 0": (
        {"topics": pa.array([[], [1, 2], [], [-1]])},
        "column topics, row 3 holds -1, outside 0 .. 4",
    ),
    "long list": (
        {"topics": pa.array([[1], [1], [1] * 4, [1]])},
        "column topics, row 2 holds a list of 4, longer than",
    ),
    "label": ({"clicked": pa.array([0, 1, 1, 2])}, "column clicked, row 3 holds 2, outside 0 .. 1"),
    "group id": ({"display": pa.array([0, 1, 1, 2**31])}, "column display, row 3 holds 2147483648"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_columns_are_named(tmp_path: Path, name: str) -> None:
    columns, message = BAD[name]
    path = write(tmp_path / "a.parquet", **columns)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pattern '.*none\.parquet' matches no file: check the path"):
        ParquetDataset(str(tmp_path / "none.parquet"), SPEC)
    with pytest.raises(DataError, match=r"matches the folder .*, which holds no data file"):
        ParquetDataset(str(tmp_path), SPEC)
    whole = write(tmp_path / "whole.parquet")
    pq.write_table(pq.read_table(whole).slice(0, 0), tmp_path / "empty.parquet")
    with pytest.raises(DataError, match=r"empty\.parquet: no rows"):
        ParquetDataset(str(tmp_path / "empty.parquet"), SPEC)
    for content in (whole.read_bytes()[:-20], b"", b"no parquet at all"):
        bad = tmp_path / "bad.parquet"
        bad.write_bytes(content)
        with pytest.raises(DataError, match=r"bad\.parquet can't be read as parquet: .*; it may be truncated"):
            ParquetDataset(str(bad), SPEC)
    middle = bytearray(whole.read_bytes())
    middle[4:40] = b"\xff" * 36
    bad.write_bytes(bytes(middle))
    with pytest.raises(DataError, match=r"bad\.parquet can't be read as parquet"):
        read(bad)


def test_rows_of_a_folder_that_spark_wrote_are_read(tmp_path: Path) -> None:
    write(tmp_path / "valid.parquet")
    (tmp_path / "spark.parquet").mkdir()
    for name in ("part-00000.parquet", "part-00001.parquet"):
        write(tmp_path / "spark.parquet" / name)
    for marker in ("_SUCCESS", ".part-00000.parquet.crc"):
        (tmp_path / "spark.parquet" / marker).touch()
    assert ParquetDataset(str(tmp_path / "*.parquet"), SPEC).num_rows == 12
    assert ParquetDataset(str(tmp_path / "spark.parquet"), SPEC).num_rows == 8
    assert ParquetDataset(str(tmp_path / "spark.parquet" / "*"), SPEC).num_rows == 8
    (tmp_path / "spark.parquet" / "part-00002.parquet").touch()
    with pytest.raises(DataError, match=r"part-00002\.parquet can't be read as parquet"):
        ParquetDataset(str(tmp_path / "*.parquet"), SPEC)


def test_schemas_of_all_files_are_checked_first(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet")
    write(tmp_path / "2.parquet", ad=None)
    with pytest.raises(DataError, match=r"2\.parquet: column ad is missing"):
        ParquetDataset(str(tmp_path / "*.parquet"), SPEC)


def test_ids_in_the_specification_must_be_integers(tmp_path: Path) -> None:
    spec = FeatureSpec(SPEC.numerical, (Feature("ad", "float32", 10),), SPEC.multihot, SPEC.label, SPEC.group_id)
    with pytest.raises(DataError, match="ad is an id, but its dtype is float32"):
        ParquetDataset(str(write(tmp_path / "a.parquet")), spec)


def test_row_number_of_an_error_counts_from_the_start_of_its_file(tmp_path: Path, write_parquet: WriteParquet) -> None:
    spec = outbrain_spec()
    platform = np.ones(200_000, np.int32)
    write_parquet(tmp_path / "1.parquet", 10, spec=spec)
    platform[170_001] = 4
    write_parquet(tmp_path / "2.parquet", len(platform), spec=spec, row_group_rows=60_000, platform=platform)
    dataset = ParquetDataset(str(tmp_path / "*.parquet"), spec)
    for batches in (dataset.batches(4096), dataset.shuffled_batches(4096, seed=0)):
        with pytest.raises(DataError, match=r"2\.parquet: column platform, row 170001 holds 4"):
            list(batches)


def test_rows_are_numbered_without_group_ids(tmp_path: Path) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.parquet", display=None)
    dataset = ParquetDataset(str(tmp_path / "*.parquet"), dataclasses.replace(SPEC, group_id=None))
    for batches in (dataset.batches(3), dataset.shuffled_batches(3, seed=1)):
        assert [batch.ids.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6, 7]]


def test_reader_thread_ends_with_its_consumer(tmp_path: Path, write_parquet: WriteParquet) -> None:
    write_parquet(tmp_path / "a.parquet", 600_000, row_group_rows=50_000)
    dataset = ParquetDataset(str(tmp_path / "a.parquet"), outbrain_spec())
    before = threading.active_count()
    batches = dataset.batches(1000)
    next(batches)
    assert threading.active_count() == before + 1
    del batches
    assert threading.active_count() == before


def test_program_ends_before_all_batches_are_read(tmp_path: Path, write_parquet: WriteParquet) -> None:
    write_parquet(tmp_path / "a.parquet", 600_000, row_group_rows=50_000)
    program = f"""
from widedeep.features.outbrain import outbrain_spec
from widedeep.data.parquet import ParquetDataset
batches = ParquetDataset({str(tmp_path / "a.parquet")!r}, outbrain_spec()).batches(1000)
print(len(next(batches)))
"""
    assert run([sys.executable, "-c", program], log_path=tmp_path / "log", timeout_s=30).stdout == "1000\n"


def test_memory_does_not_grow_with_the_row_groups_of_a_file(tmp_path: Path) -> None:
    held: dict[int, int] = {}
    rows = 100_000
    for groups in (2, 12):
        path = tmp_path / f"{groups}_groups.parquet"
        columns = {name: np.random.default_rng(0).random(rows * groups) for name in "ab"}
        pq.write_table(pa.table(columns), path, row_group_size=rows)
        before = pa.total_allocated_bytes()
        with open_parquet(path) as file:
            chunks = read_chunks(file, path, rows, list(columns))
            held[groups] = max(pa.total_allocated_bytes() - before for _ in chunks)
    assert held[12] < 1.5 * held[2], held


def test_small_row_groups_are_read_together(tmp_path: Path) -> None:
    path = tmp_path / "small_groups.parquet"
    pq.write_table(pa.table({"a": np.arange(1_000)}), path, row_group_size=30)
    with open_parquet(path) as file:
        chunks = list(read_chunks(file, path, 100, ["a"]))
        some = list(read_chunks(file, path, 100, ["a"], [33, 0]))
    assert len(chunks) <= 2 * 10
    assert [value for chunk in chunks for value in chunk["a"].to_pylist()] == list(range(1_000))
    assert [value for chunk in some for value in chunk["a"].to_pylist()] == [*range(990, 1_000), *range(30)]


def test_shuffling_keeps_the_rows_and_follows_the_seed(tmp_path: Path, write_parquet: WriteParquet) -> None:
    for number in range(3):
        write_parquet(tmp_path / f"{number}.parquet", 700, seed=number, row_group_rows=300)
    dataset = ParquetDataset(str(tmp_path / "*.parquet"), outbrain_spec())

    def rows(batches: Any) -> list[tuple[float, ...]]:
        names = ("ad_id", "ad_id_ctr", "platform")
        found = [zip(b.ids, *(b.x[name][:, 0] for name in names), strict=True) for b in batches]
        return [tuple(float(value) for value in row) for batch in found for row in batch]

    in_order = rows(dataset.batches(256))
    orders = {seed: rows(dataset.shuffled_batches(256, seed=seed, pool_rows=1000)) for seed in (1, 2)}
    assert sorted(orders[1]) == sorted(orders[2]) == sorted(in_order)
    assert orders[1] == rows(dataset.shuffled_batches(256, seed=1, pool_rows=1000))
    assert orders[1] != orders[2] != in_order
    assert sum(a == b for a, b in zip(orders[1], in_order, strict=True)) < 50
