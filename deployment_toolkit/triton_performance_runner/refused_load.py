"""Measurement of a point at which the server refuses requests: perf_analyzer 2.51 and 2.60 end with an error at the
first refusal, so this project's own client makes the load.

As with perf_analyzer, a number of requests is in flight at any time, and three windows are compared. A client whose
request was refused comes back after as long as an answered request takes. One thread of Python sends at most one to two
thousand requests per second: a server that answers more by itself is not measured by this client, as it refuses none.
"""

from __future__ import annotations

import heapq
import statistics
import time
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field

from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import InferenceError, PerformanceError, RefusedError
from deployment_toolkit.results.performance import (
    AVERAGE,
    BATCH,
    CONCURRENCY,
    LATENCY_PARTS,
    LATENCY_STATISTICS,
    REFUSED,
    THROUGHPUT,
    PerformanceRow,
)
from deployment_toolkit.triton_inference_runner.base import Response, Transport, open_transport
from deployment_toolkit.triton_performance_runner.options import LoadPoint, MeasurementMode
from deployment_toolkit.triton_performance_runner.perf_report import WINDOWS, Report, Window, window_columns
from deployment_toolkit.triton_performance_runner.target import Target
from deployment_toolkit.triton_server.remote import TritonServer

_POLL_S = 0.0005
_LEAST_WINDOW_S = 1.0  # of a count window, as perf_analyzer's
_LEAST_PAUSE_S = 0.01
_US_PER_S = 1e6
_PERCENTILES = {"p50 latency": 50, "p90 latency": 90, "p95 latency": 95, "p99 latency": 99}
# The server's sums of the parts of a request's time, in the order of LATENCY_PARTS.
_SERVER_PARTS = dict(
    zip(LATENCY_PARTS[2:6], ("queue", "compute_input", "compute_infer", "compute_output"), strict=True)
)


@dataclass
class _Pass:
    """One window: its length, seconds of each answered request, seconds to send it, and refusals."""

    seconds: float = 0.0
    answered_s: list[float] = field(default_factory=list)
    send_s: list[float] = field(default_factory=list)
    refused: int = 0


class RefusedLoad:
    """Load on a model of a server that refuses some of it; ``requests`` are sent by turns."""

    def __init__(self, target: Target, requests: Sequence[Arrays], timeout_s: float) -> None:
        self._target = target
        self._requests = requests
        self._timeout_s = timeout_s

    def measure(self, point: LoadPoint, window: Window) -> Report:
        """Three windows at a point, after one that does not count. Raises PerformanceError if requests fail otherwise
        than by being refused, or none is answered in ``timeout_s``."""
        server = TritonServer.from_url(str(self._target.url))
        name, version = self._target.name, self._target.version
        with closing(open_transport(self._target.url, name, version, point.concurrency)) as transport:
            load = _Load(transport, self._requests, point, self._timeout_s)
            load.run(0.0, 0)
            before = server.model_statistics(name, version)
            passes = [load.run(*_size(window)) for _ in range(WINDOWS)]
            after = server.model_statistics(name, version)
            load.end()
        rates = [len(item.answered_s) * point.batch / item.seconds for item in passes]
        averages = [statistics.fmean(item.answered_s) * _US_PER_S for item in passes]
        windows = list(zip(rates, averages, strict=True))
        return Report(
            row={**_row(point, passes, _server_parts(before, after)), **window_columns(windows)},
            passes=windows,
            requests_per_window=sum(len(item.answered_s) for item in passes) // WINDOWS,
        )


class _Load:
    """Requests of a closed loop in flight. The windows of ``run`` follow each other without a break."""

    def __init__(self, transport: Transport, requests: Sequence[Arrays], point: LoadPoint, timeout_s: float) -> None:
        self._transport, self._requests, self._point, self._timeout_s = transport, requests, point, timeout_s
        self._may_send = [0.0] * point.concurrency  # times from which each client may send, a heap
        self._ended: deque[tuple[float, float, float, Response]] = deque()
        self._count = 0
        self._in_flight = 0
        self._pause_s = _LEAST_PAUSE_S

    def run(self, least_s: float, least_answers: int) -> _Pass:
        """A window of at least this time, at least so many answers, and at least one."""
        made, started = _Pass(), time.perf_counter()
        while True:
            self._send()
            self._transport.pause(_POLL_S)
            self._collect(made)
            made.seconds = time.perf_counter() - started
            if made.seconds >= least_s and len(made.answered_s) >= max(1, least_answers):
                return made
            if made.seconds > self._timeout_s:
                raise PerformanceError(
                    f"the server answered {len(made.answered_s)} requests of {self._point} in {self._timeout_s:g} s "
                    f"and refused {made.refused}: raise --timeout, or the limits of its queue"
                )

    def end(self) -> None:
        """Returns when nothing is in flight."""
        deadline = time.perf_counter() + self._timeout_s
        while self._in_flight and time.perf_counter() < deadline:
            self._transport.pause(_POLL_S)
            self._collect(_Pass())

    def _send(self) -> None:
        while self._may_send and self._may_send[0] <= time.perf_counter():
            heapq.heappop(self._may_send)
            started = time.perf_counter()
            response = self._transport.send(self._requests[self._count % len(self._requests)])
            sent_s = time.perf_counter() - started
            self._count += 1
            self._in_flight += 1
            response.when_done(
                lambda response=response, started=started, sent_s=sent_s: self._ended.append(  # type: ignore[misc]
                    (started, sent_s, time.perf_counter(), response)
                )
            )

    def _collect(self, made: _Pass) -> None:
        while self._ended:
            started, sent_s, ended, response = self._ended.popleft()
            self._in_flight -= 1
            may_send = ended
            try:
                response.result(self._timeout_s)
            except RefusedError:
                made.refused += 1
                may_send = ended + self._pause_s
            except InferenceError as error:
                raise PerformanceError(f"a request of {self._point} failed: {error}") from error
            else:
                made.answered_s.append(ended - started)
                made.send_s.append(sent_s)
                self._pause_s = max(_LEAST_PAUSE_S, 0.9 * self._pause_s + 0.1 * (ended - started))
            heapq.heappush(self._may_send, may_send)


def _size(window: Window) -> tuple[float, int]:
    if window.mode is MeasurementMode.TIME_WINDOWS:
        return window.interval_ms / 1000, 0
    return _LEAST_WINDOW_S, window.requests


def _server_parts(before: dict[str, dict[str, int]], after: dict[str, dict[str, int]]) -> dict[str, float]:
    """Average microseconds of each part of the answered requests' time in the server."""
    count = after["success"]["count"] - before["success"]["count"]
    return {
        column: (after[part]["ns"] - before[part]["ns"]) / max(1, count) / 1000
        for column, part in _SERVER_PARTS.items()
    }


def _row(point: LoadPoint, passes: Sequence[_Pass], server: dict[str, float]) -> PerformanceRow:
    seconds = sum(item.seconds for item in passes)
    latencies_us = sorted(latency * _US_PER_S for item in passes for latency in item.answered_s)
    average_us = statistics.fmean(latencies_us)
    send_us = min(average_us, statistics.fmean(sent for item in passes for sent in item.send_s) * _US_PER_S)
    # What is left of the average: the network, the server's front end and the client's reading.
    rest_us = max(0.0, average_us - send_us - sum(server.values()))
    parts = {**dict.fromkeys(LATENCY_PARTS, 0.0), **server}
    parts[LATENCY_PARTS[0]], parts[LATENCY_PARTS[1]] = send_us, rest_us
    found = {name: latencies_us[(len(latencies_us) - 1) * percent // 100] for name, percent in _PERCENTILES.items()}
    assert {*found, AVERAGE} == {*LATENCY_STATISTICS}
    return {
        BATCH: point.batch,
        CONCURRENCY: point.concurrency,
        THROUGHPUT: len(latencies_us) * point.batch / seconds,
        **parts,
        **found,
        AVERAGE: average_us,
        REFUSED: sum(item.refused for item in passes) * point.batch / seconds,
    }
