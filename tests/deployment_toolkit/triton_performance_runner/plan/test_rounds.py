"""Order and number of attempts, on invented measurements with an invented clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.results.performance import SETTLED, THROUGHPUT
from deployment_toolkit.triton_performance_runner.options import LoadPoint, PerformanceOptions
from deployment_toolkit.triton_performance_runner.perf_report import Report, Window
from deployment_toolkit.triton_performance_runner.plan.progress import SweepProgress
from deployment_toolkit.triton_performance_runner.plan.rounds import Measured, rounds
from deployment_toolkit.triton_performance_runner.plan.time_budget import TimeBudget

LIMIT = 10.0


@dataclass
class Invented:
    """Measurements of points, numbered from 0 by their batch: the seconds of each, and the percent by which the windows
    of each of its attempts differ (None: no request ended in a window)."""

    seconds: list[float]
    spreads: list[list[float | None]]
    clock: float = 0.0
    attempts: list[int] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)

    def measure(self, retries: int, budget_s: float | None) -> list[Measured]:
        options = PerformanceOptions("m", Path("latency.csv"), retries=retries, stability_percentage=LIMIT)
        points = [LoadPoint(number + 1, 1) for number in range(len(self.seconds))]
        budget = TimeBudget(budget_s, lambda: self.clock)
        return list(rounds(points, options, budget, SweepProgress.unseen(retries + 1), self._attempt))

    def _attempt(self, point: LoadPoint, window: Window) -> Report | None:
        number = point.batch - 1
        tried = self.attempts.count(number)
        self.attempts.append(number)
        self.windows.append(window.requests)
        self.clock += self.seconds[number] * 2**tried
        spread = self.spreads[number][tried]
        if spread is None:
            return None
        rates = [100.0, 100.0 * (1 + spread / 100), 100.0]
        return Report({THROUGHPUT: rates[0]}, [(rate, 500.0) for rate in rates], 10)


def test_least_settled_is_repeated_first_after_every_point_was_measured() -> None:
    invented = Invented([1, 1, 1, 1], [[20, 5], [40, 28, 25], [3], [30, 35, 2]])
    measured = invented.measure(retries=2, budget_s=None)
    assert invented.attempts == [0, 1, 2, 3, 1, 3, 3, 1, 0]
    assert invented.windows == [50, 50, 50, 50, 100, 100, 200, 200, 100]
    last = {item.point.batch - 1: item for item in measured}
    assert [last[number].row[SETTLED] for number in range(4)] == [True, False, True, True]
    assert not any(item.repeats_left for item in last.values())


def test_time_goes_to_points_before_repeats() -> None:
    invented = Invented([2, 2, 2], [[50, 5], [90, 5], [20, 5]])
    measured = invented.measure(retries=1, budget_s=11)
    assert invented.attempts == [0, 1, 2, 1] and invented.clock == 10
    assert {item.point.batch - 1: item.repeats_left for item in measured} == {0: 1, 1: 0, 2: 1}


def test_first_point_is_measured_whatever_the_budget() -> None:
    invented = Invented([9, 1], [[50, 5], [1]])
    (measured,) = invented.measure(retries=1, budget_s=1)
    assert measured.point == LoadPoint(1, 1) and measured.repeats_left == 1


def test_point_without_a_result_is_tried_again_first_and_then_an_error() -> None:
    invented = Invented([1, 1], [[90, 90], [None, 3]])
    assert [item.point.batch for item in invented.measure(retries=1, budget_s=None)] == [1, 2, 1]
    with pytest.raises(PerformanceError, match="no request of batch 1, concurrency 1 ended inside a window: raise"):
        Invented([1, 1], [[None, None], [1]]).measure(retries=1, budget_s=None)


def test_there_is_time_for_one_row_in_any_case() -> None:
    invented = Invented([9, 1], [[None, 50, 5], [1]])
    (measured,) = invented.measure(retries=2, budget_s=1)
    assert invented.attempts == [0, 0] and measured.repeats_left == 1
    with pytest.raises(PerformanceError, match="no request of batch 1, concurrency 1 ended inside a window"):
        Invented([9, 1], [[None, None], [1]]).measure(retries=1, budget_s=1)


spreads = st.lists(st.floats(0.1, 99), min_size=3, max_size=3)


@given(st.lists(st.tuples(st.floats(0.1, 9), spreads), min_size=1, max_size=8), st.integers(0, 2), st.floats(0.1, 99))
def test_budget_is_exceeded_by_no_more_than_the_last_measurement(
    points: list[tuple[float, list[float]]], retries: int, budget_s: float
) -> None:
    invented = Invented([seconds for seconds, _ in points], [[*found] for _, found in points])
    measured = invented.measure(retries, budget_s)
    spent, clock = [], 0.0
    for position, number in enumerate(invented.attempts):
        clock += invented.seconds[number] * 2 ** invented.attempts[:position].count(number)
        spent.append(clock)
    assert len(spent) == 1 or spent[-2] < budget_s
    firsts = [number for position, number in enumerate(invented.attempts) if number not in invented.attempts[:position]]
    assert firsts == [*range(len(firsts))] == invented.attempts[: len(firsts)]
    assert max(map(invented.attempts.count, firsts)) <= retries + 1
    assert len(measured) == len(invented.attempts)
