"""Measurements of a real server beside a program that burns a core."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.disturbance import watch
from deployment_toolkit.disturbance.counters import tree_seconds
from deployment_toolkit.disturbance.server_processes import server_processes
from deployment_toolkit.disturbance.watch import Watch
from deployment_toolkit.process import child, run
from deployment_toolkit.results.performance import (
    DISTURBED,
    DISTURBED_MARK,
    OTHER_CORES,
    SPEED_AFTER,
    SPEED_BEFORE,
    STEAL_CORES,
    read_performance,
)
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_performance_runner.options import MeasurementMode, PerformanceOptions
from deployment_toolkit.triton_performance_runner.sweep import measure
from deployment_toolkit.triton_server.remote import TritonServer

BURNING, IDLE = "while True: pass", "import time; time.sleep(600)"


@pytest.mark.parametrize("protocol", ["http_url", "grpc_url"])
def test_server_is_found_by_its_port_with_the_processes_of_its_models(
    sampler_server: TritonServer, protocol: str
) -> None:
    found = sampler_server.pid
    assert found is not None and server_processes(ServerUrl.parse(getattr(sampler_server, protocol))) == frozenset(
        {found}
    )
    names = {process.name() for process in psutil.Process(found).children(recursive=True)}
    assert any(name.startswith("triton_python") for name in names)
    assert server_processes(ServerUrl.parse("http://192.0.2.1:8000")) == frozenset(), "of no host"


def test_a_program_that_burns_a_core_beside_a_measurement_disturbs_it(
    sampler_server: TritonServer, tmp_path: Path
) -> None:
    table = tmp_path / "latency.csv"
    argv: list[str | Path] = [sys.executable, ROOT / "run_performance_on_triton.py", "--model-name", "sampler"]
    argv += ["--server-url", sampler_server.http_url, "--result-path", table, "--stability-percentage", "1000000"]
    argv += ["--evaluation-mode", "online", "--measurement-mode", "time_windows", "--measurement-interval", "200"]
    burners = 1 + len(os.sched_getaffinity(0)) // 4
    started = time.monotonic()
    command = ["sh", "-c", f"{sys.executable} -c '{BURNING}' & " * burners + "wait"]
    with child(command, stdout=tmp_path / "log") as burner:
        printed = run(argv, log_path=tmp_path / "measured", timeout_s=120)
        used = tree_seconds({burner.pid}) / (time.monotonic() - started)
    (row,) = read_performance(table)
    assert row[DISTURBED] and row[OTHER_CORES] + row[STEAL_CORES] > 0.5 * used > 0
    assert row[SPEED_BEFORE] > 0 and row[SPEED_AFTER] > 0
    assert DISTURBED_MARK in printed.stdout
    assert "1 of 1 measurements was disturbed (‡): other programs used up to" in printed.stdout
    assert "was disturbed, which its row tells: other programs used" in printed.stderr


def test_the_load_of_a_measurement_is_no_disturbance(
    sampler_server: TritonServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two watches see the same measurement: one knows its client and its server, the other neither. So whatever else
    this machine does is in both."""
    options = PerformanceOptions(
        model_name="sampler",
        server_url=sampler_server.http_url,
        result_path=tmp_path / "latency.csv",
        evaluation_mode=EvaluationMode.ONLINE,
        concurrency=[8],
        measurement_mode=MeasurementMode.TIME_WINDOWS,
        measurement_interval=300,
        stability_percentage=1e6,
    )
    assert sampler_server.pid is not None
    own = {os.getpid(), sampler_server.pid}
    monkeypatch.setattr(watch, "speed_ms", lambda: 8.0)  # so that both watches begin and end together
    with child([sys.executable, "-c", IDLE], stdout=tmp_path / "log") as idle:
        its_own = Watch(ServerUrl.parse(sampler_server.http_url))
        anothers = Watch(ServerUrl.parse("http://192.0.2.1:8000"), client=idle.pid)
        with its_own.measurement() as mine, anothers.measurement() as theirs:
            before, started = tree_seconds(own), time.monotonic()
            measure(options)
            used = (tree_seconds(own) - before) / (time.monotonic() - started)
    without, with_it = mine.disturbance.other_cores, theirs.disturbance.other_cores
    assert without is not None and with_it is not None
    assert with_it - without > 0.6 * used > 0, (used, without, with_it)
