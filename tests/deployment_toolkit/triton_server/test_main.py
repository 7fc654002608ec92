from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deployment_toolkit.triton_server.remote import TritonServer

DEADLINE_S = 60


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [item.getsockname()[1] for item in sockets]
    for item in sockets:
        item.close()
    return ports


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_a_server_by_hand_until_it_is_told_to_end(adder_repository: Path, tmp_path: Path, ending: int) -> None:
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
