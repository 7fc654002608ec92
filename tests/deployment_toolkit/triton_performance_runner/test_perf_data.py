from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deployment_toolkit.triton_performance_runner.perf_data import region_steps, request_steps

OPEN_FILES = 1024  # of a process, unless its user asked for more


@given(batch=st.integers(1, 131072), inputs=st.integers(1, 200), most=st.sampled_from([400, 700]))
def test_shared_memory_regions_stay_below_the_open_files_limit(batch: int, inputs: int, most: int) -> None:
    steps = region_steps(batch, most // inputs)
    assert steps >= 1
    assert steps * inputs < OPEN_FILES - 200 or steps == 1
    if steps > 1:
        assert {request * batch % steps for request in range(steps)} == set(range(steps))


def test_outbrain_inputs_get_several_rows_at_batch_1() -> None:
    assert region_steps(1, 700 // 29) == 23
    assert region_steps(1, 400 // 29) == 13


@given(batch=st.integers(1, 131072), threads=st.integers(1, 4))
def test_requests_offer_at_least_one_row(batch: int, threads: int) -> None:
    assert 1 <= request_steps(batch, threads) <= 512
