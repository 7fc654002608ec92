from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deployment_toolkit.errors import DataError
from tf_dataloader import data_errors, train_input_fn
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
