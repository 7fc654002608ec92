"""Rows posted to a served model by a real wrk."""

from __future__ import annotations

import json
import shutil
import urllib.request

import numpy as np
import pytest

from benchmarks.peers.load import post_rows
from deployment_toolkit.errors import DataError, PerformanceError
from deployment_toolkit.triton_server.remote import TritonServer

WRK = shutil.which("wrk") or ""
ROWS = 8
X = {"x1": np.ones((4 * ROWS, 1), np.float32), "x2": np.ones((4 * ROWS, 3), np.int32)}

pytestmark = pytest.mark.skipif(not WRK, reason="the load generator is not there: apt-get install wrk")


def requests_and_rows(server: TritonServer) -> tuple[int, int]:
    with urllib.request.urlopen(f"{server.http_url}/v2/models/adder/stats") as answer:
        (stats,) = json.load(answer)["model_stats"]
    return stats["inference_stats"]["success"]["count"], stats["inference_count"]


def test_rows_are_posted_in_requests_of_the_given_size(adder_server: TritonServer) -> None:
    requests, rows = requests_and_rows(adder_server)
    load = post_rows(WRK, adder_server.http_url, "adder", X, rows=ROWS, concurrency=2, seconds=1)
    more_requests, more_rows = requests_and_rows(adder_server)
    assert more_rows - rows == (more_requests - requests) * ROWS
    assert 10 < load.requests_per_s < more_requests - requests
    assert load.rows_per_s == pytest.approx(load.requests_per_s * ROWS)
    assert 10 < load.p50_us < 1e6


def test_load_without_answers_is_an_error(adder_server: TritonServer) -> None:
    with pytest.raises(PerformanceError, match=r"nothing: \d+ of \d+ requests of 8 rows failed"):
        post_rows(WRK, adder_server.http_url, "nothing", X, rows=ROWS, concurrency=1, seconds=1)
    with pytest.raises(DataError, match="64 rows"):
        post_rows(WRK, adder_server.http_url, "adder", X, rows=64, concurrency=1, seconds=1)
