"""scripts/docker on a real container engine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.models.containers import Container

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.process import child
from deployment_toolkit.triton_server.remote import TritonServer
from tests.shared_memory import orphaned, regions

SCRIPTS = ROOT / "scripts" / "docker"
DEADLINE_S = 60
PATIENT = "--exit-timeout-secs=30"  # a model that is not gone by then leaves its shared memory

pytestmark = pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker command")


@pytest.fixture
def nothing_left(container_image: str) -> Iterator[None]:
    """Check after the test: no new container, and no shared memory of an ended server."""
    before, shared_memory = {item.id for item in containers(container_image)}, regions()
    yield
    assert {item.id for item in containers(container_image)} == before
    assert not orphaned(regions() - shared_memory)


@pytest.fixture
def ports() -> int:
    """First of three free ports."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            first = int(probe.getsockname()[1])
        with contextlib.suppress(OSError, OverflowError), contextlib.ExitStack() as stack:
            for port in range(first, first + 3):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


def containers(image: str) -> list[Container]:
    with contextlib.closing(docker.from_env()) as client:
        return list(client.containers.list(all=True, filters={"ancestor": image}))


def test_interactive_script_keeps_files_and_user_of_the_host(
    nothing_left: None, container_image: str, tmp_path: Path
) -> None:
    (tmp_path / "seen").write_text("outside\n")
    script = 'read -r line <seen; echo "$line $UID $PWD $1"; echo inside >made; test -r "$0/README.md" && echo read'
    script += "; test ! -S /var/run/docker.sock || echo socket"
    engine = Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://"))
    done = subprocess.run(
        [SCRIPTS / "interactive.sh", "bash", "-c", script, str(ROOT), "two words"],
        cwd=tmp_path,
        env={**os.environ, "GPUS": "none", "IMAGE": container_image},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.stdout == f"outside {os.getuid()} {tmp_path} two words\nread\n" + "socket\n" * engine.is_socket(), (
        done.stderr
    )
    assert (tmp_path / "made").read_text() == "inside\n"
    assert (tmp_path / "made").stat().st_uid == os.getuid()


def test_triton_script_serves_until_an_interrupt(
    nothing_left: None, container_image: str, adder_repository: Path, ports: int, tmp_path: Path
) -> None:
    adder_repository.chmod(0o755)
    changes = {"TRITON_IMAGE": container_image, "MODEL_REPOSITORY_PATH": str(adder_repository), "PORT": str(ports)}
    env = {**os.environ, "GPUS": "none", "WORKDIR": str(tmp_path), **changes}
    log_path = tmp_path / "printed.txt"
    server = TritonServer.from_url(f"http://127.0.0.1:{ports}")
    with child(
        [SCRIPTS / "triton_inference_server.sh", "--disable-auto-complete-config", PATIENT], env=env, stdout=log_path
    ) as process:
        while not server.is_ready():
            assert process.wait(0.1) is None, log_path.read_text()
        server.load_model("adder", timeout_s=60)
        assert TritonServer.from_url(f"grpc://127.0.0.1:{ports + 1}").is_ready()
        (container,) = containers(container_image)
        assert inside(container, "echo $UID") == f"{os.getuid() or 65534}\n"
        assert "Read-only file system" in inside(container, f": >> '{adder_repository}/new'")
        assert "No such file" in inside(container, ": < /var/run/docker.sock")
        process.stop(first=signal.SIGINT, grace_s=DEADLINE_S)
        assert process.poll() == 0, log_path.read_text()
    assert not server.is_ready()
    assert ("--client-user 65534:65534" in log_path.read_text()) == (os.getuid() == 0)


def inside(container: Container, script: str) -> str:
    return str(container.exec_run(["bash", "-c", script]).output.decode())
