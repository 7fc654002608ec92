from __future__ import annotations

import glob
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deployment_toolkit.errors import DataError
from tf_dataloader import data_errors, eval_input_fn, train_input_fn
from widedeep.data.parquet import ParquetDataset
from widedeep.features.outbrain import outbrain_spec

WriteParquet = Callable[..., Path]


def ads(dataset: tf.data.Dataset) -> list[int]:
    return [int(ad) for x, _ in dataset for ad in x["ad_id"][:, 0]]


def test_training_batches_fit_the_model(tmp_path: Path, write_parquet: WriteParquet) -> None:
    spec = outbrain_spec()
    write_parquet(tmp_path / "a.parquet", 250)
    dataset = train_input_fn(data_pattern=str(tmp_path / "*.parquet"), feature_spec=spec, batch_size=100, shuffle=False)
    batches = list(dataset)
    assert len(dataset) == 3
    x = [{name: tensor.numpy() for name, tensor in x.items()} for x, _ in batches]
    assert [spec.model_spec.check_inputs(batch) for batch in x] == [100, 100, 50]
    assert np.concatenate([y.numpy() for _, y in batches])[:, 0].tolist() == [int(row % 5 == 0) for row in range(250)]


def test_epochs_are_shuffled_differently_and_reproducibly(tmp_path: Path, write_parquet: WriteParquet) -> None:
    for number in range(2):
        write_parquet(tmp_path / f"{number}.parquet", 300, seed=number, row_group_rows=100)

    def make(seed: int, epochs: int | None = 2, shuffle: bool = True) -> tf.data.Dataset:
        return train_input_fn(
            data_pattern=str(tmp_path / "*.parquet"),
            feature_spec=outbrain_spec(),
            batch_size=128,
            shuffle=shuffle,
            seed=seed,
            epochs=epochs,
        )

    in_order = ads(make(0, epochs=1, shuffle=False))
    found = ads(make(seed=3))
    first, second = found[:600], found[600:]
    assert len(make(seed=3)) == 10
    assert sorted(first) == sorted(second) == sorted(in_order)
    assert first != second
    assert first != in_order
    assert found == ads(make(seed=3))
    assert found != ads(make(seed=4))
    endless = make(seed=3, epochs=None)
    assert endless.cardinality() == tf.data.INFINITE_CARDINALITY
    assert ads(endless.take(10)) == found


def test_training_needs_no_group_ids(tmp_path: Path, write_parquet: WriteParquet) -> None:
    path = write_parquet(tmp_path / "a.parquet", 50, display_id=None)
    assert len(ads(train_input_fn(data_pattern=str(path), feature_spec=outbrain_spec(), batch_size=20))) == 50


def test_wrong_value_in_training_data_is_reported_with_its_row(tmp_path: Path, write_parquet: WriteParquet) -> None:
    platform = np.ones(100, np.int32)
    platform[42] = 4
    path = write_parquet(tmp_path / "a.parquet", 100, platform=platform)
    dataset = train_input_fn(data_pattern=str(path), feature_spec=outbrain_spec(), batch_size=10)
    with (
        pytest.raises(DataError, match=r"a\.parquet: column platform, row 42 holds 4, outside 0 \.\. 3"),
        data_errors(),
    ):
        list(dataset)


def test_rows_of_files_are_read_in_their_order(tmp_path: Path, write_parquet: WriteParquet) -> None:
    folder = tmp_path / "copy [1]"
    paths = [write_parquet(folder / f"part_{name}.parquet", rows, seed=rows) for name, rows in (("b", 250), ("a", 80))]
    dataset = eval_input_fn(files_path=list(map(str, paths)), records_batch_size=100)
    batches = list(dataset)
    assert len(dataset) == 4
    spec = outbrain_spec()
    x = [{name: tensor.numpy() for name, tensor in x.items()} for x, _, _ in batches]
    assert [spec.model_spec.check_inputs(batch) for batch in x] == [100, 100, 100, 30]
    source = [batch for path in paths for batch in ParquetDataset(glob.escape(str(path)), spec).batches(1000)]
    found = [np.concatenate([batch[part].numpy() for batch in batches]) for part in (1, 2)]
    assert found[0].tolist() == [row for batch in source for row in batch.y["clicked"].tolist()]
    assert found[1].tolist() == [number for batch in source for number in batch.ids.tolist()]


def test_rows_of_files_have_the_specification_of_their_folder(tiny_folder: Path) -> None:
    ((x, y, ids),) = eval_input_fn([tiny_folder / "rows.parquet"], 1000)
    assert (sorted(x), y.shape, ids.shape) == (["ad", "ad_age", "price", "tags", "zone"], (700, 1), (700,))
    with pytest.raises(DataError, match="eval_input_fn got no files"):
        eval_input_fn([], 1000)
