from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import numpy as np
import psutil
import pytest
from tritonclient import http
from tritonclient.utils import InferenceServerException

from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.containers.spec import LABEL, ContainerSpec
from deployment_toolkit.core import LoadMethod
from deployment_toolkit.errors import ContainerError, ServerError
from deployment_toolkit.machine import SHARED_MEMORY
from deployment_toolkit.triton_server.docker import docker_server, server_user, version_options
from deployment_toolkit.triton_server.installation import Installation
from deployment_toolkit.triton_server.remote import TritonServer
from tests.server_key import key_headers
from tests.shared_memory import orphaned, regions


@pytest.fixture(scope="module")
def repository(adder_repository: Path) -> Path:
    """The repository of ``adder``, readable and writable for all users."""
    adder_repository.chmod(0o777)
    (adder_repository / "adder" / "config.pbtxt").chmod(0o666)
    return adder_repository


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Any shared library, used as custom operations."""
    path = tmp_path_factory.mktemp("operations") / "libcustom.so"
    shutil.copyfile(next((Installation.find().package.parent / "nvidia_pytriton.libs").glob("libb64-*")), path)
    path.chmod(0o666)
    return path


@pytest.fixture(scope="module")
def server(
    repository: Path, container_image: str, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """A server in a container that has loaded ``adder``."""
    log_path = tmp_path_factory.mktemp("docker_server") / "logs" / "server.log"
    with docker_server(
        repository, image=container_image, log_path=log_path, custom_operations=library, env={"COLOUR": "green"}
    ) as running:
        running.load_model("adder", timeout_s=60)
        yield running


@pytest.fixture
def nothing_left(container_image: str) -> Iterator[None]:
    """Check after the test: no new container and no new shared memory."""
    containers, before = _containers(container_image), regions()
    yield
    assert _containers(container_image) == containers
    assert not orphaned(regions() - before)


def test_server_in_a_container_answers_and_logs(server: TritonServer) -> None:
    assert _ask(server) == [[1.5 + 6]]
    assert server.model_spec("adder").value_ranges == {"x2": (-1, 999)}
    assert TritonServer.from_url(server.grpc_url).is_ready()
    assert server.metrics_url.startswith("http://127.0.0.1:")
    assert server.log_path is not None
    deadline = time.monotonic() + 20  # the engine hands lines on when it pleases
    while "successfully loaded 'adder'" not in server.log_path.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_server_processes_are_visible_on_the_host(server: TritonServer) -> None:
    assert server.pid is not None
    assert len(psutil.Process(server.pid).children(recursive=True)) == 4  # a process per instance


def test_container_has_a_read_only_repository_and_no_root_rights(
    server: TritonServer, repository: Path, library: Path, container_image: str
) -> None:
    status = Path(f"/proc/{server.pid}/status").read_text()
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"):
        assert line in status
    assert _inside(container_image, "echo $UID $COLOUR") == f"{os.getuid() or 65534} green\n"
    for place in (repository / "new", repository / "adder" / "config.pbtxt", library):
        assert "Read-only file system" in _inside(container_image, f": >> '{place}'")
    assert str(library) in Path(f"/proc/{server.pid}/maps").read_text()
    assert "No such file" in _inside(container_image, "cd /var/run/docker.sock || cd /run")


def test_ports_of_the_container_are_on_loopback_only(server: TritonServer, container_image: str) -> None:
    (container,) = _containers(container_image).values()
    bindings = [binding for bound in container.ports.values() for binding in bound]
    assert len(bindings) == 3 and {binding["HostIp"] for binding in bindings} == {"127.0.0.1"}
    others = {
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    }
    for address in others:
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((address, int(bindings[0]["HostPort"]))) != 0


def test_shared_memory_of_a_client_reaches_the_container(server: TritonServer) -> None:
    region = SHARED_MEMORY / f"region_{uuid.uuid4().hex}"
    region.write_bytes(np.array([[2.5]], np.float32).tobytes())
    region.chmod(0o666)  # a client of the same user needs no such thing
    try:
        with contextlib.closing(http.InferenceServerClient(server.http_url.removeprefix("http://"))) as client:
            headers = key_headers(server)
            client.register_system_shared_memory("x1", f"/{region.name}", 4, headers=headers)
            assert _ask(server, region="x1") == [[2.5 + 6]]
            client.unregister_system_shared_memory("x1", headers=headers)
    finally:
        region.unlink()


def test_request_without_the_key_is_refused(server: TritonServer, container_image: str) -> None:
    assert server.key_file is not None
    (secret,) = key_headers(server).values()
    with contextlib.closing(http.InferenceServerClient(server.http_url.removeprefix("http://"))) as client:
        for restricted in (client.get_model_repository_index, client.get_log_settings):
            with pytest.raises(InferenceServerException, match="restricted, expecting header"):
                restricted()
            assert restricted(headers=key_headers(server))
    for process in (psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)):
        assert secret not in str(process.cmdline()) + str(process.environ())


def test_image_that_cannot_protect_the_key_is_refused(
    nothing_left: None, repository: Path, container_image: str, tmp_path: Path
) -> None:
    """Like an image of another architecture, whose loader skips the library with a warning."""
    with (
        pytest.raises(ServerError, match="lets every user of this host load models, .* so use an image of this"),
        docker_server(repository, image=container_image, log_path=tmp_path / "log", env={"LD_PRELOAD": "/no.so"}),
    ):
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="only root's server runs as another user")
def test_repository_readable_by_root_only_is_refused(repository: Path, container_image: str, tmp_path: Path) -> None:
    config = repository / "adder" / "config.pbtxt"
    config.chmod(0o600)
    try:
        with (
            pytest.raises(ServerError, match=rf"{config} can't be read by nobody .*: chmod -R o\+rX {repository}"),
            docker_server(repository, image=container_image, log_path=tmp_path / "server.log"),
        ):
            pass
    finally:
        config.chmod(0o644)


def test_container_is_removed_after_an_interrupt(
    nothing_left: None, repository: Path, container_image: str, tmp_path: Path
) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        docker_server(repository, image=container_image, log_path=tmp_path / "server.log") as running,
    ):
        raise KeyboardInterrupt
    assert not running.is_ready()
    assert "All models are stopped" in (tmp_path / "server.log").read_text()  # it was asked, not killed


def test_killed_container_is_reported_and_removed(
    nothing_left: None, repository: Path, container_image: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = set(_containers(container_image))
    with (
        caplog.at_level(logging.ERROR),
        docker_server(repository, image=container_image, log_path=tmp_path / "server.log") as running,
    ):
        running.load_model("adder", timeout_s=60)
        (new,) = set(_containers(container_image)) - before
        _containers(container_image)[new].kill()
        _containers(container_image)[new].wait()
    assert "tritonserver ended by itself, it exited with 137, as a container does" in caplog.text
    assert f"; its log is {tmp_path / 'server.log'}" in caplog.text


def test_removed_container_is_reported(
    nothing_left: None, repository: Path, container_image: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = set(_containers(container_image))
    with (
        caplog.at_level(logging.ERROR),
        docker_server(repository, image=container_image, log_path=tmp_path / "server.log"),
    ):
        (new,) = set(_containers(container_image)) - before
        _containers(container_image)[new].remove(force=True)
    assert "has somebody removed it?" in caplog.text


def test_container_that_ends_at_its_start_shows_its_last_lines(
    nothing_left: None, container_image: str, tmp_path: Path
) -> None:
    model, log_path = tmp_path / "repository" / "broken", tmp_path / "server.log"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text('backend: "python" max_batch_size: -5')
    log_path.write_text("error: of an earlier run\n")
    with (
        pytest.raises(ServerError, match="exited with 1 .*broken.*; its log is") as told,
        docker_server(model.parent, image=container_image, log_path=log_path, load_method=LoadMethod.POLL),
    ):
        pass
    assert str(log_path) in str(told.value) and "earlier run" not in str(told.value)


def test_container_that_is_never_ready_is_reported(
    nothing_left: None, repository: Path, container_image: str, tmp_path: Path
) -> None:
    with (
        pytest.raises(ServerError, match="is not ready after 0.01 s in a container of"),
        docker_server(repository, image=container_image, log_path=tmp_path / "server.log", timeout_s=0.01),
    ):
        pass


def test_port_in_use_is_named(repository: Path, container_image: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServerError, match=f"port {port} of 127.0.0.1, for grpc, can't be used .*choose another"),
            docker_server(repository, image=container_image, log_path=tmp_path / "server.log", grpc_port=port),
        ):
            pass


def test_given_ports_are_used(nothing_left: None, repository: Path, container_image: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with docker_server(repository, image=container_image, log_path=tmp_path / "server.log", http_port=port) as running:
        assert running.http_url == f"http://127.0.0.1:{port}"
        assert running.is_ready()


def test_missing_image_is_named(container_image: str, repository: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(
            ContainerError, match="image 127.0.0.1:1/none:25.02 is not here and can't be pulled .*mend its name"
        ),
        docker_server(repository, image="127.0.0.1:1/none:25.02", log_path=tmp_path / "server.log"),
    ):
        pass


def test_image_without_tritonserver_is_named(
    nothing_left: None, container_image: str, repository: Path, tmp_path: Path
) -> None:
    with (
        pytest.raises(
            ContainerError, match="with tritonserver can't be started .*choose an image that has this program"
        ),
        docker_server(repository, image=container_image, log_path=tmp_path / "server.log", env={"PATH": "/nowhere"}),
    ):
        pass


def test_failed_docker_build_shows_its_last_lines(container_image: str, tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(f"FROM {container_image}\nRUN echo the disk is full; exit 3\n")
    with ContainerEngine.connect() as engine:
        with pytest.raises(ContainerError, match="Dockerfile can't be built: .*the disk is full.*3"):
            engine.build_image(dockerfile, "localhost/wide-deep-never")
        assert not engine.has_image("localhost/wide-deep-never")


def test_missing_repository_and_library_are_named(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="no model repository at"), _server_of(tmp_path / "none"):
        pass
    with pytest.raises(ServerError, match="no library"), _server_of(tmp_path, custom_operations=tmp_path / "none.so"):
        pass


def test_missing_container_engine_error_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    repository = tmp_path / "repository"
    repository.mkdir()
    with (
        pytest.raises(ContainerError, match="no container engine answers: install Docker .* or set"),
        _server_of(repository),
    ):
        pass


def test_gpus_are_requested_by_index() -> None:
    host = ContainerSpec(image="i", command=("c",), user="1:1", gpus=(0, 2)).to_api()["HostConfig"]
    assert host["DeviceRequests"] == [{"Driver": "", "DeviceIDs": ["0", "2"], "Capabilities": [["gpu"]]}]
    assert host["Ulimits"] == [
        {"Name": "memlock", "Soft": -1, "Hard": -1},
        {"Name": "stack", "Soft": 67108864, "Hard": 67108864},
    ]
    assert "DeviceRequests" not in ContainerSpec(image="i", command=("c",), user="1:1").to_api()["HostConfig"]


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({"TRITON_SERVER_VERSION": "2.55.0"}, []),
        ({"TRITON_SERVER_VERSION": "2.69.0"}, ["--allow-client-shm=true"]),
        ({"TRITON_SERVER_VERSION": "3.0.0dev"}, ["--allow-client-shm=true"]),
        ({"PATH": "/bin"}, []),
    ],
)
def test_version_options_allow_client_shared_memory(environment: dict[str, str], options: list[str]) -> None:
    assert version_options(environment) == options


def test_container_user_is_the_caller_but_not_root() -> None:
    assert server_user(1000, 100) == "1000:100"
    assert server_user(0, 0) == "65534:65534"


def _server_of(repository: Path, **options: Any) -> contextlib.AbstractContextManager[TritonServer]:
    return docker_server(repository, image="any", log_path=repository / "server.log", **options)


def _ask(server: TritonServer, region: str | None = None) -> list[list[float]]:
    """The answer to x1 = 1.5, or the content of a shared memory region, and x2 = 1, 2, 3."""
    x1, x2 = http.InferInput("x1", [1, 1], "FP32"), http.InferInput("x2", [1, 3], "INT32")
    x2.set_data_from_numpy(np.array([[1, 2, 3]], np.int32))
    if region is None:
        x1.set_data_from_numpy(np.array([[1.5]], np.float32))
    else:
        x1.set_shared_memory(region, 4)
    with contextlib.closing(http.InferenceServerClient(server.http_url.removeprefix("http://"))) as client:
        answer: list[list[float]] = client.infer("adder", [x1, x2]).as_numpy("y").tolist()
    return answer


def _inside(image: str, script: str) -> str:
    """Output of a shell script in the running server's container."""
    (container,) = _containers(image).values()
    return str(container.exec_run(["bash", "-c", script]).output.decode())


def _containers(image: str) -> dict[str, Any]:
    client = docker.from_env()
    return {item.id: item for item in client.containers.list(all=True, filters={"label": LABEL, "ancestor": image})}
