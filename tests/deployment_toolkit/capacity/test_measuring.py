"""Capacity of models of known speed, measured by the command."""

from __future__ import annotations

import signal
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.capacity.client import open_client
from deployment_toolkit.capacity.closed_loop import ClosedLoop
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.process import child, run
from deployment_toolkit.results.capacity import capacities, read_capacity
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_server.remote import TritonServer
from tests.deployment_toolkit.capacity.conftest import SERVICE_S
from tests.overload import INSTANCES, MAX_BATCH_SIZE

SCRIPT = ROOT / "run_performance_on_triton.py"
BUDGET_MS = 100
RUN_SECONDS = 2


def arguments(server: TritonServer, model: str, path: Path, *more: str) -> list[str]:
    return [
        sys.executable, str(SCRIPT), "--evaluation-mode", "capacity", "--model-name", model, "--server-url",
        server.http_url, "--result-path", str(path), "--rows", "1", "--latency-budget-ms", str(BUDGET_MS),
        "--capacity-run-seconds", str(RUN_SECONDS), *more,
    ]  # fmt: skip


def closed_loop_rate(server: TritonServer) -> float:
    with closing(open_client(ServerUrl.parse(server.http_url), "quick", "1")) as client:
        client.prepare([{"x": np.zeros((1, 1), np.float32)}])
        client.connect(16)
        return ClosedLoop(client, 1, in_flight=16, seconds=0.5).rate()


def test_capacity_is_that_of_a_server_of_known_speed(slow_server: TritonServer, tmp_path: Path) -> None:
    """Two instances answer 4 rows each in the service time: never more, and not much less at this budget, which is many
    service times; but other work on the host's cores lowers it, as it lowers what a closed loop is answered."""
    before = closed_loop_rate(slow_server)
    path = tmp_path / "quick.csv"
    completed = run(arguments(slow_server, "quick", path, "--capacity-seconds", "20"), log_path=tmp_path / "log.txt")
    rows = read_capacity(path)
    assert f"{len(rows)} rows written" in completed.stderr
    assert "| capacity (requests/s) |" in completed.stdout and "✗" in completed.stdout
    assert len([*(tmp_path / "loadgen").glob("quick_rows_1_run_*")]) == 2 * len(rows)
    held = capacities(rows)[1, BUDGET_MS * 1000.0]
    most = INSTANCES * MAX_BATCH_SIZE / SERVICE_S["quick"]
    least = 0.3 * min(most, before, closed_loop_rate(slow_server))
    # A queue that only just reaches the budget at the end of a run has grown by so many requests.
    assert least < held["Offered Requests/Second"] < 1.05 * most * (1 + BUDGET_MS / 1000 / RUN_SECONDS)
    assert held["p99 latency"] <= BUDGET_MS * 1000 and held["p50 latency"] >= SERVICE_S["quick"] * 1e6
    assert all(row["Other Cores"] is not None and row["CPU Speed After"] > 0 for row in rows)
    assert "measurement" in completed.stdout.splitlines()[-1] and "disturbed" in completed.stdout.splitlines()[-1]
    assert 0 < held["Client Cores"] < 1 and 0 < held["Server Cores"] < 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--concurrency", "8"], "--concurrency belongs to the other evaluation modes"),
        (["--batch-sizes", "8"], "--rows, --latency-budget-ms and --capacity-run-seconds say what is measured"),
        (["--performance-tool", "model_analyzer", "--model-repository", "/"], "--performance-tool belongs to"),
        (["--evaluation-mode", "online"], "--latency-budget-ms belongs to --evaluation-mode capacity"),
        (["--rows", "64"], "--rows holds 64, model quick takes at most 4"),
        (["--rows", "0"], "--rows needs numbers above 0"),
        (["--capacity-run-seconds", "1.9"], "--capacity-run-seconds 1.9 is too short for a latency budget of 100 ms"),
        (["--latency-budget-ms", "-1"], "--latency-budget-ms needs numbers above 0"),
        (["--input-data", "/"], "takes random, zero or a --dataloader"),
    ],
)
def test_impossible_options_are_one_line(
    slow_server: TritonServer, tmp_path: Path, more: list[str], message: str
) -> None:
    with pytest.raises(ProcessError) as raised:
        run(arguments(slow_server, "quick", tmp_path / "c.csv", *more), log_path=tmp_path / "log.txt")
    errors = [line for line in raised.value.stderr.splitlines() if line.startswith("error: ")]
    assert raised.value.returncode == 1 and "Traceback" not in raised.value.stderr
    assert len(errors) == 1 and message in errors[0]
    assert not (tmp_path / "c.csv").exists()


def test_interrupted_measurement_keeps_its_results(slow_server: TritonServer, tmp_path: Path) -> None:
    path, log_path = tmp_path / "c.csv", tmp_path / "log.txt"
    with child(arguments(slow_server, "slow", path), stdout=log_path) as process:
        while not path.exists():
            assert process.wait(0.05) is None, log_path.read_text()
        process.stop(first=signal.SIGINT)
        assert process.poll() == 130, log_path.read_text()
    assert len(read_capacity(path)) >= 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "loadgen", "log.txt"]
