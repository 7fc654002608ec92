from __future__ import annotations

import io
import os
import re
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from deployment_toolkit.errors import ServerError
from deployment_toolkit.triton_server.local import local_server
from runner.command import make_command
from runner.console import Console
from runner.executor import Executor
from runner.records import StageState
from runner.servers import end_of_server

KILLED = """if True:
    import os, sys, time
    held = bytearray(64 * 2**20)
    print("a line of a library", file=sys.stderr, flush=True)
    time.sleep(1.2)
    os.kill(os.getpid(), 9)"""


def _executor(folder: Path) -> tuple[Executor, io.StringIO]:
    stream = io.StringIO()
    return Executor(folder, os.environ, Console(stream, folder), lambda: None), stream


def test_stage_killed_by_a_signal_tells_which_and_its_memory(tmp_path: Path) -> None:
    executor, shown = _executor(tmp_path)
    with executor.stage("export", 1) as record:
        executor.run(record, make_command("export", [sys.executable, "-c", KILLED]))
    assert record.state is StageState.FAILED
    found = re.fullmatch(
        r"its process was killed by SIGKILL, usually by the kernel's OOM killer when memory runs out; its last lines: "
        r"a line of a library \(largest memory seen, with the server's: ([0-9.]+) MiB\)",
        record.message,
    )
    assert found and float(found[1]) > 64
    assert record.message in shown.getvalue()


def test_stage_tells_of_the_end_of_its_server(adder_repository: Path, tmp_path: Path) -> None:
    executor, shown = _executor(tmp_path)
    with local_server(adder_repository, log_path=tmp_path / "server.log") as server:
        server.load_model("adder", timeout_s=60)
        experiment: Any = SimpleNamespace(server=server)
        with executor.stage("deploy", 1, lambda: end_of_server(experiment)) as record:
            raise ServerError("a reason of its own")
        assert record.message == "a reason of its own"
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while server.is_ready():
            assert time.monotonic() < deadline
        with executor.stage("correctness", 1, lambda: end_of_server(experiment)) as record:
            raise ServerError("no server answers")
    assert re.fullmatch(
        r"tritonserver ended by itself, it was killed by SIGKILL, usually .*: .*successfully loaded 'adder'.*; "
        r"its log is .*server\.log; then the stage failed: no server answers",
        record.message,
    )
    assert record.message in shown.getvalue()
