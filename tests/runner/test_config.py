from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.core import Batching, Format
from deployment_toolkit.errors import UsageError
from runner.config import load_config
from runner.task import to_plain

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_shipped_configuration_loads() -> None:
    config = load_config(ROOT / "runner" / "config_CPU.yaml")
    assert [item.parameters.format for item in config.configurations][:2] == [Format.TF_SAVEDMODEL, Format.ONNX]
    assert config.batching is Batching.DYNAMIC
    ensemble = load_config(ROOT / "runner" / "config_CPU-ensemble.yaml")
    assert ensemble.ensemble_model_name == "RawWidenDeep"
    assert ensemble.configurations == config.configurations[1:2]


def test_what_is_loaded_can_be_written_and_loaded_again(small_config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small_config))
    config = load_config(path)
    path.write_text(yaml.safe_dump(to_plain(config)))
    assert load_config(path) == config


def _set(config: Any, dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for name in parents:
        config = config[int(name) if name.isdigit() else name]
    config[last] = value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("modl_name", "x", "unknown key modl_name, did you mean model_name?"),
        ("configurations.0.parameters.presision", "fp32", "unknown key presision, did you mean precision?"),
        ("batching", "dynamik", "batching: 'dynamik' is none of disabled, static, dynamic"),
        ("configurations.0.parameters.max_batch_size", 0, "max_batch_size must be at least 1, not 0"),
        ("configurations.0.parameters.max_batch_size", "many", "expected int, found 'many'"),
        ("configurations.0.checkpoint", "other", "uses checkpoint other, which checkpoints does not list"),
        ("measurement_steps_online", 0, "measurement_steps_online must be at least 1"),
        ("ensemble_model_name", "WidenDeep", "ensemble_model_name 'WidenDeep': give a name that is not model_name"),
        ("datasets", [], "datasets must hold at least one entry"),
        ("correctness", {"atol": "small"}, "correctness: atol: expected float, found 'small'"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    small_config: dict[str, Any], tmp_path: Path, key: str, value: Any, message: str
) -> None:
    plain = yaml.safe_load(yaml.safe_dump(small_config))
    _set(plain, key, value)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain))
    with pytest.raises(UsageError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"performance_tool": "model_analyzer"}, "model_analyzer measures no ensembles"),
        ({"triton_launch_mode": "docker", "container_version": "25.02"}, "use triton_launch_mode embedded"),
    ],
)
def test_what_no_ensemble_goes_with_is_refused(
    small_config: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small_config | changes | {"ensemble_model_name": "RawWidenDeep"}))
    with pytest.raises(UsageError, match=message):
        load_config(path)


@pytest.mark.parametrize("key", ["model_name", "datasets_dir", "configurations"])
def test_a_missing_key_is_named(small_config: dict[str, Any], tmp_path: Path, key: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in small_config.items() if name != key}))
    with pytest.raises(UsageError, match=f"{path}: key {key} is missing"):
        load_config(path)


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "is not YAML"), ("- a", "expected keys and values, found list")]
)
def test_what_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_config(path)
