"""Preprocessing of 1,500 generated displays, compared with plain pandas and numpy on the raw CSVs."""

from __future__ import annotations

import json
import logging
import math
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Array
from deployment_toolkit.errors import DataError, ProcessError, UsageError
from deployment_toolkit.process import run
from widedeep.data.dataset_folder import DatasetFolder
from widedeep.data.parquet import ParquetDataset
from widedeep.features.files import to_table
from widedeep.features.outbrain import MULTIHOT, NUMERICAL, ONEHOT, embedding_widths, outbrain_spec, raw_origin
from widedeep.features.spec import load_feature_spec
from widedeep.model.embedding_sizes import load_embedding_sizes
from widedeep.preprocessing import raw_csv
from widedeep.preprocessing.dataset import PreprocessingOptions, preprocess
from widedeep.preprocessing.documents import hash_ids
from widedeep.preprocessing.joined_clicks import join_clicks
from widedeep.preprocessing.nvtabular_import import import_nvtabular
from widedeep.preprocessing.raw_features import load_raw_features
from widedeep.preprocessing.tasks.layout import Layout
from widedeep.preprocessing.tasks.steps import Steps
from widedeep.preprocessing.workflow_file import load_workflow
from widedeep.synthetic import SyntheticOptions, generate

SPLITS = ("train", "valid")
DAY_MS = 86_400_000
SAMPLE = 150


@pytest.fixture(scope="module")
def raw_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preprocessing") / "raw"
    generate(SyntheticOptions(folder, 1_500, seed=7))
    return folder


@pytest.fixture(scope="module")
def output_dir(raw_dir: Path) -> Path:
    preprocess(PreprocessingOptions(raw_dir, raw_dir.parent / "out"))
    return raw_dir.parent / "out"


@pytest.fixture(scope="module")
def features(output_dir: Path) -> dict[str, pd.DataFrame]:
    return {split: pq.read_table(output_dir / split).to_pandas() for split in SPLITS}


@pytest.fixture(scope="module")
def raw(raw_dir: Path, features: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The joined raw rows of each split, in the order of the clicks file."""
    clicks, events, ads, meta = (
        pd.read_csv(raw_dir / name, na_values=["\\N"])
        for name in ("clicks_train.csv", "events.csv", "promoted_content.csv", "documents_meta.csv")
    )
    without = meta.publisher_id.isna()
    meta.publisher_id = meta.publisher_id.fillna(without.cumsum() + meta.publisher_id.max() + 1)  # as in the original
    joined = clicks.merge(events, on="display_id", how="left").merge(
        ads.rename(columns={"document_id": "document_id_promo"}), on="ad_id", how="left"
    )
    joined = joined.merge(meta, on="document_id", how="left")
    joined = joined.merge(meta.add_suffix("_promo"), on="document_id_promo", how="left")
    return {split: joined[joined.display_id.isin(features[split].display_id)].reset_index() for split in SPLITS}


def test_output_files_have_the_columns_and_types_of_the_feature_spec(output_dir: Path) -> None:
    spec = load_feature_spec(output_dir / "feature_spec.yaml")
    assert spec.columns == outbrain_spec().columns
    assert spec.files == {"train": ("train/*.parquet",), "test": ("valid/*.parquet",)}
    assert DatasetFolder(output_dir).sizes_path == output_dir / "embedding_sizes.json"
    assert json.loads((output_dir / "embedding_sizes.json").read_text()) == embedding_widths(spec)
    for split in SPLITS:
        (path,) = output_dir.glob(f"{split}/*.parquet")
        schema = pq.read_schema(path)
        assert set(schema.names) == {feature.name for feature in spec.columns}
        for feature in spec.columns:
            wanted = pa.list_(pa.int32()) if feature.max_hotness else pa.type_for_alias(feature.dtype)
            assert schema.field(feature.name).type == wanted, feature.name


def test_features_have_no_nulls_and_ids_are_below_the_cardinality(features: dict[str, pd.DataFrame]) -> None:
    for frame in features.values():
        assert not frame.isna().any().any()
        assert np.isfinite(frame[list(NUMERICAL)].to_numpy()).all()
        assert frame.clicked.isin([0, 1]).all()
        for name, (cardinality, _) in ONEHOT.items():
            assert frame[name].between(0, cardinality - 1).all(), name
        for name, (cardinality, _, hotness) in MULTIHOT.items():
            assert frame[name].map(len).between(1, hotness).all(), name
            assert np.concatenate(frame[name]).min() >= 0
            assert np.concatenate(frame[name]).max() < cardinality


def test_display_is_in_one_split_with_its_rows_in_order(
    raw_dir: Path, raw: dict[str, pd.DataFrame], features: dict[str, pd.DataFrame]
) -> None:
    train, valid = (set(features[split].display_id) for split in SPLITS)
    assert not train & valid
    assert len(train | valid) == 1_500
    for split in SPLITS:
        assert features[split].display_id.tolist() == raw[split].display_id.tolist()
        assert features[split].clicked.tolist() == raw[split].clicked.tolist()
        assert features[split].ad_id.tolist() == _buckets(raw[split].ad_id.to_numpy(), "ad_id").tolist()
    assert (raw["train"].timestamp < 11 * DAY_MS).all()
    early = raw["valid"][raw["valid"].timestamp < 11 * DAY_MS].display_id.nunique()
    assert early / (early + len(train)) == pytest.approx(0.2, abs=0.04)


@pytest.mark.parametrize(
    ("key", "threshold"),
    [
        ("ad_id", 5),
        ("document_id_promo", 5),
        ("campaign_id", 10),
        ("advertiser_id", 10),
        ("source_id_promo", 10),
        ("publisher_id_promo", 10),
    ],
)
def test_click_rates_come_from_frequent_values_of_the_training_rows(
    raw: dict[str, pd.DataFrame], features: dict[str, pd.DataFrame], key: str, threshold: int
) -> None:
    seen = raw["train"].groupby(key).clicked.agg(["mean", "count"])
    rates = seen["mean"].where(seen["count"] >= threshold, 0.0)
    for split in SPLITS:
        expected = raw[split][key].map(rates).fillna(0.0)
        assert expected.gt(0).any()
        np.testing.assert_allclose(features[split][f"{key}_ctr"], expected, rtol=1e-6)


@pytest.mark.parametrize("key", ["ad_id", "document_id_promo"])
def test_counts_are_standardised_logarithms_over_the_training_rows(
    raw: dict[str, pd.DataFrame], features: dict[str, pd.DataFrame], key: str
) -> None:
    counts = raw["train"][key].value_counts()
    logs = {split: np.log1p(raw[split][key].map(counts).fillna(0.0)) for split in SPLITS}
    for split in SPLITS:
        expected = (logs[split] - logs["train"].mean()) / logs["train"].std()
        np.testing.assert_allclose(features[split][f"{key}_count"], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("column", ["publish_time", "publish_time_promo"])
def test_days_since_published_equal_the_pandas_result(
    raw: dict[str, pd.DataFrame], features: dict[str, pd.DataFrame], column: str
) -> None:
    def age(frame: pd.DataFrame) -> pd.Series:
        shown = pd.to_datetime(frame.timestamp + 1_465_876_799_998, unit="ms")
        return (shown - pd.to_datetime(frame[column])).dt.days

    def days(frame: pd.DataFrame) -> pd.Series:
        return age(frame).where(age(frame).isna() | age(frame).between(0, 3650), 0)

    assert (age(raw["train"]) < 0).any()  # published after it was shown
    assert age(raw["valid"]).isna().any()
    median = days(raw["train"]).median()
    for split in SPLITS:
        expected = np.log1p(days(raw[split]).fillna(median))
        np.testing.assert_allclose(features[split][f"{column}_days_since_published"], expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["topics", "categories", "entities"])
def test_similarity_is_the_tf_idf_cosine(
    raw_dir: Path, raw: dict[str, pd.DataFrame], features: dict[str, pd.DataFrame], kind: str
) -> None:
    table = pd.read_csv(raw_dir / f"documents_{kind}.csv")
    tag = table.columns[1]
    documents_with = Counter(table[tag])
    rows = table.document_id.max() + 1
    weights: dict[int, dict[object, float]] = {}
    for document, name, confidence in table.itertuples(index=False):
        weights.setdefault(document, {})[name] = confidence * math.log(rows / documents_with[name])

    def cosine(left: int, right: int) -> float:
        a, b = weights.get(left, {}), weights.get(right, {})
        length = math.hypot(*a.values()) * math.hypot(*b.values())
        return sum(a[name] * b[name] for name in a.keys() & b.keys()) / length if length else 0.0

    frame = raw["valid"]
    expected = [cosine(*pair) for pair in zip(frame.document_id, frame.document_id_promo, strict=True)]
    assert np.count_nonzero(expected) > 20
    name = f"document_id_document_id_promo_sim_{kind}"
    np.testing.assert_allclose(features["valid"][name], expected, rtol=1e-5, atol=1e-7)


def test_ids_and_places_are_hashed_equally_in_both_splits(
    raw: dict[str, pd.DataFrame], features: dict[str, pd.DataFrame]
) -> None:
    for split in SPLITS:
        geo = raw[split].geo_location.fillna("")
        values = {
            "geo_location": geo,
            "geo_location_country": geo.str[:2],
            "geo_location_state": geo.str[:5],
            "document_id": raw[split].document_id,
            "publisher_id_promo": raw[split].publisher_id_promo.fillna(-1).astype("int64"),
            "source_id": raw[split].source_id.fillna(-1).astype("int64"),
        }
        for name, column in values.items():
            assert features[split][name].tolist() == _buckets(column.to_numpy(), name).tolist(), name
        assert features[split].platform.tolist() == (raw[split].platform.fillna(1) - 1).tolist()


def test_lists_hold_the_three_strongest_tags(
    raw_dir: Path, raw: dict[str, pd.DataFrame], features: dict[str, pd.DataFrame]
) -> None:
    for kind, name in raw_csv.TAG_LISTS.items():
        table = pd.read_csv(raw_dir / f"documents_{kind}.csv").sort_values("confidence_level", ascending=False)
        strongest = table.groupby("document_id")[table.columns[1]].apply(lambda tags: tags.to_numpy()[:3])
        without = 0
        for document, buckets in zip(raw["valid"].document_id[:SAMPLE], features["valid"][name][:SAMPLE], strict=True):
            if document in strongest.index:
                expected = (1 + hash_ids(strongest[document], MULTIHOT[name][0] - 1)).tolist()
            else:
                expected, without = [0], without + 1
            assert buckets.tolist() == expected
        assert 0 < without < SAMPLE


def test_saved_workflow_gives_the_same_features_without_the_label(
    raw_dir: Path, output_dir: Path, features: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    files = _join(raw_dir, tmp_path)
    workflow = import_nvtabular().Workflow.load(str(output_dir / "workflow"))  # NVTabular itself can read it
    workflow.remove_inputs(["clicked"])
    answered = workflow.transform(pq.read_table(files["valid"]).to_pandas().drop(columns="clicked"))
    for feature in outbrain_spec().inputs:
        assert answered[feature.name].map(np.ravel).map(list).tolist() == [
            list(np.ravel(value)) for value in features["valid"][feature.name]
        ], feature.name


def test_workflow_takes_the_dtypes_of_the_joined_columns_and_makes_those_of_the_features(output_dir: Path) -> None:
    spec = load_feature_spec(output_dir / "feature_spec.yaml")
    model = load_raw_features(output_dir / "workflow", spec)
    dtypes = {tensor.name: tensor.dtype for tensor in model.spec.inputs}
    others = {"geo_location": "object", "publish_time": "float64", "publish_time_promo": "float64"}
    assert {name: dtypes.pop(name) for name in others} == others
    assert len(dtypes) == 11 and set(dtypes.values()) == {"int64"}
    made = load_workflow(output_dir / "workflow").output_schema
    found = {column.name: (str(column.dtype.name), bool(column.is_list)) for column in made}
    assert found == {feature.name: (feature.dtype, bool(feature.max_hotness)) for feature in spec.columns}


def test_joining_does_not_depend_on_chunks_or_on_the_order_of_displays(
    raw_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "whole").mkdir()
    whole = _join(raw_dir, tmp_path / "whole")
    turned = tmp_path / "raw"
    shutil.copytree(raw_dir, turned)
    for name in ("clicks_train.csv", "events.csv"):
        pd.read_csv(raw_dir / name, dtype=str, keep_default_na=False).sort_values(
            "display_id", kind="stable", key=lambda ids: -ids.astype(int)
        ).to_csv(turned / name, index=False)
    monkeypatch.setattr(raw_csv, "_BLOCK_BYTES", 20_000)
    (tmp_path / "parts").mkdir()
    parts = _join(
        turned, tmp_path / "parts", Layout(piece_bytes=30_000, run_rows=900, sample_rows=64, bucket_rows=2_000)
    )
    for split in SPLITS:
        assert len(whole[split]) == 1
        assert len(parts[split]) > 2
        joined = pa.concat_tables(map(pq.read_table, parts[split])).to_pandas()
        pd.testing.assert_frame_equal(joined, pq.read_table(whole[split][0]).to_pandas())


def test_features_of_missing_document_tables_are_empty(
    raw_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = tmp_path / "raw"
    bare.mkdir()
    for name in raw_csv.REQUIRED_FILES:
        shutil.copy(raw_dir / name, bare)
    with caplog.at_level(logging.WARNING):
        preprocess(PreprocessingOptions(bare, tmp_path / "out"))
    warnings = [record.getMessage() for record in caplog.records if record.name == "preprocessing"]
    assert len(warnings) == 1
    assert all(name in warnings[0] for name in raw_csv.SCHEMAS if name.startswith("documents_"))
    frame = pq.read_table(tmp_path / "out" / "valid").to_pandas()
    assert not frame.isna().any().any()
    empty = [name for name in NUMERICAL if "_sim_" in name or "days" in name or "publisher" in name or "source" in name]
    assert len(empty) == 7
    assert (frame[empty] == 0).all().all()
    assert all(frame[name].map(list).map([0].__eq__).all() for name in MULTIHOT)
    assert frame.ad_id_ctr.gt(0).any()


def test_specification_and_embedding_sizes_are_used_and_kept(tmp_path: Path) -> None:
    generate(SyntheticOptions(tmp_path / "raw", 300, seed=3))
    text = outbrain_spec().to_yaml().replace("cardinality: 250000", "cardinality: 40").replace("    dtype:", "    #")
    (tmp_path / "spec.yaml").write_text(text)  # without dtypes, as the original writes it
    (tmp_path / "sizes.yaml").write_text("ad_id: 5")
    out = tmp_path / "out"
    options = PreprocessingOptions(tmp_path / "raw", out, tmp_path / "spec.yaml", tmp_path / "sizes.yaml")
    rows = preprocess(options)
    folder = DatasetFolder(out)
    spec = folder.spec(None)
    assert {feature.name: feature.dtype for feature in (spec.label, spec.group_id) if feature} == {
        "clicked": "float32",
        "display_id": "int64",
    }
    sizes = load_embedding_sizes(folder.sizes_path, spec)
    assert (sizes["ad_id"], sizes["platform"]) == (5, 19)
    dataset = ParquetDataset(folder.patterns("test"), spec)
    assert dataset.num_rows == rows["valid"]
    (batch,) = dataset.batches(rows["valid"])
    assert (str(batch.ids.dtype), str(batch.y["clicked"].dtype)) == ("int64", "float32")
    assert batch.x["ad_id"].max() < 40

    (tmp_path / "sizes.yaml").write_text("\nad_idd: 5")
    with pytest.raises(DataError, match=r"sizes\.yaml:2: ad_idd is no categorical feature .*, did you mean ad_id\?"):
        preprocess(
            PreprocessingOptions(tmp_path / "raw", tmp_path / "o", tmp_path / "spec.yaml", tmp_path / "sizes.yaml")
        )
    (tmp_path / "spec.yaml").write_text(text.replace("  - display_id\n", "", 1).replace("  map:", "  map: []"))
    with pytest.raises(UsageError, match="differs from what is made of Outbrain's files in display_id"):
        preprocess(PreprocessingOptions(tmp_path / "raw", tmp_path / "other", tmp_path / "spec.yaml"))
    assert not (tmp_path / "other").exists()


def test_output_folder_may_be_a_link_and_have_the_letters_of_patterns(
    raw_dir: Path, output_dir: Path, tmp_path: Path
) -> None:
    disk, link = tmp_path / "disk [2] it's é *", tmp_path / "outbrain [2]"
    disk.mkdir()
    link.symlink_to(disk)
    preprocess(PreprocessingOptions(raw_dir, link))
    assert link.is_symlink()
    for split in SPLITS:
        assert pq.read_table(f"{disk}/{split}").equals(pq.read_table(output_dir / split))
    dataset = DatasetFolder(link)
    assert ParquetDataset(dataset.patterns("test"), dataset.spec(None)).num_rows > 0
    spec = load_feature_spec(disk / "feature_spec.yaml")
    assert load_raw_features(disk / "workflow", spec).spec.outputs == spec.model_spec.inputs


@pytest.mark.parametrize("name", raw_csv.REQUIRED_FILES)
def test_missing_click_or_event_file_is_an_error(raw_dir: Path, tmp_path: Path, name: str) -> None:
    _expect_error(raw_dir, tmp_path, {name: None}, name)


def test_packed_tables_give_the_same_features(raw_dir: Path, features: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name in raw_csv.SCHEMAS:
        with zipfile.ZipFile(tmp_path / "raw" / f"{name}.zip", "w") as archive:
            archive.write(raw_dir / name, name)
    preprocess(PreprocessingOptions(tmp_path / "raw", tmp_path / "out"))
    for split in SPLITS:
        pd.testing.assert_frame_equal(pq.read_table(tmp_path / "out" / split).to_pandas(), features[split])


def test_missing_column_is_named(raw_dir: Path, tmp_path: Path) -> None:
    text = (raw_dir / "promoted_content.csv").read_text().replace("campaign_id", "camp", 1)
    _expect_error(raw_dir, tmp_path, {"promoted_content.csv": text}, r"promoted_content\.csv lacks .* campaign_id")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("events.csv", "", r"events\.csv is empty"),
        ("clicks_train.csv", "display_id,ad_id,clicked\n", r"clicks_train\.csv has no rows"),
        ("clicks_train.csv", "display_id,ad_id,clicked\n1,x,0\n", r"clicks_train\.csv .* column ad_id.* 'x'"),
        ("clicks_train.csv", "display_id,ad_id,clicked\n1,,0\n", r"clicks_train\.csv: column ad_id is empty"),
        ("clicks_train.csv", "display_id,ad_id,clicked\n1,2,5\n", r"clicks_train\.csv: column clicked holds 5"),
        (
            "clicks_train.csv",
            "display_id,ad_id,clicked\n1,2,1\n",
            r"clicks_train\.csv: no display falls into .*; by events\.csv they are of days 0 to 0: give more",
        ),
        (
            "clicks_train.csv",
            "display_id,ad_id,clicked\n9000,2,1\n",
            r"none of its display_id is in .*events\.csv: give",
        ),
    ],
)
def test_bad_raw_file_is_named(raw_dir: Path, tmp_path: Path, name: str, text: str, message: str) -> None:
    _expect_error(raw_dir, tmp_path, {name: text}, message)


def test_null_feature_is_told_with_the_raw_file_that_it_comes_from() -> None:
    schema = pa.schema([("publish_time_promo_days_since_published", pa.float32())])
    with pytest.raises(DataError, match=r"has 1 nulls, the first in row 1: .* look into .* of documents_meta\.csv"):
        to_table(pd.DataFrame({schema.names[0]: [1.0, None]}), schema)
    assert {name: raw_origin(name) for name in (*NUMERICAL[::4], *ONEHOT, *MULTIHOT)} == {
        "document_id_document_id_promo_sim_categories": "documents_categories.csv",
        "publisher_id_promo_ctr": "documents_meta.csv",
        "ad_id_ctr": "clicks_train.csv",
        "publish_time_promo_days_since_published": "publish_time of documents_meta.csv or timestamp of events.csv",
        **dict.fromkeys(("ad_id",), "clicks_train.csv"),
        **dict.fromkeys(("document_id", "platform"), "events.csv"),
        **dict.fromkeys(("geo_location", "geo_location_country", "geo_location_state"), "events.csv"),
        **dict.fromkeys(("document_id_promo", "campaign_id", "advertiser_id"), "promoted_content.csv"),
        **dict.fromkeys(("source_id", "source_id_promo"), "documents_meta.csv"),
        **dict.fromkeys(("publisher_id", "publisher_id_promo"), "documents_meta.csv"),
        "topic_id_list": "documents_topics.csv",
        "entity_id_list": "documents_entities.csv",
        "category_id_list": "documents_categories.csv",
    }


def test_clicks_without_event_are_left_out_with_a_warning(
    raw_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed = tmp_path / "raw"
    shutil.copytree(raw_dir, changed)
    with (changed / "clicks_train.csv").open("a") as file:
        file.write("9000,1,1\n")
    with caplog.at_level(logging.WARNING):
        files = _join(changed, tmp_path)
    assert "1 clicks left out" in caplog.text
    for path in (*files["train"], *files["valid"]):
        assert 9_000 not in pq.read_table(path).column("display_id").to_pylist()


def test_output_folder_with_files_is_replaced_only_with_force(raw_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds files.*--force"):
        PreprocessingOptions(raw_dir, tmp_path)
    with pytest.raises(UsageError, match="holds the raw files"):
        PreprocessingOptions(raw_dir, raw_dir, force=True)
    PreprocessingOptions(raw_dir, tmp_path, force=True)


def test_preproc_script_error_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    options: list[str | Path] = ["--raw-dir", tmp_path / "nowhere", "--output-dir", tmp_path / "out"]
    with pytest.raises(ProcessError) as raised:
        run([ROOT / "scripts" / "preproc.sh", *options], log_path=tmp_path / "log")
    assert raised.value.returncode == 1
    assert raised.value.stderr.startswith("error: there is no folder")
    assert raised.value.stderr.count("\n") == 1


def _buckets(values: Array, name: str) -> Array:
    return np.asarray(pd.util.hash_array(values) % np.uint64(ONEHOT[name][0]))


def _join(raw_dir: Path, work_dir: Path, layout: Layout | None = None) -> dict[str, list[Path]]:
    joined = join_clicks(raw_dir, work_dir, Steps(layout))
    return {side: [work_dir / file.path for file in files] for side, files in joined.items()}


def _expect_error(raw_dir: Path, tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    """Preprocesses a copy of the raw files with these texts, or without these files. It must fail and leave no
    files."""
    changed = tmp_path / "raw"
    shutil.copytree(raw_dir, changed)
    for name, text in changes.items():
        (changed / name).unlink()
        if text is not None:
            (changed / name).write_text(text)
    with pytest.raises(DataError, match=message):
        preprocess(PreprocessingOptions(changed, tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
