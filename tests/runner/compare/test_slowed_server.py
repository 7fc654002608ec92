"""A server that is slowed down by a known amount is found, and the same server twice is not."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.deploying.queue_policy import QueuePolicy
from deployment_toolkit.triton_performance_runner.options import MeasurementMode, PerformanceOptions
from deployment_toolkit.triton_performance_runner.sweep import measure
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from runner.compare.__main__ import main
from tests.measured_runs import write_run
from tests.overload import add_slow_model

SERVICE_MS, ADDED_MS = 50.0, 450.0
MODELS = {"asis": SERVICE_MS, "slowed": SERVICE_MS + ADDED_MS}
LIMIT = "50%"  # beside other tests a request may take half as long again, and windows differ much
# What else runs beside this test is none of its business.
HOST_NOISE = ("Other Cores", "Steal Cores", "CPU Speed Before", "CPU Speed After")

Measured = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("slowed")
    for name, service_ms in MODELS.items():
        add_slow_model(folder / "repository", name, QueuePolicy(), service_s=service_ms / 1000)
    with local_server(folder / "repository", log_path=folder / "server.log") as running:
        for name in MODELS:
            running.load_model(name, timeout_s=60)
        yield running


@pytest.fixture
def measured(server: TritonServer, tmp_path: Path) -> Measured:
    """Measures a model and writes it as the run of that name."""

    def run(model: str, name: str) -> Path:
        options = PerformanceOptions(
            model_name=model,
            server_url=server.http_url,
            result_path=tmp_path / f"{name}.csv",
            evaluation_mode=EvaluationMode.ONLINE,
            concurrency=[2],
            measurement_mode=MeasurementMode.TIME_WINDOWS,
            measurement_interval=1500,
            stability_percentage=1e6,
        )
        rows = [{key: row[key] for key in row if key not in HOST_NOISE} for row in measure(options)]
        return write_run(tmp_path / name, online=rows)

    return run


def test_known_delay_is_found_and_the_same_server_twice_is_not(
    measured: Measured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, again, slowed = measured("asis", "base"), measured("asis", "again"), measured("slowed", "slowed")
    out = tmp_path / "comparison"
    command = ["--max-regression", LIMIT, "--output-path", str(out)]
    assert main([str(base), str(again), *command]) == 0, capsys.readouterr().out
    assert main([str(base), str(slowed), *command]) == 3
    told = capsys.readouterr().out
    assert f"2 of 2 judged figures got worse by more than {LIMIT[:-1]} % beyond noise" in told
    listed = [line.partition(": ")[0] for line in told.splitlines() if line.startswith("- ")]
    where = "- onnx fp32, online, batch 1, concurrency 2, "
    assert listed == [f"{where}inferences/s", f"{where}avg latency (ms)"]
    with (out / "comparison.csv").open(newline="") as file:
        rows = {row["measure"]: row for row in csv.DictReader(file)}
    latency = rows["avg latency (ms)"]
    assert float(latency["value"]) - float(latency["base value"]) == pytest.approx(ADDED_MS, abs=0.3 * ADDED_MS)
    low, high = (float(end.removesuffix(" %")) for end in rows["inferences/s"]["95 % interval"].split(" to "))
    expected = 100 * (SERVICE_MS / MODELS["slowed"] - 1)
    assert low - 6 < expected < high + 6, "the delay that was added, and what each request takes besides"
    assert main([str(slowed), str(base), *command]) == 0, "faster is no regression"
