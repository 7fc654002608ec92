from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deployment_toolkit.errors import ServerError, UsageError
from deployment_toolkit.triton_server.__main__ import main
from deployment_toolkit.triton_server.installation import Installation
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer

DEADLINE_S = 60


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_triton_server_command_runs_until_a_signal(adder_repository: Path, tmp_path: Path, ending: int) -> None:
    http, grpc, metrics = _free_ports(3)
    ready, log = tmp_path / "ready", tmp_path / "server.log"
    command = [sys.executable, "-m", "deployment_toolkit.triton_server", "--model-repository", str(adder_repository)]
    command += ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)]
    command += ["--load-method", "poll", "--log-path", str(log), "--ready-file", str(ready), "--verbose"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while not ready.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        for url in (f"http://127.0.0.1:{http}", f"grpc://127.0.0.1:{grpc}"):
            TritonServer.from_url(url).load_model("adder", timeout_s=DEADLINE_S)  # found by polling
        socket.create_connection(("127.0.0.1", metrics), timeout=5).close()
        assert "adder" in log.read_text()
    finally:
        process.send_signal(ending)
        _, printed = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130
    assert f"ready at http://127.0.0.1:{http}" in printed and printed.splitlines()[-1] == "interrupted"
    assert not TritonServer.from_url(f"http://127.0.0.1:{http}").is_ready()


def test_triton_server_command_removes_models_from_a_remote_server(adder_repository: Path, tmp_path: Path) -> None:
    repository, ready = tmp_path / "models", tmp_path / "ready"
    repository.mkdir()
    with local_server(repository, log_path=tmp_path / "server.log") as running:
        command = [sys.executable, "-m", "deployment_toolkit.triton_server", "--model-repository", str(repository)]
        command += ["--remote-http-url", running.http_url, "--remote-grpc-url", running.grpc_url]
        process = subprocess.Popen([*command, "--models", "adder", "--ready-file", str(ready)])
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not ready.exists():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            shutil.copytree(adder_repository / "adder", repository / "adder")
            running.load_model("adder", timeout_s=DEADLINE_S)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 130
        assert running.is_ready() and not running.has_loaded("adder")
        assert list(repository.iterdir()) == []


def test_triton_server_command_starts_a_container(
    container_image: str, adder_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(adder_repository / "adder", tmp_path / "models" / "adder")  # for a server that is not root
    http, grpc, metrics = _free_ports(3)
    log, server = tmp_path / "server.log", TritonServer.from_url(f"grpc://127.0.0.1:{grpc}")
    library = next((Installation.find().package.parent / "nvidia_pytriton.libs").glob("libb64-*"))

    def instead_of_waiting() -> None:
        server.load_model("adder", timeout_s=DEADLINE_S)
        raise KeyboardInterrupt

    monkeypatch.setattr("signal.pause", instead_of_waiting)
    options = ["--model-repository", str(tmp_path / "models"), "--log-path", str(log), "--image", container_image]
    options += ["--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)]
    with pytest.raises(KeyboardInterrupt):
        main([*options, "--custom-operations", str(library)])
    assert not server.is_ready()
    assert "successfully loaded 'adder'" in log.read_text()
    with pytest.raises(ServerError, match="there is no library of custom operations at nowhere.so"):
        main([*options, "--custom-operations", "nowhere.so"])


def test_embedded_server_sees_the_given_devices(
    adder_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    http, grpc, metrics = _free_ports(3)

    def instead_of_waiting() -> None:
        (server,) = (child for child in psutil.Process().children() if f"--grpc-port={grpc}" in child.cmdline())
        assert server.environ()["CUDA_VISIBLE_DEVICES"] == "0,2"
        raise KeyboardInterrupt

    monkeypatch.setattr("signal.pause", instead_of_waiting)
    options = ["--model-repository", str(adder_repository), "--log-path", str(tmp_path / "log"), "--devices", "0", "2"]
    with pytest.raises(KeyboardInterrupt):
        main([*options, "--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--remote-http-url", "a:1"], "--remote-http-url, --remote-grpc-url and --models go together"),
        (["--image", "i", "--remote-http-url", "a", "--remote-grpc-url", "a", "--models", "m"], "--image starts a"),
        (["--custom-operations", "a.so"], "--custom-operations is for the server of --image"),
    ],
)
def test_contradictory_options_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main(["--model-repository", str(tmp_path), *options])
