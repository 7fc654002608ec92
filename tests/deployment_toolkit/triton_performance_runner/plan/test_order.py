from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from deployment_toolkit.triton_performance_runner.options import LoadPoint
from deployment_toolkit.triton_performance_runner.plan.order import in_order_of_need, spread_out

values = st.lists(st.integers(1, 5000), min_size=1, max_size=24)


def test_ends_come_before_the_middles() -> None:
    assert [point.batch for point in in_order_of_need([1, 1024, 2048, 3072, 4096], [1])] == [1, 4096, 2048, 3072, 1024]
    assert [point.concurrency for point in in_order_of_need([32], [64, 128, 192, 256])] == [256, 64, 128, 192]
    corners = {LoadPoint(*pair) for pair in itertools.product([1, 8], [2, 32])}
    assert {*in_order_of_need([1, 4, 8], [2, 8, 32])[:4]} == corners


@given(values, values)
def test_every_point_is_measured_once(batches: list[int], loads: list[int]) -> None:
    order = in_order_of_need(batches, loads)
    assert sorted((point.batch, point.concurrency) for point in order) == sorted(
        itertools.product({*batches}, {*loads})
    )
    assert order[0] == LoadPoint(min(batches), max(loads))


@given(st.integers(1, 60))
def test_no_gap_is_left_that_is_twice_another(count: int) -> None:
    """However early a sweep ends, what it has measured is spread over the whole range."""
    order = spread_out(range(count))
    assert order[: min(count, 2)] == [0, count - 1][:count]
    for done in range(2, count + 1):
        chosen = sorted(order[:done])
        gaps = [after - before for before, after in itertools.pairwise(chosen)]
        assert max(gaps) <= 2 * min(gaps) + 1
