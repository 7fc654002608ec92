from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.files.patterns import find_files
from runner.config.run import load_config
from runner.networks.registry import network_of
from runner.stages.preparation import preparation_lock, preparation_stages
from runner.workspace import Workspace
from widedeep.features.outbrain import outbrain_spec


@pytest.fixture
def plain(tmp_path: Path, small_config: dict[str, Any]) -> dict[str, Any]:
    return small_config | {"datasets_dir": str(tmp_path / "datasets"), "embedding_sizes": "sizes.yaml"}


def test_embedding_sizes_reach_every_command(plain: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain))
    config = load_config(path)
    stages = preparation_stages(config, Workspace(tmp_path, "run"))
    command = next(stage for stage in stages if stage.name == "preprocessing").command()
    assert command.argv[command.argv.index("--embedding-sizes") + 1] == "sizes.yaml"

    dataset = config.dataset_dir
    dataset.mkdir(parents=True)
    assert network_of(config).dataloader_options() == []
    (dataset / "feature_spec.yaml").write_text(outbrain_spec().to_yaml())
    (dataset / "embedding_sizes.json").write_text("{}")
    assert [str(part) for part in network_of(config).dataloader_options()] == [
        *("--feature-spec", str(dataset / "feature_spec.yaml")),
        *("--embedding-sizes", str(dataset / "embedding_sizes.json")),
    ]


def test_data_folder_may_have_the_letters_of_patterns(plain: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain | {"datasets_dir": str(tmp_path / "it's [2] *")}))
    config = load_config(path)
    network = network_of(config)
    for split in ("valid", "train"):
        (config.dataset_dir / split).mkdir(parents=True)
        (config.dataset_dir / split / "part.parquet").touch()
    assert find_files([network.valid_pattern]) == [config.dataset_dir / "valid" / "part.parquet"]
    assert find_files([network.train_pattern]) == [config.dataset_dir / "train" / "part.parquet"]


def test_empty_disk_counts_as_missing(plain: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain))
    workspace = Workspace(tmp_path, "run")
    *_, training = preparation_stages(load_config(path), workspace)
    (tmp_path / "disk").mkdir()
    training.product.parent.mkdir(parents=True)
    training.product.symlink_to(tmp_path / "disk")
    assert not training.is_done
    (training.product / "checkpoint").touch()
    assert training.is_done


def test_read_only_data_is_used_without_a_lock(
    plain: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(30, "Read-only file system", str(self))

    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain))
    config = load_config(path)
    monkeypatch.setattr(Path, "open", refuse)
    with preparation_lock(config):
        pass
