from __future__ import annotations

import math

import pytest

from deployment_toolkit.capacity.search import CapacitySearch, TimeOver
from deployment_toolkit.results.capacity import CapacityRow

CAPACITY = 1000.0
BUDGETS_US = [10_000.0, 20_000.0, 50_000.0]


class Queue:
    """A server whose p99 is 2 ms / (1 - load); ``bad`` are the numbers of runs that other work on the host spoils,
    which is ``seen`` or not."""

    def __init__(self, bad: tuple[int, ...] = (), most_runs: float = math.inf, *, seen: bool = False) -> None:
        self._bad, self._most_runs, self._seen = bad, most_runs, seen
        self.rates: list[float] = []

    def run(self, rate: float, budget_us: float) -> CapacityRow:
        if len(self.rates) >= self._most_runs:
            raise TimeOver
        self.rates.append(rate)
        p99 = 2000 / (1 - rate / CAPACITY) if rate < CAPACITY and len(self.rates) not in self._bad else 1e6
        disturbed = self._seen and len(self.rates) in self._bad
        return {"p99 latency": p99, "Valid": p99 <= budget_us, "Latency Budget": budget_us, "Disturbed": disturbed}


@pytest.mark.parametrize("first", [100.0, 1000.0, 20_000.0])
@pytest.mark.parametrize("bad", [(), (1,), (3,), (2, 9)])
def test_search_finds_each_rate_from_any_guess_also_when_runs_are_spoiled(first: float, bad: tuple[int, ...]) -> None:
    queue = Queue(bad)
    search = CapacitySearch(queue.run, first)
    search.find(BUDGETS_US)
    for budget_us, bracket in search.brackets.items():
        highest = CAPACITY * (1 - 2000 / budget_us)
        assert bracket.is_closed and 0.95 * highest <= bracket.holds <= highest
        assert bracket.fails > 0.999 * highest
    assert len(queue.rates) < 40
    top = search.brackets[50_000.0].holds
    assert min(queue.rates) < 0.25 * top and max(queue.rates) > 1.25 * top  # the whole curve


def test_run_that_fails_while_others_use_the_cores_is_made_again() -> None:
    queue = Queue(bad=(1, 2), seen=True)
    search = CapacitySearch(queue.run, 1000.0)
    search.find([50_000.0])
    assert queue.rates[:3] == [800.0] * 3 and queue.rates[3] > 800, "800 holds, so no lower rate is tried"
    assert len(queue.rates) < 20
    never = Queue(bad=tuple(range(100)), seen=True)
    CapacitySearch(never.run, 1000.0).find([50_000.0])
    assert len(never.rates) < 40, "a host that is never calm ends the search all the same"


def test_search_says_what_it_knows_when_its_time_is_over() -> None:
    search = CapacitySearch(Queue(most_runs=3).run, 1000.0)
    search.find(BUDGETS_US)
    bracket = search.brackets[50_000.0]
    assert not bracket.is_closed and 0 < bracket.holds < 960 < bracket.fails < math.inf
    assert not any(other.is_closed or other.holds for budget, other in search.brackets.items() if budget < 50_000)


def test_no_rate_holds_for_a_budget_below_the_service_time() -> None:
    search = CapacitySearch(Queue().run, 1000.0)
    search.find([1000.0, 50_000.0])
    assert search.brackets[1000.0].is_closed and not search.brackets[1000.0].holds
    assert search.brackets[50_000.0].holds > 900


def test_latency_that_no_lower_rate_mends_ends_the_search_soon() -> None:
    """Runs at low rates take long, because a verdict needs as many requests."""
    rates = []

    def run(rate: float, budget_us: float) -> CapacityRow:
        rates.append(rate)
        return {"p99 latency": 100_000.0, "Valid": False, "Latency Budget": budget_us}

    search = CapacitySearch(run, 1000.0)
    search.find(BUDGETS_US)
    assert min(rates) > 25 and len(rates) < 12
    assert all(bracket.is_closed and not bracket.holds for bracket in search.brackets.values())
