from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError, DeploymentError
from deployment_toolkit.options.mapping import to_plain
from runner.config.network import option_arguments
from runner.config.parts import Correctness
from runner.config.run import load_config
from runner.networks.registry import network_of
from runner.stages.preparation import preparation_stages
from runner.workspace import Workspace, create_workspace
from tests.runner.conftest import experiment, run_here, states


@pytest.fixture
def plain(tmp_path: Path) -> dict[str, Any]:
    """A configuration of another network, whose files are in ``tmp_path``."""
    for name in ("model.py", "rows.py", "scores.py", "prepare.py"):
        (tmp_path / name).touch()
    return {
        "model_name": "Other",
        "datasets_dir": str(tmp_path / "data sets"),
        "datasets": [{"name": "other"}],
        "checkpoints": [{"name": "small"}],
        "configurations": [experiment()],
        "network": {
            "model": "model.py",
            "model_options": {"cross_layers": 2, "frozen": True, "tuned": False},
            "dataloader": "rows.py",
            "dataloader_options": {"columns": ["a", "b"]},
            "metrics": "scores.py",
            "metrics_options": {"output_used_for_metrics": "f1"},
            "prepare_data": "prepare.py 'made by' {dataset_dir}",
            "prepare_checkpoint": "prepare.py {dataset_dir} --to {checkpoint_dir}",
            "valid_data": "test/*.csv",
        },
        "correctness": {"metrics": {"f1": {"max_loss": 0.01}}},
    }


def _load(folder: Path, plain: dict[str, Any]) -> Any:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(plain))
    return load_config(path)


def test_network_has_the_plugins_and_commands_of_its_configuration(plain: dict[str, Any], tmp_path: Path) -> None:
    config = _load(tmp_path, plain)
    network, dataset = network_of(config), tmp_path / "data sets" / "other"
    assert [str(part) for part in network.row_arguments(8)] == [
        *("--dataloader", f"{tmp_path}/rows.py", "--data-pattern", f"{dataset}/test/*.csv", "--batch-size", "8"),
        *("--columns", "a", "b"),
    ]
    assert [str(part) for part in network.model_arguments(tmp_path, "fp32")] == [
        *("--input-path", f"{tmp_path}/model.py", "--input-type", "tf-keras", "--checkpoint-dir", str(tmp_path)),
        *("--precision", "fp32", "--cross-layers", "2", "--frozen"),
    ]
    metrics = [str(part) for part in network.metrics_arguments()]
    assert metrics == ["--metrics", f"{tmp_path}/scores.py", "--output-used-for-metrics", "f1"]
    data, training = preparation_stages(config, Workspace(tmp_path, "run"))
    assert data.command().argv == (sys.executable, f"{tmp_path}/prepare.py", "made by", str(dataset))
    checkpoint = tmp_path / "checkpoints" / "small" / "checkpoint"
    assert training.command().argv == (sys.executable, f"{tmp_path}/prepare.py", str(dataset), "--to", str(checkpoint))
    assert (data.product, training.product) == (dataset, checkpoint)


def test_network_configuration_is_unchanged_after_writing_and_loading(plain: dict[str, Any], tmp_path: Path) -> None:
    config = _load(tmp_path, plain)
    assert _load(tmp_path, to_plain(config)) == config


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("network", {"model": "nothing.py"}, "config.yaml: network: model: there is no file"),
        ("network", {"prepare_data": "nothing.py"}, "network: prepare_data: there is no file"),
        ("network", {"prepare_data": "make data"}, "prepare_data: 'make data' must begin with a Python file"),
        ("network", {"prepare_data": "prepare.py 'a"}, "can't be read as a command: No closing quotation"),
        ("network", {"prepare_data": "prepare.py {checkpoint_dir}"}, "{checkpoint_dir} is no folder of a run, known"),
        ("network", {"prepare_data": "prepare.py {}"}, "{} is no folder of a run, known are {dataset_dir}"),
        ("network", {"modell": "model.py"}, "unknown key modell, did you mean model?"),
        ("correctness", {"metrics": None}, "the gate needs limits for its metrics, give correctness: metrics"),
        ("correctness", {"metrics": {}}, "metrics must name at least one metric"),
        ("correctness", {"metrics": {"f1": {"max_los": 1}}}, "unknown key max_los, did you mean max_loss?"),
        ("correctness", {"max_map_loss": 0.5}, "max_map_loss and reduced_precision_max_metric_loss are limits where"),
        ("training", {"epochs": 9}, "training is for Wide & Deep, and network describes another"),
        ("", {"ensemble_model_name": "E"}, "ensemble_model_name is for Wide & Deep, and network describes another"),
        ("", {"deep_hidden_units": [1]}, "deep_hidden_units is for Wide & Deep, and network describes another"),
    ],
)
def test_wrong_network_key_is_named(
    plain: dict[str, Any], tmp_path: Path, section: str, changes: dict[str, Any], message: str
) -> None:
    changed = plain | ({section: plain.get(section, {}) | changes} if section else changes)
    with pytest.raises(DeploymentError) as caught:
        _load(tmp_path, changed)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_missing_data_without_a_command_are_reported(plain: dict[str, Any], tmp_path: Path) -> None:
    del plain["network"]["prepare_data"]
    data, _ = preparation_stages(_load(tmp_path, plain), Workspace(tmp_path, "run"))
    with pytest.raises(DataError, match="is missing: copy it there, or give the configuration network: prepare_data"):
        data.command()


def test_braces_in_the_path_of_a_configuration_stay(plain: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "{mine}"
    folder.mkdir()
    for name in ("model.py", "rows.py", "scores.py", "prepare.py"):
        (folder / name).touch()
    data, _ = preparation_stages(_load(folder, plain), Workspace(tmp_path, "run"))
    assert data.command().argv[1] == f"{folder}/prepare.py"


def test_preparation_that_makes_nothing_fails_its_stage(plain: dict[str, Any], tmp_path: Path) -> None:
    workspace = create_workspace(tmp_path / "workspace")
    code, printed = run_here(plain, workspace, tmp_path)
    assert code == 1
    assert states(workspace.run, None) == {"data": "failed"}
    assert f"data ended well but did not make {tmp_path}/data sets/other: see its log, logs/data.log" in printed


def test_plugins_are_those_of_wide_deep_by_default(small_config: dict[str, Any], tmp_path: Path) -> None:
    network = network_of(_load(tmp_path, small_config))
    assert [network.model, network.dataloader, network.metrics] == [
        ROOT / name for name in ("model.py", "dataloader.py", "metrics.py")
    ]


def test_gated_metrics_are_those_of_wide_deep_by_default() -> None:
    limits = Correctness(max_map_loss=0.5, reduced_precision_max_metric_loss=0.25)
    assert limits.largest_losses(reduced=False) == {"map12": 0.5}
    assert limits.largest_losses(reduced=True) == {"map12": 0.25, "roc_auc": 0.25}
    assert [limits.title(name) for name in ("map12", "roc_auc", "log_loss")] == ["MAP@12", "ROC AUC", "log loss"]


def test_options_become_arguments() -> None:
    assert option_arguments({"a_b": 1, "c": [2, 3], "d": True, "e": False, "f": None}) == [
        "--a-b",
        1,
        "--c",
        2,
        3,
        "--d",
    ]
