"""Processes of a scoring that are killed at random moments: every row is there once at the end."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from deployment_toolkit.process import Child
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.scored import SmallData, assert_complete, command, make_small_data, parts_of, start

PATIENCE_S = 90.0
DELAY_S = 0.06  # for each of the four batches of a part


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    return make_small_data(tmp_path_factory.mktemp("small"))


def wait_for(what: Callable[[], object], told: Callable[[], str] = lambda: "") -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, told()
        time.sleep(0.02)


def wait_for_parts(output: Path, count: int, process: Child, log: Path, *, rows: int = 250) -> None:
    """Waits for so many parts, all of them whole."""

    def there() -> bool:
        assert process.poll() is None or len(parts_of(output)) >= count, log.read_text()
        return len(parts_of(output)) >= count

    wait_for(there, log.read_text)
    for path in parts_of(output):
        assert pq.read_metadata(path).num_rows == rows


def ended(process: Child, code: int, log: Path) -> str:
    """The log of a command that has ended with this code."""
    assert process.wait(PATIENCE_S) == code, log.read_text()
    return log.read_text()


def workers_of(process: Child) -> list[psutil.Process]:
    children = psutil.Process(process.pid).children(recursive=True)
    return [item for item in children if "spawn_main" in " ".join(item.cmdline())]


@contextmanager
def running(argv: list[str], log: Path) -> Iterator[Child]:
    process = start(argv, log)
    try:
        yield process
    finally:
        process.stop()


def test_workers_and_the_command_are_killed_and_interrupted(data: SmallData, tmp_path: Path) -> None:
    chance = random.Random(18)
    output, log = tmp_path / "scores", tmp_path / "log"
    argv = command(data, output, "--n-workers", "2", delay_s=DELAY_S)
    with running(argv, log) as first:
        wait_for_parts(output, 2, first, log)
        time.sleep(chance.uniform(0, 0.3))
        chance.choice(workers_of(first)).kill()
        wait_for_parts(output, chance.randint(5, 8), first, log)
        orphans = workers_of(first)
        os.kill(first.pid, signal.SIGKILL)
        wait_for(lambda: not any(item.is_running() for item in orphans))
    assert "has died; another one takes over" in log.read_text()
    there = len(parts_of(output))
    assert 5 <= there < 20 and not (output / "_SUCCESS").exists()
    with running(argv, log) as second:
        wait_for_parts(output, there + 2, second, log)
        orphans = workers_of(second)
        os.kill(second.pid, signal.SIGINT)
        told = ended(second, 130, log)
    wait_for(lambda: not any(item.is_running() for item in orphans))
    assert told.splitlines()[-1] == "interrupted" and "Traceback" not in told
    assert not list(output.glob(".*"))
    with running(argv, log) as third:
        wait_for_parts(output, len(parts_of(output)) + 1, third, log)
        chance.choice(workers_of(third)).kill()
        told = ended(third, 0, log)
    assert "of 6000 rows are scored already" in told
    assert_complete(data, output)


@contextmanager
def dask(tmp_path: Path, name: str) -> Iterator[tuple[str, Child, list[Child]]]:
    """A scheduler and two workers, each a process without a nanny; the option that names the scheduler."""
    file = tmp_path / f"{name}.json"
    options = ["--scheduler-file", str(file), "--host", "127.0.0.1", "--no-dashboard"]
    argv = [sys.executable, "-m", "distributed.cli.dask_scheduler", *options, "--port", "0"]
    scheduler = start(argv, tmp_path / f"{name}.log")
    workers: list[Child] = []
    try:
        wait_for(file.exists, (tmp_path / f"{name}.log").read_text)
        argv = [sys.executable, "-m", "distributed.cli.dask_worker", *options, "--no-nanny", "--nthreads", "1"]
        argv += ["--local-directory", str(tmp_path)]
        workers += [start(argv, tmp_path / f"{name}-worker.log") for _ in range(2)]
        yield str(file), scheduler, workers
    finally:
        for process in (*workers, scheduler):
            process.stop(first=signal.SIGKILL)


def test_scheduler_and_worker_of_a_cluster_are_killed(data: SmallData, tmp_path: Path) -> None:
    output, log = tmp_path / "scores", tmp_path / "log"
    with dask(tmp_path, "first") as (file, scheduler, workers):
        argv = command(data, output, "--scheduler-file", file, delay_s=DELAY_S)
        with running(argv, log) as process:
            wait_for_parts(output, 3, process, log)
            os.kill(workers[0].pid, signal.SIGKILL)
            wait_for_parts(output, 6, process, log)
            os.kill(scheduler.pid, signal.SIGKILL)
            told = ended(process, 1, log)
    assert "has died; another one takes over" in told
    assert "is gone: start it again and give the same command again" in told.splitlines()[-1]
    assert "Traceback" not in told
    there = len(parts_of(output))
    assert 6 <= there < 24
    with (
        dask(tmp_path, "second") as (file, _, _),
        running(command(data, output, "--scheduler-file", file, delay_s=DELAY_S), log) as process,
    ):
        ended(process, 0, log)
    assert_complete(data, output)


@contextmanager
def adder(repository: Path, log: Path) -> Iterator[TritonServer]:
    with local_server(repository, log_path=log) as server:
        server.load_model("adder", timeout_s=60)
        yield server


def test_servers_are_killed_and_models_come_back(data: SmallData, adder_repository: Path, tmp_path: Path) -> None:
    chance, log = random.Random(18), tmp_path / "log"
    with (
        adder(adder_repository, tmp_path / "left.log") as left,
        adder(adder_repository, tmp_path / "right.log") as right,
    ):
        options = ["--server-url", left.grpc_url, right.http_url, "--model-name", "adder", "--server-patience", "2"]
        options += ["--rows-per-part", "1000"]  # a second each, so that requests are under way when a server dies
        output = tmp_path / "one dies"
        with running(command(data, output, *options, engine=False, delay_s=DELAY_S), log) as process:
            wait_for_parts(output, 1, process, log, rows=1000)
            time.sleep(chance.uniform(0.3, 0.6))
            os.kill(left.pid or 0, signal.SIGKILL)
            told = ended(process, 0, log)
        assert f"server {left.grpc_url} gives no answers" in told
        assert_complete(data, output, most_parts=6)

        output = tmp_path / "gone for a while"
        patient = [*options, "--server-patience", "60"]
        with running(command(data, output, *patient, engine=False, delay_s=DELAY_S), log) as process:
            wait_for_parts(output, 1, process, log, rows=1000)
            time.sleep(chance.uniform(0.3, 0.6))
            right.unload_model("adder")
            right.wait_unloaded("adder", 20)
            right.load_model("adder", timeout_s=60)
            ended(process, 0, log)
        assert_complete(data, output, most_parts=6)

        output = tmp_path / "all die"
        with running(command(data, output, *options, engine=False, delay_s=DELAY_S), log) as process:
            wait_for_parts(output, 1, process, log, rows=1000)
            time.sleep(chance.uniform(0.3, 0.6))
            os.kill(right.pid or 0, signal.SIGKILL)
            told = ended(process, 1, log)
        assert told.splitlines()[-1].startswith("error: none of 2 servers has answered for 2 s (grpc://127.0.0.1:")
        assert told.splitlines()[-1].endswith("parts that are complete stay") and "Traceback" not in told
        assert len(parts_of(output)) >= 1 and not list(output.glob(".*"))
