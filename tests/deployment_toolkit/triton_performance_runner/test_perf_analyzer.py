from __future__ import annotations

import contextlib
import csv
import logging
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from deployment_toolkit.core import Array, Arrays, EvaluationMode
from deployment_toolkit.errors import DeploymentError, InputError, PerformanceError, ServerError, UsageError
from deployment_toolkit.machine import SHARED_MEMORY
from deployment_toolkit.results.left_out import read_left_out
from deployment_toolkit.results.performance import (
    AVERAGE,
    LATENCY_PARTS,
    P99,
    SETTLED,
    THROUGHPUT,
    WINDOW_LATENCIES,
    WINDOW_RATES,
    read_performance,
)
from deployment_toolkit.triton_performance_runner.options import MeasurementMode, PerformanceOptions
from deployment_toolkit.triton_performance_runner.perf_report import Report, passes_in
from deployment_toolkit.triton_performance_runner.shared_memory import (
    machine_to_itself,
    no_shared_memory_left,
)
from deployment_toolkit.triton_performance_runner.sweep import measure
from deployment_toolkit.triton_server.remote import TritonServer
from tests.shared_memory import left_by_measurements

# Windows of 200 ms, of which any will do: what is measured here is whether it is measured.
QUICK: dict[str, Any] = {
    "measurement_mode": MeasurementMode.TIME_WINDOWS,
    "measurement_interval": 200,
    "stability_percentage": 1e6,
}
HEADER = (
    "Batch,Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
    "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,"
    "avg latency,Settled,Refused,Other Cores,Steal Cores,CPU Speed Before,CPU Speed After,Disturbed,"
    "Window Rates,Window Latencies"
)
Options = Callable[..., PerformanceOptions]


@pytest.fixture
def options(tmp_path: Path, sampler_server: TritonServer) -> Options:
    """Options of a quick measurement of ``sampler``."""

    def make(**changes: Any) -> PerformanceOptions:
        defaults = {"model_name": "sampler", "server_url": sampler_server.http_url, **QUICK}
        return PerformanceOptions(**{**defaults, "result_path": tmp_path / "latency.csv", **changes})

    return make


@pytest.fixture
def requests(sampler_repository: Path) -> Callable[[str], list[list[int]]]:
    """Items of the requests that a model receives after the fixture is created."""
    starts = {path: len(path.read_text().splitlines()) for path in sampler_repository.glob("*/requests.txt")}

    def read(model: str = "sampler") -> list[list[int]]:
        path = sampler_repository / model / "requests.txt"
        lines = path.read_text().splitlines()[starts.get(path, 0) :]
        return [[int(item) for item in line.split()] for line in lines]

    return read


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    """Check after each test: no shared memory region of the test in /dev/shm, no file in the working directory."""
    before = {*Path.cwd().iterdir()}
    yield
    assert not left_by_measurements("shopitem", "amount", "score")
    assert not [path for path in {*Path.cwd().iterdir()} - before if path.suffix == ".csv"]


def test_offline_rows_are_in_the_value_range_and_different(
    options: Options, requests: Callable[..., list[list[int]]]
) -> None:
    measured = measure(options(batch_sizes=[16, 1], warmup=True))
    path = options().result_path
    assert path.read_text().splitlines()[0] == HEADER
    rows = read_performance(path)
    assert (
        [(row["Batch"], row["Concurrency"]) for row in rows]
        == [(1, 1), (16, 1)]
        == [(row["Batch"], row["Concurrency"]) for row in measured]
    )
    assert all(row[THROUGHPUT] > 0 and row[P99] >= row["p50 latency"] > 0 and row[SETTLED] for row in rows)
    for row in rows:
        assert len(row[WINDOW_RATES]) == len(row[WINDOW_LATENCIES]) == 3
        assert min(row[WINDOW_RATES]) <= 1.01 * row[THROUGHPUT] and row[THROUGHPUT] <= 1.01 * max(row[WINDOW_RATES])
        assert min(row[WINDOW_LATENCIES]) - 1 <= row[AVERAGE] <= max(row[WINDOW_LATENCIES]) + 1
    by_batch: dict[int, list[list[int]]] = {1: [], 16: []}
    for request in requests():
        by_batch[len(request)].append(request)
    assert len({request[0] for request in by_batch[1]}) > 50
    assert options().log_path.read_text().count("$ ") == 4  # to warm up with each batch, and to measure it
    # 61 steps of 16 rows are 976 rows, where perf_analyzer alone would send 61 over and over.
    assert len({item for request in by_batch[16] for item in request}) > 500


@pytest.mark.parametrize("protocol", ["http_url", "grpc_url"])
def test_latencies_are_microseconds_over_both_protocols(
    options: Options, sampler_server: TritonServer, protocol: str
) -> None:
    (row,) = measure(
        options(
            server_url=getattr(sampler_server, protocol),
            evaluation_mode=EvaluationMode.ONLINE,
            batch_sizes=[2],
            concurrency=[6],
        )
    )
    assert sum(row[part] for part in LATENCY_PARTS) == pytest.approx(row[AVERAGE], rel=0.02, abs=20)
    # Little's law: requests in flight = rate of requests * time that each takes.
    assert row[THROUGHPUT] / 2 * row[AVERAGE] / 1e6 == pytest.approx(6, rel=0.35)
    log = options().log_path.read_text()
    assert "--async --max-threads 4" in log and "--shared-memory" not in log
    assert "*** Measurement Settings ***" in log


def test_rows_of_a_dataset_are_sent(options: Options, requests: Callable[..., list[list[int]]]) -> None:
    def batches() -> Iterator[tuple[Array, Arrays, Arrays]]:
        for start in (100, 103, 106):
            items = np.arange(start, start + 3, dtype=np.int32).reshape(-1, 1)
            yield np.zeros(3), {"shop/item": items, "amount": np.zeros((3, 2), np.float32)}, {}

    measure(options(batch_sizes=[4]), batches)
    measure(options(batch_sizes=[4], evaluation_mode=EvaluationMode.ONLINE), batches)
    seen = requests()
    assert {item for request in seen for item in request} == set(range(100, 109))
    assert all(len(set(request)) == 4 for request in seen)


def test_dataset_outside_the_value_range_is_refused(options: Options) -> None:
    def batches() -> Iterator[tuple[Array, Arrays, Arrays]]:
        yield np.zeros(1), {"shop/item": np.array([[1000]], np.int32), "amount": np.zeros((1, 2), np.float32)}, {}

    with pytest.raises(InputError, match=r"shop/item holds id 1000, outside 0 .. 999"):
        measure(options(), batches)


def test_measurement_works_with_free_shapes_and_without_batching(
    options: Options, requests: Callable[..., list[list[int]]]
) -> None:
    measure(options(model_name="free_shape", input_shapes=["amount:5"], batch_sizes=[3]))
    measure(options(model_name="unbatched"))
    assert {len(request) for request in requests("free_shape")} == {3}
    assert {len(request) for request in requests("unbatched")} == {1}
    with pytest.raises(UsageError, match="is deployed without batching: 1 row"):
        measure(options(model_name="unbatched", batch_sizes=[2]))
    with pytest.raises(UsageError, match=r"input amount has the free shape \[-1\]: give --input-shapes amount:SHAPE"):
        measure(options(model_name="free_shape"))


def test_output_of_free_shape_needs_enough_shared_memory(options: Options) -> None:
    with pytest.raises(PerformanceError, match=r"could not measure batch 4, concurrency 1: .*score"):
        measure(options(model_name="free_output", batch_sizes=[4], output_shared_memory_size=2))
    measure(options(model_name="free_output", batch_sizes=[4], output_shared_memory_size=4))


def test_count_windows_send_zeros_and_count_requests(
    options: Options, requests: Callable[..., list[list[int]]]
) -> None:
    counted = {"measurement_mode": MeasurementMode.COUNT_WINDOWS, "measurement_request_count": 70}
    measure(options(**counted, input_data="zero"))
    assert " --measurement-mode count_windows --measurement-request-count 70 " in options().log_path.read_text()
    seen = requests()
    assert len(seen) >= 3 * 70 and {item for request in seen for item in request} == {0}


def test_input_data_file_is_passed_on(
    options: Options, requests: Callable[..., list[list[int]]], tmp_path: Path
) -> None:
    path = tmp_path / "my data.json"
    path.write_text('{"data": [{"shop/item": [7], "amount": [0.0, 1.0]}, {"shop/item": [8], "amount": [0.0, 1.0]}]}')
    measure(options(input_data=str(path), evaluation_mode=EvaluationMode.ONLINE))
    assert {item for request in requests() for item in request} == {7, 8}


def test_unsettled_measurement_is_marked_and_kept(options: Options, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"measurement_interval": 500, "stability_percentage": 5.0, "retries": 1}
    measure(options(model_name="growing", **settings))
    with options().result_path.open() as file:
        (row,) = csv.DictReader(file)
    assert row[SETTLED] == "no" and float(row[THROUGHPUT]) > 0
    commands = [line for line in options().log_path.read_text().splitlines() if line.startswith("$ ")]
    assert [line.split("--measurement-interval ")[1].split()[0] for line in commands] == ["500", "1000"]
    assert "never settled" in caplog.text


def test_time_budget_measures_what_is_needed_first_and_tells_what_it_left_out(
    options: Options, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    batches = {"batch_sizes": [1, 2, 16], "measurement_interval": 400}
    measure(options(**batches, time_budget_s=0.001))
    path = options().result_path
    assert [row["Batch"] for row in read_performance(path)] == [1]
    left_out = "2 of 3 points not measured (batch 2, 16 at concurrency 1)"
    assert read_left_out(path).words == left_out and f"the time budget of 0.001 s left out: {left_out}" in caplog.text
    capsys.readouterr()
    measure(options(**batches, time_budget_s=600))
    assert not read_left_out(path)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("point ")]
    first, second, third = [line for line in lines if " s of the time budget left" in line][:3]
    assert ": batch 1," in first and ": batch 16," in second
    now = r"batch 2, concurrency 1, \d+ s of the time budget left"
    before = r"batch (1|16), concurrency 1, [\d,]+ inferences/s"
    assert re.fullmatch(rf"point 3 of 3, attempt 1 of 3: {now}; before it: {before}", third)
    ended = r"point \d of 3, attempt \d of 3, \d+ s, [\d,]+ inferences/s: batch \d+, concurrency 1, settled"
    assert re.fullmatch(ended, lines[-1])


def test_repeats_begin_with_the_point_whose_windows_differ_most(options: Options) -> None:
    measure(options(batch_sizes=[1, 2, 16], stability_percentage=1e-9, retries=1))
    runs = options().log_path.read_text().split("\n$ ")
    batches = [int(text.split(" -b ")[1].split()[0]) for text in runs]
    spreads = [Report({}, passes_in(text), 1).spread for text in runs[:3]]
    assert batches[:3] == [1, 16, 2]
    assert batches[3:] == sorted(batches[:3], key=lambda batch: -spreads[batches.index(batch)])
    assert [row[SETTLED] for row in read_performance(options().result_path)] == [False] * 3


def test_settled_follows_the_rule_of_perf_analyzer() -> None:
    def settled(*passes: tuple[float, float]) -> bool:
        return Report({}, list(passes), 10).is_settled(10)

    assert settled((100, 1000), (109, 1000), (105, 1099))
    assert not settled((100, 1000), (111, 1000), (105, 1000))
    assert not settled((100, 1000), (100, 1000), (100, 1101))
    assert not settled((100, 1000), (100, 1000))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"model_name": "smapler"},
            ServerError,
            r"no model smapler .* it holds free_output, free_shape, growing, sampler",
        ),
        ({"model_version": "7"}, ServerError, "has no version 7"),
        ({"server_url": "http://127.0.0.1:1"}, ServerError, "no server answers at http://127.0.0.1:1"),
        ({"batch_sizes": [65]}, UsageError, "takes at most 64 rows"),
        ({"time_budget_s": 0}, UsageError, "--time-budget-s must be a number of seconds above 0, not 0"),
        ({"batch_sizes": [0]}, UsageError, "--batch-sizes needs whole numbers from 1 on"),
        ({"model_name": "unknown_ranges"}, UsageError, r"values input shop/item \(int32\) takes; give --dataloader"),
        ({"input_data": "missing.json"}, UsageError, "no such file or folder"),
        ({"input_shapes": ["amount:x"]}, UsageError, "write NAME:D0,D1"),
        ({"input_shapes": ["colour:3"]}, UsageError, "the model's inputs are amount, shop/item"),
    ],
)
def test_wrong_options_are_refused_at_once(
    options: Options, changes: dict[str, Any], error: type[DeploymentError], message: str
) -> None:
    with pytest.raises(error, match=message):
        measure(options(**changes))
    assert not (options().result_path).exists()


def test_requests_refused_by_the_model_are_reported(options: Options, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text('{"data": [{"shop/item": [1000], "amount": [0.0, 1.0]}]}')
    with pytest.raises(PerformanceError, match=r"could not measure batch 1, concurrency 1: .*item outside the table"):
        measure(options(input_data=str(path)))


def test_points_before_a_killed_measurement_are_kept(options: Options) -> None:
    stop = threading.Event()

    def kill_second_point() -> None:
        while not stop.wait(0.02):
            for process in psutil.Process().children():
                with contextlib.suppress(psutil.Error):  # it has just ended
                    if " -b 8 " in " ".join(process.cmdline()) and _has_regions():
                        process.kill()
                        return

    killer = threading.Thread(target=kill_second_point)
    killer.start()
    try:
        with pytest.raises(PerformanceError, match="could not measure batch 8, concurrency 1"):
            measure(options(batch_sizes=[1, 8], measurement_interval=300))
    finally:
        stop.set()
        killer.join()
    assert [row["Batch"] for row in read_performance(options().result_path)] == [1]


def _has_regions() -> bool:
    return (SHARED_MEMORY / "shopitem_0_0").exists()


def test_measurement_timeout_is_reported(options: Options) -> None:
    with pytest.raises(PerformanceError, match=r"did not measure batch 1, concurrency 1 in 1 s: raise --timeout"):
        measure(options(measurement_interval=2000, timeout=1))
    assert "--measurement-interval 2000" in options().log_path.read_text()


def test_second_measurement_waits_for_the_first(options: Options, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    waiting = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: waiting.set() if "another measurement runs" in record.getMessage() else None  # type: ignore[method-assign]
    logging.getLogger("performance").addHandler(handler)
    second = threading.Thread(target=measure, args=(options(),))
    try:
        with machine_to_itself():
            second.start()
            assert waiting.wait(30)
            assert not options().log_path.exists()
        second.join(240)  # tests beside this one measure too
    finally:
        logging.getLogger("performance").removeHandler(handler)
    assert len(read_performance(options().result_path)) == 1


def test_shared_memory_cleanup_removes_new_regions_of_these_names_only() -> None:
    before, ours, other = (SHARED_MEMORY / name for name in ("sweepin_0_1", "sweepin_0_2", "sweepin_0_2_more"))
    try:
        before.touch()
        with no_shared_memory_left(["sweep/in"], ["sweep_out"]):
            ours.touch()
            other.touch()
        assert (before.exists(), ours.exists(), other.exists()) == (True, False, True)
    finally:
        for path in (before, ours, other):
            path.unlink(missing_ok=True)
