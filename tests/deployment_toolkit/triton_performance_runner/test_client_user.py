"""Option --client-user: perf_analyzer runs as the user of the server's container."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.disturbance.server_processes import server_processes
from deployment_toolkit.errors import PerformanceError, UsageError
from deployment_toolkit.machine import SHARED_MEMORY
from deployment_toolkit.process import Child, child, run
from deployment_toolkit.process_memory import process_tree
from deployment_toolkit.results.performance import read_performance
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_performance_runner.options import MeasurementMode, PerformanceOptions
from deployment_toolkit.triton_performance_runner.perf_data import overwrite
from deployment_toolkit.triton_performance_runner.shared_memory import (
    no_shared_memory_left,
    region_pattern,
    region_remedy,
)
from deployment_toolkit.triton_performance_runner.sweep import measure
from deployment_toolkit.triton_server.docker import docker_server
from deployment_toolkit.triton_server.remote import TritonServer

NOBODY = 65534
USER = f"{NOBODY}:{NOBODY}"
QUICK: dict[str, Any] = {
    "model_name": "adder",
    "input_data": "zero",
    "measurement_mode": MeasurementMode.TIME_WINDOWS,
    "measurement_interval": 200,
    "stability_percentage": 1e6,
}
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")


def command(server_url: str, result_path: Path, *more: str) -> list[str]:
    return [
        sys.executable, str(ROOT / "run_performance_on_triton.py"), "--model-name", "adder", "--server-url", server_url,
        "--result-path", str(result_path), "--input-data", "zero", "--measurement-mode", "time_windows",
        "--measurement-interval", "300", "--stability-percentage", "1000000", *more,
    ]  # fmt: skip


def owners(folder: Path) -> set[int]:
    return {path.stat().st_uid for path in [folder, *folder.rglob("*")]}


def regions() -> list[str]:
    """Shared memory of the other user. Tests that run at the same time measure as root."""
    names = []
    for path in SHARED_MEMORY.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if path.name.startswith(("x1_", "x2_", "y")) and path.stat().st_uid == NOBODY:
                names.append(path.name)
    return names


def wait_for(what: Callable[[], list[Any]], process: Child) -> list[Any]:
    """Result of ``what`` once it is not empty, while the process runs."""
    while not (there := what()):
        assert process.wait(0.005) is None, process.output()
    return there


def analyzers(script: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):  # it also starts processes that end at once
        return [item for item in script.children() if item.name() == "perf_analyzer"]
    return []


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A folder that only its owner may read."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def container_server(adder_repository: Path, container_image: str, tmp_path: Path) -> Iterator[TritonServer]:
    """A server in a container, with the user that such servers have; it has loaded ``adder``."""
    adder_repository.chmod(0o755)
    with docker_server(adder_repository, image=container_image, log_path=tmp_path / "server.log") as running:
        running.load_model("adder", timeout_s=60)
        yield running


@ROOT_ONLY
def test_shared_memory_belongs_to_client_user_and_results_to_caller(
    adder_server: TritonServer, closed: Path, tmp_path: Path
) -> None:
    result_path = closed / "results" / "latency.csv"
    argv = command(adder_server.grpc_url, result_path, "--client-user", USER, "--batch-sizes", "1", "16")
    with child(argv, stdout=tmp_path / "printed.txt") as process:
        wait_for(lambda: [name for name in regions() if name == "x2_0_0"], process)
        assert process.wait(240) == 0  # tests beside this one measure too
    assert [row["Batch"] for row in read_performance(result_path)] == [1, 16]
    assert result_path.with_suffix(".log").read_text().splitlines()[0].startswith("$ ")
    assert f"setpriv --reuid={NOBODY} " in result_path.with_suffix(".log").read_text().splitlines()[0]
    assert owners(closed) == {0}


def test_client_user_measures_a_container_offline(container_server: TritonServer, closed: Path) -> None:
    """For root both are nobody; else the container runs as the caller."""
    result_path = closed / "latency.csv"
    argv = command(container_server.http_url, result_path, "--batch-sizes", "1", "64", "--warmup")
    run(argv, log_path=closed / "printed.txt")
    rows = read_performance(result_path)
    assert [row["Batch"] for row in rows] == [1, 64]
    assert all(row["Inferences/Second"] > 0 for row in rows)
    assert all(row["Other Cores"] is not None for row in rows), "the server in the container is not found"
    found = server_processes(ServerUrl.parse(container_server.http_url)) or ()
    assert container_server.pid in {process.pid for pid in found for process in process_tree(pid)}
    assert owners(closed) == {os.geteuid()}
    if os.geteuid() == 0:
        refused = PerformanceOptions(
            server_url=container_server.http_url, result_path=closed / "refused.csv", client_user="0:0", **QUICK
        )
        with pytest.raises(PerformanceError, match="may not open the shared memory of user 0.*give --client-user UID"):
            measure(refused)


@ROOT_ONLY
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_measurement_leaves_nothing(
    number: signal.Signals, adder_server: TritonServer, tmp_path: Path
) -> None:
    argv = command(adder_server.http_url, tmp_path / "latency.csv", "--client-user", USER)
    with child([*argv, "--measurement-interval", "1500"], stdout=tmp_path / "printed.txt") as process:
        wait_for(regions, process)
        (analyzer,) = psutil.Process(process.pid).children()
        process.stop(first=number)
        assert process.poll() == 130
        assert not analyzer.is_running()
        assert not regions()


@ROOT_ONLY
def test_killed_measurement_ends_perf_analyzer_too(adder_server: TritonServer, tmp_path: Path) -> None:
    argv = command(adder_server.http_url, tmp_path / "latency.csv", "--client-user", USER)
    argv += ["--evaluation-mode", "online", "--measurement-interval", "60000"]  # without regions to leave behind
    with child(argv, stdout=tmp_path / "printed.txt") as process:
        script = psutil.Process(process.pid)
        (analyzer,) = wait_for(lambda: analyzers(script), process)
        assert analyzer.uids().effective == NOBODY
        script.kill()
        gone, _ = psutil.wait_procs([analyzer], timeout=20)
        assert gone == [analyzer]


@pytest.mark.parametrize("text", ["nobody", "65534", "65534:", "1:2:3", "-1:0", "1 :2", "4294967295:0"])
def test_invalid_client_user_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--client-user .*: write the numbers of a user and a group, for example"):
        PerformanceOptions(result_path=tmp_path / "latency.csv", client_user=text, **QUICK)


def test_client_user_needs_root_and_setpriv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = PerformanceOptions(result_path=tmp_path / "none" / "latency.csv", client_user=USER, **QUICK)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError, match="--client-user 65534:65534: only root can .* this is user 1000; leave it out"):
        measure(options)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="needs the program setpriv, which is not there: install util-linux"):
        measure(options)
    assert not options.result_path.parent.exists()


def test_shared_memory_left_by_another_user_is_named() -> None:
    left, me = SHARED_MEMORY / f"left_{uuid.uuid4().hex}", os.geteuid()
    names = region_pattern([], [left.name])
    refusals = ("Unable to open shared memory region: '/x'", "unable to get shared memory descriptor for key '/x'")
    left.touch()
    try:
        for refusal in refusals:
            assert region_remedy(refusal, names, me + 1) == (
                f"{left} of user {me} is in the way, left by a measurement that was killed: remove it"
            )
            assert str(left) not in str(region_remedy(refusal, names, me))
    finally:
        left.unlink()
    assert region_remedy("the model has no such input", names, me + 1) is None


def test_region_of_another_user_ends_the_measurement_before_rows_are_written(tmp_path: Path) -> None:
    name, me = f"left_{uuid.uuid4().hex}", os.geteuid()
    planted, rows = SHARED_MEMORY / f"{name}_0_0", np.zeros(2, np.int32)
    planted.write_bytes(bytes(8))
    try:
        in_the_way = pytest.raises(PerformanceError, match=f"{planted} of user {me} is in the way")
        with in_the_way, no_shared_memory_left([name], [], owner=me + 1):
            pytest.fail("the measurement began")
        with no_shared_memory_left([name], [], owner=me):
            assert overwrite(planted, rows + 1, me) and not overwrite(planted, rows + 2, me + 1)
        assert planted.read_bytes() == (rows + 1).tobytes()
    finally:
        planted.unlink()
