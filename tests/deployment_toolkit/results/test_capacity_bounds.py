from __future__ import annotations

from typing import Any

import pytest

from deployment_toolkit.results.capacity import CapacityRow
from deployment_toolkit.results.capacity_bounds import failing_above, is_lower_bound
from tests.deployment_toolkit.results.test_capacity import row

HELD = row(32, 20, 100.0, Capacity=True)


def failing(rate: float, budget_ms: float = 20, **changes: Any) -> CapacityRow:
    return row(32, budget_ms, rate, Valid=False, **{"p99 latency": 60_000.0} | changes)


@pytest.mark.parametrize(
    ("others", "rate"),
    [
        ([failing(105), failing(200)], 105),
        ([failing(105, 50), failing(200)], 105),  # above all budgets
        ([row(32, 50, 105.0), failing(110)], 110),  # within this one, too
        ([failing(105, 10, **{"p99 latency": 15_000.0})], None),  # above another budget only
        ([failing(105, **{"p99 latency": 15_000.0})], 105),  # invalid for another reason
        ([failing(105, Disturbed=True), failing(110)], 110),  # it may be the others' fault
        ([failing(90), {**failing(105), "Rows": 1}], None),
    ],
)
def test_failing_run_is_the_next_that_misses_the_budget(others: list[CapacityRow], rate: float | None) -> None:
    found = failing_above([HELD, *others], HELD)
    assert (found and found["Offered Requests/Second"]) == rate


@pytest.mark.parametrize(
    ("held", "other", "bound"),
    [
        (HELD, failing(105), False),
        (HELD, failing(120), True),
        (HELD, row(32, 20, 99.0), True),
        (HELD, failing(105, **{"Late Sends": 0.5}), True),
        ({**HELD, "Late Sends": 0.5}, failing(105), True),
    ],
    ids=["searched to its end", "too far above", "nothing fails", "client late where it fails", "client late"],
)
def test_capacity_is_a_lower_bound_unless_the_server_fails_close_above(
    held: CapacityRow, other: CapacityRow, bound: bool
) -> None:
    assert is_lower_bound([held, other], held) is bound
