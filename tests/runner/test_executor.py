from __future__ import annotations

import io
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import runner.executor
import runner.pipeline
from deployment_toolkit.errors import ServerError
from deployment_toolkit.process_memory import TreeMemory
from runner.command import Shell, make_command
from runner.console import Console
from runner.executor import Executor, StageShell
from runner.experiment import Experiment
from runner.records import StageState
from runner.stages.network import Stage
from runner.workspace import create_workspace
from tests.runner.conftest import experiment, run_here, task

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


MAKER = """if True:
    import sys, pathlib
    made = pathlib.Path(sys.argv[2])
    made.mkdir()
    (made / "weights").write_text(sys.argv[1])
    made.with_name(made.name + ".yaml").write_text("beside it")"""


def test_what_an_earlier_experiment_made_alike_is_shared(tmp_path: Path) -> None:
    executor, shown = _executor(tmp_path)
    folders = [tmp_path / str(number) / "exported" for number in range(1, 6)]
    for folder in folders:
        folder.parent.mkdir()

    def export(number: int, weights: str) -> None:
        with executor.stage("export", number) as record:
            argv = [sys.executable, "-c", MAKER, weights, folders[number - 1]]
            StageShell(executor, record, None).run(make_command("export", argv, makes=folders[number - 1]))

    export(1, "a")
    export(2, "b")
    export(3, "a")
    shutil.rmtree(folders[0])
    export(4, "a")
    export(5, "a")
    assert [(folder / "weights").read_text() for folder in folders[1:]] == ["b", "a", "a", "a"]
    assert all(folder.with_name("exported.yaml").read_text() == "beside it" for folder in folders)
    messages = ["", "", "as experiment 1 made it", "", "as experiment 4 made it"]
    assert [record.message for record in executor.records] == messages
    assert [len(record.commands) for record in executor.records] == [1] * 5, "each can be replayed by itself"
    assert executor.records[2].log == f"{tmp_path.name}/experiment_1_export.log"
    assert messages[2] in shown.getvalue()


@pytest.mark.parametrize("served", [True, False])
def test_memory_that_takes_long_to_read_is_read_seldom_beside_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: bool
) -> None:
    read: list[int] = []

    def burn(pid: int, **_: Any) -> TreeMemory:
        read.append(pid)
        end_s = time.thread_time() + 0.02
        while time.thread_time() < end_s:
            pass
        return TreeMemory(1, 2**30, 0)

    monkeypatch.setattr(runner.executor, "tree_memory", burn)
    executor, _ = _executor(tmp_path)
    with executor.stage("performance", 1) as record:
        command = make_command("performance", [sys.executable, "-c", "import time; time.sleep(1.8)"])
        executor.run(record, command, server_pid=os.getpid() if served else None)
    if served:  # by both processes it takes 0.04 s, which is 2 % of 2 s
        assert read.count(os.getpid()) == 1
    else:
        assert len(read) >= 2
    assert record.peak_memory_bytes >= 2**30


def test_stage_tells_of_the_end_of_its_server(
    small_config: dict[str, Any], adder_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(item: Experiment, shell: Shell) -> None:
        raise ServerError("a reason of its own")

    def lose_the_server(item: Experiment, shell: Shell) -> None:
        shutil.copytree(adder_repository / "adder", item.folders.model_store / "adder")
        item.running_server.load_model("adder", timeout_s=60)
        assert item.running_server.pid is not None
        os.kill(item.running_server.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            item.running_server.require_model("adder")

    stages = {1: fail, 2: lose_the_server}
    monkeypatch.setattr(
        runner.pipeline, "stages_of", lambda item: (Stage("deploy", stages[item.number], needs_server=True),)
    )
    monkeypatch.setattr(runner.pipeline, "_prepare", lambda *_, **__: True)
    workspace = create_workspace(tmp_path / "workspace")
    code, shown = run_here(small_config | {"configurations": [experiment()] * 2}, workspace, tmp_path)
    assert code == 1
    first, second = (stage["message"] for stage in task(workspace.run)["stages"])
    assert first == "a reason of its own"
    assert re.fullmatch(
        r"tritonserver ended by itself, it was killed by SIGKILL, usually .*: .*successfully loaded 'adder'.*; "
        r"its log is .*tritonserver\.log; then the stage failed: no server answers at .*",
        second,
    )
    assert second in shown and second in (workspace.run / "report.md").read_text()
