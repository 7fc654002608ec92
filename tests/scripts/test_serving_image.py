"""Images of Dockerfile.serving and of scripts/build_model_image.sh, on a real container engine."""

from __future__ import annotations

import contextlib
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import numpy as np
import psutil
import pytest
from docker.models.containers import Container

from deployment_toolkit.core import Arrays
from deployment_toolkit.server_access.ports import choose_free
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.grpc import GrpcTransport
from deployment_toolkit.triton_server.remote import TritonServer
from tests.ranker import MODEL, rows, scores, write_model
from tests.raw_request import LIKE_ONE, answer_of
from tests.serving_image import build_model_image, removed

USER = "4711:4711"
MOST_BYTES = 500e6  # with the tests' base, which is larger than Debian's slim image
DEADLINE_S = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model repository, and the dump of the rows for it."""
    repository, dump_dir = write_model(tmp_path_factory.mktemp("served"))
    for folder in [repository, *repository.parents]:
        if folder.is_relative_to(tmp_path_factory.getbasetemp().parent):
            folder.chmod(0o755)
    for place in repository.rglob("*"):
        place.chmod(0o755 if place.is_dir() else 0o644)
    return repository, dump_dir


@pytest.fixture(scope="module")
def client(serving_image: str) -> Iterator[docker.DockerClient]:
    """A client of the engine."""
    with contextlib.closing(docker.from_env(timeout=600)) as opened:
        yield opened


@contextlib.contextmanager
def _run(client: docker.DockerClient, image: str, command: list[str], **options: Any) -> Iterator[Container]:
    """A container with no rights and a read-only root."""
    container = client.containers.run(
        image, command, detach=True, user=USER, read_only=True, cap_drop=["ALL"],
        security_opt=["no-new-privileges"], **options,
    )  # fmt: skip
    try:
        yield container
    finally:
        container.remove(force=True)


def _said(client: docker.DockerClient, image: str, *command: str) -> str:
    with _run(client, image, list(command), network_mode="none") as container:
        assert container.wait(timeout=DEADLINE_S)["StatusCode"] == 0, container.logs().decode()
        return str(container.logs().decode())


@pytest.fixture(scope="module")
def server(client: docker.DockerClient, serving_image: str, model: tuple[Path, Path]) -> Iterator[Container]:
    """A server on this host's network, told to listen everywhere; ``server.urls`` are its ports' URLs."""
    ports = choose_free({"http": None, "grpc": None, "metrics": None})
    options = [f"--{name}-{key}" for name, port in ports.items() for key in (f"port={port}", "address=0.0.0.0")]
    command = ["tritonserver", f"--model-repository={model[0]}", *options]
    volumes = {str(model[0]): {"bind": str(model[0]), "mode": "ro"}}
    with _run(client, serving_image, command, network_mode="host", volumes=volumes) as container:
        container.handle = TritonServer(
            http_url=f"http://127.0.0.1:{ports['http']}", grpc_url=f"grpc://127.0.0.1:{ports['grpc']}"
        )
        deadline = time.monotonic() + DEADLINE_S
        while not container.handle.is_ready():
            container.reload()
            assert container.status == "running" and time.monotonic() < deadline, container.logs().decode()
            time.sleep(0.05)
        yield container


def _ask(server: Container, x: Arrays) -> Arrays:
    with contextlib.closing(GrpcTransport(ServerUrl.parse(server.handle.grpc_url), MODEL, "1", 1)) as transport:
        return transport.send(x).result(DEADLINE_S)


def test_image_has_the_server_and_its_engine_and_little_else(client: docker.DockerClient, serving_image: str) -> None:
    files = _said(client, serving_image, "find", "/opt", "/usr", "-type", "f").splitlines()
    names = {Path(file).name for file in files}
    assert {"tritonserver", "libtriton_cpp_host.so", "libopenvino_intel_cpu_plugin.so"} <= names
    for part in (
        "tensorflow",
        "onnxruntime",
        "libtriton_python",
        "python_backend",
        "gpu_plugin",
        "libstdc++.a",
        "cc1plus",
    ):
        assert not [file for file in files if part in file and "/share/doc/" not in file]
    assert not names & {"python3", "python3.11", "g++", "gcc", "pip", "pip3"}
    image = client.images.get(serving_image)
    assert image.attrs["Config"]["User"] == "65534:65534"
    assert image.attrs["Size"] < MOST_BYTES


def test_server_answers_as_any_user_with_a_read_only_root(server: Container) -> None:
    x = rows(7)
    assert np.allclose(_ask(server, x)["score"], scores(x), atol=1e-4)


def test_server_listens_on_loopback_alone_whatever_it_is_told(server: Container) -> None:
    server.reload()
    process = psutil.Process(server.attrs["State"]["Pid"])
    assert process.name() == "tritonserver"  # process 1 of the container, which gets its signals
    listening = [item.laddr.ip for item in process.net_connections("tcp") if item.status == psutil.CONN_LISTEN]
    assert len(listening) == 3 and {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("path", ["repository/models/ranker/unload", "systemsharedmemory/status", "logging"])
def test_endpoints_that_change_the_server_are_closed_to_everybody(path: str, server: Container) -> None:
    body = b"{}" if path.startswith("repository") else None
    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.urlopen(urllib.request.Request(f"{server.handle.http_url}/v2/{path}", body), timeout=DEADLINE_S)
    assert b"is restricted, expecting header 'wide-deep-key'" in told.value.read()


def test_impossible_shapes_are_refused_at_the_door(server: Container) -> None:
    x = rows(1)
    assert "has an impossible shape" in answer_of(server.handle, MODEL, x, LIKE_ONE, "grpc")
    assert np.allclose(_ask(server, x)["score"], scores(x), atol=1e-4)


def test_server_ends_well_at_sigterm(server: Container) -> None:
    server.kill("SIGTERM")
    assert server.wait(timeout=DEADLINE_S)["StatusCode"] == 0, server.logs().decode()


def test_model_image_has_the_model_and_its_rows_for_any_reader(
    client: docker.DockerClient, base_image: str, model: tuple[Path, Path]
) -> None:
    repository, dump_dir = model
    (repository / MODEL / "1" / "model.bin").chmod(0o600)
    with removed(f"localhost/wide-deep-model-test:{os.getpid()}") as tag:
        done = build_model_image(repository, tag, "--reference-dump-dir", dump_dir, "--from-image-name", base_image)
        assert done.returncode == 0, done.stderr
        line = done.stdout.splitlines()[-1]
        assert (
            line.startswith(f"{tag} (sha256:")
            and f"{MODEL}, for Dockerfile.serving, " in line
            and line.endswith(" with 20 rows for the gate")
        )
        sums = _said(client, tag, "sh", "-c", f"cd /models/{MODEL}/1 && sha256sum --check SHA256SUMS")
        assert sums == "model.bin: OK\nmodel.xml: OK\n"
        assert _said(client, tag, "ls", "/gate/reference") == "ids\ninputs\nlabels\noutputs\nrequests.json\n"
        assert client.images.get(tag).attrs["Config"]["User"] == "65534:65534"


def test_model_that_no_image_serves_is_refused_in_one_line(
    container_engine: bool, model: tuple[Path, Path], tmp_path: Path
) -> None:
    done = build_model_image(tmp_path, "localhost/none:1", "--reference-dump-dir", model[1])
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"{tmp_path} holds no model: give the folder that holds the models' folders")
