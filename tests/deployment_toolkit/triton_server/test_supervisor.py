"""What is done about models that do not answer, on the real server."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from deployment_toolkit.core import Arrays
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.grpc import GrpcTransport
from deployment_toolkit.triton_server import remote
from deployment_toolkit.triton_server.health import supervisor as module
from deployment_toolkit.triton_server.health.supervisor import Supervisor
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.asking import ask, statistics

DEADLINE_S = 60
SICK = """
import os
from pathlib import Path
import numpy as np
import triton_python_backend_utils as backend


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer() for _ in requests]

    def _answer(self):
        sick = Path(__file__).parent.parent.parent.parent / "sick"
        if sick.exists() and sick.read_text() in ("always", str(os.getppid())):
            return backend.InferenceResponse([], backend.TritonError("sick"))
        return backend.InferenceResponse([backend.Tensor.from_dlpack("y", np.ones((1, 1), np.float32))])
"""


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="triton")
    for name, seconds in {"_ASK_S": 0.3, "_AGAIN_S": 0.1, "_ANSWER_S": 1.5, "_DEAF_S": 1.0}.items():
        monkeypatch.setattr(module, name, seconds)


@pytest.fixture
def repository(adder_repository: Path, tmp_path: Path) -> Path:
    """A copy of the repository with ``adder``."""
    copytree(adder_repository / "adder", tmp_path / "models" / "adder")
    return tmp_path / "models"


@contextmanager
def mortal_server(repository: Path) -> Iterator[TritonServer]:
    """A server that is killed at the end: it would wait for requests that hang."""
    with local_server(repository, log_path=repository.parent / "server.log") as server:
        yield server
        os.kill(server.pid or 0, signal.SIGKILL)


def look_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert supervisor.look() is None and time.monotonic() < deadline
        time.sleep(0.02)


def reason_of(supervisor: Supervisor) -> str:
    deadline = time.monotonic() + DEADLINE_S
    while (reason := supervisor.look()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return reason


def succeeded(server: TritonServer) -> int:
    return int(statistics(server, "adder")["inference_stats"]["success"]["count"])


def row(value: float) -> Arrays:
    return {"x1": np.full((1, 1), value, np.float32), "x2": np.array([[1, 2, 3]], np.int32)}


def test_model_that_hangs_is_loaded_again_and_a_busy_one_is_not(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Supervisor(repository, most_restarts=0)
    with mortal_server(repository) as server:
        server.load_model("adder", timeout_s=DEADLINE_S)
        supervisor.begin(server)
        look_until(supervisor, lambda: succeeded(server) > 0)
        with closing(GrpcTransport(ServerUrl.parse(server.grpc_url), "adder", "", 64)) as transport:
            busy = [transport.send(row(1001)) for _ in range(20)]  # a second each, on four instances
            look_until(supervisor, lambda: succeeded(server) > 20)
            for response in busy:
                response.result(DEADLINE_S)
            assert "is loaded again" not in caplog.text
            for _ in range(8):
                transport.send(row(1000 + 3 * DEADLINE_S))
            look_until(supervisor, lambda: "model adder answers again" in caplog.text)
            assert "model adder is loaded again: the server at" in caplog.text
            assert isinstance(ask(server, "adder", [row(1)])[0], dict)
            os.kill(server.pid or 0, signal.SIGKILL)  # before the connection waits for these answers


def test_model_that_loading_does_not_mend_gets_a_new_server_and_is_then_left(
    repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The model fails at first, then in one server, then in any."""
    (repository / "adder" / "1" / "model.py").write_text(SICK)
    supervisor, sick = Supervisor(repository, most_restarts=1), tmp_path / "sick"
    sick.write_text("always")
    with mortal_server(repository) as server:
        server.load_model("adder", timeout_s=DEADLINE_S)
        supervisor.begin(server)
        look_until(supervisor, lambda: "model adder can't be watched by asking it for a row" in caplog.text)
        sick.unlink()
        before = succeeded(server)
        look_until(supervisor, lambda: succeeded(server) > before + 1)
        sick.write_text(str(server.pid))
        assert reason_of(supervisor) == "loading model adder again did not help"
    assert caplog.text.count("can't be watched") == 1
    with mortal_server(repository) as server:
        supervisor.begin(server)
        assert isinstance(ask(server, "adder", [row(1)])[0], dict), "the new server has not loaded the model"
        look_until(supervisor, lambda: succeeded(server) > 1)
        sick.write_text("always")
        look_until(supervisor, lambda: "model adder is left as it is" in caplog.text)
        assert "the server is not started again: --most-restarts allows 1 within an hour" in caplog.text
        supervisor.look()
        assert caplog.text.count("is left as it is") == 1


def test_server_that_does_not_answer_is_to_be_started_again(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_ANSWER_TIMEOUT_S", 0.5)
    supervisor = Supervisor(repository, most_restarts=1)
    with mortal_server(repository) as server:
        supervisor.begin(server)
        assert supervisor.look() is None
        os.kill(server.pid or 0, signal.SIGSTOP)
        assert reason_of(supervisor) == "the server has not answered for 1 s"
