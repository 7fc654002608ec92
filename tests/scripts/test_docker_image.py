"""Image that the Dockerfile builds on a plain Debian, on a real container engine."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import numpy as np
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.containers.spec import ContainerSpec
from deployment_toolkit.core import Format, Host
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import ContainerError
from deployment_toolkit.library.registry import loader
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.grpc import GrpcTransport
from deployment_toolkit.triton_server.docker import docker_server

NOBODY = "65534:65534"


def test_project_image_programs_run_as_any_user(project_image: str) -> None:
    assert "usage: model-navigator convert" in _said(project_image, "model-navigator", "convert", "--help")
    assert "usage: export_model.py" in _said(project_image, "python", "export_model.py", "--help")
    assert "Python 3.11" in _said(project_image, "python3", "--version")


def test_project_image_serves_a_model(project_image: str, tiny_onnx: Callable[..., Path], tmp_path: Path) -> None:
    source, repository = tiny_onnx(tmp_path / "tiny.onnx"), tmp_path / "repository"
    deployment = Deployment("tiny", loader(Format.ONNX)().read_spec(source), Format.ONNX, host=Host.PYTHON)
    add_model(repository, deployment, source)
    for place in (repository, *repository.rglob("*")):  # for a server that is not root
        place.chmod(0o755 if place.is_dir() else 0o644)
    x = {
        "amount": np.array([[0.5]], np.float32),
        "item": np.array([[3]], np.int32),
        "tags": np.array([[1, -1, 4]], np.int32),
    }
    with docker_server(repository, image=project_image, log_path=tmp_path / "server.log") as server:
        server.load_model("tiny", timeout_s=120)
        with contextlib.closing(GrpcTransport(ServerUrl.parse(server.grpc_url), "tiny", "1", 1)) as transport:
            answer = transport.send(x).result(60)
    assert answer["score"].tolist() == [[0.5 + 30 + 4]]


@pytest.fixture
def own_name(container_engine: bool) -> Iterator[str]:
    """Name for an image, which is removed at the end."""
    name = f"localhost/wide-deep-by-script:{os.getpid()}"
    yield name
    with contextlib.closing(docker.from_env(timeout=600)) as client, contextlib.suppress(docker.errors.NotFound):
        client.images.remove(name, force=True)


@pytest.mark.skipif(shutil.which("docker") is None, reason="scripts/docker/build.sh needs a docker command")
def test_build_script_builds_the_project_image(project_image: str, base_image: str, own_name: str) -> None:
    env = {**os.environ, "FROM_IMAGE_NAME": base_image, "IMAGE": own_name}
    command = [str(ROOT / "scripts" / "docker" / "build.sh"), "--network=host"]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "usage: model-navigator" in _said(own_name, "model-navigator", "--help")


def test_docker_builds_follow_dockerignore_and_log_their_steps(
    base_image: str, own_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("kept", "secret"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".dockerignore").write_text("secret\n")
    (tmp_path / "Dockerfile").write_text(
        "ARG FROM_IMAGE_NAME\nFROM ${FROM_IMAGE_NAME}\nCOPY . /context\nRUN cat /proc/net/dev >/devices\n"
    )
    caplog.set_level(logging.INFO, logger="containers")
    with ContainerEngine.connect() as engine:
        engine.build_image(tmp_path / "Dockerfile", own_name, {"FROM_IMAGE_NAME": base_image})
    assert sum("COPY . /context" in line for line in caplog.messages) == 1
    assert _said(own_name, "ls", "/context") == "Dockerfile\nkept\n"
    names = {line.partition(":")[0].strip() for line in _said(own_name, "cat", "/devices").splitlines()[2:]}
    assert names == {path.name for path in Path("/sys/class/net").iterdir()}  # this host's


def test_docker_build_error_includes_the_failed_program(base_image: str, own_name: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {base_image}\nRUN apt-get install no-such-package\n")
    with (
        ContainerEngine.connect() as engine,
        pytest.raises(ContainerError, match="Dockerfile can't be built: .*Unable to locate package no-such-package"),
    ):
        engine.build_image(tmp_path / "Dockerfile", own_name)


def _said(image: str, *command: str) -> str:
    """Output of a command in a container. Its user has no home and no write access, and there is no network."""
    printed: list[bytes] = []
    with (
        ContainerEngine.connect() as engine,
        engine.container(ContainerSpec(image=image, command=command, user=NOBODY), printed.append) as container,
    ):
        code = container.wait(120)
    text = b"".join(printed).decode()
    assert code == 0, text
    return text
