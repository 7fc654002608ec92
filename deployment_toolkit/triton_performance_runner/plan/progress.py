"""What a sweep does now, for people: the point, the attempt, its seconds, the latest rate."""

from __future__ import annotations

import time

from deployment_toolkit.progress import Status
from deployment_toolkit.results.performance import THROUGHPUT, PerformanceRow
from deployment_toolkit.triton_performance_runner.options import LoadPoint
from deployment_toolkit.triton_performance_runner.perf_report import WINDOWS, Report
from deployment_toolkit.triton_performance_runner.plan.time_budget import TimeBudget


class SweepProgress:
    """Progress of a sweep over so many points. Without a ``status`` nothing is shown."""

    def __init__(self, status: Status | None, points: int, attempts: int, budget: TimeBudget) -> None:
        self._status = status
        self._points = points
        self._attempts = attempts
        self._budget = budget
        self._now = ""
        self._before = ""
        self._point: LoadPoint | None = None
        self._windows = 0
        self._began = 0.0

    @classmethod
    def unseen(cls, attempts: int) -> SweepProgress:
        """Progress of one point that nobody sees."""
        return cls(None, 1, attempts, TimeBudget(None))

    def begins(self, position: int, point: LoadPoint, attempt: int) -> None:
        """An attempt at the point in this position, both from 1, begins."""
        self._now = f"point {position} of {self._points}: {point}, attempt {attempt} of {self._attempts}"
        self._point, self._windows, self._began = point, 0, time.monotonic()
        left = f", {self._budget.left_s:.0f} s of the time budget left" if self._budget.is_limited else ""
        self._tell(f"{self._now}{left}{self._before}")

    def warms_up(self, batch: int) -> None:
        """Unrecorded requests of this batch size are sent."""
        self._tell(f"{self._now}: warm-up of batch {batch}{self._before}")

    def goes_on(self, rates: list[float]) -> None:
        """So many windows of the attempt have ended, with these rates in inferences per second."""
        if len(rates) > self._windows:
            self._windows = len(rates)
            self._tell(f"{self._timed}: {rates[-1]:,.0f} inferences/s in window {self._windows} of {WINDOWS}")
        elif self._status is not None:
            self._status.refresh()

    def ends(self, report: Report | None, *, settled: bool) -> None:
        """The attempt has ended, with this result."""
        if report is None:
            self._tell(f"{self._timed}: no request ended inside a window")
            return
        self.has(report.row, "" if settled else f", windows differ by {report.spread:.0f} %")

    def has(self, row: PerformanceRow, note: str = "") -> None:
        """The point has this row; ``note`` says why it is not the last word."""
        rate = f"{row[THROUGHPUT]:,.0f} inferences/s"
        self._tell(f"{self._timed}: {rate}{note}")
        self._before = f"; before it: {self._point}, {rate}"

    @property
    def _timed(self) -> str:
        return f"{self._now}, {time.monotonic() - self._began:.0f} s"

    def _tell(self, text: str) -> None:
        if self._status is not None:
            self._status.tell(text)
