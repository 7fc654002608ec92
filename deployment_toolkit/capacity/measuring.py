"""Measurement of capacity: for each rows of a request and each latency budget the highest rate that holds, and the
curve of latencies against the offered rate; each row is written when it is measured."""

from __future__ import annotations

import logging
import math
import time
from contextlib import closing
from pathlib import Path

from deployment_toolkit.capacity.client import LoadClient, open_client
from deployment_toolkit.capacity.closed_loop import ClosedLoop
from deployment_toolkit.capacity.loadgen import load_loadgen, run_load
from deployment_toolkit.capacity.loads import LEAST_REQUESTS, LoadResult, OfferedLoad, most_waiting
from deployment_toolkit.capacity.options import CapacityOptions, require_fitting
from deployment_toolkit.capacity.schedule import close_schedule
from deployment_toolkit.capacity.search import Bracket, CapacitySearch, TimeOver
from deployment_toolkit.capacity.server_cores import processor_seconds, server_process
from deployment_toolkit.core import Arrays, DataloaderFn, ModelSpec
from deployment_toolkit.disturbance.watch import Watch
from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import require_writable
from deployment_toolkit.results.capacity import (
    ANSWERED,
    BUDGET,
    CAPACITY,
    CLIENT_CORES,
    LATE_SENDS,
    OFFERED,
    REQUESTS,
    ROWS,
    SERVER_CORES,
    VALID,
    CapacityRow,
    client_was_late,
    marked,
    write_capacity,
)
from deployment_toolkit.results.disturbed import judged, what_disturbed
from deployment_toolkit.results.performance import DISTURBED, P99, REFUSED, THROUGHPUT, US_PER_MS
from deployment_toolkit.rows.sample import nearest_to_zero, random_rows
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.triton_performance_runner.options import RANDOM_DATA, PerformanceOptions
from deployment_toolkit.triton_performance_runner.perf_data import dataset_rows, require_known_values
from deployment_toolkit.triton_performance_runner.shared_memory import machine_to_itself
from deployment_toolkit.triton_performance_runner.target import Target, find_target

logger = logging.getLogger("capacity")

_SEED = 2051
_MOST_ROWS = 32768  # in all prepared requests of one size
_REQUESTS = (16, 256)  # different requests, at least and at most
_WARM_UP_IN_FLIGHT = 32
_WARM_UP_S = 1.0
_US_PER_S = 1e6
_LOGS = "loadgen"


def measure_capacity(
    options: PerformanceOptions,
    capacity: CapacityOptions,
    dataloader_fn: DataloaderFn | None = None,
    *,
    access: AccessOptions | None = None,
) -> list[CapacityRow]:
    """Measures each rows of a request with each budget, and rewrites the CSV at ``result_path`` after each run of
    LoadGen, whose logs are in the folder ``loadgen`` beside it. ``access`` is for a server elsewhere.

    Raises UsageError, ServerError, ModelError, InputError, DataError before anything is measured; PerformanceError if a
    request fails otherwise than by being refused, or LoadGen can't be loaded.
    """
    require_fitting(options, capacity)
    load_loadgen()
    target = find_target(options, access or AccessOptions())
    for rows in capacity.rows:
        if rows > max(1, target.max_batch_size):
            raise UsageError(f"--rows holds {rows}, model {target.name} takes at most {max(1, target.max_batch_size)}")
    sizes = sorted(set(capacity.rows))
    data = _input_rows(options, target.spec, dataloader_fn, max(rows * _request_count(rows) for rows in sizes))
    require_writable(options.result_path)
    with machine_to_itself(), closing(open_client(target.url, target.name, target.version)) as client:
        measurement = _Measurement(options.result_path, capacity, target, client)
        for number, rows in enumerate(sizes, 1):
            measurement.measure(rows, _requests(data, rows), share=number / len(sizes))
        return measurement.rows


class _Measurement:
    """The rows so far, and what makes more of them."""

    def __init__(self, path: Path, capacity: CapacityOptions, target: Target, client: LoadClient) -> None:
        self.rows: list[CapacityRow] = []
        self._path, self._capacity, self._client = path, capacity, client
        self._server = server_process(target.url)
        self._watch = Watch(target.url)
        self._started = time.monotonic()
        self._logs = path.parent / _LOGS
        self._logs.mkdir(exist_ok=True)
        for left in self._logs.glob(f"{path.stem}_rows_*"):
            left.unlink()

    def measure(self, rows: int, requests: list[Arrays], share: float) -> None:
        """Searches all budgets for requests of so many rows until this share of the time is over."""
        self._client.prepare(requests)
        self._client.connect(_WARM_UP_IN_FLIGHT)
        guess = ClosedLoop(self._client, len(requests), _WARM_UP_IN_FLIGHT, _WARM_UP_S).rate()
        logger.info("%d rows: a closed loop of %d requests is answered %.0f times/s", rows, _WARM_UP_IN_FLIGHT, guess)
        until = self._started + share * self._capacity.capacity_seconds
        search = CapacitySearch(lambda rate, budget_us: self._run(rows, len(requests), rate, budget_us, until), guess)
        search.find(self._capacity.budgets_us)
        for budget_us, bracket in search.brackets.items():
            self._tell(rows, budget_us, bracket)
        if any(row[ROWS] == rows and not row[VALID] and client_was_late(row) for row in self.rows):
            logger.warning(
                "%d rows: the client sent late in runs that failed: it may be the limit, not the server", rows
            )

    def _run(self, rows: int, positions: int, rate: float, budget_us: float, until: float) -> CapacityRow:
        seconds = self._capacity.capacity_run_seconds
        is_first = all(row[ROWS] != rows for row in self.rows)  # there is always time for one
        if not is_first and time.monotonic() + max(seconds, LEAST_REQUESTS / rate) > until:
            raise TimeOver
        number = len(self.rows) + 1
        arrivals = close_schedule(rate, seconds, LEAST_REQUESTS, _SEED + 1000 * number)
        self._client.connect(most_waiting(self._client, rate, budget_us))
        load = OfferedLoad(rate, arrivals, seconds, LEAST_REQUESTS, budget_us, positions)
        logs = self._logs / f"{self._path.stem}_rows_{rows}_run_{number:03d}_"
        with self._watch.measurement() as seen:
            before, started = processor_seconds(self._server), time.monotonic()
            result = run_load(self._client, load, logs)
            after, took_s = processor_seconds(self._server), time.monotonic() - started
        cores = None if before is None or after is None else max(0.0, after - before) / took_s
        row = {**_row(rows, budget_us, result, cores), **seen.disturbance.cells}
        self.rows = judged(marked([*self.rows, row]))
        write_capacity(self._path, self.rows)
        logger.info(
            "%d rows at %.1f requests/s: p99 %.2f ms, %s for %g ms%s",
            rows, row[OFFERED], row[P99] / US_PER_MS, "valid" if row[VALID] else "invalid", budget_us / US_PER_MS,
            (f", {row[LATE_SENDS]:.1%} sent late" if client_was_late(row) else "")
            + (f", disturbed: {what_disturbed(row)}" if row[DISTURBED] else ""),
        )  # fmt: skip
        return row

    def _tell(self, rows: int, budget_us: float, bracket: Bracket) -> None:
        """Warns if a search has no certain end."""
        what = f"{rows} rows, p99 within {budget_us / US_PER_MS:g} ms"
        if not bracket.is_closed:
            above = "" if math.isinf(bracket.fails) else f" and below {bracket.fails:.1f}"
            logger.warning(
                "%s: the time was over, the rate that holds is at least %.1f%s requests/s: give more "
                "--capacity-seconds", what, bracket.holds, above,
            )  # fmt: skip
        elif not bracket.holds:
            logger.warning("%s: no rate holds, down to %.1f requests/s", what, bracket.fails)
        elif bracket.fails * budget_us / _US_PER_S > self._client.most_in_flight:
            logger.warning(
                "%s: the client has at most %d requests in flight and may have ended the search", what,
                self._client.most_in_flight,
            )  # fmt: skip


def _row(rows: int, budget_us: float, result: LoadResult, server_cores: float | None) -> CapacityRow:
    answered = result.completed * (1 - result.refused)
    return {
        ROWS: rows,
        BUDGET: budget_us,
        OFFERED: result.offered,
        ANSWERED: answered,
        THROUGHPUT: answered * rows,
        **result.latencies_us,
        REQUESTS: result.requests,
        LATE_SENDS: result.late,
        REFUSED: result.completed * result.refused * rows,
        CLIENT_CORES: result.client_cores,
        SERVER_CORES: server_cores,
        VALID: result.is_valid,
        CAPACITY: False,
    }


def _input_rows(options: PerformanceOptions, spec: ModelSpec, dataloader_fn: DataloaderFn | None, count: int) -> Arrays:
    if dataloader_fn is not None:
        return dataset_rows(dataloader_fn, spec, count)
    if options.input_data == RANDOM_DATA:
        require_known_values(spec)
        return random_rows(spec, count, _SEED)
    return {tensor.name: nearest_to_zero(tensor, (count, *tensor.shape)) for tensor in spec.inputs}


def _request_count(rows: int) -> int:
    fewest, most = _REQUESTS
    return min(most, max(fewest, _MOST_ROWS // rows))


def _requests(data: Arrays, rows: int) -> list[Arrays]:
    """Different requests of consecutive rows, from the start again where there are too few."""
    found = len(next(iter(data.values())))
    count = min(_request_count(rows), max(1, found // rows))
    return [
        {
            name: array.take(range(number * rows, (number + 1) * rows), axis=0, mode="wrap")
            for name, array in data.items()
        }
        for number in range(count)
    ]
