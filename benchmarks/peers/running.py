"""Peer's server as a child of this process: its start, the wait until it is ready, and its end with all children."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.peers.peer import Launch, Peer
from benchmarks.peers.served import Served
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.process import Child, child, environment, last_lines
from deployment_toolkit.server_access.ports import choose_free

_MARK = "BENCHMARK_PEER"  # in the environment of all of a peer's processes, also of those that leave its process group
_READY_TIMEOUT_S = 90
_END_TIMEOUT_S = 15
_POLL_S = 0.1


@contextlib.contextmanager
def running_peer(peer: Peer, python: Path, model: Path, log: Path) -> Iterator[Served]:
    """Yields the peer's ready server with a model; when the block is left, all its processes and their files in
    /dev/shm are removed. Raises PerformanceError, with the last lines of its log, if it does not become ready."""
    mark = uuid.uuid4().hex
    with tempfile.TemporaryDirectory(prefix="p_", dir="/tmp", ignore_cleanup_errors=True) as folder:
        port = choose_free({"http": None})["http"]
        command = peer.command(Launch(python, model.resolve(), port, Path(folder)))
        env = environment(prepend={"PYTHONPATH": [ROOT]}) | {_MARK: mark} | dict(command.env)
        with child(command.argv, env=env, stdout=log) as process:
            try:
                _wait_ready(process, port, peer.ready_path)
                yield Served(port, peer.path, peer.wire, process.pid)
            finally:
                _end(process, mark)


def _wait_ready(process: Child, port: int, path: str) -> None:
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while not _is_ready(port, path):
        code = process.wait(_POLL_S)
        if code is not None or time.monotonic() > deadline:
            how = f"is not ready after {_READY_TIMEOUT_S} s" if code is None else f"ended with code {code}"
            raise PerformanceError(f"its server {how}: {last_lines(process.output()[0])}")


def _is_ready(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _end(process: Child, mark: str) -> None:
    """Signals the server to end, so that it can end its children and remove shared memory; then ends what is left."""
    shared = {path for each in _marked(mark) for path in _shared_memory(each.pid)}
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        process.wait(_END_TIMEOUT_S)
    for each in _marked(mark):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    process.stop(first=signal.SIGKILL)
    for path in shared:
        path.unlink(missing_ok=True)


def _marked(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError, ProcessLookupError):
            if process.environ().get(_MARK) == mark:
                yield process


def _shared_memory(pid: int) -> Iterator[Path]:
    try:
        maps = Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return
    for name in re.findall(r" (/dev/shm/\S+)$", maps, re.MULTILINE):
        yield Path(name)
