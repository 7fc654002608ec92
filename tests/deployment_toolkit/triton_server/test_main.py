from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import psutil
import pytest

from deployment_toolkit.disturbance.server_processes import server_processes
from deployment_toolkit.errors import ServerError, UsageError
from deployment_toolkit.triton_server.__main__ import main
from deployment_toolkit.triton_server.installation import Installation
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.asking import ask, statistics
from tests.proxy_program import needs_haproxy

DEADLINE_S = 60
CHAIN = """
platform: "ensemble"
max_batch_size: 64
input { name: "x1" data_type: TYPE_FP32 dims: [1] }
input { name: "x2" data_type: TYPE_INT32 dims: [3] }
output { name: "y" data_type: TYPE_FP32 dims: [1] }
ensemble_scheduling {
  step {
    model_name: "adder"
    model_version: -1
    input_map { key: "x1" value: "x1" }
    input_map { key: "x2" value: "x2" }
    output_map { key: "y" value: "y" }
  }
}
"""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


class Running:
    """The command in a process of its own."""

    def __init__(self, repository: Path, folder: Path, *options: str) -> None:
        self.http, self.grpc, self.metrics = _free_ports(3)
        self.log = folder / "server.log"
        ready = folder / "ready"
        ports = {"http": self.http, "grpc": self.grpc, "metrics": self.metrics}
        command = [sys.executable, "-m", "deployment_toolkit.triton_server", "--model-repository", str(repository)]
        command += [text for name, port in ports.items() for text in (f"--{name}-port", str(port))]
        command += ["--log-path", str(self.log), "--ready-file", str(ready), "--verbose", *options]
        self._err = folder / "err"
        with self._err.open("w") as err:
            self.process = subprocess.Popen(command, stderr=err)
        self.wait_until(ready.exists)
        self.server = TritonServer(http_url=f"http://127.0.0.1:{self.http}", grpc_url=f"grpc://127.0.0.1:{self.grpc}")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.printed()
            time.sleep(0.05)

    def printed(self) -> str:
        return self._err.read_text()

    def kill_children(self, program: str) -> None:
        """Kills the processes of this program below the command's."""
        found = self.children(program)
        assert found
        for process in found:
            process.kill()

    def children(self, program: str) -> list[psutil.Process]:
        """Processes of this program below the command's."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in children if Path(process.cmdline()[0]).name == program]


@contextlib.contextmanager
def running(repository: Path, folder: Path, *options: str) -> Iterator[Running]:
    """The command, which has ended when the block is left."""
    command = Running(repository, folder, *options)
    try:
        yield command
    finally:
        command.process.terminate()
        command.process.wait(DEADLINE_S)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_triton_server_command_runs_until_a_signal(adder_repository: Path, tmp_path: Path, ending: int) -> None:
    with running(adder_repository, tmp_path, "--load-method", "poll") as command:
        for url in command.server.urls:
            TritonServer.from_url(str(url)).load_model("adder", timeout_s=DEADLINE_S)  # found by polling
        socket.create_connection(("127.0.0.1", command.metrics), timeout=5).close()
        assert "adder" in command.log.read_text()
        command.process.send_signal(ending)
        assert command.process.wait(DEADLINE_S) == 130
    printed = command.printed()
    assert f"ready at http://127.0.0.1:{command.http}" in printed and printed.splitlines()[-1] == "interrupted"
    assert not command.server.is_ready()


def test_triton_server_command_ends_with_its_server(adder_repository: Path, tmp_path: Path) -> None:
    (tmp_path / "server.log").write_text("a line of an earlier server\n")
    with running(adder_repository, tmp_path) as command:
        command.kill_children("tritonserver")
        assert command.process.wait(DEADLINE_S) == 1
    *_, told, last = command.printed().splitlines()
    assert "tritonserver ended by itself, it was killed by SIGKILL" in told and f"its log is {command.log}" in told
    assert "earlier server" not in told
    assert "the server has ended by itself, see above why: start it again" in last


@needs_haproxy
@pytest.mark.parametrize(("title", "part"), [("HAProxy", "haproxy"), ("the check of JSON", "deployment_toolkit.proxy")])
def test_triton_server_command_ends_with_its_proxy(
    adder_repository: Path, tmp_path: Path, title: str, part: str
) -> None:
    with running(adder_repository, tmp_path, "--proxy") as command:
        assert f"ready at http://127.0.0.1:{command.http}" in command.printed()
        for url in command.server.urls:
            TritonServer.from_url(str(url)).load_model("adder", timeout_s=DEADLINE_S)
        row = {"x1": np.ones((1, 1), np.float32), "x2": np.array([[1, 2, 3]], np.int32)}
        assert ask(command.server, "adder", [row]) == [{"y": np.full((1, 1), 7, np.float32)}]
        for url in command.server.urls:
            assert server_processes(url) == frozenset({command.process.pid}), "of the proxy and of the server"
        children = psutil.Process(command.process.pid).children(recursive=True)
        (killed,) = (child for child in children if any(part in text for text in child.cmdline()[:3]))
        killed.kill()
        assert command.process.wait(DEADLINE_S) == 1
    _, left = psutil.wait_procs(children, timeout=DEADLINE_S)
    assert not left
    printed = command.printed()
    assert f"{title} ended by itself, it was killed by SIGKILL" in printed and f"its log is {command.log}" in printed
    assert "the server or its proxy has ended by itself, see above why: start it again" in printed.splitlines()[-1]


@needs_haproxy
def test_triton_server_command_with_a_proxy_leaves_nothing_at_a_signal(adder_repository: Path, tmp_path: Path) -> None:
    with running(adder_repository, tmp_path, "--proxy") as command:
        children = psutil.Process(command.process.pid).children(recursive=True)
        assert {"haproxy", "tritonserver"} <= {child.name() for child in children}
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(DEADLINE_S) == 130
        _, left = psutil.wait_procs(children, timeout=DEADLINE_S)
        assert not left and "ended by itself" not in command.printed()


@pytest.mark.parametrize("restart", [False, True])
def test_death_of_a_models_process_is_told_and_mended_if_asked(
    adder_repository: Path, tmp_path: Path, restart: bool
) -> None:
    row = {"x1": np.ones((1, 1), np.float32), "x2": np.array([[1, 2, 3]], np.int32)}
    repository = tmp_path / "models"
    copytree(adder_repository / "adder", repository / "adder")
    (repository / "chain" / "1").mkdir(parents=True)
    (repository / "chain" / "config.pbtxt").write_text(CHAIN)  # without instances
    with running(repository, tmp_path, *(["--restart-unhealthy"] if restart else [])) as command:
        command.server.load_model("adder", timeout_s=DEADLINE_S)
        command.server.load_model("chain", timeout_s=DEADLINE_S)
        command.kill_children("triton_python_backend_stub")
        command.wait_until(lambda: "a process of model adder has ended" in command.printed())
        if restart:
            command.wait_until(lambda: "model adder answers again" in command.printed())
            (answer,) = ask(command.server, "adder", [row])
            assert isinstance(answer, dict)
        else:
            assert "deploy it again, or start the server with --restart-unhealthy" in command.printed()
            (failure,) = ask(command.server, "adder", [row])
            assert "is not healthy" in str(failure)
        assert command.printed().count("has ended") == 1


def succeeded(server: TritonServer) -> int:
    """Requests to ``adder`` that were answered."""
    return int(statistics(server, "adder")["inference_stats"]["success"]["count"])


def test_server_that_has_ended_is_started_again_with_its_models(adder_repository: Path, tmp_path: Path) -> None:
    row = {"x1": np.ones((1, 1), np.float32), "x2": np.array([[1, 2, 3]], np.int32)}
    with running(adder_repository, tmp_path, "--restart-unhealthy", "--most-restarts", "1") as command:
        command.server.load_model("adder", timeout_s=DEADLINE_S)
        command.wait_until(lambda: succeeded(command.server) > 0)
        command.kill_children("tritonserver")
        command.wait_until(lambda: command.printed().count("model adder is ready") == 1)
        (answer,) = ask(command.server, "adder", [row])
        assert isinstance(answer, dict)
        assert "the server is started again: the server or its proxy has ended by itself" in command.printed()
        command.kill_children("tritonserver")
        assert command.process.wait(DEADLINE_S) == 1
        assert "--most-restarts allows 1 within an hour" in command.printed()


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
            copytree(adder_repository / "adder", repository / "adder")
            running.load_model("adder", timeout_s=DEADLINE_S)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 130
        assert running.is_ready() and not running.has_loaded("adder")
        assert list(repository.iterdir()) == []


def test_triton_server_command_starts_a_container(
    container_image: str, adder_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copytree(adder_repository / "adder", tmp_path / "models" / "adder")  # for a server that is not root
    http, grpc, metrics = _free_ports(3)
    log, server = tmp_path / "server.log", TritonServer.from_url(f"grpc://127.0.0.1:{grpc}")
    library = next((Installation.find().package.parent / "nvidia_pytriton.libs").glob("libb64-*"))

    def instead_of_waiting(*_: Any) -> None:
        server.load_model("adder", timeout_s=DEADLINE_S)
        raise KeyboardInterrupt

    monkeypatch.setattr("deployment_toolkit.triton_server.__main__._watch", instead_of_waiting)
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

    def instead_of_waiting(*_: Any) -> None:
        (server,) = (child for child in psutil.Process().children() if f"--grpc-port={grpc}" in child.cmdline())
        assert server.environ()["CUDA_VISIBLE_DEVICES"] == "0,2"
        raise KeyboardInterrupt

    monkeypatch.setattr("deployment_toolkit.triton_server.__main__._watch", instead_of_waiting)
    options = ["--model-repository", str(adder_repository), "--log-path", str(tmp_path / "log"), "--devices", "0", "2"]
    with pytest.raises(KeyboardInterrupt):
        main([*options, "--http-port", str(http), "--grpc-port", str(grpc), "--metrics-port", str(metrics)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--remote-http-url", "a:1"], "--remote-http-url, --remote-grpc-url and --models go together"),
        (["--image", "i", "--remote-http-url", "a", "--remote-grpc-url", "a", "--models", "m"], "--image starts a"),
        (["--restart-unhealthy", "--load-method", "poll"], "--restart-unhealthy watches the processes of the embedded"),
        (["--exit-timeout-s", "0"], "--exit-timeout-s must be at least 1, not 0"),
        (
            ["--exit-timeout-s", "9", "--remote-http-url", "a", "--remote-grpc-url", "a", "--models", "m"],
            "--exit-timeout-s is for a server that this command starts",
        ),
        (["--proxy", "--proxy-grace-s", "-1"], "--proxy-grace-s must be at least 0, not -1"),
        (["--most-restarts", "1"], "--most-restarts is for --restart-unhealthy"),
        (["--restart-unhealthy", "--most-restarts", "-1"], "--most-restarts must be at least 0, not -1"),
        (["--custom-operations", "a.so"], "--custom-operations is for the server of --image"),
        (["--proxy-binary-only"], "--proxy-binary-only is for the proxy: give --proxy too, or leave it out"),
        (["--proxy", "--proxy-connections", "0"], "--proxy-connections must be at least 1, not 0"),
        (["--proxy", "--proxy-body-mib", "2048"], "--proxy-body-mib must be at most 2047, not 2048"),
        (
            ["--proxy", "--remote-http-url", "a", "--remote-grpc-url", "a", "--models", "m"],
            "--proxy is for a server that this command starts",
        ),
    ],
)
def test_contradictory_options_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main(["--model-repository", str(tmp_path), *options])
