"""The original's four configurations, made from a description: what runs of them on a GPU host, what is refused."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import runner.pipeline
import runner.servers
from deployment_toolkit import hardware
from deployment_toolkit.errors import DeviceError, UsageError
from runner.__main__ import main, read_command_line
from runner.config.problems import refusals
from runner.config.run import load_config
from runner.pipeline import run_pipeline
from runner.workspace import create_workspace
from tests.runner.conftest import STAGES, states, task

DEVICES = ["NVIDIA-A30", "NVIDIA-DGX-1-(1x-V100-32GB)", "NVIDIA-DGX-A100-(1x-A100-80GB)", "NVIDIA-T4"]
CHECKPOINT = "widedeep_tf2_amp_base_128k_nvtabular"
RELEASE = "22.02"
# Of each experiment: export precision, served format, accelerator, precision, CUDA graphs.
EXPERIMENTS = [("fp32", "tf-savedmodel", "amp", "fp32", 0), ("fp16", "trt", "none", "fp16", 1)]


def _experiment(export: str, served: str, accelerator: str, precision: str, graphs: int) -> dict[str, Any]:
    parameters = {
        "backend_accelerator": accelerator,
        "checkpoint": CHECKPOINT,
        "device_kind": "gpu",
        "export_format": "tf-savedmodel",
        "export_precision": export,
        "format": served,
        "max_batch_size": 131072,
        "number_of_model_instances": 2,
        "precision": precision,
        "tensorrt_capture_cuda_graph": graphs,
        "torch_jit": "none",
    }
    return {"checkpoint": CHECKPOINT, "parameters": parameters}


def _original() -> dict[str, Any]:
    """What the file of every device says."""
    return {
        "batching": "dynamic",
        "checkpoints": [{"name": CHECKPOINT, "url": ""}],
        "configurations": [_experiment(*values) for values in EXPERIMENTS],
        "container_version": RELEASE,
        "datasets": [{"name": "outbrain"}],
        "datasets_dir": "datasets",
        "ensemble_model_name": None,
        "framework": "TensorFlow2",
        "measurement_steps_offline": 8,
        "measurement_steps_online": 32,
        "model_name": "WidenDeep",
        "performance_tool": "perf_analyzer",
        "triton_container_image": f"nvcr.io/nvidia/tritonserver:{RELEASE}-py3",
        "triton_custom_operations": None,
        "triton_dockerfile": None,
        "triton_load_model_method": "explicit",
    }


@pytest.fixture(params=DEVICES)
def original(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a device, in the working directory, which is a new one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"config_{request.param}.yaml"
    path.write_text(yaml.safe_dump(_original()))
    return path


def test_gpu_is_looked_for_first(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu_names", list)
    with pytest.raises(DeviceError, match="device_kind gpu.* needs an NVIDIA GPU"):
        main(["--config-path", str(original), "--devices", "0"])
    assert [path.name for path in Path().iterdir()] == [original.name]


def test_plan_that_its_release_can_not_serve_is_refused_with_what_to_do(original: Path) -> None:
    config, numbers, _ = read_command_line(["--config-path", str(original), "--devices", "0"])
    assert numbers == [1, 2]
    refused = refusals(config, numbers)
    assert list(refused) == [2]
    assert "tritonserver:22.02-py3 has a TensorRT before 10" in refused[2]
    assert "take 24.05 or later as the experiment's own container_version" in refused[2]
    assert "or run tf-savedmodel alone: --experiments 1" in refused[2]
    assert refusals(config, [1]) == {}
    with pytest.raises(UsageError, match=rf"{re.escape(original.name)}:\d+: configuration 2: .* before 10"):
        read_command_line(["--config-path", str(original), "--experiments", "2"])


def test_newer_container_is_all_that_a_refused_experiment_needs(original: Path) -> None:
    plain = _original()
    plain["configurations"][1]["container_version"] = "25.07"
    original.write_text(yaml.safe_dump(plain))
    config = load_config(original)
    assert refusals(config, [1, 2]) == {}
    images = [config.triton_image(item) for item in config.configurations]
    assert images == [f"nvcr.io/nvidia/tritonserver:{release}-py3" for release in (RELEASE, "25.07")]


def test_other_experiments_run_and_the_refused_one_fails_at_its_first_stage(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[int] = []
    monkeypatch.setattr(runner.pipeline, "_prepare", lambda *_, **__: True)
    monkeypatch.setattr(runner.pipeline, "_run_experiment", lambda experiment, *_: run.append(experiment.number))
    workspace = create_workspace(tmp_path / "workspace")
    stream = io.StringIO()
    config = load_config(original)
    refused = refusals(config, [1, 2])
    assert run_pipeline(config, workspace, "a test", {}, stream, refused=refused, keep_models=False) == 1
    assert run == [1]
    assert states(workspace.run, 2) == dict.fromkeys(STAGES, "skipped") | {"export": "failed"}
    (failed,) = (stage for stage in task(workspace.run)["stages"] if stage["state"] == "failed")
    assert failed["message"] in stream.getvalue()
    assert "--experiments 1" in (workspace.run / "report.md").read_text()


def test_only_images_of_experiments_that_run_are_asked_for(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    monkeypatch.setattr(runner.servers, "require_launchable", lambda config, devices, numbers: asked.append(numbers))
    monkeypatch.setattr(runner.pipeline, "run_pipeline", lambda *_, **__: 1)
    monkeypatch.setattr("runner.__main__.require_free_space", lambda *_: None)
    assert main(["--config-path", str(original), "--devices", "0"]) == 1
    assert asked == [[1]]
