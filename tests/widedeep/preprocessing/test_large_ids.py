"""Ids above 2^31: from the raw files through data set, loaders, dump and metrics."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from deployment_toolkit.core import Batch, Prediction
from deployment_toolkit.errors import DataError
from deployment_toolkit.rows.dump import Dump, DumpFormat, DumpOptions, DumpWriter
from metrics import MetricsCalculator
from raw_dataloader import get_dataloader_fn
from tests.conftest import WriteParquet
from widedeep.data.dataset_folder import DatasetFolder
from widedeep.data.parquet import ParquetDataset
from widedeep.features.outbrain import outbrain_spec
from widedeep.features.spec import OUTPUT_NAME, FeatureSpec
from widedeep.preprocessing.dataset import PreprocessingOptions, preprocess
from widedeep.preprocessing.joined_clicks import join_clicks
from widedeep.preprocessing.raw_csv import CLICKS, EVENTS
from widedeep.preprocessing.raw_features import load_raw_features
from widedeep.preprocessing.tasks.layout import Layout
from widedeep.preprocessing.tasks.steps import Steps
from widedeep.raw_rows import RawRowsOptions, join_raw_rows

MORE = 2**40
ADDED = np.array([0, 9 * 10**5 * 2**17, MORE])  # in text, the second begins with a larger digit
LARGE = {"ad_id": 2**36, "topic_id_list": 2**35}  # tables of such cardinalities; the others are Outbrain's


@pytest.fixture
def large_raw(raw: Path) -> Path:
    """Raw tables in which two of three displays have ids above 2^31."""
    for name in (CLICKS, EVENTS):
        table = pd.read_csv(raw / name, dtype=str, keep_default_na=False)
        ids = table.display_id.astype(np.int64)
        table.display_id = ids + ADDED[ids % 3]
        table.to_csv(raw / name, index=False)
    return raw


def _large_spec() -> FeatureSpec:
    spec = outbrain_spec()
    onehot, multihot = (
        tuple(
            dataclasses.replace(item, dtype="int64", cardinality=LARGE[item.name]) if item.name in LARGE else item
            for item in features
        )
        for features in (spec.onehot, spec.multihot)
    )
    return dataclasses.replace(spec, onehot=onehot, multihot=multihot)


def test_large_ids_stay_themselves_from_raw_files_to_metrics(large_raw: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(_large_spec().to_yaml())
    rows = preprocess(PreprocessingOptions(large_raw, tmp_path / "data", tmp_path / "spec.yaml"))
    folder = DatasetFolder(tmp_path / "data")
    spec = folder.spec(None)
    (batch,) = ParquetDataset(folder.patterns("test"), spec).batches(rows["valid"])
    clicks = pd.read_csv(large_raw / CLICKS)
    assert batch.ids.dtype == np.int64
    assert (np.diff(batch.ids) >= 0).all() and (batch.ids < 2**31).any() and (batch.ids > MORE).any()
    expected = clicks[clicks.display_id.isin(batch.ids)].sort_values("display_id", kind="stable")
    assert batch.ids.tolist() == expected.display_id.tolist()
    assert batch.y["clicked"].ravel().tolist() == expected.clicked.tolist()
    for name, cardinality in LARGE.items():
        assert batch.x[name].dtype == np.int64
        assert 2**31 < batch.x[name].max() < cardinality
        assert batch.x[name].min() >= -1

    join_raw_rows(RawRowsOptions(large_raw, tmp_path / "joined"))
    loader = get_dataloader_fn(
        data_pattern=str(tmp_path / "joined" / "valid" / "*.parquet"),
        batch_size=rows["valid"],
        feature_spec=tmp_path / "data" / "feature_spec.yaml",
    )
    ((ids, raw_x, _),) = loader()
    assert ids.tolist() == batch.ids.tolist()
    made = load_raw_features(tmp_path / "data" / "workflow", spec).infer_impl(raw_x)
    for name, array in batch.x.items():
        np.testing.assert_array_equal(made[name], array, name)


def test_joined_files_are_in_the_order_of_large_ids(large_raw: Path, tmp_path: Path) -> None:
    files = join_clicks(large_raw, tmp_path, Steps(Layout(piece_bytes=900, sample_rows=8, bucket_rows=80)))["train"]
    ids = np.concatenate([pq.read_table(tmp_path / file.path)["display_id"].to_numpy() for file in files])
    assert len(files) > 2 and (np.diff(ids) >= 0).all() and ids.max() > MORE


@pytest.mark.parametrize("dump_format", DumpFormat)
def test_dump_and_metrics_tell_groups_with_large_ids_apart(dump_format: DumpFormat, tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    small = np.repeat(np.arange(40), 4)
    ids = np.where(small % 2, small + 2**32, small)  # 1 and 2^32 + 1 are one number in 32 bits
    ids[small % 2 == 1] -= 1
    scores, labels = generator.random((160, 1), np.float32), (generator.random((160, 1)) < 0.3).astype(np.int32)
    with DumpWriter(DumpOptions(tmp_path / "dump", dump_labels=True, dump_format=dump_format)) as writer:
        writer.write(Prediction(Batch(ids, {}, {"clicked": labels}), {OUTPUT_NAME: scores}))
    (read,) = Dump(tmp_path / "dump").predictions()
    assert read.batch.ids.tolist() == ids.tolist()

    def map12(groups: np.ndarray) -> float:
        calculator = MetricsCalculator()
        calculator.update(groups, read.y_pred, None, read.batch.y)
        return calculator.metrics["map12"]

    assert map12(read.batch.ids) == pytest.approx(map12(small), abs=1e-12)
    assert map12(read.batch.ids) != pytest.approx(map12(ids.astype(np.int32)), abs=1e-3)


def test_random_rows_and_older_files_are_read_as_the_specification_says(
    write_parquet: WriteParquet, tmp_path: Path
) -> None:
    spec = outbrain_spec()
    assert spec.group_id is not None and spec.group_id.dtype == "int64"
    older = dataclasses.replace(spec, group_id=dataclasses.replace(spec.group_id, dtype="int32"))
    large = write_parquet(tmp_path / "large.parquet", 4, display_id=np.arange(4) + MORE)
    (batch,) = ParquetDataset(str(large), spec).batches(4)
    assert batch.ids.tolist() == [MORE, MORE + 1, MORE + 2, MORE + 3]
    with pytest.raises(DataError, match=rf"display_id, row 0 holds {MORE}, .*name a wider dtype than int32"):
        list(ParquetDataset(str(large), older).batches(4))
    written = write_parquet(tmp_path / "older.parquet", 10, spec=older)
    for reader, dtype in ((spec, np.int64), (older, np.int32)):
        (batch,) = ParquetDataset(str(written), reader).batches(10)
        assert batch.ids.dtype == dtype and batch.ids.tolist() == [0] * 5 + [1] * 5


def test_display_that_the_specification_has_no_room_for_is_refused(large_raw: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(
        outbrain_spec().to_yaml().replace("display_id:\n    dtype: int64", "display_id:\n    dtype: int32")
    )
    with pytest.raises(DataError, match=r"column display_id holds \d+ in line \d+: outside 0 \.\. 2147483647, .*int64"):
        preprocess(PreprocessingOptions(large_raw, tmp_path / "data", tmp_path / "spec.yaml"))
