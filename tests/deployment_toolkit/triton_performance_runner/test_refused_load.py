from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.deploying.queue_policy import QueuePolicy
from deployment_toolkit.errors import PerformanceError, RefusedError
from deployment_toolkit.results.performance import (
    AVERAGE,
    LATENCY_PARTS,
    OTHER_CORES,
    P99,
    REFUSED,
    SETTLED,
    SPEED_AFTER,
    THROUGHPUT,
    WINDOW_LATENCIES,
    WINDOW_RATES,
    performance_markdown,
    read_performance,
)
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.base import Transport, open_session, open_transport
from deployment_toolkit.triton_performance_runner.options import MeasurementMode, PerformanceOptions
from deployment_toolkit.triton_performance_runner.sweep import measure
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.overload import CAPACITY, MAX_BATCH_SIZE, add_slow_model, batches

MODEL, STUCK = "limited", "stuck"
IN_FLIGHT = 120  # would wait for 0.6 s
TIMEOUT_US = 150_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server with a slow model whose requests may wait for 0.15 s."""
    folder = tmp_path_factory.mktemp("limited")
    add_slow_model(folder / "repository", MODEL, QueuePolicy(timeout_us=TIMEOUT_US))
    add_slow_model(folder / "repository", STUCK, QueuePolicy(max_queue_size=1), service_s=3.0)
    with local_server(folder / "repository", log_path=folder / "server.log") as running:
        running.load_model(MODEL, timeout_s=60)
        yield running


def options(server: TritonServer, folder: Path, scheme: str, **changes: object) -> PerformanceOptions:
    given = {
        "model_name": MODEL,
        "server_url": server.http_url if scheme == "http" else server.grpc_url,
        "result_path": folder / "latency.csv",
        "evaluation_mode": EvaluationMode.ONLINE,
        "concurrency": [IN_FLIGHT],
        "measurement_mode": MeasurementMode.TIME_WINDOWS,
        "measurement_interval": 500,
        "stability_percentage": 1e6,
    }
    return PerformanceOptions(**given | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_refused_requests_are_counted_beside_the_answered_ones(
    server: TritonServer, tmp_path: Path, scheme: str
) -> None:
    measure(options(server, tmp_path, scheme))
    (row,) = read_performance(tmp_path / "latency.csv")
    assert 0 < row[THROUGHPUT] < 1.5 * CAPACITY and row[REFUSED] > 0 and row[SETTLED]
    assert min(row[WINDOW_RATES]) <= row[THROUGHPUT] <= max(row[WINDOW_RATES]) and len(row[WINDOW_LATENCIES]) == 3
    assert row[OTHER_CORES] is not None and row[SPEED_AFTER] > 0
    assert row["p50 latency"] <= row[P99] and sum(row[part] for part in LATENCY_PARTS) == pytest.approx(
        row[AVERAGE], 0.1
    )
    assert row["Server Queue"] < 2 * TIMEOUT_US and row["Server Compute Infer"] > 0
    header = performance_markdown([row]).splitlines()[0]
    assert "Inferences/Second | Refused |" in " ".join(header.split())


def test_other_data_than_this_client_has_are_refused(server: TritonServer, tmp_path: Path) -> None:
    with pytest.raises(PerformanceError, match="sends random rows or a dataloader's: leave --input-data zero out"):
        measure(options(server, tmp_path, "grpc", input_data="zero"))


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_many_requests_lose_no_row_on_a_server_that_refuses(server: TritonServer, scheme: str) -> None:
    url = server.http_url if scheme == "http" else server.grpc_url
    with open_session(
        url, MODEL, synchronous=False, max_unresponded_requests=IN_FLIGHT, response_wait_time_s=60
    ) as session:
        answers = [prediction.y_pred["y"] for prediction in session.predict(batches(300))]
    np.testing.assert_array_equal(np.concatenate(answers)[:, 0], np.arange(300, dtype=np.float32) + 1)
    assert _refusals(server) > 0, "the load was no overload"


def test_server_that_goes_on_refusing_is_an_error_of_one_line(server: TritonServer) -> None:
    """The instances are busy for seconds, and so is the only place in the queue."""
    server.load_model(STUCK, timeout_s=60)
    transport = open_transport(ServerUrl.parse(server.grpc_url), STUCK, "1", 8)
    with (
        closing(transport),
        open_session(
            server.grpc_url, STUCK, synchronous=True, max_unresponded_requests=1, response_wait_time_s=0.3
        ) as session,
    ):
        _send_until_refused(transport)
        message = r"batch 1 of 1 rows: the server refused: .* 0\.3 s: .* fewer requests"
        with pytest.raises(RefusedError, match=message):
            list(session.predict(batches(1)))


def _send_until_refused(transport: Transport) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            transport.send({"x": np.zeros((MAX_BATCH_SIZE, 1), np.float32)}).result(0.1)
        except TimeoutError:
            continue
        except RefusedError:
            return
    raise AssertionError("nothing is refused")


def _refusals(server: TritonServer) -> int:
    return int(server.model_statistics(MODEL, "1")["fail"]["count"])
