from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deployment_toolkit.core import Batching
from runner.stages.client import MAX_CONCURRENCY, offline_points, online_points

COUNTS = st.integers(1, 200_000)
STEPS = st.integers(1, 64)


def test_measurement_points_equal_those_of_the_original() -> None:
    offline = offline_points(131072, 8, Batching.DYNAMIC)
    assert offline.batch_sizes == (1, 16384, 32768, 49152, 65536, 81920, 98304, 114688, 131072)
    assert offline.concurrency == (1,)
    online = online_points(131072, 2, 32, Batching.DYNAMIC)
    assert online.batch_sizes == (2048,)
    assert online.concurrency == tuple(range(8, 257, 8))


def test_measurement_points_are_few_for_a_small_maximum() -> None:
    assert offline_points(3, 8, Batching.STATIC).batch_sizes == (1, 2, 3)
    assert online_points(1, 1, 32, Batching.DYNAMIC).concurrency == (1, 2)


def test_requests_have_one_row_without_batching() -> None:
    assert offline_points(4096, 8, Batching.DISABLED).batch_sizes == (1,)
    assert online_points(4096, 1, 8, Batching.DISABLED).batch_sizes == (1,)


@given(max_batch=COUNTS, instances=st.integers(1, 64), steps=STEPS, batching=st.sampled_from(list(Batching)))
def test_measurement_points_are_valid_for_the_server(
    max_batch: int, instances: int, steps: int, batching: Batching
) -> None:
    offline = offline_points(max_batch, steps, batching)
    online = online_points(max_batch, instances, steps, batching)
    for points in (offline, online):
        assert points.batch_sizes[0] >= 1
        assert points.batch_sizes[-1] <= max_batch
        assert points.batch_sizes == tuple(sorted(set(points.batch_sizes)))
        assert points.concurrency == tuple(sorted(set(points.concurrency)))
        assert 1 <= points.concurrency[0] <= points.concurrency[-1] <= MAX_CONCURRENCY
    assert len(offline.batch_sizes) <= steps + 1
    assert len(online.concurrency) <= steps
