"""The server of an experiment in a container."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from deployment_toolkit.containers import ContainerEngine
from deployment_toolkit.errors import ContainerError, UsageError
from deployment_toolkit.triton_server.docker import built_image
from runner.config import Config, load_config
from runner.experiment import Experiment
from runner.launch import require_launchable, server_for
from runner.workspace import create_workspace


@pytest.fixture
def ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mock: the tests may be run by root."""
    monkeypatch.setattr("os.getuid", lambda: 1000)


def test_the_server_comes_from_the_image_or_the_dockerfile(
    container_image: str, small_config: dict[str, Any], tmp_path: Path, ordinary_user: None
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
        folders = workspace.experiment(1)
        made = Experiment(1, config, config.configurations[0].parameters, workspace, folders, devices=(0,))
        with server_for(made) as server:
            assert server.is_ready()
        assert not server.is_ready()
        log = (workspace.logs / "experiment_1_tritonserver.log").read_text()
        assert re.search(rf"model_repository_path\[0\] *\| {folders.model_store}", log)
    with contextlib.closing(docker.from_env()) as client, ContainerEngine.connect() as engine:
        client.images.remove(built_image(engine, dockerfile))


def test_an_image_that_is_nowhere_is_told_before_anything_is_made(
    container_image: str, small_config: dict[str, Any], tmp_path: Path, ordinary_user: None
) -> None:
    config = _config(tmp_path, small_config | {"triton_container_image": "127.0.0.1:1/none:1"})
    with pytest.raises(ContainerError, match="image 127.0.0.1:1/none:1 is not here and can't be pulled"):
        require_launchable(config, [0])


def test_root_is_told_that_its_measurements_could_not_work(
    small_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getuid", lambda: 0)
    with pytest.raises(UsageError, match="never runs as root.* start the runner as an ordinary user"):
        require_launchable(_config(tmp_path, small_config | {"container_version": "25.07"}), [0])


def _config(tmp_path: Path, plain: dict[str, Any]) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain))
    return load_config(path)
