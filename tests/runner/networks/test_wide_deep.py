from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.config.run import load_config
from runner.networks.registry import network_of
from runner.stages.preparation import preparation_stages
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
