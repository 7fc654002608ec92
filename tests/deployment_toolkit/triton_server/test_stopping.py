from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from deployment_toolkit.errors import InferenceError
from deployment_toolkit.proxy.settings import ProxyOptions
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.grpc import GrpcTransport
from deployment_toolkit.triton_server import local
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.proxied import proxied_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.constant_clients import ConstantClients
from tests.proxy_program import needs_haproxy

CLIENTS = 6  # per protocol
REQUESTS = 5000
PORTS = ("http", "grpc", "metrics")
Launch = Callable[[Path, Path], AbstractContextManager[TritonServer]]


def embedded(repository: Path, log: Path) -> AbstractContextManager[TritonServer]:
    return local_server(repository, log_path=log)


def behind_a_proxy(repository: Path, log: Path) -> AbstractContextManager[TritonServer]:
    launch = partial(local_server, repository, log_path=log)
    return proxied_server(launch, ProxyOptions(proxy=True, proxy_grace_s=1), dict.fromkeys(PORTS), log)


class LoadBalancer:
    """Asks over a kept connection whether the server is ready. ``answered_then`` is the number of requests that the
    clients had been answered when it was not ready for the first time."""

    def __init__(self, server: TritonServer, clients: ConstantClients) -> None:
        self.answered_then = 0
        self._connection = http.client.HTTPConnection(*server.http_url.removeprefix("http://").split(":"))  # type: ignore[arg-type]
        self._thread = threading.Thread(target=self._look, args=(clients,))
        self._thread.start()

    def join(self) -> None:
        self._thread.join(60)

    def _look(self, clients: ConstantClients) -> None:
        with contextlib.closing(self._connection), contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                self._connection.request("GET", "/v2/health/ready")
                answer = self._connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.answered_then = clients.answered
                    return
                time.sleep(0.02)  # as often as it looks


@pytest.mark.parametrize("launch", [embedded, pytest.param(behind_a_proxy, marks=needs_haproxy)])
def test_server_that_is_stopped_loses_no_request(launch: Launch, adder_repository: Path, tmp_path: Path) -> None:
    with launch(adder_repository, tmp_path / "server.log") as server:
        server.load_model("adder", timeout_s=60)
        processes = psutil.Process(server.pid).children(recursive=True)
        clients = ConstantClients(server, CLIENTS)
        balancer = LoadBalancer(server, clients) if launch is behind_a_proxy else None
        clients.wait_answered(REQUESTS)
        transport = GrpcTransport(ServerUrl.parse(server.grpc_url), "adder", "1", 1)
        slow = transport.send({"x1": np.full((1, 1), 1002, np.float32), "x2": np.array([[1, 2, 3]], np.int32)})
        clients.wait_answered(clients.answered + 300)  # until the slow one is in flight
        before = clients.answered
    clients.join()
    assert slow.result(30) == {"y": np.full((1, 1), 1008, np.float32)}, "it took 2 s and was in flight"
    transport.close()
    assert clients.lost == []
    assert len(clients.refused) == 2 * CLIENTS
    assert len(processes) == 4 and not any(process.is_running() for process in processes)
    if balancer is not None:
        balancer.join()
        assert before <= balancer.answered_then < clients.answered, "it was not ready before it took no more"


def test_spent_exit_timeout_drops_only_what_is_in_flight_and_leaves_no_process(
    adder_repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its time is over, tritonserver says that it exits immediately. Then it hangs in its exit, or crashes and
    leaves processes of its model."""
    monkeypatch.setattr(local, "_MORE_S", 1)
    with local_server(adder_repository, log_path=tmp_path / "server.log", exit_timeout_s=1) as server:
        server.load_model("adder", timeout_s=60)
        processes = psutil.Process(server.pid).children(recursive=True)
        clients = ConstantClients(server, CLIENTS)
        clients.wait_answered(300)
        transport = GrpcTransport(ServerUrl.parse(server.grpc_url), "adder", "1", 1)
        slow = transport.send({"x1": np.full((1, 1), 1060, np.float32), "x2": np.array([[1, 2, 3]], np.int32)})
        clients.wait_answered(clients.answered + 300)  # until the slow one is in flight
        begun = time.monotonic()
    assert time.monotonic() - begun < 30, "the slow request takes a minute"
    clients.join()
    with pytest.raises(InferenceError, match="the server is gone"):
        slow.result(30)
    transport.close()
    assert "still holds adder after 1 s: it drops requests that it does not answer soon" in caplog.text
    assert clients.lost == [] and len(clients.refused) == 2 * CLIENTS
    assert len(processes) == 4 and not any(is_alive(process) for process in processes)


def is_alive(process: psutil.Process) -> bool:
    """False for one that has ended, also if the new parent that it got has not asked how."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False
