from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from benchmarks.bars import cpu_share
from benchmarks.bars.cpu_share import CLIENT, GROUPS, SERVER, CpuWatch


@pytest.fixture
def client(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program with the name of the load client, which keeps a core busy."""
    program = Path(shutil.copy("/bin/bash", tmp_path / CLIENT))
    with subprocess.Popen([program, "-c", "while :; do :; done"]) as process:
        yield process
        process.kill()


def test_client_that_ends_while_being_read_keeps_its_cpu_time(
    client: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    program: Any = SimpleNamespace(pid=client.pid)
    watch = CpuWatch(os.getpid())
    deadline = time.monotonic() + 60
    while not watch.cores() and time.monotonic() < deadline:
        watch(program)
        time.sleep(0.1)
    before = watch.cores()

    def ending(process: psutil.Process) -> str:
        name = str(process.name())
        client.kill()
        client.wait()
        return name

    monkeypatch.setattr(cpu_share, "_name", ending)
    watch(program)
    assert watch.cores() == before
    assert tuple(before) == GROUPS
    assert before[CLIENT] > 0.1
    assert before[SERVER] >= 0  # this process, which is not the client although it started it
