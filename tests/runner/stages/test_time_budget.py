from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.stages.time_budget import RunBudget


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_what_an_experiment_does_not_need_goes_to_the_next() -> None:
    clock = Clock()
    budget = RunBudget(10, 3, clock)
    budget.begin_experiment()
    assert budget.share_s(1, 2) == pytest.approx(100)
    clock.seconds += 40  # of the 200 s of the first
    assert budget.share_s(1, 1) == pytest.approx(160)
    clock.seconds += 20
    budget.begin_experiment()
    assert budget.share_s(1, 1) == pytest.approx(270)
    clock.seconds += 500  # more than it had
    budget.begin_experiment()
    assert budget.share_s(1, 2) == pytest.approx(20)
    clock.seconds += 100
    assert budget.share_s(1, 1) == 1, "enough for the first point"


def test_time_of_what_is_not_counted_is_given_back() -> None:
    clock = Clock()
    budget = RunBudget(1, 2, clock)
    budget.begin_experiment()
    clock.seconds += 100
    budget.add(100)
    assert budget.share_s(1, 1) == pytest.approx(30)
    budget.begin_experiment()
    assert budget.share_s(1, 1) == pytest.approx(60)


@pytest.mark.parametrize("minutes", [None, 0])
def test_without_a_budget_there_is_no_limit(minutes: float | None) -> None:
    budget = RunBudget(minutes, 2)
    budget.begin_experiment()
    budget.add(1)
    assert budget.share_s(1, 1) is None


@given(st.floats(0.1, 100), st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=6))
def test_sweeps_that_keep_to_their_shares_keep_the_run_within_its_budget(
    minutes: float, uses: list[list[float]]
) -> None:
    """``uses``: for each experiment, the part of its share that each sweep takes."""
    clock = Clock()
    budget = RunBudget(minutes, len(uses), clock)
    for sweeps in uses:
        budget.begin_experiment()
        for done, part in enumerate(sweeps):
            share_s = budget.share_s(1, len(sweeps) - done)
            assert share_s is not None
            clock.seconds += part * share_s
    sweeps_in_all = sum(map(len, uses))
    assert clock.seconds - 1000 <= 60 * minutes * (1 + 1e-9) + sweeps_in_all  # a second each is the least
