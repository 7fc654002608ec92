"""One run of MLPerf's LoadGen, scenario Server: Poisson arrivals at a rate, and its verdict on a latency bound.

LoadGen counts a latency from when the request was due, also if it was sent late. Its verdict ``VALID`` needs the 99th
percentile of the latencies within the bound, and so few requests above it that this is no chance with a confidence of
99 % ("early stopping"; 459 requests if none is above it, 662 if one is, 1001 if three are), and the shortest time and
the smallest number of requests that it was given. Source: LoadGen 6.0, results.cc, early_stopping.cc and
issue_query_controller.cc of https://github.com/mlcommons/inference.
"""

from __future__ import annotations

import contextlib
import math
import queue
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from deployment_toolkit.capacity.client import LoadClient, nobody
from deployment_toolkit.capacity.loads import LoadResult, OfferedLoad, Sends, most_waiting, read_log, result_of
from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.triton_inference_runner.refusal import is_refusal

_NO_ANSWER_S = 30.0
_POLL_S = 0.1
_SWITCH_INTERVAL_S = 0.0005  # of Python's threads; its usual 5 ms would make late sends
_NS_PER_US, _US_PER_S = 1e3, 1e6
_EMPTY_FILES = ("accuracy.json", "trace.json")


def run_load(client: LoadClient, load: OfferedLoad, logs: Path) -> LoadResult:
    """Runs LoadGen once; its logs are the files ``<logs>summary.txt`` and ``<logs>detail.txt``.

    A refused request counts as answered after twice the budget, which is a miss. A run with too many requests in flight
    ends before its time and is invalid. Raises PerformanceError if LoadGen can't be loaded, a request fails otherwise
    than by being refused, or nothing is answered for half a minute.
    """
    loadgen = load_loadgen()
    run = _Run(loadgen, client, load)
    thread = threading.Thread(target=run.start, args=(logs,), name="LoadGen")
    client.ended = run.ended
    started, used = time.monotonic(), time.process_time()
    with _switch_interval(_SWITCH_INTERVAL_S):
        thread.start()
        try:
            run.watch(thread)
        except BaseException:
            run.give_up("interrupted")  # LoadGen can't be interrupted: it ends when too many requests wait
            thread.join()
            raise
        finally:
            client.ended = nobody
    cores = (time.process_time() - used) / (time.monotonic() - started)
    return result_of(load, run.sends, read_log(Path(f"{logs}detail.txt")), cores)


def load_loadgen() -> ModuleType:
    """The module of LoadGen's Python binding. Raises PerformanceError if it can't be loaded."""
    try:
        import mlperf_loadgen
    except ImportError as error:
        raise PerformanceError(
            f"--evaluation-mode capacity needs MLPerf's LoadGen, which can't be loaded here ({error}): run "
            "scripts/install.sh, on a host with glibc 2.28 or newer"
        ) from error
    module: ModuleType = mlperf_loadgen
    return module


class _Run:
    """A run: what LoadGen, the client and the waiting thread tell each other. ``start`` belongs to LoadGen's thread."""

    def __init__(self, loadgen: ModuleType, client: LoadClient, load: OfferedLoad) -> None:
        self._loadgen, self._client, self._load = loadgen, client, load
        self._in_flight: set[int] = set()
        self.sends = Sends()
        self._ends = 0
        self._misses: queue.SimpleQueue[tuple[float, int] | None] = queue.SimpleQueue()
        self._is_issued = False
        self._problem = ""
        self._error: BaseException | None = None

    def start(self, logs: Path) -> None:
        """Runs LoadGen to its end."""
        misses = threading.Thread(target=self._end_misses, name="misses")
        misses.start()
        loadgen = self._loadgen
        sut = loadgen.ConstructFastSUT(self._issue, self._all_issued)
        library = loadgen.ConstructQSL(self._load.positions, self._load.positions, _nothing, _nothing)
        try:
            # Without the empty name LoadGen would take settings from a file audit.config in the working directory.
            loadgen.StartTestWithLogSettings(sut, library, self._settings(), self._log_settings(logs), "")
        except BaseException as error:  # told by the thread that waits
            self._error = error
        finally:
            self._misses.put(None)
            misses.join()
            loadgen.DestroyQSL(library)
            loadgen.DestroyFastSUT(sut)
            for name in _EMPTY_FILES:
                Path(f"{logs}{name}").unlink(missing_ok=True)

    def watch(self, thread: threading.Thread) -> None:
        """Returns when LoadGen's thread has ended. Raises PerformanceError if a request failed."""
        ends, since = 0, time.monotonic()
        while thread.is_alive():
            thread.join(_POLL_S)
            if self._ends != ends or not self._in_flight:
                ends, since = self._ends, time.monotonic()
            elif time.monotonic() - since > _NO_ANSWER_S:
                self.give_up(f"no request was answered for {_NO_ANSWER_S:g} s")
        if self._error is not None:
            raise self._error
        if self._problem:
            raise PerformanceError(f"a request at {self._load.rate:.1f} requests/s failed: {self._problem}")

    def give_up(self, problem: str) -> None:
        """Sends nothing more; LoadGen ends soon."""
        self._problem = self._problem or problem
        if self._is_issued:
            self._all_issued()

    def ended(self, token: int, message: str) -> None:
        """The client's word that a request has ended."""
        if not message:
            self._complete(token)
        elif is_refusal(message):
            self.sends.refused += 1
            self._misses.put((time.monotonic() + 2 * self._load.budget_us / _US_PER_S, token))
        else:
            self.give_up(" ".join(message.split()))

    def _issue(self, tokens: Sequence[int], positions: Sequence[int]) -> None:
        """LoadGen's call: requests that are due, several if it is late."""
        for token, position in zip(tokens, positions, strict=True):
            self._in_flight.add(token)
            self.sends.sent_ns.append(time.monotonic_ns())
            if not self._problem:
                self._client.send(position, token)

    def _all_issued(self) -> None:
        """LoadGen's call: it waits for what is in flight."""
        self._is_issued = True
        if self._problem:
            for token in [*self._in_flight]:
                self._complete(token)

    def _complete(self, token: int) -> None:
        now = time.monotonic_ns()
        try:
            self._in_flight.remove(token)
        except KeyError:  # given up meanwhile
            return
        self.sends.done_ns += now
        self._ends += 1
        self._loadgen.QuerySamplesComplete([self._loadgen.QuerySampleResponse(token, 0, 0)])

    def _end_misses(self) -> None:
        while (miss := self._misses.get()) is not None:
            at, token = miss
            time.sleep(max(0.0, at - time.monotonic()))
            self._complete(token)

    def _settings(self) -> Any:
        loadgen, load = self._loadgen, self._load
        settings = loadgen.TestSettings()
        settings.scenario, settings.mode = loadgen.TestScenario.Server, loadgen.TestMode.PerformanceOnly
        settings.server_target_qps = load.rate
        settings.server_target_latency_ns = int(load.budget_us * _NS_PER_US)
        settings.server_target_latency_percentile = 0.99
        settings.server_coalesce_queries = True  # requests that are overdue come in one call
        settings.server_max_async_queries = most_waiting(self._client, load.rate, load.budget_us)
        settings.min_duration_ms = math.floor(load.seconds * 1000)
        settings.min_query_count = load.least
        settings.schedule_rng_seed = load.arrivals.seed
        settings.sample_index_rng_seed = settings.qsl_rng_seed = load.arrivals.seed + 1
        return settings

    def _log_settings(self, logs: Path) -> Any:
        settings = self._loadgen.LogSettings()
        settings.enable_trace = False
        settings.log_output.outdir, settings.log_output.prefix = str(logs.parent), logs.name
        return settings


def _nothing(positions: Sequence[int]) -> None:
    """LoadGen's call to load samples: the requests are ready."""


@contextlib.contextmanager
def _switch_interval(seconds: float) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
