from __future__ import annotations

from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from widedeep.data.dataset_folder import DatasetFolder
from widedeep.features.outbrain import outbrain_spec
from widedeep.features.spec import Feature, FeatureSpec

FILES = {"train": ("a.parquet", "/abs/b.parquet"), "test": ("c/*.parquet",)}
SPEC = FeatureSpec((Feature("price", "float32"),), (), (), Feature("bought", "int32"), None, FILES)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    folder = tmp_path / "shop [new]"
    (folder / "valid").mkdir(parents=True)
    (folder / "feature_spec.yaml").write_text(SPEC.to_yaml())
    return folder


@pytest.mark.parametrize("below", ["valid/*.parquet", "valid/part.parquet", "*.parquet", "part.parquet"])
def test_files_belong_to_the_folder_with_the_specification(dataset: Path, below: str) -> None:
    plain = dataset.with_name("shop")
    dataset.rename(plain)
    assert DatasetFolder.of_pattern(f"{plain}/{below}") == DatasetFolder(plain)
    assert DatasetFolder.of_pattern(f"{plain}/{below}").spec(None) == SPEC


def test_patterns_are_relative_to_the_working_directory(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(dataset)
    for pattern in ("valid/*.parquet", "*/*.parquet", "part.parquet", "*.parquet"):
        assert DatasetFolder.of_pattern(pattern).spec(None) == SPEC
    monkeypatch.chdir(dataset / "valid")
    assert DatasetFolder.of_pattern("*.parquet").spec(None) == SPEC


def test_folder_without_a_specification_has_the_outbrain_features(tmp_path: Path) -> None:
    folder = DatasetFolder.of_pattern(f"{tmp_path}/outbrain/valid/*.parquet")
    assert (folder.spec_path, folder.sizes_path, folder.spec(None)) == (None, None, outbrain_spec())
    assert DatasetFolder(tmp_path).patterns("train") == [f"{tmp_path}/train/*.parquet"]
    assert DatasetFolder(tmp_path).patterns("test") == [f"{tmp_path}/valid/*.parquet"]


def test_specification_on_the_command_line_wins(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(outbrain_spec().to_yaml())
    assert DatasetFolder(dataset).spec(tmp_path / "other.yaml") == outbrain_spec()


def test_specification_names_the_files(dataset: Path) -> None:
    train, valid = DatasetFolder(dataset).patterns("train"), DatasetFolder(dataset).patterns("test")
    assert train == [f"{dataset.parent}/shop [[]new]/a.parquet", "/abs/b.parquet"]
    assert valid == [f"{dataset.parent}/shop [[]new]/c/*.parquet"]


def test_embedding_sizes_come_from_only_one_file(dataset: Path) -> None:
    (dataset / "embedding_sizes.yaml").touch()
    assert DatasetFolder(dataset).sizes_path == dataset / "embedding_sizes.yaml"
    (dataset / "embedding_sizes.json").touch()
    with pytest.raises(DataError, match=r"embedding_sizes\.json and embedding_sizes\.yaml are both there"):
        _ = DatasetFolder(dataset).sizes_path
