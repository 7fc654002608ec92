"""Measurement windows of perf_analyzer, and its report."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.results.performance import (
    AVERAGE,
    BATCH,
    CONCURRENCY,
    LATENCY_PARTS,
    LATENCY_STATISTICS,
    REFUSED,
    THROUGHPUT,
    WINDOW_LATENCIES,
    WINDOW_RATES,
    PerformanceRow,
)
from deployment_toolkit.results.tables import read_csv
from deployment_toolkit.triton_performance_runner.options import LoadPoint, MeasurementMode

WINDOWS = 3  # perf_analyzer judges the last three

_PASS = re.compile(r"Pass \[\d+\] throughput: (\S+) infer/sec\. Avg latency: (\d+) usec")
_REQUEST_COUNT = re.compile(r"^ +Request count: (\d+)", re.MULTILINE)
_AVERAGE_OF_TOOL = "Avg latency"


@dataclass(frozen=True)
class Window:
    """Size of a measurement window; the mode decides which number applies."""

    mode: MeasurementMode
    requests: int
    interval_ms: int

    def doubled(self, requests_seen: int) -> Window:
        """A window at least twice as long as one in which ``requests_seen`` requests ended."""
        return Window(self.mode, 2 * max(self.requests, requests_seen), 2 * self.interval_ms)

    @property
    def arguments(self) -> list[str]:
        """Arguments of perf_analyzer for this window."""
        sizes = {
            MeasurementMode.COUNT_WINDOWS: ["--measurement-request-count", str(self.requests)],
            MeasurementMode.TIME_WINDOWS: ["--measurement-interval", str(self.interval_ms)],
        }
        return ["--measurement-mode", str(self.mode), *sizes[self.mode]]


@dataclass(frozen=True)
class Report:
    """Result of one run of perf_analyzer."""

    row: PerformanceRow
    passes: list[tuple[float, float]]  # throughput in inferences per second, average latency in us
    requests_per_window: int

    @classmethod
    def read(cls, csv_path: Path, stdout: str, point: LoadPoint) -> Report:
        """Reads a run's CSV and its stdout."""
        requests = _REQUEST_COUNT.search(stdout)
        passes = passes_in(stdout)
        return cls(
            row={**_read_row(csv_path, point), **window_columns(passes)},
            passes=passes,
            requests_per_window=int(requests[1]) // WINDOWS if requests else 0,
        )

    def is_settled(self, percentage: float) -> bool:
        """True by perf_analyzer's rule: over the three windows, throughput and latency vary by no more than this."""
        if len(self.passes) < WINDOWS:
            return False
        return all(max(values) <= min(values) * (1 + percentage / 100) for values in zip(*self.passes, strict=True))

    @property
    def spread(self) -> float:
        """Percent by which the largest of the windows' throughputs or latencies exceeds the smallest, whichever differ
        more; infinite if a window is missing or empty."""
        if len(self.passes) < WINDOWS or not all(map(all, self.passes)):
            return math.inf
        ratios: list[float] = [max(values) / min(values) for values in zip(*self.passes, strict=True)]
        return (max(ratios) - 1) * 100


def passes_in(stdout: str) -> list[tuple[float, float]]:
    """Throughput in inferences per second and average latency in us of each window that has ended, by the stdout of a
    run of perf_analyzer."""
    return [(float(throughput), float(latency)) for throughput, latency in _PASS.findall(stdout)]


def window_columns(passes: Sequence[tuple[float, float]]) -> dict[str, tuple[float, ...]]:
    """Columns of a row with the inferences per second and the average latency in us of each window."""
    rates, latencies = zip(*passes, strict=True) if passes else ((), ())
    return {WINDOW_RATES: rates, WINDOW_LATENCIES: latencies}


def _read_row(path: Path, point: LoadPoint) -> dict[str, float | int]:
    """Reads the row of a point, in microseconds; perf_analyzer's CSV is the same for both protocols. Raises
    PerformanceError if it is none."""
    try:
        (line,) = read_csv(path)
        line[AVERAGE] = line[_AVERAGE_OF_TOOL]
        values = {name: float(line[name]) for name in (THROUGHPUT, *LATENCY_PARTS, *LATENCY_STATISTICS)}
    except (KeyError, ValueError) as error:
        raise PerformanceError(f"{path} is no result of perf_analyzer ({error!r}): measure again") from error
    return {BATCH: point.batch, CONCURRENCY: point.concurrency, **values, REFUSED: 0.0}
