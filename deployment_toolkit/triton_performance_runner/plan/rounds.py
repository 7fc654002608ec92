"""Attempts at the points of a sweep: first one at each point, then repeats of what settled least, while time lasts.

A measurement that has begun is finished. So the next one begins only if as much time is left as it is likely to take: a
point as much as the longest first attempt so far, a repeat twice as much as the attempt before it. There is always time
for one row: for the first point, and for its repeats if it gave none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.results.performance import SETTLED, PerformanceRow
from deployment_toolkit.triton_performance_runner.options import LoadPoint, MeasurementMode, PerformanceOptions
from deployment_toolkit.triton_performance_runner.perf_report import Report, Window
from deployment_toolkit.triton_performance_runner.plan.progress import SweepProgress
from deployment_toolkit.triton_performance_runner.plan.time_budget import TimeBudget

# A batching server answers many requests at once: in a window of few such rounds, throughput jumps by a whole round.
_ROUNDS_PER_WINDOW = 8
_REPEAT_TAKES = 2  # times the attempt before it, because its windows are twice as long

Attempt = Callable[[LoadPoint, Window], Report | None]


@dataclass(frozen=True)
class Measured:
    """Row of a point after an attempt. ``repeats_left`` is how often it can still be repeated; 0 if it settled."""

    point: LoadPoint
    row: PerformanceRow
    repeats_left: int = 0


class _Trial:
    """Attempts at one point."""

    def __init__(self, point: LoadPoint, position: int, options: PerformanceOptions) -> None:
        self.point, self._position, self._options = point, position, options
        requests = max(options.measurement_request_count, _ROUNDS_PER_WINDOW * point.concurrency)
        self._window = Window(options.measurement_mode, requests, options.measurement_interval)
        self._row: PerformanceRow | None = None
        self._attempts = 0
        self.spread = math.inf
        self.seconds = 0.0

    @property
    def has_row(self) -> bool:
        return self._row is not None

    @property
    def repeats_left(self) -> int:
        if self._row is not None and self._row[SETTLED]:
            return 0
        return self._options.retries + 1 - self._attempts

    def attempt(self, attempt: Attempt, budget: TimeBudget, progress: SweepProgress) -> Generator[Measured, None, None]:
        """Makes the next attempt; yields the point's row, if it has one by now. Raises PerformanceError if it has none
        after the last attempt."""
        self._attempts += 1
        progress.begins(self._position, self.point, self._attempts)
        started = budget.now()
        report = attempt(self.point, self._window)
        self.seconds = budget.now() - started
        if report is not None:
            self._row = {**report.row, SETTLED: report.is_settled(self._options.stability_percentage)}
            self.spread = report.spread
        progress.ends(report, settled=self._row is not None and self._row[SETTLED])
        self._window = self._window.doubled(report.requests_per_window if report else 0)
        if self._row is not None:
            yield Measured(self.point, self._row, self.repeats_left)
        elif not self.repeats_left:
            raise PerformanceError(
                f"no request of {self.point} ended inside a window: raise --measurement-interval, or use "
                f"--measurement-mode {MeasurementMode.COUNT_WINDOWS}; log: {self._options.log_path}"
            )


def rounds(
    points: Sequence[LoadPoint],
    options: PerformanceOptions,
    budget: TimeBudget,
    progress: SweepProgress,
    attempt: Attempt,
) -> Generator[Measured, None, None]:
    """Yields the row of a point after every attempt at it; the last of a point counts. Points for which there is no
    time are left out. Raises PerformanceError if a point gives no row in any of its attempts."""
    trials: list[_Trial] = []
    for position, point in enumerate(points, 1):
        if trials and not budget.has(max(trial.seconds for trial in trials)):
            break
        trials.append(_Trial(point, position, options))
        yield from trials[-1].attempt(attempt, budget, progress)
    while True:
        has_rows = any(trial.has_row for trial in trials)
        left = [
            trial
            for trial in trials
            if trial.repeats_left and (not has_rows or budget.has(_REPEAT_TAKES * trial.seconds))
        ]
        if not left:
            return
        yield from max(left, key=lambda trial: trial.spread).attempt(attempt, budget, progress)
