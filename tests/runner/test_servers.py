"""The server of an experiment, by its launch mode."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

import runner.servers
from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.containers.images import built_image_name
from deployment_toolkit.errors import ContainerError, ServerError
from deployment_toolkit.triton_server.docker import built_image
from runner.config.run import RunConfig, load_config
from runner.experiment import Experiment
from runner.servers import require_launchable, server_for
from runner.workspace import create_workspace
from tests.runner.conftest import experiment


def test_server_uses_the_image_or_the_dockerfile(
    container_image: str, small_config: dict[str, Any], tmp_path: Path
) -> None:
    dockerfile = tmp_path / "server" / "Dockerfile"
    dockerfile.parent.mkdir()
    dockerfile.write_text(f"FROM {container_image}\n")
    for number, keys in enumerate(
        ({"triton_container_image": container_image}, {"triton_dockerfile": str(dockerfile)})
    ):
        config = _config(tmp_path, small_config | keys)
        require_launchable(config, [0])
        workspace = create_workspace(tmp_path / f"workspace_{number}")
        made = Experiment.create(config, 1, workspace, (0,))
        with server_for(made) as server:
            assert server.is_ready()
        assert not server.is_ready()
        log = (workspace.logs / "experiment_1_tritonserver.log").read_text()
        assert re.search(rf"model_repository_path\[0\] *\| {made.folders.model_store}", log)
    with contextlib.closing(docker.from_env()) as client, ContainerEngine.connect() as engine:
        client.images.remove(built_image(engine, dockerfile))


def test_missing_image_is_reported_at_once(container_image: str, small_config: dict[str, Any], tmp_path: Path) -> None:
    config = _config(tmp_path, small_config | {"triton_container_image": "127.0.0.1:1/none:1"})
    with pytest.raises(ContainerError, match="image 127.0.0.1:1/none:1 is not here and can't be pulled"):
        require_launchable(config, [0])


def test_dockerfile_is_built_on_the_named_image(container_image: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("ARG FROM_IMAGE_NAME=none\nFROM ${FROM_IMAGE_NAME}\nENV BUILT_ON=here\n")
    with contextlib.closing(docker.from_env()) as client, ContainerEngine.connect() as engine:
        name = built_image(engine, tmp_path / "Dockerfile", container_image)
        try:
            assert engine.require_image(name)["BUILT_ON"] == "here"
            assert name == built_image_name(tmp_path / "Dockerfile", container_image)
            assert name != built_image_name(tmp_path / "Dockerfile")
        finally:
            client.images.remove(name)


def test_embedded_server_sees_the_gpus_of_a_gpu_experiment(
    small_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner.servers, "require_gpu", lambda what: ["a mock", "of two GPUs"])
    config = _config(tmp_path, small_config | {"configurations": [experiment(), experiment(device_kind="gpu")]})
    require_launchable(config, [0, 1])
    workspace = create_workspace(tmp_path / "workspace")
    for number, devices in ((1, None), (2, "0,1")):
        made = Experiment.create(config, number, workspace, (0, 1))
        assert made.server_config.image is None
        with server_for(made) as server:
            environment = Path(f"/proc/{server.pid}/environ").read_text().split("\0")
        told = dict(item.partition("=")[::2] for item in environment)
        assert told.get("CUDA_VISIBLE_DEVICES") == (devices or os.environ.get("CUDA_VISIBLE_DEVICES"))


def test_experiments_that_do_not_run_need_not_be_launchable(
    small_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    container = {"triton_launch_mode": "docker", "container_version": "25.07"}
    remote = {"triton_launch_mode": "remote"}
    urls = {"triton_http_url": "http://127.0.0.1:1", "triton_grpc_url": "127.0.0.1:2"}
    config = _config(
        tmp_path,
        small_config
        | {"configurations": [experiment(), experiment() | container, experiment(device_kind="gpu") | remote]}
        | {"triton_model_repository": str(tmp_path / "none"), **urls},
    )
    require_launchable(config, [0], [1])
    with pytest.raises(ContainerError, match="no container engine answers"):
        require_launchable(config, [0], [1, 2])
    with pytest.raises(ServerError, match="no model repository at"):  # no GPU of this machine is asked for
        require_launchable(config, [0], [3])


def _config(tmp_path: Path, plain: dict[str, Any]) -> RunConfig:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain))
    return load_config(path)
