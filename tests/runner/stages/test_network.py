"""Command lines of conversion, deployment and correctness, by the place of the server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.triton_server.remote import TritonServer
from runner.config.run import load_config
from runner.experiment import Experiment
from runner.stages.client import TRANSPORTS
from runner.stages.ensemble import ensemble_correctness
from runner.stages.network import convert, correctness, deploy
from runner.workspace import create_workspace
from tests.runner.conftest import Plain, experiment

A30 = ROOT / "runner" / "config_NVIDIA-A30.yaml"
IMAGE = "nvcr.io/nvidia/tritonserver:25.07-py3"
Make = Callable[..., Experiment]


@pytest.fixture
def make(small_config: Plain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes an experiment with a ready server, from the keys of a configuration or a configuration file."""
    monkeypatch.chdir(tmp_path)

    def experiment_of(keys: Plain | Path, number: int = 1, devices: tuple[int, ...] = (0,)) -> Experiment:
        path = tmp_path / "config.yaml" if isinstance(keys, dict) else keys
        if isinstance(keys, dict):
            path.write_text(yaml.safe_dump(small_config | keys))
        config = load_config(path)
        workspace = create_workspace(tmp_path / "workspace")
        made = Experiment.create(config, number, workspace, devices)
        made.server = TritonServer(http_url="http://127.0.0.1:8000", grpc_url="grpc://127.0.0.1:8001")
        return made

    return experiment_of


def test_plan_is_converted_in_the_image_of_the_server(make: Make, tmp_path: Path) -> None:
    made = make(A30, 2)
    navigator = Path(sys.executable).with_name("model-navigator")
    shared, store = made.folders.shared, made.folders.model_store
    common = f"--model-name WidenDeep --workspace-path {shared}/navigator_workspace --verbose"
    data = f"--dataloader {ROOT}/dataloader.py --data-pattern {tmp_path}/datasets/outbrain/valid/*.parquet"
    assert _line(convert(made)) == (
        f"{navigator} convert {common} --model-path {made.exported} --output-path {made.folders.converted} "
        "--target-formats trt --target-precisions fp16 "
        f"--launch-mode docker --triton-docker-image {IMAGE} --gpus 0 "
        f"--override-workspace --max-batch-size 131072 --atol 0.015 --rtol 0.0 {data} --batch-size 131072"
    )
    assert _line(deploy(made)) == (
        f"{navigator} triton-config-model {common} --model-path {made.folders.converted} --model-format trt "
        f"--model-repository {store} --model-version 1 --model-control-mode explicit --load-model "
        "--load-model-timeout-s 120 --batching dynamic --backend-accelerator none --max-batch-size 131072 "
        "--preferred-batch-sizes 131072 --engine-count-per-device gpu=2 --host native "
        f"--server-url grpc://127.0.0.1:8001 --tensorrt-capture-cuda-graph --triton-docker-image {IMAGE}"
    )


def test_converter_gets_the_gpus_of_the_run(make: Make) -> None:
    assert "--gpus 1 3 --override-workspace" in _line(convert(make(A30, 2, devices=(1, 3))))


def test_formats_without_tensorrt_are_converted_on_the_host(make: Make) -> None:
    made = make(A30, 1)
    assert "--target-formats tf-savedmodel --target-precisions fp32 --launch-mode local" in _line(convert(made))
    assert "--triton-docker-image" not in _line(deploy(made))


def test_plan_is_converted_on_the_host_without_a_container(make: Make) -> None:
    urls = {"triton_http_url": "127.0.0.1:8000", "triton_grpc_url": "127.0.0.1:8001", "triton_model_repository": "."}
    plan = experiment(format="trt", precision="fp16", device_kind="gpu")
    made = make({"configurations": [plan], "triton_launch_mode": "remote", **urls})
    assert "--launch-mode local" in _line(convert(made))
    assert "--triton-docker-image" not in _line(deploy(made))


def test_settings_of_an_experiment_reach_the_server(make: Make) -> None:
    settings = {"preferred_batch_sizes": [16, 32], "max_queue_delay_us": 500, "threads": 3, "host": "python"}
    line = _line(deploy(make({"configurations": [experiment(**settings)]})))
    assert "--max-batch-size 64 --preferred-batch-sizes 16 32 --engine-count-per-device cpu=1 --host python" in line
    assert line.endswith("--max-queue-delay-us 500 --triton-backend-parameters threads=3")
    line = _line(deploy(make({"configurations": [experiment()]})))
    assert "--preferred-batch-sizes 64 --engine-count-per-device cpu=1 --host cpp --server-url" in line
    assert "--max-queue-delay-us" not in line and "threads" not in line and "--packed-inputs" not in line
    assert "--latency-budget-ms" not in line and "--warmup-batch-sizes" not in line
    assert "--packed-inputs" in _line(deploy(make({"configurations": [experiment(packed_inputs=True)]})))


def test_queue_and_warmup_of_an_experiment_reach_the_server(make: Make) -> None:
    limits = {"latency_budget_ms": 80, "max_queue_size": 100, "queue_timeout_us": 9000, "queue_timeout_action": "delay"}
    order = {"priority_levels": 3, "default_priority_level": 2}
    line = _line(deploy(make({"configurations": [experiment(**limits, **order, warmup_batch_sizes=[1, 8])]})))
    assert "--latency-budget-ms 80.0 --max-queue-size 100 --queue-timeout-us 9000 --queue-timeout-action delay" in line
    assert "--priority-levels 3 --default-priority-level 2 --warmup-batch-sizes 1 8" in line
    line = _line(deploy(make({"configurations": [experiment(queue_timeout_us=0, warmup_batch_sizes=[])]})))
    assert line.endswith("--queue-timeout-us 0 --warmup-batch-sizes 0")


@pytest.mark.parametrize(
    "keys",
    [
        {"container_version": "25.02"},
        {"triton_container_image": "nvcr.io/nvidia/tritonserver:25.02-py3", "container_version": "24.01"},
        {"triton_container_image": "mine:1", "container_version": "25.02"},
    ],
)
def test_tf_trt_is_converted_in_the_framework_image_of_the_release(make: Make, keys: dict[str, Any]) -> None:
    made = make({"configurations": [experiment(format="tf-trt", device_kind="gpu")], **keys})
    assert "--launch-mode docker --container-version 25.02 --gpus 0" in _line(convert(made))


@pytest.mark.parametrize("way", TRANSPORTS)
def test_correctness_uses_many_request_sizes_over_each_transport(make: Make, way: str) -> None:
    keys: dict[str, Any] = {"configurations": [experiment()], "correctness": {"one_at_a_time": True}}
    line = _lines(correctness(make(keys)))[f"inference_{way}"]
    sizes = "1 2 3 5 7 8 9 15 16 17 31 32 33 48 63 64"
    assert "--batch-size 64 " in line and f" --request-rows {sizes} --output-dir " in line
    line = _lines(correctness(make(A30, 2)))[f"inference_{way}"]
    assert "--batch-size 4096 " in line
    for borders in (
        " 1 2 3 5 7 8 9 15 16 17 31 ",
        " 1000 1024 1025 2048 4096 8192 16384 32768 65536 131072 --output-dir",
    ):
        assert borders in line


def test_ensemble_correctness_uses_the_same_request_sizes(make: Make) -> None:
    lines = _lines(ensemble_correctness(make({"configurations": [experiment()], "ensemble_model_name": "Raw"})))
    for way in ("grpc_async", "http_async"):
        assert (
            "--request-rows 1 2 3 5 7 8 9 15 16 17 31 32 33 48 63 64 --output-dir" in lines[f"ensemble_inference_{way}"]
        )


def test_tensorrt_accelerator_is_checked_in_one_request_size(make: Make) -> None:
    trt = experiment(device_kind="gpu", backend_accelerator="trt")
    made = make({"configurations": [trt], "container_version": "25.02"})
    assert not [line for line in _lines(correctness(made)).values() if "--request-rows" in line]


def _lines(commands: list[Any]) -> dict[str, str]:
    return {command.name: " ".join(command.argv) for command in commands}


def _line(commands: list[Any]) -> str:
    (command,) = commands
    return " ".join(command.argv)
