"""Requests to this host in an environment that names a proxy, which is out of order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Batch
from deployment_toolkit.results.performance import read_performance
from deployment_toolkit.server_access.past_proxies import past_proxies
from deployment_toolkit.triton_inference_runner.base import open_session
from deployment_toolkit.triton_server.remote import TritonServer
from tests.proxy_variables import DEAD_PROXY, dead_proxies

OWN = "localhost,::1,127.0.0.1"


@pytest.mark.parametrize(
    ("given", "curl", "grpc"),
    [
        ({}, OWN, OWN),
        ({"no_proxy": ".intern"}, f".intern,{OWN}", f".intern,{OWN}"),
        ({"no_proxy": "a", "NO_PROXY": "b"}, f"a,b,{OWN}", f"a,b,{OWN}"),
        ({"NO_PROXY": "*"}, "*", OWN),  # with other names beside it, curl takes it for a name
        ({"no_proxy": "a", "no_grpc_proxy": "b"}, f"a,{OWN}", f"b,{OWN}"),  # gRPC then reads only the second
    ],
)
def test_exceptions_are_added_to_the_given_ones(given: dict[str, str], curl: str, grpc: str) -> None:
    env = {"http_proxy": DEAD_PROXY, **given}
    told = past_proxies(env)
    assert told == {"http_proxy": DEAD_PROXY, "no_proxy": curl, "NO_PROXY": curl, "no_grpc_proxy": grpc}
    assert env == {"http_proxy": DEAD_PROXY, **given}
    assert past_proxies({}, "localhost")["no_proxy"] == "::1,127.0.0.1,localhost"
    assert past_proxies({}, "127.0.0.5")["no_proxy"] == f"{OWN},127.0.0.5"


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_server_of_this_host_is_asked_without_the_proxy(
    scheme: str, adder_server: TritonServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead_proxies(monkeypatch)
    url, result_path = getattr(adder_server, f"{scheme}_url"), tmp_path / "latency.csv"
    server = TritonServer.from_url(url)
    assert server.is_ready() and server.has_loaded("adder")
    x = {"x1": np.ones((2, 1), np.float32), "x2": np.zeros((2, 3), np.int32)}
    session = open_session(url, "adder", synchronous=True, max_unresponded_requests=1, response_wait_time_s=60)
    with session:
        (answer,) = session.predict([Batch(ids=np.arange(2), x=x)])
    assert len(answer.y_pred["y"]) == 2
    argv = [sys.executable, str(ROOT / "run_performance_on_triton.py"), "--model-name", "adder", "--server-url", url]
    argv += ["--evaluation-mode", "offline", "--batch-sizes", "1", "--retries", "0", "--input-data", "zero"]
    argv += ["--measurement-request-count", "17", "--result-path", str(result_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(read_performance(result_path)) == 1
