"""Duration of the measurement of a cell: a real wrk, and a slow server."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.peers.campaign import Campaign, CampaignOutcome, Plan
from benchmarks.peers.results import OURS, PACKED, Cell
from benchmarks.peers.sample import Sample
from benchmarks.peers.served import Served
from benchmarks.peers.wire import RECORDS

CONCURRENCY, ROUNDS = 4, 5
WRK = shutil.which("wrk")


class Slow(BaseHTTPRequestHandler):
    """Answers 0 to its one row after half a second. Closed connections are not logged."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.5)
        answer = np.zeros(1, np.float32).tobytes()
        with contextlib.suppress(ConnectionError):
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class SlowServer(ThreadingHTTPServer):
    """Server with a long queue: a full queue of connections would reset the next one."""

    request_queue_size = 128


@dataclass(frozen=True)
class SlowDeployment:
    """The part of a deployment that a campaign uses."""

    name: str = "slow:fp32"
    format: str = "slow"

    @contextlib.contextmanager
    def running(self, log: Path, *, packed: bool) -> Iterator[tuple[Served, None]]:
        with SlowServer(("127.0.0.1", 0), Slow) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield Served(server.server_port, "/", RECORDS, os.getpid()), None
            finally:
                server.shutdown()
                thread.join()


@pytest.mark.skipif(WRK is None, reason="the load generator is not there: apt-get install wrk")
def test_cell_is_measured_until_each_connection_has_several_answers(tmp_path: Path) -> None:
    sample = Sample({"ad": np.zeros((64, 1), np.int32)}, np.zeros(64, np.float32))
    deployments: list[Any] = [SlowDeployment()]
    plan = Plan(
        deployments,
        [],
        [Cell(1, CONCURRENCY)],
        1,
        seconds=1,
        warmup_s=1,
        tolerance={"slow:fp32": 0},
        perf_analyzer=False,
    )
    kept: list[CampaignOutcome] = []
    outcome = Campaign(plan, sample, str(WRK), tmp_path, tmp_path / "environments").run(kept.append)
    assert outcome.failures == []
    assert [run.system for run in outcome.runs] == [OURS, PACKED]
    for run in outcome.runs:
        assert run.requests >= (ROUNDS - 2) * CONCURRENCY, "one second has time for two rounds at most"
        assert run.errors == 0
    assert kept
    resumed = Campaign(plan, sample, str(WRK), tmp_path, tmp_path / "environments", outcome.runs[:1])
    first, second = resumed.run(kept.append).runs
    assert first is outcome.runs[0] and (second.system, second in outcome.runs) == (PACKED, False)
