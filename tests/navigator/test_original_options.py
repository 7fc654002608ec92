"""Options and results as Model Navigator 0.2.5 has them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployment_toolkit.deploying.model_config import parse_config
from deployment_toolkit.errors import UsageError
from navigator.__main__ import main
from navigator.containers.container import find_gpus, inner_arguments
from navigator.results_keys import note_image

Results = Callable[[], list[dict[str, Any]]]
Arguments = Callable[..., list[str]]


def test_repeated_targets_and_opsets_add_up(command: list[str], tiny_savedmodel: Path, results: Results) -> None:
    options = [
        "--target-formats",
        "onnx",
        "--target-formats",
        "openvino",
        "ONNX",
        "--onnx-opsets",
        "12",
        "--onnx-opsets",
        "13",
    ]
    main([*command, "-p", str(tiny_savedmodel), *options])
    assert [entry["name"] for entry in results()] == [
        *("onnx-opset12", "onnx-opset13"),
        *("openvino-opset12-fp32", "openvino-opset13-fp32"),
    ]


def test_repeated_values_of_tensors_add_up(
    command: list[str], tiny_savedmodel: Path, results: Results, caplog: pytest.LogCaptureFixture
) -> None:
    options = "--min-shapes a=2,1 --min-shapes tags=2,3 --max-batch-size 8 --value-ranges a=0,3 --value-ranges z=0,2"
    tensors = "--inputs a=ad:-1,1:int32 --inputs z=zone:-1,1:int32 a=ad:-1,1:int32"
    loose = "--atol 1 --atol wide_deep_model=1e-4 --atol wide_deep_model=1e-5"
    main([*command, "-p", str(tiny_savedmodel), *options.split(), *tensors.split(), *loose.split()])
    (entry,) = results()
    assert entry["status"]["state"] == "succeeded"
    assert entry["dataset_profile"]["min_shapes"] == {"a": [2, 1], "tags": [2, 3]}
    assert entry["dataset_profile"]["value_ranges"] == {"a": [0, 3], "z": [0, 2]}
    assert entry["model_signature_config"]["inputs"]["a"] == {"name": "ad", "shape": [-1, 1], "dtype": "int32"}
    assert entry["comparator_config"]["atol"] == {"": 1, "wide_deep_model": 1e-5}
    assert "--atol: 1e-05 in place of the earlier 0.0001 for wide_deep_model" in caplog.text


def test_repeated_gpus_add_up_and_stay_out_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("navigator.containers.container.require_gpu", lambda what: ["T4", "T4"])
    assert inner_arguments(["-n", "a", "--gpus", "0", "--atol", "1e-3", "--gpus", "1"]) == ["-n", "a", "--atol", "1e-3"]
    assert find_gpus(["0", "1"]) == [0, 1]
    monkeypatch.setattr("navigator.containers.container.gpu_names", lambda: ["T4"])
    assert find_gpus(["ALL"]) == [0]


def test_results_of_a_conversion_have_the_keys_of_the_original(
    command: list[str], tiny_savedmodel: Path, results: Results, tmp_path: Path
) -> None:
    options = ["--target-formats", "openvino", "--target-formats", "onnx", "--target-precisions", "FP32"]
    main([*command, "-p", str(tiny_savedmodel), *options, "--onnx-opsets", "13", "--model-version", "3"])
    made, _ = results()
    assert made["output_model"]["path"] == made["path"]
    assert made["output_model"]["format"] == "openvino"
    assert made["output_model"]["signature"]["inputs"]["ad"] == {"name": "ad", "shape": [-1, 1], "dtype": "int32"}
    assert made["source_model_config"] == {
        "model_name": "tiny",
        "model_path": str(tiny_savedmodel),
        "model_format": "tf-savedmodel",
        "model_version": "3",
    }
    assert made["conversion_config"] == {
        "target_format": "openvino",
        "onnx_opset": 13,
        "tensorrt_precision": "fp32",
        "tensorrt_precision_mode": "hierarchy",
        "tensorrt_explicit_precision": False,
        "tensorrt_strict_types": False,
        "tensorrt_sparse_weights": False,
    }
    assert made["framework_docker_image"] is None
    path = tmp_path / "workspace" / "convert_model_results.yaml"
    note_image(path, "an:image")
    assert [entry["framework_docker_image"] for entry in results()] == ["an:image"] * 2


def test_results_of_a_failed_conversion_have_no_output_model(
    command: list[str], tiny_savedmodel: Path, results: Results
) -> None:
    with pytest.raises(Exception, match="no conversion of"):
        main([*command, "-p", str(tiny_savedmodel), "--onnx-opsets", "99"])
    (failed,) = results()
    assert (failed["output_model"], failed["status"]["state"]) == (None, "failed")


def test_results_of_a_deployment_have_the_keys_of_the_original(
    model: Path, tmp_path: Path, arguments: Arguments, outcome: Callable[[], dict[str, Any]]
) -> None:
    options = "--batching DYNAMIC --max-batch-size 64 --preferred-batch-sizes 16 --preferred-batch-sizes 32 16"
    options += " --engine-count-per-device GPU=2 --engine-count-per-device cpu=1 --model-control-mode EXPLICIT"
    assert main(arguments(model, tmp_path / "store", *options.split())) == 0
    result = outcome()
    assert result["model_config"] == {
        "model_name": "tiny",
        "model_path": str(model),
        "model_format": "onnx",
        "model_version": "1",
    }
    assert result["model_dir_in_model_store"] == str(tmp_path / "store" / "tiny")
    assert result["optimization_config"]["backend_accelerator"] == "none"
    assert result["batching_config"] == {"max_batch_size": 64, "batching": "dynamic"}
    assert result["dynamic_batching_config"] == {"preferred_batch_sizes": [16, 32], "max_queue_delay_us": 0}
    assert result["instances_config"] == {"engine_count_per_device": {"gpu": 2, "cpu": 1}}
    config = parse_config((tmp_path / "store" / "tiny" / "config.pbtxt").read_text())
    assert list(config.dynamic_batching.preferred_batch_size) == [16, 32]
    assert sorted(group.count for group in config.instance_group) == [1, 2]


def test_later_value_of_a_device_replaces_an_earlier_one_and_is_told(
    model: Path, tmp_path: Path, arguments: Arguments, caplog: pytest.LogCaptureFixture
) -> None:
    options = ["--engine-count-per-device", "cpu=1", "--engine-count-per-device", "cpu=3"]
    assert main(arguments(model, tmp_path / "store", *options)) == 0
    assert "--engine-count-per-device: 3 in place of the earlier 1 for cpu" in caplog.text
    config = parse_config((tmp_path / "store" / "tiny" / "config.pbtxt").read_text())
    assert [group.count for group in config.instance_group] == [3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target-formats", "ts-trace"], "can't be converted to torchscript: this is a TensorFlow model: use"),
        (["--target-formats", "TS-Script", "onnx"], "can't be converted to torchscript"),
        (["--target-formats", "onyx"], "invalid choice: 'onyx' (choose from"),
        (["--model-version", "v1"], "v1 is no version: give a whole number from 1 on, as 1, the name of the model's"),
        (["--model-version", "0"], "0 is no version"),
        (["--model-version", "1_0"], "1_0 is no version"),
    ],
)
def test_value_without_a_meaning_says_what_to_write(
    options: list[str], message: str, command: list[str], tiny_savedmodel: Path
) -> None:
    with pytest.raises(UsageError) as refused:
        main([*command, "-p", str(tiny_savedmodel), *options])
    assert message in str(refused.value)


def test_nothing_behind_a_key_is_the_default(
    command: list[str], tiny_savedmodel: Path, tmp_path: Path, results: Results, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "options.yaml").write_text(
        "target_formats: null\nonnx_opsets:\natol: ~\ndataloader: null\nverbose: null\nmodel_format: null\n"
        "max-batch-size: 4\ncontainer_version: 22.10\n"
    )
    with caplog.at_level(logging.INFO):
        main([*command, "-p", str(tiny_savedmodel), "--config-path", str(tmp_path / "options.yaml")])
    (entry,) = results()
    assert (entry["name"], entry["comparator_config"]["max_batch_size"]) == ("onnx-opset13", 4)
    with pytest.raises(UsageError, match="required: --model-path"):
        (tmp_path / "options.yaml").write_text("model_path: null\n")
        main([*command, "--config-path", str(tmp_path / "options.yaml")])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("atol:\n  wide_deep_model: null\n", ":2: there is nothing: write a value, or leave it out"),
        ("onnx_opsets:\n- 13\n- null\n", ":3: there is nothing"),
        ("onnx_opsets: []\n", ":1: onnx_opsets: the list is empty"),
        ("max-batch-size: 3\nmax_batch_size: 4\n", ":2: max_batch_size is there twice, first in line 1"),
        (
            "target_precisions: [fp32]\ntensorrt_precisions: [fp16]\n",
            ":2: tensorrt_precisions and target_precisions",
        ),
        ("model_version: v1\n", ":1: model_version: v1 is no version"),
        ("max_batch_size: {a: 1}\n", ":1: max_batch_size: one value is wanted"),
    ],
)
def test_wrong_value_in_a_file_is_told_with_its_line(
    text: str, message: str, command: list[str], tiny_savedmodel: Path, tmp_path: Path
) -> None:
    path = tmp_path / "options.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as refused:
        main([*command, "-p", str(tiny_savedmodel), "--config-path", str(path)])
    assert f"{path}{message}" in str(refused.value)
