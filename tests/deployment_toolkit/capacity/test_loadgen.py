"""LoadGen against the real server: what counts as latency, what is invalid, and how a run ends."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.capacity.client import LoadClient, open_client
from deployment_toolkit.capacity.closed_loop import ClosedLoop
from deployment_toolkit.capacity.http_client import HttpClient
from deployment_toolkit.capacity.loadgen import run_load
from deployment_toolkit.capacity.loads import LoadResult, OfferedLoad
from deployment_toolkit.capacity.schedule import close_schedule, schedule
from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_server.remote import TritonServer

BUDGET_US = 1e6  # far above what a loaded host adds
REQUESTS = [{"x": np.full((1, 1), number, np.float32)} for number in range(8)]


def loaded(
    client: LoadClient, folder: Path, rate: float, seconds: float = 1.0, budget_us: float = BUDGET_US
) -> LoadResult:
    """Result of one run; at least 460 requests, the fewest with a verdict: none may be above the budget."""
    client.prepare(REQUESTS)
    client.connect(8)
    arrivals = close_schedule(rate, seconds, 460, seed=1)
    return run_load(client, OfferedLoad(rate, arrivals, seconds, 460, budget_us, len(REQUESTS)), folder / "test_")


def closed_loop_rate(client: LoadClient) -> float:
    """Requests per second that the server can answer now: other work on the host's cores slows it down."""
    client.prepare(REQUESTS)
    client.connect(16)
    return ClosedLoop(client, len(REQUESTS), in_flight=16, seconds=0.5).rate()


@pytest.fixture(params=["http", "grpc"])
def quick(request: pytest.FixtureRequest, slow_server: TritonServer) -> Iterator[LoadClient]:
    """Client of the model ``quick``, which can answer 1000 requests of a row per second."""
    url = slow_server.http_url if request.param == "http" else slow_server.grpc_url
    with closing(open_client(ServerUrl.parse(url), "quick", "1")) as client:
        yield client


def test_rate_within_what_the_server_can_do_is_valid(quick: LoadClient, tmp_path: Path) -> None:
    rate = 0.3 * closed_loop_rate(quick)
    result = loaded(quick, tmp_path, rate, budget_us=10e6)
    assert result.is_valid and not result.refused and result.requests >= 460
    assert result.offered == pytest.approx(rate, rel=0.03) and 0 < result.completed < 1.1 * rate
    assert 8000 <= result.latencies_us["p50 latency"] <= result.latencies_us["p99 latency"] <= 10e6
    assert 0 < result.client_cores < 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test_detail.txt", "test_summary.txt"]
    assert "Result is : VALID" in (tmp_path / "test_summary.txt").read_text()


def test_overload_ends_before_its_time_and_is_invalid(quick: LoadClient, tmp_path: Path) -> None:
    rate = 4 * closed_loop_rate(quick)
    result = loaded(quick, tmp_path, rate, seconds=20, budget_us=50_000)
    assert not result.is_valid and result.latencies_us["p99 latency"] > 50_000
    assert result.requests < 10 * rate


class LateClient(HttpClient):
    """A client that takes 10 ms to send."""

    def send(self, position: int, token: int) -> None:
        time.sleep(0.01)
        super().send(position, token)


def test_late_sends_are_counted_and_are_latency(slow_server: TritonServer, tmp_path: Path) -> None:
    """The client sends at most 100 of the 150 requests that are due in a second: the last of 460 is sent 1.5 s late."""
    with closing(LateClient(ServerUrl.parse(slow_server.http_url), "quick", "1")) as client:
        result = loaded(client, tmp_path, 150.0)
    assert result.late > 0.9 and not result.is_valid
    assert result.latencies_us["p99 latency"] > 1.3e6


def test_refused_requests_are_misses(slow_server: TritonServer, tmp_path: Path) -> None:
    """A model of 200 rows per second with 8 places in its queue."""
    with closing(open_client(ServerUrl.parse(slow_server.http_url), "limited", "1")) as client:
        result = loaded(client, tmp_path, 600.0)
    assert result.refused > 0.3 and not result.is_valid
    assert result.latencies_us["p99 latency"] >= 2 * BUDGET_US


def test_schedule_is_loadgens(slow_server: TritonServer, tmp_path: Path) -> None:
    with closing(open_client(ServerUrl.parse(slow_server.http_url), "quick", "1")) as client:
        result = loaded(client, tmp_path, 150.0, seconds=0.1)
    log = [
        json.loads(line.removeprefix(":::MLLOG ")) for line in (tmp_path / "test_detail.txt").read_text().splitlines()
    ]
    values = {entry["key"]: entry["value"] for entry in log}
    arrivals = schedule(150.0, 0.1, 460, values["requested_schedule_rng_seed"])
    assert (len(arrivals.due_ns), arrivals.length_ns) == (result.requests, values["generated_query_duration"])
    assert arrivals.rate == pytest.approx(values["result_scheduled_samples_per_sec"], rel=1e-4)
    gaps = np.diff(schedule(250.0, 60.0, 1, 3).due_ns) / 1e9
    assert np.mean(gaps) == pytest.approx(1 / 250, rel=0.03) and np.std(gaps) == pytest.approx(1 / 250, rel=0.05)


def test_lost_server_ends_a_run_with_one_line(tmp_path: Path) -> None:
    """A listener that closes every connection at its first request."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close_all() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.recv(1)
                connection.close()

        threading.Thread(target=close_all, daemon=True).start()
        url = ServerUrl.parse(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with closing(open_client(url, "quick", "1")) as client:
            client.prepare(REQUESTS)
            arrivals = close_schedule(400.0, 5.0, 460, seed=1)
            started = time.monotonic()
            with pytest.raises(PerformanceError, match=r"a request at 400.0 requests/s failed: .*(closed|reset)"):
                run_load(client, OfferedLoad(400.0, arrivals, 5.0, 460, BUDGET_US, len(REQUESTS)), tmp_path / "test_")
        assert time.monotonic() - started < 10
        listener.shutdown(socket.SHUT_RDWR)
