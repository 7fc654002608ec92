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
        self._now = f"point {position} of {self._points}, attempt {attempt} of {self._attempts}"
        self._point, self._windows, self._began = point, 0, time.monotonic()
        left = f", {self._budget.left_s:.0f} s of the time budget left" if self._budget.is_limited else ""
        self._tell(f"{self._now}: {point}{left}{self._before}")

    def warms_up(self, batch: int) -> None:
        """Unrecorded requests of this batch size are sent."""
        self._tell(f"{self._now}: {self._point}, warm-up of batch {batch}{self._before}")

    def goes_on(self, rates: list[float]) -> None:
        """So many windows of the attempt have ended, with these rates in inferences per second."""
        if len(rates) > self._windows:
            self._windows = len(rates)
            self._tell_rate(rates[-1], f"window {self._windows} of {WINDOWS}")
        elif self._status is not None:
            self._status.refresh()

    def ends(self, report: Report | None, *, settled: bool) -> None:
        """The attempt has ended, with this result."""
        if report is None:
            self._tell(f"{self._now}, {self._seconds:.0f} s: {self._point}, no request ended inside a window")
        else:
            self.has(report.row, "settled" if settled else f"windows differ by {report.spread:.0f} %")

    def has(self, row: PerformanceRow, note: str) -> None:
        """The point has this row, of which ``note`` says how good it is."""
        self._tell_rate(row[THROUGHPUT], note)
        self._before = f"; before it: {self._point}, {row[THROUGHPUT]:,.0f} inferences/s"

    @property
    def _seconds(self) -> float:
        """Since the attempt began."""
        return time.monotonic() - self._began

    def _tell_rate(self, rate: float, note: str) -> None:
        """The rate stands far to the left, because terminals cut lines."""
        self._tell(f"{self._now}, {self._seconds:.0f} s, {rate:,.0f} inferences/s: {self._point}, {note}")

    def _tell(self, text: str) -> None:
        if self._status is not None:
            self._status.tell(text)
