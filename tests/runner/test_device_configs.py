"""Configurations of the original's GPU hosts, keys about containers, and runs that are impossible on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import runner.servers
from deployment_toolkit import hardware
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Accelerator, Batching, DeviceKind, Format, Precision
from deployment_toolkit.errors import ContainerError, DeploymentError, DeviceError, UsageError
from deployment_toolkit.options.mapping import to_plain
from deployment_toolkit.triton_server.remote import TritonServer
from runner.__main__ import main
from runner.config.experiment import TritonLaunchMode
from runner.config.hosting import host_of
from runner.config.run import RunConfig, load_config
from runner.experiment import Experiment
from runner.servers import require_launchable
from runner.stages.client import offline_points, online_points
from runner.stages.network import deploy
from runner.workspace import create_workspace
from tests.runner.conftest import experiment

DEVICES = {
    "NVIDIA-A30": ("25.02", "25.07"),
    "NVIDIA-DGX-1-(1x-V100-32GB)": ("24.09", "24.09"),  # what is later needs compute capability 7.5
    "NVIDIA-DGX-A100-(1x-A100-80GB)": ("25.02", "25.07"),
    "NVIDIA-T4": ("25.02", "25.07"),
}
# Keys and kinds of values of the original's YAML: flags as 0 and 1, no URL, a version beside its image.
ORIGINALS_WAY = {
    "checkpoints": [{"name": "small", "url": ""}],
    "configurations": [experiment(device_kind="gpu", format="trt", precision="fp16", tensorrt_capture_cuda_graph=1)],
    "container_version": "24.05",
    "triton_container_image": "nvcr.io/nvidia/tritonserver:24.05-py3",
    "triton_dockerfile": None,
    "triton_custom_operations": None,
}


def _load(tmp_path: Path, plain: dict[str, Any]) -> RunConfig:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain))
    return load_config(path)


@pytest.fixture
def two_t4(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mock of a driver with two GPUs."""
    monkeypatch.setattr(runner.servers, "require_gpu", lambda what: ["Tesla T4", "Tesla T4"])


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu_names", list)


def test_gpu_hosts_have_a_configuration_and_a_start_script() -> None:
    folder = ROOT / "runner"
    assert {path.stem.removeprefix("config_") for path in folder.glob("config_NVIDIA-*.yaml")} >= DEVICES.keys()
    assert {path.stem.removeprefix("start_") for path in folder.glob("start_NVIDIA-*.sh")} >= DEVICES.keys()


def test_configurations_with_the_same_images_stay_equal() -> None:
    names = ("NVIDIA-A30", "NVIDIA-T4", "NVIDIA-DGX-A100-(1x-A100-80GB)")
    texts = [(ROOT / "runner" / f"config_{name}.yaml").read_text().splitlines()[1:] for name in names]
    assert texts[0] == texts[1] == texts[2]


@pytest.mark.parametrize("device", DEVICES)
def test_gpu_host_configuration_has_the_two_published_experiments(device: str) -> None:
    config = load_config(ROOT / "runner" / f"config_{device}.yaml")
    first, second = (item.parameters for item in config.configurations)
    assert (first.format, first.export_precision, first.precision) == (Format.TF_SAVEDMODEL, "fp32", Precision.FP32)
    assert (first.backend_accelerator, first.tensorrt_capture_cuda_graph) == (Accelerator.AMP, False)
    assert (second.format, second.export_precision, second.precision) == (Format.TRT, "fp16", Precision.FP16)
    assert (second.backend_accelerator, second.tensorrt_capture_cuda_graph) == (Accelerator.NONE, True)
    for parameters in (first, second):
        assert parameters.export_format is Format.TF_SAVEDMODEL
        assert parameters.device_kind is DeviceKind.GPU
        assert (parameters.max_batch_size, parameters.number_of_model_instances) == (131072, 2)
        assert parameters.checkpoint == "widedeep_tf2_amp_base_128k_nvtabular"
    assert config.batching is Batching.DYNAMIC
    offline = offline_points(131072, config.measurement_steps_offline, config.batching)
    online = online_points(131072, 2, config.measurement_steps_online, config.batching)
    assert list(offline.batch_sizes) == [1, *range(16384, 131073, 16384)]
    assert (list(online.batch_sizes), list(online.concurrency)) == ([2048], list(range(8, 257, 8)))
    assert {config.launch_mode_of(item) for item in config.configurations} == {TritonLaunchMode.DOCKER}
    images = [config.triton_image(item) for item in config.configurations]
    assert images == [f"nvcr.io/nvidia/tritonserver:{version}-py3" for version in DEVICES[device]]


def test_configuration_of_the_original_uses_containers(small_config: dict[str, Any], tmp_path: Path) -> None:
    config = _load(tmp_path, small_config | ORIGINALS_WAY)
    assert {config.launch_mode_of(item) for item in config.configurations} == {TritonLaunchMode.DOCKER}
    assert config.triton_image(config.configurations[0]) == "nvcr.io/nvidia/tritonserver:24.05-py3"
    assert config.configurations[0].parameters.tensorrt_capture_cuda_graph is True
    assert _load(tmp_path, to_plain(config)) == config


def test_server_is_embedded_without_container_settings(small_config: dict[str, Any], tmp_path: Path) -> None:
    config = _load(tmp_path, small_config)
    assert config.launch_mode_of(config.configurations[0]) is TritonLaunchMode.EMBEDDED


def test_image_of_an_experiment_wins_over_the_image_of_the_run(small_config: dict[str, Any], tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.touch()
    own = experiment() | {"container_version": "25.09"}
    plain = small_config | {"configurations": [own, experiment()], "container_version": "25.08"}
    image = "nvcr.io/nvidia/tritonserver:{}-py3".format
    for keys, expected in (
        ({}, [image("25.09"), image("25.08")]),
        ({"triton_container_image": "mine:1"}, [image("25.09"), "mine:1"]),
        ({"triton_dockerfile": str(dockerfile)}, [image("25.09"), None]),
    ):
        config = _load(tmp_path, plain | keys)
        assert [config.triton_image(item) for item in config.configurations] == expected


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"container_version": "25.2"}, "container_version 25.2 is no release"),
        ({"container_version": 25.07}, "container_version: expected str, found 25.07"),
        ({"triton_dockerfile": "nowhere/Dockerfile"}, "triton_dockerfile nowhere/Dockerfile: there is no such file"),
        ({"triton_custom_operations": "ops.so"}, "triton_custom_operations ops.so: there is no such file"),
        (
            {"triton_launch_mode": "embedded", "container_version": "25.07"},
            "container_version says which container, triton_launch_mode embedded needs none",
        ),
        (
            {"triton_launch_mode": "embedded", "configurations": [experiment() | {"triton_container_image": "a:1"}]},
            "triton_container_image says which container",
        ),
        (
            {"configurations": [experiment(device_kind="gpu", format="trt", precision="fp16")]},
            "device_kind gpu needs triton_launch_mode docker or remote for trt, the embedded server runs only onnx",
        ),
        ({"triton_launch_mode": "docker"}, "needs container_version, triton_container_image or triton_dockerfile"),
        ({"triton_launch_mode": "remote"}, "triton_launch_mode remote needs triton_http_url"),
        (
            {"container_version": "25.07", "configurations": [experiment(format="tf-savedmodel")]},
            "nvcr.io/nvidia/tritonserver:25.07-py3 has no TensorFlow backend for tf-savedmodel, 25.02 is the last",
        ),
        (
            {"container_version": "24.04", "configurations": [experiment(format="trt", precision="fp16")]},
            "tritonserver:24.04-py3 has a TensorRT before 10, whose plans can't be made here: take 24.05",
        ),
        (
            {"container_version": "24.10", "configurations": [experiment(format="tf-trt", precision="fp16")]},
            "tf-trt is made in NVIDIA's TensorFlow image of the server's release, which must be known and from 24.11",
        ),
        (
            {"triton_container_image": "mine:1", "configurations": [experiment(format="tf-trt", precision="fp16")]},
            "tf-trt is made in NVIDIA's TensorFlow image of the server's release, which must be known and from 24.11",
        ),
    ],
)
def test_contradictory_settings_are_refused_with_the_reason(
    small_config: dict[str, Any], tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        _load(tmp_path, small_config | keys)
    assert message in str(caught.value)


@pytest.mark.parametrize("device", DEVICES)
def test_gpu_run_without_a_gpu_is_refused_at_once(device: str, tmp_path: Path, no_gpu: None) -> None:
    path = ROOT / "runner" / f"config_{device}.yaml"
    with pytest.raises(DeviceError, match="device_kind gpu.* needs an NVIDIA GPU"):
        main(["--config-path", str(path), "--devices", "0", "--workspace-path", str(tmp_path / "workspace")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("device_kind", "devices", "error", "message"),
    [
        ("gpu", [2], DeviceError, "--devices 2: this machine's GPUs are 0 to 1"),
        ("gpu", [-1], DeviceError, "--devices -1: this machine's GPUs are 0 to 1"),
        ("cpu", [1], UsageError, "runs on the CPU, give 0"),
        ("gpu", [0, 1], ContainerError, "no container engine answers: install Docker"),
    ],
)
def test_devices_must_exist_on_the_machine(
    small_config: dict[str, Any],
    tmp_path: Path,
    two_t4: None,
    device_kind: str,
    devices: list[int],
    error: type[DeploymentError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setattr("os.getuid", lambda: 1000)
    configurations = [experiment(device_kind=device_kind)]
    config = _load(tmp_path, small_config | {"container_version": "25.07", "configurations": configurations})
    with pytest.raises(error, match=message):
        require_launchable(config, devices)


def test_embedded_server_has_the_python_host_where_the_other_can_not_be_built(
    small_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.config.hosting.can_build", lambda: False)
    config = _load(tmp_path, small_config | {"configurations": [experiment()]})
    parameters = config.configurations[0].parameters
    assert host_of(TritonLaunchMode.EMBEDDED, parameters) == "python"


@pytest.mark.parametrize(
    ("mode", "device_kind", "host"),
    [("docker", "gpu", "native"), ("docker", "cpu", "auto"), ("embedded", "cpu", "cpp"), ("embedded", "gpu", "python")],
)
def test_host_follows_from_the_launch_mode_and_device(
    small_config: dict[str, Any], tmp_path: Path, mode: str, device_kind: str, host: str
) -> None:
    keys: dict[str, Any] = {"triton_launch_mode": mode, "configurations": [experiment(device_kind=device_kind)]}
    keys |= {"container_version": "25.07"} if mode == "docker" else {}
    config = _load(tmp_path, small_config | keys)
    workspace = create_workspace(tmp_path / "workspace")
    made = Experiment.create(config, 1, workspace)
    made.server = TritonServer(grpc_url="grpc://a:2")
    (command,) = deploy(made)
    assert command.argv[command.argv.index("--host") + 1] == host
    assert "--tensorrt-capture-cuda-graph" not in command.argv
